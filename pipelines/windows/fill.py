"""The panes of a generation that goes on from existing tables: made from `readings` before its archive begins.

Each generation has panes of its own, so none is missing and none counts twice, wherever an earlier run died. The spans
are written down first; each is one commit with a transaction id of its own. A crash at any line is repaired by doing it
again: `readings` does not change before the fill is done, and spans that are stored are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.identity.files import CheckpointFiles
from pipelines.identity.tables import audited, newest_batch
from pipelines.jobs.context import Run
from pipelines.lake.delta import commit_files
from pipelines.lake.parquet import write_data_file
from pipelines.lake.store import object_store
from pipelines.readings.alignment import AUDIT_COLUMNS, Alignment
from pipelines.readings.flags import add_possible
from pipelines.readings.held import HeldFile, HeldPanes, split_panes
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.settings import Settings
from pipelines.small_tables import moment, read_rows, scan_rows
from pipelines.tables import METERS, PANES, READINGS
from pipelines.windows.panes import partial_panes

QUERY = "fill"

FILL_BATCH = -1
"""batch_id of the filled panes, and the batch that held files of the fill are named after."""

SPAN_READINGS = 3_000_000
"""Readings of a span, about 300 MB in the driver; a single slide may have more."""

_COUNTED = ["meter_id", "event_ts", "voltage_v", "current_a", "temperature_c", "is_in_band"]


@dataclass(frozen=True)
class Span:
    """Event times from `since_ms` up to and without `until_ms` (epoch ms), both at the edge of a slide."""

    since_ms: int
    until_ms: int


def ensure_filled(run: Run) -> list[HeldFile]:
    """Fill the generation's panes unless it is done; returns what the fill holds back for the archive's first batch.

    The archive calls it before its first batch, with everything that `audit` counts in the tables and nothing else.
    Nothing is filled where the very first generation begins with empty tables. Raises BatchNotBegun when the end was
    asked for.
    """
    files = CheckpointFiles(run.settings)
    note = f"{run.folder('panes-fill')}.json"
    known: dict[str, Any] = json.loads(files.text(note) or "{}")
    if "held" in known:
        return [HeldFile(**file) for file in known["held"]]
    if "spans" not in known:
        known = {"spans": [[span.since_ms, span.until_ms] for span in _spans(run)]}
        files.write(note, json.dumps(known))
    held = _fill(run, [Span(*edges) for edges in known["spans"]])
    files.write(note, json.dumps(known | {"held": [file.to_dict() for file in held]}))
    return held


def held_panes(settings: Settings, folder: str) -> HeldPanes:
    """The held panes of a generation; `folder` as `Run.folder("held")` gives it."""
    return HeldPanes(object_store(settings.pipeline.checkpoint, settings.store), folder)


def spans_of(readings_by_slide: Sequence[tuple[int, int]], *, slide_ms: int, limit: int) -> Iterator[Span]:
    """Spans of at most `limit` readings, but at least one slide, from (start of the slide in ms, readings) in order.

    >>> list(spans_of([(0, 5), (10, 5), (30, 9), (40, 1)], slide_ms=10, limit=10))
    [Span(since_ms=0, until_ms=20), Span(since_ms=30, until_ms=50)]
    """
    since, until, count = None, 0, 0
    for start, readings in readings_by_slide:
        if since is not None and count + readings > limit:
            yield Span(since, until)
            since, count = None, 0
        since = start if since is None else since
        until, count = start + slide_ms, count + readings
    if since is not None:
        yield Span(since, until)


def _spans(run: Run) -> list[Span]:
    since = run.start.readings_since
    slide_ms = round(run.settings.detection.slide_s * 1000)
    where = _countable() + ("" if since is None else f" AND event_date >= '{since.date()}' AND {_from(since)}")
    counts: dict[int, int] = {}
    for rows in scan_rows(run.settings, READINGS, columns=["event_ts"], where=where):
        starts = pc.cast(rows["event_ts"], pa.int64()).combine_chunks()
        slides = pl.Series(starts) // (slide_ms * 1000)
        for slide, count in slides.value_counts().iter_rows():
            counts[slide * slide_ms] = counts.get(slide * slide_ms, 0) + count
    return list(spans_of(sorted(counts.items()), slide_ms=slide_ms, limit=SPAN_READINGS))


def _fill(run: Run, spans: Sequence[Span]) -> list[HeldFile]:
    aligned_ms = Alignment.restored(audited(run.settings, *AUDIT_COLUMNS)).aligned_ms
    held: list[HeldFile] = []
    keeper = held_panes(run.settings, run.folder("held"))
    objects = object_store(run.settings.lake.root, run.settings.store)
    placed = placed_meters(pl.DataFrame(read_rows(run.settings, METERS)), detection=run.settings.detection)
    stored = newest_batch(run.settings, PANES, run.generation, QUERY)
    for number, span in enumerate(spans):
        batch = run.batch(QUERY, number)
        if stored is not None and number <= stored and aligned_ms is not None and span.until_ms <= aligned_ms:
            continue  # done by an earlier attempt, and nothing of it is held back
        panes = partial_panes(_readings_of(run.settings, placed, span), slide_s=run.settings.detection.slide_s)
        released, later = split_panes(panes, aligned_ms)
        held += keeper.hold(later, FILL_BATCH)
        rows = released.with_columns(
            pl.lit(run.generation).alias("generation"), pl.lit(FILL_BATCH, pl.Int64).alias("batch_id")
        )
        written = [write_data_file(rows, PANES, objects)] if rows.height else []
        commit_files(run.settings, PANES, written, batch)
        run.say(f"panes filled up to {_moment(span.until_ms):%Y-%m-%d %H:%M:%S}: {number + 1} of {len(spans)} spans")
    return held


def _readings_of(settings: Settings, placed: pl.DataFrame, span: Span) -> pl.DataFrame:
    since, until = _moment(span.since_ms), _moment(span.until_ms)
    days = f"event_date >= '{since.date()}' AND event_date <= '{until.date()}'"
    where = f"{_countable()} AND {days} AND {_from(since)} AND event_ts < {moment(until)}"
    rows = pl.DataFrame(read_rows(settings, READINGS, columns=_COUNTED, where=where))
    timed = rows.with_columns(event_ms=pl.col("event_ts").dt.epoch("ms"))
    return add_possible(attach_meters(timed, placed, detection=settings.detection), detection=settings.detection)


def _countable() -> str:
    return "NOT is_late AND NOT is_resent"


def _from(since: datetime) -> str:
    return f"event_ts >= {moment(since)}"


def _moment(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
