"""Both jobs as they are shipped to a cluster: two workers, the code a zip, tables and checkpoint in an object store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.alerts import READY
from pipelines.local.cluster import RunningCluster, start_cluster
from pipelines.local.demo import CADENCE_S, DemoOptions
from pipelines.local.minio_build import why_no_minio
from pipelines.local.objectstore import RunningObjectStore, start_objectstore
from pipelines.local.processes import Child
from tests.integration.submit import submit
from tests.integration.support import Place, explain, stopped, wait_for, wait_for_end, wait_for_text, wait_until_reading

NO_MINIO = why_no_minio()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.minio,
    pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO)),
]
LOAD = DemoOptions(seconds=60, rate=2000, meters=500, store="minio", seed=7, run_dir=Path())
"""What `gridwatch demo` sends by default: 120,000 readings with faults."""
PIPELINE = ("--executor-memory", "1g", "--executor-cores", "1", "--total-executor-cores", "2")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    with start_cluster(tmp_path / "cluster", workers=2, cores=3, memory="2g") as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunningObjectStore]:
    with start_objectstore(tmp_path / "objectstore") as running:
        running.create_bucket("gridwatch")
        yield running


def in_store(place: Place, store: RunningObjectStore) -> Place:
    """The place with tables and checkpoint in the store: nothing is shared by driver and workers but that."""
    return place.with_settings(
        detection__watermark=f"{LOAD.watermark_s:g} s", detection__cadence_s=CADENCE_S,
        lake__root="s3a://gridwatch/lake", lake__fleet=place.run_dir / "fleet.csv",
        pipeline__checkpoint="s3a://gridwatch/checkpoint", store__endpoint=store.endpoint,
        store__access_key=store.access_key, store__secret_key=store.secret_key,
    )  # fmt: skip


def planned(here: Place) -> Path:
    """The plan of the load; the fleet lies beside it."""
    with stopped(here.generator("--plan-only", *LOAD.traffic())) as planner:
        wait_for_end(planner, 60, code=0)
    return here.run_dir / "plan.json"


def worked_on(cluster: RunningCluster) -> list[int]:
    """How many executors ran on each worker."""
    folder = cluster.master.log.parent
    return [len(list((folder / f"worker-{n}").glob("app-*/[0-9]*"))) for n, _ in enumerate(cluster.workers, 1)]


def of_readings(here: Place) -> dict[str, int]:
    """Anomalies of readings in the table, by type: the alerts, a child of the driver, send them."""
    asked = "SELECT anomaly_type, count(*) FROM anomalies WHERE stage = 'reading' GROUP BY 1"
    return dict(here.ask(asked))


def due(here: Place) -> dict[str, int]:
    """Readings beyond limits that are the same for every meter."""
    low, failing = "voltage_v >= 0 AND voltage_v < 23", "upper(status) LIKE '%FAILURE%'"
    asked = f"SELECT count(*) FILTER ({low}), count(*) FILTER ({failing}) FROM readings WHERE NOT is_resent"
    ((interrupted, failed),) = here.ask(asked)
    return {"interruption": interrupted, "equipment_failure": failed}


def wait_for_the_results(here: Place, job: Child, data_end_ms: int) -> None:
    """Until the load is archived and its last window, anomalies and incidents are stored."""
    closed = f"SELECT coalesce(epoch_ms(max(window_end)), 0) >= {data_end_ms} FROM meter_windows"
    wait_for(job, "the archive at the broker's end", here.archived, 180)
    wait_for(job, "the windows of the load", lambda: here.ask(closed) == [(True,)], 120)
    wait_for(job, "incidents", lambda: here.ask("SELECT count(*) > 0 FROM incidents") == [(True,)], 60)


def test_pipeline_and_alerts_take_the_load_of_the_demo_on_two_workers_and_lose_nothing(
    place: Place, package: Path, cluster: RunningCluster, store: RunningObjectStore
) -> None:
    here = in_store(place, store)
    here.create_topics()
    plan = planned(here)
    with (
        stopped(submit(here, package, "--master", cluster.master_url, *PIPELINE)) as job,
        stopped(here.generator("--plan", str(plan))) as meters,  # while Spark starts: the archive begins behind
    ):
        wait_until_reading(job)
        wait_for_end(meters, 120, code=0)
        wait_for_text(job, READY, 60)
        wait_for_the_results(here, job, json.loads(plan.read_text(encoding="utf-8"))["data_end"])
        wait_for(job, "every anomaly of a reading", lambda: due(here).items() <= of_readings(here).items(), 120)
        assert worked_on(cluster) == [1, 1], explain(job, "did not run on both workers")
    report, sent = here.verify(), here.summary()["produced"]
    assert report.ok, report.verdict
    assert (report.archived + report.rejected, report.lag) == (sent, 0)
    assert not (here.folder / "checkpoint").exists(), "the checkpoint lies in the store"
