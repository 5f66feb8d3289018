"""After a downtime partitions come out of step: every reading counts, Spark drops none, also in a new generation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.identity.record import Start
from pipelines.identity.tables import audited
from pipelines.jobs.context import Run
from pipelines.readings.alignment import AUDIT_COLUMNS, Alignment
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, as_arrow, read_rows, table_version
from pipelines.tables import AUDIT, METER_WINDOWS, PANES, READINGS, Table
from pipelines.upkeep import look_after
from pipelines.windows import query as windows
from pipelines.windows.fill import ensure_filled
from tests.factories import ms
from tests.streaming.conftest import MakeRun, Outbox
from tests.streaming.panes_archive import PanesArchive, follow_panes
from tests.timelines import Timed, as_model, assert_same_windows, without_feeder
from tests.window_model import Reading, model_fleet

WATERMARK_MS = 10_000
METERS = {0: ("m1", "m2"), 1: ("m3",)}
"""By partition; partition 2 is idle."""


@dataclass
class Topic:
    """Archived batches of a lake, of one generation after the other."""

    archive: PanesArchive
    counted: list[Reading] = field(default_factory=list)
    late: list[Reading] = field(default_factory=list)
    dropped: int = 0
    most_held: int = 0

    def batch(self, spans: Mapping[int, tuple[int, int]], *, is_cut: bool) -> None:
        """Readings of seconds of each partition, then the windows as far as they go."""
        read = {
            p: [Reading(m, ms(t), 228.0 + t % 7) for m in METERS.get(p, ()) for t in range(*span, 10)]
            for p, span in spans.items()
        }
        readings = [reading for found in read.values() for reading in found]
        late = [reading for reading in readings if self.archive.is_late(reading)]
        highest_ms = {p: max(r.event_ms for r in found) for p, found in read.items() if found}
        self._store(READINGS, [stored(r, is_late=r in late) for r in readings])
        self.archive.commit(
            [r for r in readings if r not in late], highest_ms=highest_ms, ranges=dict(spans), is_cut=is_cut
        )
        aligned = moment(self.archive.state.aligned_ms or 0)
        audit = [
            {"kafka_partition": p, "max_event_ts": moment(ms), "gaps": 0, "aligned_ts": aligned}
            for p, ms in highest_ms.items()
        ]
        self._store(AUDIT, audit)
        self.late += late
        self.counted += readings
        self.most_held = max(self.most_held, sum(file.rows for file in self.archive.held))
        self.follow()

    def follow(self) -> None:
        """A new query on the old checkpoint."""
        self.dropped += follow_panes(replace(self.run))

    def begin_generation(self) -> None:
        """The checkpoint, with all that was held back, is gone; go on from the tables."""
        before = self.run
        latest = before.latest_window_end(before=None)
        assert latest is not None
        since = latest + timedelta(seconds=before.settings.detection.slide_s - before.settings.detection.window_s)
        start = Start({}, latest, since, table_version(before.settings, PANES))
        run = replace(before, generation="second", start=start, folder="generation-2/{}".format)
        state = Alignment.restored(audited(run.settings, *AUDIT_COLUMNS))
        self.archive = PanesArchive(run, state, ensure_filled(run))
        self.follow()

    @property
    def run(self) -> Run:
        return self.archive.run

    def table(self) -> Timed:
        """The table meter_windows."""
        return as_model(pl.DataFrame(read_rows(self.run.settings, METER_WINDOWS)))

    def model(self) -> Timed:
        """What it must hold when every reading counted."""
        up_to_ms = (self.archive.state.aligned_ms or 0) - WATERMARK_MS
        return model_fleet(self.counted, window_s=300, slide_s=60, up_to_ms=up_to_ms)

    def _store(self, table: Table, rows: list[dict[str, Any]]) -> None:
        tuples = [tuple(row.get(name) for name in table.column_names) for row in rows]
        number = self.archive.number if table is READINGS else self.archive.number - 1
        append_rows_once(as_arrow(tuples, table), self.run.settings, table, BatchId(self.run.generation, "x", number))


def moment(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def stored(reading: Reading, *, is_late: bool) -> dict[str, Any]:
    """A row of the table readings."""
    at = moment(reading.event_ms)
    return vars(reading) | {"event_ts": at, "event_date": at.date(), "is_late": is_late, "is_resent": False}


@pytest.fixture(scope="module")
def caught_up(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> Topic:
    """
    batch          1            2            3            4           5
    m1 m2    0-600        600-900      900-950      950-990     990-1200
    m3       0-120        120-300      300-480      480-600     600-1200
    cut      yes          yes          yes          yes         no
    meanwhile     panes deleted         new generation, held panes gone
    Partition 2 has no offset in any of them.
    """
    run = make_run(tmp_path_factory.mktemp("catch-up"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "send_records", Outbox().send_records)
        topic = Topic(PanesArchive(run))
        topic.batch({0: (0, 600), 1: (0, 120), 2: (0, 0)}, is_cut=True)
        # Garbage only: nothing is released, and the commit has no file.
        topic.archive.commit([], highest_ms={}, ranges={0: (0, 5), 1: (0, 5)}, is_cut=True)
        deleted = look_after(run.settings, PANES, now=time.time() + 3 * 86_400)
        assert deleted.expired_files == 1
        topic.batch({0: (600, 900), 1: (120, 300), 2: (0, 0)}, is_cut=True)
        topic.batch({0: (900, 950), 1: (300, 480), 2: (0, 0)}, is_cut=True)
        topic.begin_generation()
        topic.batch({0: (950, 990), 1: (480, 600), 2: (0, 0)}, is_cut=True)
        topic.batch({0: (990, 1200), 1: (600, 1200), 2: (0, 0)}, is_cut=False)
    return topic


def test_panes_of_the_partitions_ahead_were_held_back_and_none_is_at_the_end(caught_up: Topic) -> None:
    assert caught_up.most_held > 10
    assert caught_up.archive.held == []


def test_no_reading_was_late_and_spark_dropped_none(caught_up: Topic) -> None:
    assert caught_up.late == []
    assert caught_up.dropped == 0


def test_windows_equal_the_model_of_all_readings(caught_up: Topic) -> None:
    assert caught_up.archive.state.aligned_ms == ms(1190)
    assert_same_windows(without_feeder(caught_up.table()), caught_up.model())


def test_the_checkpoint_keeps_no_file_of_panes_that_are_released(caught_up: Topic) -> None:
    settings: Settings = caught_up.run.settings
    assert list((Path(settings.pipeline.checkpoint) / "generation-2").glob("held/*.parquet")) == []
