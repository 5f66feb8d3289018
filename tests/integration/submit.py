"""spark-submit of the pip package, called as a user would: outside the checkout, with the shipped zip."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipelines.local.cache import cache_dir
from pipelines.local.processes import Child
from pipelines.local.spark_home import spark_home
from tests.integration.support import FLEETING, ROOT, Place

DATA = ("--meters", "50", "--rate", "1000", "--seconds", "3", "--watermark", "60", "--late-by", "250")
"""3,000 readings, 10 min of event time: enough for windows to close."""


def submit(place: Place, package: Path, *options: str, sets: tuple[str, ...] = (), job: str = "pipeline") -> Child:
    """Start a job by `spark-submit`; `options` are Spark's, `sets` ours."""
    command = ["spark-submit", "--properties-file", str(ROOT / "conf" / "spark-defaults.conf")]
    command += ["--conf", f"spark.jars.ivy={cache_dir() / 'ivy-spark'}", "--conf", "spark.driver.memory=1g"]
    command += ["--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.bindAddress=127.0.0.1"]
    command += ["--driver-java-options", FLEETING["GRIDWATCH_PIPELINE__JVM_OPTIONS"], *options]
    command += ["--py-files", str(package), str(ROOT / "pipelines" / "jobs" / f"{job}.py")]
    command += [word for assignment in sets for word in ("--set", assignment)]
    programs = (spark_home() / "bin", Path(sys.executable).parent, os.environ["PATH"])
    more = {
        "PATH": os.pathsep.join(map(str, programs)),
        "PYTHONPATH": "",
        "SPARK_HOME": str(spark_home()),
        "SPARK_CONF_DIR": str(ROOT / "conf"),
        "PYSPARK_PYTHON": sys.executable,
    }
    return place.start(f"spark-submit-{job}", *command, more=more)
