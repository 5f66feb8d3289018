"""The profile `cluster` of docker-compose.yml: the same job, submitted to a master and two workers."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from pipelines.local.spark_kit import spark_defaults
from tests.unit.test_compose import CLUSTER, DOCKERFILE, ROOT, SERVICES

SUBMITTED = SERVICES["pipeline-cluster"]
WORKERS = [SERVICES["spark-worker-1"], SERVICES["spark-worker-2"]]
SOURCE = PurePosixPath("/opt/gridwatch/source")


def options() -> dict[str, str]:
    """Spark's options of the submitted job by name; those of `--conf` under their own."""
    words = [word.removeprefix("--").removeprefix("conf=") for word in SUBMITTED["command"] if word.startswith("--")]
    return dict(word.split("=", 1) for word in words)


def megabytes(size: str) -> int:
    return int(size[:-1]) * {"m": 1, "g": 1024}[size[-1]]


def worker_size(service: dict[str, Any]) -> dict[str, str]:
    words = service["command"]
    return {name: words[words.index(f"--{name}") + 1] for name in ("cores", "memory")}


def test_the_profile_is_a_master_two_workers_and_the_job() -> None:
    assert set(CLUSTER) == {"spark-master", "spark-worker-1", "spark-worker-2", "pipeline-cluster"}
    master = f"spark://spark-master:{SERVICES['spark-master']['command'][3]}"
    assert options()["master"] == master
    assert all(worker["command"][-1] == master for worker in WORKERS)


def test_the_job_is_that_of_the_service_it_takes_the_place_of() -> None:
    """Settings of the driver's own JVM aside: `spark-submit` has its options for them."""
    alone = SERVICES["pipeline"]
    settings = {name: value for name, value in alone["environment"].items() if name.startswith("GRIDWATCH_")}
    assert options()["driver-memory"] == settings.pop("GRIDWATCH_PIPELINE__DRIVER_MEMORY")
    assert {name: SUBMITTED["environment"][name] for name in settings} == settings
    assert SUBMITTED["volumes"] == alone["volumes"]
    assert SUBMITTED["networks"]["default"]["aliases"] == ["pipeline"], "Prometheus asks for the pipeline by that name"
    assert options()["spark.driver.host"] == SUBMITTED["hostname"]


def test_what_is_submitted_lies_in_the_image() -> None:
    assert f"python -m pipelines.package {options()['py-files']}" in DOCKERFILE
    named = [options()["properties-file"], SUBMITTED["command"][-1], SUBMITTED["environment"]["SPARK_CONF_DIR"]]
    assert all((ROOT / PurePosixPath(name).relative_to(SOURCE)).exists() for name in named)
    assert f"WORKDIR {SOURCE}" in DOCKERFILE
    assert options()["spark.jars.ivy"] == "/opt/gridwatch/cache/ivy-spark"
    assert "GRIDWATCH_CACHE=/opt/gridwatch/cache" in DOCKERFILE


def test_workers_reach_the_state_of_the_checkpoint_where_the_driver_has_it() -> None:
    place = SUBMITTED["environment"]["GRIDWATCH_PIPELINE__CHECKPOINT"]
    assert all(f"checkpoints:{place}" in worker["volumes"] for worker in WORKERS)


def test_driver_and_workers_run_the_same_image_and_python() -> None:
    assert {service["image"] for service in [SUBMITTED, *WORKERS]} == {SERVICES["pipeline"]["image"]}
    assert len({service["environment"]["PYSPARK_PYTHON"] for service in [SUBMITTED, *WORKERS]}) == 1


def test_an_executor_fits_each_worker_and_the_worker_its_container() -> None:
    chosen = options()
    for worker in WORKERS:
        size = worker_size(worker)
        assert int(chosen["executor-cores"]) == int(size["cores"])
        assert megabytes(chosen["executor-memory"]) <= megabytes(size["memory"])
        assert megabytes(size["memory"]) < megabytes(worker["deploy"]["resources"]["limits"]["memory"])
    assert int(chosen["total-executor-cores"]) == sum(int(worker_size(worker)["cores"]) for worker in WORKERS)


def test_nothing_of_the_cluster_is_published_and_it_takes_no_jobs_by_rest() -> None:
    assert not [name for name in CLUSTER if SERVICES[name].get("ports")]
    assert "spark.master.rest.enabled=false" in SERVICES["spark-master"]["environment"]["SPARK_MASTER_OPTS"]
    assert not set(options()) & set(spark_defaults()), "conf/spark-defaults.conf alone says what stands in it"
