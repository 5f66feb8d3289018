"""What a recompute would change; nothing is written here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from pipelines.anomalies.events import Event
from pipelines.anomalies.rows import anomaly_rows
from pipelines.incidents.rows import epoch_ms
from pipelines.jobs.context import Say
from pipelines.lake.frames import empty
from pipelines.offline.recompute.answer import Answer
from pipelines.offline.recompute.archive import Archive
from pipelines.offline.recompute.changes import LABELS, Change, Row, changes_between
from pipelines.offline.recompute.compared import Compared, compared
from pipelines.offline.recompute.concern import concern_of
from pipelines.offline.recompute.corrections import CORRECTED, KEY, LATE, affected_ends, last_end_ms
from pipelines.offline.recompute.incident_changes import incident_changes
from pipelines.offline.recompute.on_spark import compared_on
from pipelines.offline.recompute.retention import kept_since, refuse_expired, refuse_fewer_readings, usable_since
from pipelines.offline.recompute.spans import Span, merge_spans, neighbours
from pipelines.offline.recompute.window_changes import window_changes
from pipelines.readings.judge import reading_events
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.readings.rules import ReadingRules
from pipelines.settings import Settings
from pipelines.small_tables import highest_value, lowest_value
from pipelines.tables import METER_WINDOWS, READINGS
from pipelines.windows.judge import WindowsJudge, named_by, window_events

if TYPE_CHECKING:
    from pipelines.offline.on_spark import Cluster

SENT = ("detected_at", "kafka_partition", "kafka_offset", "kafka_ts")
"""When and where an anomaly was said first: not compared, and kept where one changes."""
WORDS = ("message", "rule_version", "event_date")
"""What follows from the numbers, or from the version of the program."""
PLACE = ("source_item",)
"""Null in older rows means 0, so it makes no difference alone; another reading has another `source` too."""
_DAY = timedelta(days=1)


@dataclass
class Plan:
    """What a recompute of late and corrected readings with event time in [since, until) would change."""

    since: datetime
    until: datetime
    readings: dict[str, int] = field(default_factory=lambda: {LATE: 0, CORRECTED: 0})
    """Readings of the range that windows have not counted as they are, by kind."""
    left_out: int = 0
    """Of these: before what meter_windows holds, or so little behind it that the rules' history is gone."""
    not_closed: int = 0
    """Of these: in a window that is still open, whether an earlier one has closed or not; run again later."""
    left_alone: int = 0
    """Rows of meter_windows that differ and that no such reading concerns: made by another fleet, or by hand."""
    spans: list[Span] = field(default_factory=list)
    windows: pl.DataFrame | None = None
    """Rows of `window_changes`; None without a span."""
    window_counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LABELS, 0))
    anomalies: list[Change] = field(default_factory=list)
    incidents: list[Change] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether all is as a batch would have it."""
        return not (any(self.window_counts.values()) or self.anomalies or self.incidents)


def make_plan(settings: Settings, since: datetime, until: datetime, say: Say, cluster: Cluster | None = None) -> Plan:
    """Compare what is stored with what a batch over the archive says, here or on a cluster. Times are aware (UTC).

    Windows end at the newest end of meter_windows: what is open closes on the stream. Within the window ends that the
    range's readings reach every late and corrected reading counts, also one outside the range. Changed are the meters
    of all these and those on their feeders, by settings, profiles and fleet of today; other meters only where late
    readings decide whether a silence is said. Raises DataRefused when readings that a window, or anomalies that an
    incident was made of are gone by retention.
    """
    plan, archive = Plan(since, until), Archive(settings)
    newest: datetime | None = highest_value(settings, METER_WINDOWS, "window_end")
    if newest is None:
        say("meter_windows is empty: nothing to compute again")
        return plan
    corrections = _corrections(archive, plan, newest)
    say(f"{plan.readings[LATE]:,} late and {plan.readings[CORRECTED]:,} corrected readings from {since} to {until}")
    plan.spans = _spans(archive, corrections, newest)
    if not plan.spans:
        return plan
    ends, today = _ends(archive, plan.spans), datetime.now(UTC).date()
    refuse_expired(settings, plan.spans, ends, today=today)
    judge = WindowsJudge(settings.detection, settings.incidents, archive.meters)
    changed = [window_changes(empty(METER_WINDOWS), empty(METER_WINDOWS))]
    for number, span in enumerate(plan.spans, 1):
        say(f"span {number} of {len(plan.spans)}: window ends {span.first} to {span.last}")
        changed += _compare(Answer(archive, judge, span, ends), plan, cluster)
    plan.windows = pl.concat(changed)
    plan.window_counts |= dict(plan.windows["change"].value_counts().rows())
    plan.anomalies += _reading_changes(archive, corrections)
    plan.incidents = incident_changes(settings, plan.anomalies, clock=newest, kept_since=kept_since(settings, today))
    return plan


def _compare(answer: Answer, plan: Plan, cluster: Cluster | None) -> list[pl.DataFrame]:
    """The rows of `window_changes` of one span, by piece; its anomalies go into the plan."""
    archive, settings = answer.archive, answer.archive.settings
    if cluster is None:
        corrected = answer.corrected()
        parts: Iterable[Compared] = (compared(piece, settings.detection) for piece in answer.pieces())
    else:
        corrected, parts = compared_on(cluster, answer)
    concern = concern_of(corrected, archive.meters)
    changed, events = list[pl.DataFrame](), list[Event]()
    for part in parts:
        refuse_fewer_readings(settings, part.differing)
        mine = concern.windows(part.differing, part.was, part.now)
        plan.left_alone += part.differing.height - mine.height
        changed.append(mine)
        events += [*window_events(part.found, archive.settled_at(named_by(part.found))), *part.of_feeders]
    since, until = _anomalies_of(answer)
    of_span = [row for row in anomaly_rows(events) if since <= row["event_ts"] < until]
    stored = [row for row in archive.anomalies(since, until).to_dicts() if row["stage"] != "reading"]
    plan.anomalies += _anomaly_changes(concern.anomalies(stored), concern.anomalies(of_span))
    return changed


def _anomalies_of(answer: Answer) -> tuple[datetime, datetime]:
    """Event times of anomalies of stage window or feeder that may belong to a span: behind the end before it."""
    span, slide = answer.span, timedelta(seconds=answer.archive.settings.detection.slide_s)
    low = min(neighbours(answer.ends, span)[0], span.first - slide)
    return low, span.last + timedelta(microseconds=1)


def _corrections(archive: Archive, plan: Plan, newest: datetime) -> pl.DataFrame:
    """The settled readings of the range that windows have not counted as they are and can still be put into."""
    detection = archive.settings.detection
    pieces = [_no_corrections()]
    for stretch in archive.stretches(plan.since, plan.until):
        settled = archive.settled(stretch).filter(pl.col("correction").is_not_null())
        pieces.append(settled.filter(pl.col("event_ts").is_between(plan.since, plan.until, closed="left")))
    found = pl.concat(pieces)
    first_end = lowest_value(archive.settings, METER_WINDOWS, "window_end")
    is_kept = pl.col("event_ts") >= usable_since(first_end, detection)
    last_ms = last_end_ms(pl.col("event_ts").dt.epoch("ms"), detection=detection)
    marked = found.with_columns(is_kept=is_kept, is_closed=last_ms <= epoch_ms(newest))
    for kind in (LATE, CORRECTED):
        plan.readings[kind] += marked.filter(pl.col("correction") == kind).height
    plan.left_out += marked.filter(~pl.col("is_kept")).height
    plan.not_closed += marked.filter(~pl.col("is_closed")).height
    return marked.filter(pl.col("is_kept") & (pl.col("event_ts") < newest)).drop("is_kept", "is_closed")


def _no_corrections() -> pl.DataFrame:
    return empty(READINGS).with_columns(correction=pl.lit(None, pl.String))


def _spans(archive: Archive, corrections: pl.DataFrame, newest: datetime) -> list[Span]:
    if not corrections.height:
        return []
    first: datetime = corrections["event_ts"].min()  # type: ignore[assignment]
    heard = archive.heard(corrections.select("meter_id").unique(), first)
    reaches = affected_ends(corrections, heard, detection=archive.settings.detection)
    return merge_spans(reaches, newest=newest)


def _ends(archive: Archive, spans: list[Span]) -> list[datetime]:
    """Stored window ends from a day before the spans, or from the start without two there, to a day behind them."""
    until = spans[-1].last + _DAY
    near = archive.ends(spans[0].first - _DAY, until)
    return near if len([end for end in near if end < spans[0].first]) > 1 else archive.ends(None, until)


def _anomaly_changes(stored: Iterable[Row], found: Iterable[Row]) -> list[Change]:
    return changes_between(stored, found, key="anomaly_id", ignored=(*SENT, *WORDS, *PLACE), kept=SENT)


def _reading_changes(archive: Archive, corrections: pl.DataFrame) -> list[Change]:
    """Anomalies of the corrected readings themselves but the early flag, which depends on when windows closed; the
    alerts have judged every record they were sent."""
    detection = archive.settings.detection
    since, until = corrections["event_ts"].min(), corrections["event_ts"].max()
    near = archive.anomalies(since, until + timedelta(microseconds=1))  # type: ignore[arg-type, operator]
    is_flag = pl.col("anomaly_type") == "voltage_deviation"
    stored = near.filter((pl.col("stage") == "reading") & ~is_flag).join(corrections, on=KEY, how="semi")
    timed = corrections.with_columns(
        event_ms=pl.col("event_ts").dt.epoch("ms"), kafka_ms=pl.col("kafka_ts").dt.epoch("ms")
    )
    placed = attach_meters(timed, placed_meters(archive.meters, detection=detection), detection=detection)
    found = anomaly_rows(reading_events(placed, ReadingRules(detection)))
    return _anomaly_changes(stored.to_dicts(), [row for row in found if row["anomaly_type"] != "voltage_deviation"])
