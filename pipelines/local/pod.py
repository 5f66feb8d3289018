"""What runs in a pod that Spark made: `python -m pipelines.local.pod driver|executor ...`.

Spark on Kubernetes starts a container with the word `driver` or `executor` and leaves it to the image what that means;
the rest stands in environment variables. Images of Spark bring a script for it, ours is Python's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pipelines.errors import GridwatchError, SettingsError
from pipelines.local.java import require_java
from pipelines.local.spark_home import spark_home

_BACKEND = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
_JAVA_OPTION = "SPARK_JAVA_OPT_"
EXECUTOR = {
    "--driver-url": "SPARK_DRIVER_URL",
    "--executor-id": "SPARK_EXECUTOR_ID",
    "--cores": "SPARK_EXECUTOR_CORES",
    "--app-id": "SPARK_APPLICATION_ID",
    "--hostname": "SPARK_EXECUTOR_POD_IP",
    "--resourceProfileId": "SPARK_RESOURCE_PROFILE_ID",
    "--podName": "SPARK_EXECUTOR_POD_NAME",
}
"""Arguments of an executor, and the variables that Spark gives a pod for them."""


def command(words: Sequence[str], given: Mapping[str, str], *, home: Path, java: Path) -> list[str]:
    """The program that a container's words stand for, with its arguments; `given` is the pod's environment.

    Raises SettingsError for other words, and when Spark has not set a variable.
    """
    kind, rest = (words[0], list(words[1:])) if words else ("", [])
    try:
        if kind == "driver":
            return _driver(rest, given, home)
        if kind == "executor":
            return _executor(given, home, java)
    except KeyError as missing:
        raise SettingsError(f"{missing} is not set: only Spark on Kubernetes starts a {kind} with this") from None
    raise SettingsError(f"{kind or 'nothing'!r}: give driver or executor, as Spark on Kubernetes does")


def _driver(rest: list[str], given: Mapping[str, str], home: Path) -> list[str]:
    address = given["SPARK_DRIVER_BIND_ADDRESS"]
    conf = [f"spark.driver.bindAddress={address}", f"spark.executorEnv.SPARK_DRIVER_POD_IP={address}"]
    submit = [str(home / "bin" / "spark-submit"), *(word for line in conf for word in ("--conf", line))]
    return [*submit, "--deploy-mode", "client", *rest]


def _executor(given: Mapping[str, str], home: Path, java: Path) -> list[str]:
    numbered = sorted((int(name.removeprefix(_JAVA_OPTION)), name) for name in given if name.startswith(_JAVA_OPTION))
    memory = given["SPARK_EXECUTOR_MEMORY"]
    parts = [given.get("SPARK_CONF_DIR", ""), given.get("SPARK_CLASSPATH", ""), str(home / "jars" / "*")]
    options = [*(given[name] for _, name in numbered), f"-Xms{memory}", f"-Xmx{memory}"]
    arguments = [word for option, name in EXECUTOR.items() for word in (option, given[name])]
    return [str(java), *options, "-cp", os.pathsep.join(filter(None, parts)), _BACKEND, *arguments]


def main() -> NoReturn:
    """Become that program; an error is one line on standard error."""
    try:
        argv = command(sys.argv[1:], os.environ, home=spark_home(), java=require_java())
    except GridwatchError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    os.environ["SPARK_HOME"] = str(spark_home())
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
