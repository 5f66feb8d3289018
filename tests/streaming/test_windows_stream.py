"""The windows query on a real checkpoint and real tables, killed and resumed, against the Python model."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyspark.errors import StreamingQueryException

from pipelines.jobs.context import Run
from pipelines.small_tables import read_rows
from pipelines.tables import METER_WINDOWS
from pipelines.windows import query as windows
from tests.factories import at, ms, readings_frame
from tests.streaming.conftest import MakeRun, Outbox
from tests.streaming.panes_archive import PanesArchive, follow_panes
from tests.timelines import Timed, as_model, as_row, assert_same_windows, epoch_ms, without_feeder
from tests.window_model import Reading, model_fleet

WATERMARK_MS = 10_000
VOLTS = {"m1": 230.0, "m2": 231.0, "m3": 229.0}


@dataclass
class Lake:
    """A lake to which readings arrive, and the query that is started anew for every step."""

    run: Run
    archive: PanesArchive
    counted: list[Reading] = field(default_factory=list)
    seen: set[tuple[str, int]] = field(default_factory=set)
    dropped: int = 0

    def arrive(self, readings: Iterable[Reading]) -> None:
        """One batch of one partition, with the flags the archive would give."""
        rows, counted = [], []
        for offset, reading in enumerate(readings):
            is_late = self.archive.is_late(reading)
            is_resent = (reading.meter_id, reading.event_ms) in self.seen
            self.seen.add((reading.meter_id, reading.event_ms))
            if not is_late and not is_resent:
                counted.append(reading)
            rows.append(as_row(reading, is_late=is_late, is_resent=is_resent, kafka_offset=offset))
        target = f"{self.run.settings.lake.root}/readings"
        readings_frame(self.run.spark, rows).coalesce(1).write.format("delta").mode("append").save(target)
        self.archive.commit(counted, highest_ms={0: max(r.event_ms for r in counted)})
        self.counted += counted

    def follow(self) -> None:
        """A new query on the old checkpoint takes what is there and stops."""
        self.dropped += follow_panes(Run(self.run.spark, self.run.settings, self.run.generation, self.run.say))

    def table(self) -> Timed:
        """The table meter_windows."""
        return as_model(pl.DataFrame(read_rows(self.run.settings, METER_WINDOWS)))

    def model(self) -> Timed:
        """What it must hold: the windows that the watermark has passed."""
        assert self.archive.state.aligned_ms is not None
        closed_ms = self.archive.state.aligned_ms - WATERMARK_MS
        return model_fleet(self.counted, window_s=300, slide_s=60, up_to_ms=closed_ms)


def new_lake(run: Run) -> Lake:
    """An empty one."""
    return Lake(run, PanesArchive(run))


def steady(meters: Iterable[str], since: int, until: int) -> list[Reading]:
    """A reading every 10 s, shuffled: order inside a commit means nothing."""
    rng = random.Random(since)
    readings = [
        Reading(m, ms(t), VOLTS[m] + rng.randrange(-9, 10) / 10) for m in meters for t in range(since, until, 10)
    ]
    rng.shuffle(readings)
    return readings


@dataclass
class Story:
    """What the timeline left behind, step by step."""

    tables: dict[str, Timed]
    models: dict[str, Timed]
    sent: dict[str, list[tuple[str, str | None, Any]]]
    lake: Lake


@pytest.fixture(scope="module")
def story(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """
    second   -300          0      120    180        400            700
    m1       ############# ###### ###### ########## ##############
    m2       ###########.# ###### ###### ########## ##############     . arrives one step later, 5 s behind
    m3       #############                                   .#####    silent from -10 to 640
    step     first         second  crash  (resume)   third    fourth
    Second also brings readings that are late (m1 at -200) or re-sent (m2 at -50); in the step "crash" the
    broker is gone after the tables are written; every step is a new query on the same checkpoint.
    """
    box = Outbox()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "send_records", box.send_records)
        lake = new_lake(make_run(tmp_path_factory.mktemp("windows")))
        told = Story({}, {}, {}, lake)

        def remember(step: str) -> None:
            told.tables[step], told.models[step] = lake.table(), lake.model()
            told.sent[step], box.records = box.records, []

        held_back = Reading("m2", ms(-15), 231.3)
        lake.arrive(steady(["m1", "m2", "m3"], -300, 0))
        lake.follow()
        remember("first")

        late, resent = Reading("m1", ms(-200), 400.0), Reading("m2", ms(-50), 400.0)
        lake.arrive([*steady(["m1", "m2"], 0, 120), held_back, late, resent])
        lake.follow()
        remember("second")

        lake.arrive(steady(["m1", "m2"], 120, 180))
        box.fail_on = "window-ticks"
        with pytest.raises(StreamingQueryException, match="the broker is gone"):
            lake.follow()
        remember("crash")
        lake.follow()
        remember("resume")

        lake.arrive(steady(["m1", "m2"], 180, 400))
        lake.follow()
        remember("third")

        lake.arrive([*steady(["m1", "m2"], 400, 700), *steady(["m3"], 640, 700)])
        lake.follow()
        remember("fourth")
        yield told


@pytest.mark.parametrize("step", ["first", "second", "resume", "third", "fourth"])
def test_table_equals_the_model_after_every_step(story: Story, step: str) -> None:
    assert_same_windows(without_feeder(story.tables[step]), story.models[step])


def test_every_step_closed_windows(story: Story) -> None:
    sizes = [len(story.models[step]) for step in ("first", "second", "resume", "third", "fourth")]
    assert sizes == sorted(set(sizes))
    assert sizes[0] > 0


def test_late_and_resent_readings_change_no_window(story: Story) -> None:
    """Both carry 400 V and fall into windows that were still open when they came."""
    highest = [row["max_v"] for row in story.tables["fourth"].values() if row["max_v"]]
    assert max(highest) < 240
    assert any(end > ms(-10) and end - 300_000 <= ms(-200) for _, end in story.models["second"])


def test_reading_within_the_watermark_counts_although_it_came_later(story: Story) -> None:
    windows_with_it = story.tables["fourth"]["m2", ms(0)]
    assert windows_with_it["n"] == 31


def test_spark_itself_drops_no_row(story: Story) -> None:
    assert story.lake.dropped == 0


def test_crash_after_the_commit_leaves_the_windows_and_the_resume_sends_the_rest(story: Story) -> None:
    """The tables were written before the broker failed; the replay adds nothing and sends the ticks."""
    assert story.tables["crash"] == story.tables["resume"]
    assert [topic for topic, *_ in story.sent["crash"] if topic == "window-ticks"] == []
    assert [value["windowEnd"] for topic, _, value in story.sent["resume"] if topic == "window-ticks"] == [ms(120)]


def test_every_window_end_ticks_once(story: Story) -> None:
    ticks = [value["windowEnd"] for sent in story.sent.values() for topic, _, value in sent if topic == "window-ticks"]
    assert ticks == sorted({end for _, end in story.models["fourth"]})


def test_silent_meter_is_reported_and_comes_back(story: Story) -> None:
    """m3's last reading is at -10: WARNING at 290; its first after that at 640 is seen by the end 660."""
    found = {
        (value["meterId"], value["anomalyType"], value["severity"], value["eventTime"])
        for sent in story.sent.values()
        for topic, _, value in sent
        if topic == "anomalies"
    }
    assert found == {("m3", "meter_silent", "WARNING", ms(290)), ("m3", "meter_silent", "INFO", ms(660))}


def test_silent_meter_keeps_its_rows(story: Story) -> None:
    quiet = story.tables["fourth"]["m3", ms(600)]
    assert (quiet["n"], quiet["last_event_ts"]) == (0, ms(-10))


def test_baselines_are_those_of_the_latest_window_end(story: Story) -> None:
    rows = {row["meter_id"]: row for row in story.lake.run.table("baselines").collect()}
    assert set(rows) == {"m1", "m2", "m3"}
    assert {epoch_ms(row["window_end"]) for row in rows.values()} == {ms(660)}
    assert {meter: row["n"] for meter, row in rows.items()} == {"m1": 30, "m2": 30, "m3": 2}


def test_backlog_taken_in_one_go_gives_the_same_windows(
    story: Story, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline that starts on a table of several commits: the same readings, no steps in between."""
    monkeypatch.setattr(windows, "send_records", Outbox().send_records)
    lake = new_lake(make_run(tmp_path))
    ordered = sorted(story.lake.counted, key=lambda reading: reading.event_ms)
    for part in (ordered[:50], ordered[50:150], ordered[150:]):
        lake.arrive(random.Random(7).sample(part, len(part)))
    lake.follow()
    assert lake.dropped == 0
    assert_same_windows(lake.table(), story.tables["fourth"])
    assert at(0) in {row["window_end"] for row in lake.run.table("meter_windows").collect()}
