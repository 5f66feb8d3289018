"""The pipeline on a real Spark cluster: driver and executor are two processes, the code is the zip's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.local.cluster import RunningCluster, start_cluster
from tests.integration.submit import DATA, submit
from tests.integration.support import Place, explain, stopped, text_of, wait_for, wait_until_reading

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    with start_cluster(tmp_path / "cluster", workers=1, cores=2, memory="1g") as running:
        yield running


def test_a_cluster_archives_the_topic_and_closes_windows(place: Place, package: Path, cluster: RunningCluster) -> None:
    here = place.with_settings(detection__watermark="60 s")
    here.create_topics()
    summary = here.generate(*DATA)
    fleet = here.run_dir / "fleet.csv"
    options = ("--master", cluster.master_url, "--executor-memory", "1g")
    with stopped(submit(here, package, *options, sets=(f"lake.fleet={fleet}",))) as job:
        wait_until_reading(job)
        wait_for(job, "the archive at the broker's end", here.archived, 120)
        wait_for(job, "a batch of windows", lambda: "windows batch" in text_of(job.log), 120)
        executors = list((cluster.workers[0].log.parent / "worker-1").glob("app-*/*"))
        assert executors, explain(job, "ran without an executor on the worker")
    report = here.verify()
    assert report.ok, report.verdict
    assert (report.archived + report.rejected, report.lag) == (summary["produced"], 0)
    assert here.ask("SELECT count(*) > 0 FROM meter_windows") == [(True,)]
