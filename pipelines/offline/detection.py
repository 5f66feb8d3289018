"""The whole detection over readings that are all there: the stages of the stream, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.anomalies.events import Event
from pipelines.lake.frames import empty
from pipelines.readings.flags import flag_readings
from pipelines.readings.judge import reading_events
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.readings.rules import ReadingRules
from pipelines.settings import Settings
from pipelines.tables import METER_WINDOWS, PROFILES
from pipelines.windows.features import features, sums_of_windows
from pipelines.windows.judge import Found, WindowsJudge, no_history, window_events
from pipelines.windows.panes import partial_panes
from pipelines.windows.profiles import daily_profiles

SILENT_INFO = ("voltage_spike", "voltage_deviation")
"""INFO of these touches no incident: a day above 250 V would otherwise fill the memory."""

SPAN_ROWS = 1_000_000
"""Rows of meter_windows that are judged at once; a single window end may have more."""
_SLICE = 200_000


@dataclass(frozen=True)
class Detected:
    """Windows in the columns of their table, anomalies as AnomalyEvents."""

    windows: pl.DataFrame
    anomalies: list[Event]
    profiles: pl.DataFrame


def build(
    readings: pl.DataFrame, meters: pl.DataFrame, profiles: pl.DataFrame | None, *, settings: Settings
) -> Detected:
    """The stages of the stream on the whole of the readings.

    In: readings with the columns of the table (flags is_late and is_resent decided), the table meters, and the
    table profiles; None: profiles are taken from the days of these readings themselves, each day from the days
    before it. The early flags (INFO of voltage_deviation, stage reading) depend on when a stream closes its windows
    and are left out; a reading that is a copy has no finding of its own.
    """
    d = settings.detection
    timed = readings.with_columns(
        event_ms=pl.col("event_ts").dt.epoch("ms"), kafka_ms=pl.col("kafka_ts").dt.epoch("ms")
    )
    placed = attach_meters(timed, placed_meters(meters, detection=d), detection=d)
    counted = flag_readings(placed, detection=d).filter(~pl.col("is_late") & ~pl.col("is_resent"))
    judge = WindowsJudge(d, settings.incidents, meters)
    history, found, feeders, windows = no_history(), list[Found](), list[Event](), list[pl.DataFrame]()
    known = empty(PROFILES) if profiles is None else profiles
    of_day: list[pl.DataFrame] = []
    for span in _spans(_windows(counted, settings)):
        if profiles is None and of_day and of_day[0]["window_date"][0] != span["window_date"][0]:
            known = pl.concat([known, daily_profiles(pl.concat(of_day), detection=d)])
            of_day = []
        judged = judge.measure(span, history)
        history = judged.history
        found += judge.window_findings(judged.measured, known)
        feeders += judge.feeder_events(judged.measured)
        windows.append(judged.windows)
        of_day.append(judged.measured)
    latest = pl.DataFrame(
        {"meter_id": [one.meter_id for one in found], "event_ms": [one.last_event_ms for one in found]},
        schema={"meter_id": pl.String(), "event_ms": pl.Int64()},
    ).unique()
    of_found = counted.join(latest, on=["meter_id", "event_ms"], how="semi")
    anomalies = [*_of_readings(placed, settings), *window_events(found, of_found), *feeders]
    return Detected(pl.concat([empty(METER_WINDOWS), *windows]), anomalies, known)


def _windows(counted: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """The windows up to the slide of the latest reading: on a stream the later ones would still be open, and the end
    of a file is no silence."""
    d = settings.detection
    panes = partial_panes(counted, slide_s=d.slide_s)
    windows = features(sums_of_windows(panes, window_s=d.window_s, slide_s=d.slide_s), window_s=d.window_s)
    begun = pl.col("window_end").dt.epoch("ms") - int(d.slide_s * 1000) <= counted["event_ms"].max()
    return windows.filter(begun) if counted.height else windows


def _spans(windows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Whole window ends in their order, of one date at a time."""
    for _, of_date in windows.sort("window_end").group_by("window_date", maintain_order=True):
        counts = of_date.group_by("window_end", maintain_order=True).len()
        spans = counts.with_columns(span=pl.col("len").cum_sum() // SPAN_ROWS)
        for _, ends in spans.group_by("span", maintain_order=True):
            yield of_date.join(ends, on="window_end", how="semi")


def _of_readings(placed: pl.DataFrame, settings: Settings) -> list[Event]:
    rules = ReadingRules(settings.detection)
    judged = placed.filter(~pl.col("is_resent"))
    return [event for rows in judged.iter_slices(_SLICE) for event in reading_events(rows, rules)]


def incidents_of(detected: Detected, *, settings: Settings) -> list[dict[str, Any]]:
    """Incidents, rows of the table, by the clock of the last window end."""
    raise NotImplementedError
