"""What a pod of Spark on Kubernetes runs, by the words and variables that the installed Spark gives it."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from pipelines.errors import SettingsError
from pipelines.local.pod import EXECUTOR, command
from pipelines.local.spark_home import spark_home

GIVEN = {name: name.lower() for name in EXECUTOR.values()} | {
    "SPARK_EXECUTOR_MEMORY": "1536m", "SPARK_DRIVER_BIND_ADDRESS": "10.0.0.7", "SPARK_CLASSPATH": "/jars/*",
    "SPARK_CONF_DIR": "/opt/spark/conf", "SPARK_JAVA_OPT_10": "-Dlast=1", "SPARK_JAVA_OPT_9": "-Da=b c",
}  # fmt: skip
HOME, JAVA = Path("/spark"), Path("/bin/java")


def test_a_driver_is_spark_submit_at_the_pods_address() -> None:
    words = ["driver", "--properties-file", "/opt/spark/conf/spark.properties", "local:///pipeline.py"]
    assert command(words, GIVEN, home=HOME, java=JAVA) == [
        "/spark/bin/spark-submit", "--conf", "spark.driver.bindAddress=10.0.0.7",
        "--conf", "spark.executorEnv.SPARK_DRIVER_POD_IP=10.0.0.7", "--deploy-mode", "client", *words[1:],
    ]  # fmt: skip


def test_an_executor_is_java_with_its_options_in_their_order() -> None:
    argv = command(["executor"], GIVEN, home=HOME, java=JAVA)
    assert argv[:5] == ["/bin/java", "-Da=b c", "-Dlast=1", "-Xms1536m", "-Xmx1536m"]
    assert argv[5:7] == ["-cp", "/opt/spark/conf:/jars/*:/spark/jars/*"]
    assert dict(zip(argv[8::2], argv[9::2], strict=True)) == {o: n.lower() for o, n in EXECUTOR.items()}


@pytest.mark.parametrize(
    ("words", "given", "says"),
    [
        ([], GIVEN, "give driver or executor"),
        (["run"], GIVEN, "'run': give driver or executor"),
        (["driver"], {}, "SPARK_DRIVER_BIND_ADDRESS' is not set"),
        (["executor"], {"SPARK_EXECUTOR_MEMORY": "1g"}, "SPARK_DRIVER_URL' is not set"),
    ],
)
def test_anything_else_is_refused_in_one_line(words: list[str], given: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        command(words, given, home=HOME, java=JAVA)


def test_the_installed_spark_has_the_backend_its_arguments_and_these_variables() -> None:
    (jar,) = (spark_home() / "jars").glob("spark-kubernetes_*.jar")
    with zipfile.ZipFile(jar) as classes:
        backend = classes.read("org/apache/spark/scheduler/cluster/k8s/KubernetesExecutorBackend$.class")
        constants = classes.read("org/apache/spark/deploy/k8s/Constants$.class")
    assert set(EXECUTOR) <= {word.decode() for word in re.findall(rb"--[A-Za-z-]+", backend)}
    known = {word.decode() for word in re.findall(rb"SPARK_[A-Z_]+", constants)}
    read = {re.sub(r"\d+$", "", name) for name in GIVEN}
    assert read <= known
