"""`alerts.mode` changed there and back with a real pipeline: every anomaly is published, repeats are the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pyspark.sql import SparkSession

from pipelines.jobs.alerts import READY
from pipelines.local.processes import Child
from pipelines.small_tables import create_tables
from tests.integration.alerting import Sender, expected_anomalies, sent_anomalies, write_reference_tables
from tests.integration.support import Place, explain, stopped, wait_for, wait_for_text, wait_until_reading
from tests.integration.test_alerts_job import REALTIME, start_alerts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextmanager
def pipeline(place: Place, life: int) -> Iterator[Child]:
    with stopped(place.gridwatch(f"pipeline-{life}", "run")) as child:
        wait_until_reading(child)
        yield child
        wait_for(child, "the archive at the broker's end", place.archived, 90)
        assert child.stop(60) == 130, explain(child, "did not end in order")


def wait_for_all(job: Child, place: Place, spark: SparkSession) -> None:
    """Until all anomalies of all readings so far are in the topic."""
    expected = set(expected_anomalies(spark, place.settings))
    assert expected
    wait_for(job, "all anomalies", lambda: set(sent_anomalies(place.settings)) >= expected, 90)


def test_a_change_either_way_loses_nothing(place: Place, spark: SparkSession) -> None:
    """
    pipeline     micro ====|  real =====|        real ===|  micro ===|
    alerts job                   start ======x
    readings     250         250      250    250    250       250
                 archive   (nobody)  alerts  nobody  nobody    archive
    """
    micro, real = place.with_settings(alerts__mode="microbatch"), place.with_settings(**REALTIME)
    place.create_topics()
    create_tables(place.settings)
    write_reference_tables(place.settings, baselines=False)
    sender = Sender(place.settings)
    with pipeline(micro, 1) as archive:
        sender.send(250)
        wait_for_all(archive, place, spark)
    by_archive = len(sent_anomalies(place.settings))
    with pipeline(real, 2) as archive:
        sender.send(250)
        wait_for(archive, "the archive at the broker's end", place.archived, 90)
        assert len(sent_anomalies(place.settings)) == by_archive, "the archive is silent now"
        with stopped(start_alerts(real)) as alerts:
            wait_for_text(alerts, READY, 120)
            sender.send(250)
            wait_for_all(alerts, place, spark)
            alerts.wait(9)  # at least one batch is committed
            sender.send(250)
            alerts.kill()
        sender.send(250)
    with pipeline(micro, 3) as archive:
        sender.send(250)
        wait_for_all(archive, place, spark)
    expected_events = expected_anomalies(spark, place.settings)
    sent = sent_anomalies(place.settings)
    assert {name: events[0] for name, events in sent.items()} == expected_events
    assert all(event == events[0] for events in sent.values() for event in events)
