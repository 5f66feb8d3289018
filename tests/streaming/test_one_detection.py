"""The stream and the detection over files find the same in the same readings: a day of them, with faults."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from pyspark.sql import SparkSession

from generator.faults import STATUSES
from generator.plan import make_plan
from generator.scenario import Scenario, build_scenario, readings_between
from pipelines.jobs.context import Run
from pipelines.offline import backtest as module
from pipelines.offline import profiles
from pipelines.offline.backtest import Difference, backtest, backtest_on, differences
from pipelines.offline.detection import build
from pipelines.offline.on_spark import Cluster
from pipelines.offline.profiles import update_profiles
from pipelines.settings import Settings
from pipelines.small_tables import as_arrow, create_tables, read_rows, replace_rows
from pipelines.tables import METERS, PROFILES, READINGS
from pipelines.windows import query as windows
from tests import frames
from tests.streaming.conftest import Outbox
from tests.streaming.panes_archive import archive_readings, follow_panes

DAY_MS = 86_400_000
START = datetime(2026, 3, 2, tzinfo=UTC)
PARTS = 3
CLOSE = "close"
CLASSES = {CLOSE: {"undervoltage_pu": [0.975, 0.85, 0.70], "step_pu": 0.02, "noise_pu": 0.005, "own_load_ohm": 0.3}}


def scenario() -> Scenario:
    """Nine meters of one feeder for a day, a reading a minute."""
    start_ms = int(START.timestamp() * 1000)
    options = {"meters": 9, "cadence_s": 60.0, "seed": 5, "faults": "all", "meters_per_feeder": 9}
    return build_scenario(make_plan(0, paced=False, start_ms=start_ms, end_ms=start_ms + DAY_MS, **options))


def part(made: Scenario, number: int) -> pl.DataFrame:
    """Readings of one part of the day."""
    step = DAY_MS // PARTS
    since = made.plan.start_ms + number * step
    block = readings_between(made, since, since + step)
    rows = [
        {
            "meter_id": made.network.meter_id[block.meter[i]], "voltage_v": float(block.voltage_v[i]),
            "event_ts": datetime.fromtimestamp(int(block.ts[i]) / 1000, UTC).replace(tzinfo=None),
            "current_a": float(block.current_a[i]), "temperature_c": float(block.temperature_c[i]),
            "status": STATUSES[block.status[i]], "kafka_offset": i + 100_000 * number,
        }
        for i in range(len(block))
    ]  # fmt: skip
    return frames.readings(rows)


def fleet(made: Scenario) -> list[tuple[object, ...]]:
    """Rows of the table meters; every third is of the class whose limits are closer."""
    classes = [CLOSE if number % 3 == 0 else None for number in range(len(made.fleet))]
    rows = made.fleet.assign(region="north", meter_class=classes).to_dict("records")
    return [tuple(row[name] for name in METERS.column_names) for row in rows]


@dataclass(frozen=True)
class Day:
    """A day that went through the stream: the lake it left behind, and what was sent."""

    run: Run
    sent: dict[str, dict[str, Any]]
    until: datetime


@pytest.fixture(scope="module")
def day(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Day:
    """
    stream   part 0 | stop | part 1 | stop | part 2 | stop      windows close by the watermark, history from the lake
    """
    folder, box = tmp_path_factory.mktemp("day"), Outbox()
    settings = Settings.model_validate(
        {
            "lake": {"root": str(folder / "lake")},
            "pipeline": {"checkpoint": str(folder / "checkpoint")},
            "detection": {"cadence_s": 60, "classes": CLASSES},
        }
    )
    create_tables(settings)
    made = scenario()
    replace_rows(as_arrow(fleet(made), METERS), settings, METERS)
    run = Run(spark, settings, "generation", lambda line: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "send_records", box.send_records)
        for number in range(PARTS):
            archive_readings(run, part(made, number), number)
            assert follow_panes(run) == 0, "Spark dropped rows"
    topics = settings.kafka.topics
    ticks = max(value["windowEnd"] for _, value in box.take(topics.ticks))
    # The last slides are still open on the stream.
    until = datetime.fromtimestamp(ticks / 1000, UTC) - timedelta(seconds=settings.detection.slide_s)
    return Day(run, {value["anomalyId"]: value for _, value in box.take(topics.anomalies)}, until)


def test_stream_and_files_find_the_same(day: Day) -> None:
    run = day.run
    streamed = {key: v for key, v in day.sent.items() if v["eventTime"] < day.until.timestamp() * 1000}
    readings, meters, known = (pl.DataFrame(read_rows(run.settings, table)) for table in (READINGS, METERS, PROFILES))
    events = build(readings, meters, known, settings=run.settings).anomalies
    until_ms = day.until.timestamp() * 1000
    filed = {e["anomalyId"]: e for e in events if e["stage"] != "reading" and e["eventTime"] < until_ms}
    assert {value["anomalyType"] for value in streamed.values()} >= {"stuck_sensor", "meter_silent", "feeder_outage"}
    assert streamed.keys() == filed.keys()
    used = {(value["anomalyType"], round(value["thresholdUsed"], 2)) for value in streamed.values()}
    assert used & {("voltage_step", 4.6), ("noisy_sensor", 1.15), ("sustained_undervoltage", 224.25)}, "the class spoke"
    for key, value in streamed.items():
        assert value["severity"] == filed[key]["severity"]
        assert value["observed"] == pytest.approx(filed[key]["observed"])


def test_profiles_of_a_day_can_be_made_again_also_in_spans(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    run = day.run
    written, tables = [], []
    for span_rows in (1_000_000, 700):
        monkeypatch.setattr(profiles, "SPAN_ROWS", span_rows)
        written.append(update_profiles(run.settings, START.date(), run.say))
        tables.append(read_rows(run.settings, PROFILES).sort_by("meter_id"))
    assert tables[0] == tables[1]
    rows = tables[0].to_pylist()
    assert written == [len(rows)] * 2
    assert len(rows) >= 7
    assert {row["profile_date"] for row in rows} == {START.date()}
    for row in rows:
        assert 0 < row["p99_noise_v"] < 5
        assert 0 < row["p99_deviation_v"] < 10
        assert abs(row["residual_offset_v"]) < 5
        assert row["cadence_s"] == pytest.approx(60, rel=0.1)


def test_groups_of_feeders_on_spark_find_what_one_process_finds(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    run, until = day.run, day.until
    on = Cluster(run.spark, run.settings)
    assert on.groups > 1
    update_profiles(run.settings, START.date(), run.say)
    known = read_rows(run.settings, PROFILES).sort_by("meter_id")
    found = backtest(run.settings, START, until, run.say)
    assert {one.anomaly_type for one in found} >= {"stuck_sensor", "meter_silent", "feeder_outage"}
    assert backtest_on(on, run.settings, START, until, run.say) == found
    update_profiles(run.settings, START.date(), run.say, on)
    assert read_rows(run.settings, PROFILES).sort_by("meter_id") == known


def test_backtest_counts_same_new_and_gone(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was archived as found live, so all is new; against itself all is the same."""
    run, until = day.run, START + timedelta(hours=6)
    found = backtest(run.settings, START, until, run.say)
    assert found
    monkeypatch.setattr(module, "PART_ROWS", 2_000)
    assert backtest(run.settings, START, until, run.say) == found, "in parts"
    assert all((one.same, one.gone) == (0, 0) and one.new for one in found)
    ids = [("a", "undervoltage", "reading"), ("b", "undervoltage", "window"), ("c", "voltage_deviation", "reading")]
    one = pl.DataFrame(ids, schema=["anomaly_id", "anomaly_type", "stage"], orient="row")
    assert differences(one, one.filter(pl.col("anomaly_id") != "b")) == [Difference("undervoltage", 1, 1, 0)]
    assert differences(one.filter(pl.col("anomaly_id") == "a"), one) == [Difference("undervoltage", 1, 0, 1)]
