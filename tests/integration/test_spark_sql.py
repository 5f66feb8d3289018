"""The views for common questions in Spark: by `gridwatch sql` and by the program `spark-sql` itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import SparkSession

from pipelines.lake_spark import add_views, view_script, view_statement
from pipelines.lake_sql import open_lake, run_sql
from pipelines.lake_views import VIEWS
from pipelines.settings import Settings
from tests.integration.small_grid import write_lake
from tests.integration.support import ROOT


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A small grid."""
    made = Settings.model_validate({"lake": {"root": str(tmp_path_factory.mktemp("sql") / "lake")}})
    write_lake(made)
    return made


def test_every_view_answers_alike_in_both_engines(spark: SparkSession, settings: Settings) -> None:
    add_views(spark, settings)
    with open_lake(settings) as lake:
        for view in VIEWS:
            spark.sql(view_statement(view))
            query = f"SELECT count(*) FROM {view.name}"
            assert spark.sql(query).head()[0] == run_sql(lake, query).fetchall()[0][0], view.name  # type: ignore[index]
        columns = "feeder_id, meters, silent, round(mean_v, 3), incidents_open"
        by_spark = spark.sql(f"SELECT {columns} FROM feeder_now ORDER BY 1").collect()
        assert [tuple(row) for row in by_spark] == run_sql(
            lake, f"SELECT {columns} FROM feeder_now ORDER BY 1"
        ).fetchall()


def test_the_script_works_in_the_program_spark_sql(settings: Settings, tmp_path: Path) -> None:
    script = tmp_path / "views.sql"
    script.write_text(view_script(settings))
    program = Path(pyspark.__file__).parent / "bin" / "spark-sql"
    environment = os.environ | {"SPARK_CONF_DIR": str(ROOT / "conf"), "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(
        [program, "--properties-file", ROOT / "conf/spark-defaults.conf", "--conf", _jars(), "-i", script,
         "-e", "SELECT feeder_id, meters FROM feeder_now ORDER BY 1"],
        capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split() for line in done.stdout.splitlines() if line.startswith("f-")] == [["f-1", "3"], ["f-2", "3"]]


def _jars() -> str:
    """The cache of the tests' jars."""
    from pipelines.local.cache import cache_dir

    return f"spark.jars.ivy={cache_dir() / 'ivy-spark'}"
