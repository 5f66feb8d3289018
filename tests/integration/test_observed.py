"""Both jobs and the notifier over one run, watched by a real Prometheus, telling a real Alertmanager.

The figures must be those of the tables, the lag must grow while a JVM hangs, and every query of every dashboard must
return data.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaAdminClient

from pipelines.alerts import READY as ALERTS_READY
from pipelines.local.broker import RunningBroker
from pipelines.local.ports import free_ports
from pipelines.local.processes import Child, wait_until
from pipelines.notify.run import READY as NOTIFY_READY
from pipelines.topics import client_options, topic_offsets
from tests.http_sink import HttpSink
from tests.integration.alerting import Sender
from tests.integration.rest import wait_for_rest
from tests.integration.support import (
    ROOT,
    Place,
    end_leftovers,
    marked_processes,
    stopped,
    wait_for,
    wait_for_end,
    wait_for_text,
    wait_until_reading,
    words,
)
from tests.prometheus.servers import Alertmanager, Prometheus

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(900)]

WATERMARK_S = 80
TRAFFIC = words(
    {
        "--meters": 250, "--rate": 1000, "--seconds": 40, "--cadence": 10, "--seed": 13, "--faults": "demo",
        "--watermark": WATERMARK_S, "--late-by": 400,
    }
)  # fmt: skip
"""40 s of the wall clock are 27 min of the data's."""
HUNG = 400
"""Readings sent while the JVM hangs."""
SEVERITIES = ("warning", "error", "critical")
Offsets = dict[tuple[str, str, int], int]
"""By consumer group, topic and partition."""


@dataclass
class Watched:
    """What is left of the run: tables, time series, what the webhooks got, and what was seen while the JVM hung."""

    place: Place
    prometheus: Prometheus
    alertmanager: Alertmanager
    ours: HttpSink
    theirs: HttpSink
    start_s: float
    end_s: float
    lag_while_hung: float
    first_lag: float
    groups: Offsets
    ends: Offsets
    scrape: str

    def total(self, expression: str) -> float | None:
        """The value at the end of the run."""
        series = self.prometheus.query(expression, self.end_s - 1, self.end_s)
        assert len(series) <= 1, series
        return float(series[0]["values"][-1][1]) if series else None


@pytest.fixture(scope="module")
def watched(kafka: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """
    traffic                 |==============|             |=|
    pipeline, alerts  start ------------------ hung ----------- drained
    Prometheus        every second
    """
    folder = tmp_path_factory.mktemp("watched")
    ports = dict(zip(("pipeline", "alerts", "notify"), free_ports(3), strict=True))
    with ExitStack() as stack:
        ours, theirs = stack.enter_context(HttpSink()), stack.enter_context(HttpSink())
        webhooks = {name: theirs.url(f"/{name}") for name in SEVERITIES}
        waits = {"group_wait": "500ms", "group_interval": "2s", "repeat_interval": "1h"}
        manager = stack.enter_context(Alertmanager(folder, webhooks, waits).start())
        here = Place(folder, kafka.bootstrap_servers).with_settings(
            detection__watermark=WATERMARK_S, alerts__with_pipeline="false", metrics__port=ports["pipeline"],
            metrics__alerts_port=ports["alerts"], metrics__notify_port=ports["notify"], metrics__sample_every="2 s",
            metrics__consumer_group="watched", upkeep__every="10 s",
            notify__alertmanager=manager.url, notify__retry_most="2 s",
            notify__webhook_critical=ours.url("/critical"), notify__webhook_error=ours.url("/error"),
        )  # fmt: skip
        stack.callback(end_leftovers, here.mark)
        targets = {f"gridwatch-{name}": f"127.0.0.1:{port}" for name, port in ports.items()}
        prometheus = stack.enter_context(Prometheus(folder, targets, manager.address).start())
        yield tell_the_story(here, prometheus, manager, ours, theirs, ports["pipeline"])


def tell_the_story(
    place: Place, prometheus: Prometheus, manager: Alertmanager, ours: HttpSink, theirs: HttpSink, port: int
) -> Watched:
    place.create_topics()
    with stopped(place.generator(*TRAFFIC, "--plan-only")) as planner:
        wait_for_end(planner, 60, code=0)
    here = place.with_settings(lake__fleet=place.run_dir / "fleet.csv")
    start_s = time.time()
    with (
        stopped(here.gridwatch("pipeline", "run")) as pipeline,
        stopped(here.gridwatch("alerts", "alerts")) as alerts,
        stopped(here.gridwatch("notify", "notify")) as notifier,
    ):
        wait_until_reading(pipeline)
        wait_for_text(alerts, ALERTS_READY, 120)
        wait_for_text(notifier, NOTIFY_READY, 60)
        with stopped(here.generator("--plan", str(here.run_dir / "plan.json"))) as generator:
            wait_for(pipeline, "the generator's end", lambda: not generator.is_running(), 120)
        wait_for_drain(here, pipeline)
        first_lag, lag_while_hung = lag_around_a_hang(here, prometheus, pipeline)
        wait_for_drain(here, pipeline)
        wait_for(pipeline, "all windows judged", lambda: has_judged_all(here, prometheus), 300)
        wait_for(pipeline, "no lag", lambda: prometheus.now("sum(gridwatch_kafka_lag_records)") == 0, 240)
        wait_for_rest(here, pipeline)
        # A sample every 2 s commits to the groups; the last tick may come between two of them.
        wait_for(pipeline, "the groups' commits", lambda: committed(here) == ends_of(here), 60)
        groups, ends = committed(here), ends_of(here)
        scrape = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        end_s = time.time()
    return Watched(
        here, prometheus, manager, ours, theirs, start_s, end_s, lag_while_hung, first_lag, groups, ends, scrape
    )  # fmt: skip


def wait_for_drain(place: Place, pipeline: Child) -> None:
    data_end_ms = json.loads((place.run_dir / "plan.json").read_text())["data_end"]

    def newest_window_ms() -> int:
        return int(place.ask("SELECT coalesce(epoch_ms(max(window_end)), 0) FROM meter_windows")[0][0])

    wait_for(pipeline, "the archive at the broker's end", place.archived, 200)
    wait_for(pipeline, "the last window", lambda: newest_window_ms() >= data_end_ms, 120)


def has_judged_all(place: Place, prometheus: Prometheus) -> bool:
    """Whether the last batch of windows, which has read the last rows of `panes`, is done; a repeat counts twice."""
    ((stored,),) = place.ask("SELECT count(*) FROM panes")
    return (prometheus.now('gridwatch_input_records_total{query="windows"}') or 0) >= stored


def lag_around_a_hang(place: Place, prometheus: Prometheus, pipeline: Child) -> tuple[float, float]:
    """SIGSTOP to the pipeline's JVM, readings meanwhile, SIGCONT: the archive's lag before and at the end of it."""
    expression = 'sum(gridwatch_kafka_lag_records{query="archive"})'
    wait_for(pipeline, "no lag", lambda: prometheus.now(expression) == 0, 60)
    before = prometheus.now(expression) or 0.0
    jvm = jvm_of(place, pipeline)
    os.kill(jvm, signal.SIGSTOP)
    try:
        Sender(place.settings).send(HUNG)
        wait_until(lambda: (prometheus.now(expression) or 0.0) >= HUNG, 40, poll_s=0.5)
        return before, prometheus.now(expression) or 0.0
    finally:
        os.kill(jvm, signal.SIGCONT)


def jvm_of(place: Place, job: Child) -> int:
    """The JVM that a job has started."""
    (found,) = [
        pid
        for pid, line in marked_processes(place.mark).items()
        if Path(line.split()[0]).name == "java" and parent_of(pid) == job.pid
    ]
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ends_of(place: Place) -> Offsets:
    """The ends of all partitions, by the group that reads them."""
    settings = place.settings
    topics = settings.kafka.topics
    return {
        (f"watched-{group}", name, partition): end
        for group, names in (("archive", [topics.readings]), ("incidents", topics.of_incidents))
        for name in names
        for partition, (_, end) in topic_offsets(settings.kafka, name).items()
    }


def committed(place: Place) -> Offsets:
    """Committed offsets, as a lag tool asks for them."""
    admin = KafkaAdminClient(**client_options(place.settings.kafka))
    try:
        found = admin.list_group_offsets(["watched-archive", "watched-incidents"])
        return {
            (group, part.topic, part.partition): said.offset
            for group, offsets in found.items()
            for part, said in offsets.items()
        }
    finally:
        admin.close()


def test_readings_and_rejections_are_those_of_the_tables(watched: Watched) -> None:
    ask, total = watched.place.ask, watched.total
    stored, late, resent = ask("SELECT count(*), count_if(is_late), count_if(is_resent) FROM readings")[0]
    assert stored > 40_000 * 0.9
    assert total("gridwatch_processed_readings_total") == stored
    assert total("gridwatch_late_readings_total") == late > 0
    assert total("gridwatch_resent_readings_total") == resent > 0
    reasons = ask("SELECT reason, count(*) FROM rejected GROUP BY 1")
    assert len(reasons) > 3
    for reason, records in reasons:
        assert total(f'gridwatch_rejected_records_total{{reason="{reason}"}}') == records
    ((records_in,),) = ask("SELECT sum(records_in) FROM audit")
    assert total('gridwatch_input_records_total{query="archive"}') == records_in


def test_anomalies_and_incidents_are_those_of_the_tables(watched: Watched) -> None:
    ask, total = watched.place.ask, watched.total
    kinds = ask("SELECT anomaly_type, severity, count(*) FROM anomalies GROUP BY 1, 2")
    assert len(kinds) > 8
    for kind, severity, count in kinds:
        assert total(f'sum(gridwatch_anomalies_total{{type="{kind}",severity="{severity}"}})') == count
    opened = ask("SELECT scope, severity, count(*) FROM incidents WHERE status = 'open' GROUP BY 1, 2")
    assert opened
    for scope, severity, count in opened:
        assert total(f'gridwatch_open_incidents{{scope="{scope}",severity="{severity}"}}') == count
    assert total("sum(gridwatch_open_incidents)") == sum(count for _, _, count in opened)
    assert total("sum(gridwatch_feeder_open_incidents)") == total("sum(gridwatch_open_incidents)")


def test_latency_counts_every_record_and_every_anomaly_of_a_reading(watched: Watched) -> None:
    ((records_in,),) = watched.place.ask("SELECT sum(records_in) FROM audit")
    count = "gridwatch_end_to_end_latency_seconds_count"
    assert watched.total(f'{count}{{stage="archive"}}') == records_in
    ((of_readings,),) = watched.place.ask("SELECT count(*) FROM anomalies WHERE stage = 'reading'")
    assert watched.total(f'{count}{{stage="reading"}}') == of_readings


def test_bands_and_ranks_are_those_of_the_newest_window(watched: Watched) -> None:
    newest = "FROM meter_windows WHERE window_end = (SELECT max(window_end) FROM meter_windows)"
    ((meters,),) = watched.place.ask(f"SELECT count(*) {newest}")
    assert watched.total("sum(gridwatch_meters)") == meters == 250
    ((worst,),) = watched.place.ask(f"SELECT max(abs(mean_v / 230 - 1)) {newest} AND n > 0")
    assert watched.total('abs(gridwatch_worst_meter_voltage_pu{rank="1"} - 1)') == pytest.approx(worst)


def test_the_lag_grows_while_the_jvm_hangs_and_falls_to_zero_afterwards(watched: Watched) -> None:
    assert watched.first_lag == 0
    assert watched.lag_while_hung == HUNG
    assert watched.total('sum(gridwatch_kafka_lag_records{query="archive"})') == 0
    assert watched.total('sum(gridwatch_kafka_lag_records{query="alerts"})') == 0


def test_what_the_queries_have_read_is_committed_to_consumer_groups(watched: Watched) -> None:
    assert watched.groups == watched.ends


def test_state_jvm_disk_and_checkpoint_are_shown(watched: Watched) -> None:
    total = watched.total
    assert (total('gridwatch_state_bytes{query="windows"}') or 0) > 0
    assert total('gridwatch_state_dropped_rows_total{query="windows"}') == 0
    assert (total('gridwatch_jvm_heap_bytes{state="used"}') or 0) > 5e7
    assert (total("gridwatch_jvm_cpu_seconds_total") or 0) > 5
    for job in ("gridwatch-pipeline", "gridwatch-alerts"):
        assert total(f'gridwatch_up{{job="{job}"}}') == 1
    for query in ("archive", "windows"):
        assert (total(f'gridwatch_checkpoint_files{{query="{query}"}}') or 0) > 3
    for query in ("archive", "windows", "incidents"):
        assert total(f'gridwatch_restarts_total{{query="{query}"}}') == 0


def test_no_label_holds_the_id_of_a_meter(watched: Watched) -> None:
    meters = [meter for (meter,) in watched.place.ask("SELECT meter_id FROM meters")]
    assert len(meters) == 250
    assert "gridwatch_meters" in watched.scrape
    assert not [meter for meter in meters if meter in watched.scrape]


def test_every_incident_worth_it_was_told_to_the_webhook_of_its_severity_and_to_alertmanager(watched: Watched) -> None:
    told = {(body["incident"]["incidentId"], path) for path, body in watched.ours.taken}
    rows = watched.place.ask("SELECT incident_id, severity FROM incidents WHERE alerts > 0")
    for incident_id, severity in rows:
        if severity != "WARNING":
            assert (incident_id, f"/{severity.lower()}") in told
    assert {severity for _, severity in rows} >= {"ERROR", "CRITICAL"}
    # One that was told and later explained by its feeder's incident counts no alerts any more.
    quiet = {
        name
        for (name,) in watched.place.ask("SELECT incident_id FROM incidents WHERE alerts = 0 AND parent_id IS NULL")
    }
    assert not quiet & {incident_id for incident_id, _ in told}
    heard = {path.strip("/") for path, _ in watched.theirs.taken}
    assert {"critical", "error"} <= heard


def dashboard_queries() -> list[Any]:
    found = []
    for path in sorted((ROOT / "conf" / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                name = f"{path.stem}: {panel['title']}: {target['legendFormat']}"
                found.append(pytest.param(target["expr"], id=name))
    return found


def recorded() -> list[str]:
    text = (ROOT / "conf" / "prometheus" / "recording.yml").read_text(encoding="utf-8")
    return [rule["record"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("expression", [*dashboard_queries(), *recorded()])
def test_the_query_returns_data(watched: Watched, expression: str) -> None:
    asked = expression.replace("$__rate_interval", "10s")
    series = watched.prometheus.query(asked, watched.start_s, watched.end_s)
    numbers = [float(value) for one in series for _, value in one["values"]]
    print(f"{len(series)} series, {len(numbers)} values")
    assert any(not math.isnan(number) for number in numbers)


def test_no_alert_fires_that_does_not_wait(watched: Watched) -> None:
    """Alerts without `for` would fire at the first second of trouble; a healthy run has none."""
    series = watched.prometheus.query('ALERTS{alertstate="firing"}', watched.start_s, watched.end_s)
    assert not [one["metric"]["alertname"] for one in series]
