"""Late and corrected readings, computed again: the lake becomes what it were, had all come in time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from pyspark.sql import SparkSession

from pipelines.alerts.judging import as_readings
from pipelines.anomalies.events import anomaly_record
from pipelines.incidents import writer
from pipelines.incidents.messages import anomaly_row as row_of_record
from pipelines.incidents.messages import tick_of
from pipelines.incidents.positions import newest_update
from pipelines.incidents.writer import IncidentsWriter
from pipelines.jobs.context import Run
from pipelines.offline.on_spark import Cluster
from pipelines.offline.recompute import write
from pipelines.offline.recompute.changes import Change, changes_between, count
from pipelines.offline.recompute.plan import Plan, make_plan
from pipelines.offline.recompute.run import carry_out
from pipelines.readings.judge import ReadingJudge
from pipelines.settings import Settings
from pipelines.small_tables import append_rows, arrow_schema, create_tables, read_rows, replace_rows, table_version
from pipelines.tables import ANOMALIES, INCIDENTS, METER_WINDOWS, METERS, READINGS, RECOMPUTATIONS, TABLES, Table
from pipelines.windows import query as windows
from tests import frames
from tests.factories import NOON, NOON_MS, anomaly_row, at, utc
from tests.streaming.conftest import Outbox
from tests.streaming.panes_archive import archive_readings, follow_panes

METERS_SEEN, MINUTES = ("m1", "m2", "m3", "m4", "m5", "m6", "far"), 180
LATE_FROM_MIN, LATE_TO_MIN = 60, 80
WRONG_FROM_MIN, WRONG_TO_MIN = 100, 110
LOW_FROM_MIN, LOW_TO_MIN = 120, 150
OPEN_MIN = 170
"""A window that holds this minute is still open when all has come."""
Rows = list[dict[str, Any]]


def truth() -> Rows:
    """
    minute   0 ... 60 ... 80 ... 120 ... 150 ... 180
    m3       230 V                190 V    230 V         the others about 230 V all the time; "far" on another feeder
    """
    rows: Rows = []
    for minute in range(MINUTES):
        for number, meter in enumerate(METERS_SEEN):
            is_low = meter == "m3" and LOW_FROM_MIN <= minute < LOW_TO_MIN
            volts = 190.0 if is_low else 230.0
            noise = ((minute * 7 + number * 5) % 11 - 5) / 10
            rows.append({"meter_id": meter, "event_ts": at(minute * 60), "voltage_v": volts + noise})
    return rows


def as_sent() -> Rows:
    """m1 sends 20 minutes late, m5 one near the end; m2 sends 280 V and m3 230 V at first, then what is true; m4 sends
    a part twice."""
    sent, after = [], []
    for row in truth():
        meter, minute = row["meter_id"], (row["event_ts"] - NOON).total_seconds() / 60
        again = {**row, "is_resent": True, "is_late": True}
        if (meter == "m1" and LATE_FROM_MIN <= minute < LATE_TO_MIN) or (meter == "m5" and minute == OPEN_MIN):
            after.append({**row, "is_late": True})
        elif meter == "m2" and WRONG_FROM_MIN <= minute < WRONG_TO_MIN:
            sent.append({**row, "voltage_v": 280.0})
            after.append(again)
        elif meter == "m3" and LOW_FROM_MIN <= minute < LOW_TO_MIN:
            sent.append({**row, "voltage_v": 230.0 + minute % 7 / 10})
            after.append(again)
        else:
            sent.append(row)
            if meter == "m4" and minute < 30:
                after.append(again)
    return sent + after


@dataclass
class Lake:
    """A lake that the stream has written, and what was sent meanwhile."""

    run: Run
    box: Outbox

    def rows(self, table: Table) -> Rows:
        found: Rows = read_rows(self.run.settings, table).to_pylist()
        return found

    def versions(self) -> dict[str, int]:
        return {name: table_version(self.run.settings, table) for name, table in TABLES.items()}

    def plan(self, since_min: float = 0, until_min: float = MINUTES) -> Plan:
        run = self.run
        return make_plan(run.settings, utc(since_min * 60), utc(until_min * 60), run.say)

    def carry_out(self, plan: Plan, *, notify: bool = False) -> dict[str, int] | None:
        return carry_out(self.run.settings, plan, notify=notify, say=self.run.say).sent


def stream(run: Run, box: Outbox, rows: Rows) -> None:
    """The three queries over all rows: archived, windows closed, anomalies to incidents."""
    settings = run.settings
    coordinates = [
        {"kafka_offset": i, "kafka_item": 0, "kafka_ts": NOON + timedelta(seconds=i)} for i in range(len(rows))
    ]
    readings = frames.readings([row | place for row, place in zip(rows, coordinates, strict=True)])
    archive_readings(run, readings, 0)
    assert follow_panes(run) == 0, "Spark dropped rows"
    send_reading_anomalies(settings, box)
    update_incidents(run, box)


def send_reading_anomalies(settings: Settings, box: Outbox) -> None:
    """What the alerts find in the archived readings, but the early flags."""
    stored = pl.DataFrame(read_rows(settings, READINGS))
    judge = ReadingJudge(settings.detection, pl.DataFrame(read_rows(settings, METERS)))
    topic = settings.kafka.topics
    events = judge.events(as_readings(stored, topic.readings).drop("feeder_id", strict=False))
    box.send_records(settings.kafka, topic.anomalies, (anomaly_record(event, detected_ms=NOON_MS) for event in events))


def update_incidents(run: Run, box: Outbox) -> None:
    """The query incidents over what was sent to its topics."""
    topics = run.settings.kafka.topics
    anomalies = [json.dumps(value).encode() for _, value in box.take(topics.anomalies)]
    ticks = [tick_of(json.dumps(value).encode(), partition=0, offset=0) for _, value in box.take(topics.ticks)]
    rows = [row_of_record(body, partition=0, offset=i, kafka_ms=NOON_MS) for i, body in enumerate(anomalies)]
    newest = run.latest_window_end(before=None)
    clock = max((tick.window_end for tick in ticks if tick), default=newest)
    number, _ = newest_update(run.settings, run.generation)
    writes = IncidentsWriter(run.settings, run.generation, run.metrics, run.say, clock, number)
    writes.write([row for row in rows if row], [], clock)


def lake_of(spark: SparkSession, folder: Path, box: Outbox, rows: Rows) -> Lake:
    settings = Settings.model_validate(
        {
            "lake": {"root": str(folder / "lake")},
            "pipeline": {"checkpoint": str(folder / "checkpoint")},
            "detection": {"cadence_s": 60},
        }
    )
    create_tables(settings)
    meters = [{"meter_id": name, "feeder_id": "f2" if name == "far" else "f1"} for name in METERS_SEEN]
    replace_rows(frames.meters(meters).to_arrow(), settings, METERS)
    run = Run(spark, settings, "generation", lambda line: None)
    stream(run, box, rows)
    # Found by settings of then: no late reading has to do with it, so it is not judged again.
    old = anomaly_row({"t": 4500, "anomaly_type": "noisy_sensor", "stage": "window", "meter_id": "far"})
    append_rows(pa.Table.from_pylist([old], schema=arrow_schema(ANOMALIES)), settings, ANOMALIES)
    box.records.clear()
    return Lake(run, box)


@pytest.fixture(scope="module")
def box() -> Iterator[Outbox]:
    """Collects what queries and command send."""
    box = Outbox()
    with pytest.MonkeyPatch.context() as patch:
        for module in (windows, writer, write):
            patch.setattr(module, "send_records", box.send_records)
        yield box


def differing(of: Table, one: Lake, other: Lake, *, key: str, ignored: tuple[str, ...]) -> dict[str, int]:
    return count(changes_between(one.rows(of), other.rows(of), key=key, ignored=ignored))


def by_window(lake: Lake) -> Rows:
    return [{**row, "key": f"{row['meter_id']} {row['window_end']}"} for row in lake.rows(METER_WINDOWS)]


SAME = {"new": 0, "changed": 0, "gone": 0}
ARRIVAL = ("detected_at", "kafka_partition", "kafka_offset", "kafka_ts", "source")


@pytest.mark.slow
def test_recompute_makes_of_a_lake_what_it_were_had_all_come_in_time(
    spark: SparkSession, tmp_path: Path, box: Outbox
) -> None:
    in_time = lake_of(spark, tmp_path / "in_time", box, truth())
    lake = lake_of(spark, tmp_path / "late", box, as_sent())
    wrongly = {row["anomaly_id"]: row["anomaly_type"] for row in lake.rows(ANOMALIES)}
    assert {"meter_silent", "voltage_spike"} <= set(wrongly.values()), "the stream was misled"

    # A dry run writes nothing.
    before = lake.versions()
    leaves_alone_what_its_readings_do_not_reach(lake.plan(LOW_FROM_MIN, LOW_TO_MIN))
    plan = lake.plan()
    same_on_spark(lake, plan)
    assert lake.versions() == before
    assert plan.readings == {"late": 21, "corrected": 40}
    assert plan.not_closed == 1
    by_label = {(change.row["anomaly_type"], change.label) for change in plan.anomalies}
    # The archive has judged the corrections themselves; only the windows have not.
    assert {("meter_silent", "gone"), ("voltage_spike", "gone"), ("sustained_undervoltage", "new")} <= by_label

    # A crash behind the incidents, the first table that is changed.
    with pytest.MonkeyPatch.context() as patch:
        merges = iter([write._merge])

        def dies(*args: Any, **more: Any) -> None:
            next(merges)(*args, **more)

        patch.setattr(write, "_merge", dies)
        with pytest.raises(StopIteration):
            lake.carry_out(plan)
    # Done again it says nothing to Kafka unless asked.
    assert lake.carry_out(lake.plan()) is None
    assert box.records == []

    assert count(changes_between(by_window(in_time), by_window(lake), key="key")) == SAME
    assert differing(ANOMALIES, in_time, lake, key="anomaly_id", ignored=ARRIVAL) == SAME
    assert differing(INCIDENTS, in_time, lake, key="incident_id", ignored=("updated_at",)) == SAME

    # Nothing is lost without a word: what is gone stands in recomputations as it was.
    noted = {row["key"]: row for row in lake.rows(RECOMPUTATIONS) if row["table_name"] == "anomalies"}
    gone = wrongly.keys() - {row["anomaly_id"] for row in lake.rows(ANOMALIES)}
    assert gone
    for name in gone:
        assert (noted[name]["change"], noted[name]["after"]) == ("gone", None)
        assert json.loads(noted[name]["before"])["anomaly_type"] == wrongly[name]

    # A second run finds nothing, and sends on demand what the first has changed.
    written = lake.versions()
    again = lake.plan()
    assert again.is_empty
    sent = lake.carry_out(again, notify=True)
    changed = {name for name, version in lake.versions().items() if version != written[name]}
    assert changed == {RECOMPUTATIONS.name}, "the row of the run"
    runs = [json.loads(row["after"]) for row in lake.rows(RECOMPUTATIONS) if row["table_name"] == "run"]
    assert sorted(run["written"] for run in runs) == [False, True]
    assert [run["sent"] for run in runs if not run["written"]] == [sent]
    topics = lake.run.settings.kafka.topics
    told = dict(box.take(topics.incidents))
    assert sent is not None
    assert sent[topics.incidents] == len(told)
    assert None in told.values(), "a tombstone for an incident that is gone"
    said = box.take(topics.anomalies)
    assert "sustained_undervoltage" in {value["anomalyType"] for _, value in said}
    assert box.headers[topics.anomalies] == {"anomaly-id", "recomputed"}

    # The query incidents takes a replay of all that was said, and of what is sent now, without undoing anything.
    stored = lake.rows(ANOMALIES), lake.rows(INCIDENTS)
    old = [(topics.anomalies, None, event_of(row)) for row in noted.values() if row["change"] == "gone"]
    box.records += old + [(topics.anomalies, key, value) for key, value in said]
    update_incidents(lake.run, box)
    assert (lake.rows(ANOMALIES), lake.rows(INCIDENTS)) == stored


def same_on_spark(lake: Lake, plan: Plan) -> None:
    """Groups of feeders, judged apart, change what one process changes."""
    run = lake.run
    on = Cluster(run.spark, run.settings)
    found = make_plan(run.settings, plan.since, plan.until, run.say, on)
    assert plan.windows is not None
    assert found.windows is not None
    one, other = (p.windows.drop("was", "now").sort("meter_id", "window_end") for p in (found, plan))  # type: ignore[union-attr]
    assert_frame_equal(one, other, rel_tol=1e-9)
    for name in ("anomalies", "incidents"):
        changes = (sorted((change.key, change.label) for change in getattr(p, name)) for p in (found, plan))
        assert next(changes) == next(changes)
    assert (found.readings, found.spans, found.left_alone) == (plan.readings, plan.spans, plan.left_alone)


def leaves_alone_what_its_readings_do_not_reach(of_m3: Plan) -> None:
    """
    minute      60 ... 80     100 ... 110     120 ... 150     170
    range                                     [========)
    reached                                   (123 ==================   window ends; the first holds 108 to 122
                m1 late       m2 wrong        m3 wrong        m5 late
    """
    assert of_m3.readings == {"late": 0, "corrected": 30}
    assert of_m3.windows is not None
    ends = {(row["meter_id"], row["window_end"]) for row in of_m3.windows.to_dicts()}
    first = utc((LOW_FROM_MIN + 3) * 60)
    assert min(end for _, end in ends) == first
    assert {("m2", first), ("m3", first)} <= ends, "within the affected ends every reading counts"
    assert "far" not in {meter for meter, _ in ends}
    said = {(change.row["anomaly_type"], change.row["event_ts"]) for change in of_m3.anomalies}
    assert "sustained_undervoltage" in {kind for kind, _ in said}
    assert min(at for _, at in said) >= utc(LOW_FROM_MIN * 60)


def test_a_change_that_a_wider_run_has_noted_and_not_made_is_noted_again(tmp_path: Path) -> None:
    """Else --notify of the smaller range would not know of it; of the same range it does."""
    settings = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(settings, [RECOMPUTATIONS])
    row = anomaly_row({"t": 0, "anomaly_type": "undervoltage"})
    changes = [Change(row["anomaly_id"], None, row)]
    ranges = {"wide": (-60, 600), "small": (0, 60), "small again": (0, 60)}
    for number, (run, (since, until)) in enumerate(ranges.items()):
        plan = Plan(utc(since), utc(until), anomalies=changes)
        write._note(settings, plan, changes, run_id=run, now=utc(number))
    assert {row["run_id"] for row in read_rows(settings, RECOMPUTATIONS).to_pylist()} == {"wide", "small"}


def event_of(noted: dict[str, Any]) -> dict[str, Any]:
    """The event of an anomaly that is gone, as a replay of the topic brings it."""
    row = json.loads(noted["before"])
    names = {"anomaly_id": "anomalyId", "anomaly_type": "anomalyType", "event_ts": "eventTime", "meter_id": "meterId"}
    names |= {"feeder_id": "feederId", "severity": "severity", "stage": "stage", "detected_at": "detectedAt"}
    return {wire: row.get(name) for name, wire in names.items()}
