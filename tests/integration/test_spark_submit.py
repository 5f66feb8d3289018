"""The pipeline under spark-submit, from the shipped zip, on one machine."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.integration.submit import DATA, submit
from tests.integration.support import (
    Place,
    explain,
    interrupt,
    marked_processes,
    none_left,
    stopped,
    wait_for,
    wait_for_end,
    wait_until_reading,
)


def test_spark_submit_archives_the_topic_and_ends_on_sigterm(place: Place, package: Path) -> None:
    place.create_topics()
    summary = place.generate(*DATA)
    fleet = place.run_dir / "fleet.csv"
    with stopped(submit(place, package, "--master", "local[2]", sets=(f"lake.fleet={fleet}",))) as job:
        wait_until_reading(job)
        wait_for(job, "the archive at the broker's end", place.archived, 90)
        interrupt(job, signal.SIGTERM)
        assert job.wait(30), explain(job, "still runs 30 s after SIGTERM")
        assert none_left(place.mark, 20), marked_processes(place.mark)
    report = place.verify()
    assert report.ok, report.verdict
    assert (report.archived + report.rejected, report.lag) == (summary["produced"], 0)
    assert place.ask("SELECT count(*) FROM meters") == [(50,)], "--set lake.fleet was heard"


def test_spark_submit_hands_on_the_exit_code_and_the_one_line(place: Place, package: Path) -> None:
    """Of a topic that is not there: found before Spark starts its session."""
    with stopped(submit(place, package, "--master", "local[1]")) as job:
        said = wait_for_end(job, 90, code=2)
    assert f"gridwatch: topic {place.settings.kafka.topics.readings} does not exist" in said
