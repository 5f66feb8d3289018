"""What a recompute would change; nothing is written here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.incidents.rows import epoch_ms
from pipelines.jobs.context import Say
from pipelines.jobs.recompute.answer import Archive
from pipelines.jobs.recompute.changes import LABELS, Change, Row, changes_between
from pipelines.jobs.recompute.concern import concern_of
from pipelines.jobs.recompute.incident_changes import incident_changes
from pipelines.jobs.recompute.retention import kept_since, refuse_expired, refuse_fewer_readings, usable_since
from pipelines.jobs.recompute.spans import Span, merge_spans
from pipelines.jobs.recompute.window_changes import window_changes
from pipelines.settings import Settings
from pipelines.small_tables import arrow_schema, highest_value
from pipelines.sources import table
from pipelines.tables import ANOMALIES, METER_WINDOWS
from pipelines.transforms.corrections import CORRECTED, KEY, LATE, affected_ends, last_end_ms, settle_readings

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
    windows: DataFrame | None = None
    """Rows of `window_changes`; None without a span."""
    window_counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LABELS, 0))
    anomalies: list[Change] = field(default_factory=list)
    incidents: list[Change] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether all is as a batch would have it."""
        return not (any(self.window_counts.values()) or self.anomalies or self.incidents)


def make_plan(spark: SparkSession, settings: Settings, since: datetime, until: datetime, say: Say) -> Plan:
    """Compare what is stored with what a batch over the archive says. Times are aware (UTC).

    Windows end at the newest end of meter_windows: what is open closes on the stream. Within the window ends that the
    range's readings reach every late and corrected reading counts, also one outside the range. Changed are the meters
    of all these and those on their feeders, by settings, profiles and fleet of today; other meters only where late
    readings decide whether a silence is said. Raises DataRefused when readings that a window, or anomalies that an
    incident was made of are gone by retention.
    """
    plan = Plan(since, until)
    newest = highest_value(settings, METER_WINDOWS, "window_end")
    if newest is None:
        say("meter_windows is empty: nothing to compute again")
        return plan
    corrections = _corrections(spark, settings, plan, newest)
    say(f"{plan.readings[LATE]:,} late and {plan.readings[CORRECTED]:,} corrected readings from {since} to {until}")
    plan.spans = _spans(spark, settings, corrections, newest)
    if not plan.spans:
        return plan
    archive = Archive(spark, settings, _ends(spark, settings, plan.spans))
    today = datetime.now(UTC).date()
    refuse_expired(settings, plan.spans, archive.ends, today=today)
    found: list[DataFrame] = []
    for number, span in enumerate(plan.spans, 1):
        say(f"span {number} of {len(plan.spans)}: window ends {span.first} to {span.last}")
        found.append(_compare(archive, span, plan))
    plan.windows = reduce(DataFrame.unionByName, found)
    for row in plan.windows.groupBy("change").count().collect():
        plan.window_counts[row[0]] = row[1]
    plan.anomalies += _reading_changes(archive, corrections)
    plan.incidents = incident_changes(settings, plan.anomalies, clock=newest, kept_since=kept_since(settings, today))
    return plan


def _compare(archive: Archive, span: Span, plan: Plan) -> DataFrame:
    """The rows of `window_changes` of one span; its anomalies go into the plan."""
    answer, detection = archive.answer(span), archive.settings.detection
    differing = window_changes(answer.before, answer.windows).localCheckpoint()
    refuse_fewer_readings(archive.settings, differing)
    concern = concern_of(answer.corrected, answer.before, answer.windows, archive.meters, detection=detection)
    windows = concern.windows(differing).localCheckpoint()
    plan.left_alone += differing.count() - windows.count()
    stored = concern.anomalies(archive.stored_anomalies(span))
    plan.anomalies += _anomaly_changes(stored, concern.anomalies(answer.anomalies))
    return windows


def _corrections(spark: SparkSession, settings: Settings, plan: Plan, newest: datetime) -> DataFrame:
    """The settled readings of the range that windows have not counted as they are and can still be put into."""
    of_range = _of_range(table(spark, settings, "readings"), plan.since, plan.until)
    found = settle_readings(of_range).where(F.col("correction").isNotNull()).localCheckpoint()
    first_end = _first_end(table(spark, settings, "meter_windows"))
    is_kept = F.col("event_ts") >= F.lit(usable_since(first_end, settings.detection))
    last_ms = last_end_ms(F.unix_millis("event_ts"), detection=settings.detection)
    is_closed = last_ms <= F.lit(epoch_ms(newest))
    for kind, kept, closed, count in found.groupBy("correction", is_kept, is_closed).count().collect():
        plan.readings[kind] += count
        plan.left_out += 0 if kept else count
        plan.not_closed += 0 if closed else count
    return found.where(is_kept & (F.col("event_ts") < F.lit(newest)))


def _spans(spark: SparkSession, settings: Settings, corrections: DataFrame, newest: datetime) -> list[Span]:
    first = corrections.agg(F.min("event_ts")).head()[0]  # type: ignore[index]
    if first is None:
        return []
    windows = table(spark, settings, "meter_windows").where(F.col("window_date") >= F.lit(first.date()))
    reaches = affected_ends(corrections, windows, detection=settings.detection).collect()
    return merge_spans([(row["first_ms"], row["last_ms"]) for row in reaches], newest=newest)


def _ends(spark: SparkSession, settings: Settings, spans: Sequence[Span]) -> list[datetime]:
    """Stored window ends from a day before the spans, or from the start without two there, to a day behind them."""
    until = spans[-1].last + _DAY
    ends = table(spark, settings, "meter_windows").select("window_end", "window_date").distinct()
    ends = ends.where((F.col("window_date") <= F.lit(until.date())) & (F.col("window_end") <= F.lit(until)))
    since = spans[0].first - _DAY
    near = _moments(ends.where((F.col("window_date") >= F.lit(since.date())) & (F.col("window_end") >= F.lit(since))))
    return near if len([end for end in near if end < spans[0].first]) > 1 else _moments(ends)


def _moments(ends: DataFrame) -> list[datetime]:
    return sorted(row["window_end"].replace(tzinfo=UTC) for row in ends.collect())


def _first_end(windows: DataFrame) -> datetime:
    day = windows.agg(F.min("window_date")).head()[0]  # type: ignore[index]
    end: datetime = windows.where(F.col("window_date") == F.lit(day)).agg(F.min("window_end")).head()[0]  # type: ignore[index]
    return end.replace(tzinfo=UTC)


def _anomaly_changes(stored: DataFrame, found: DataFrame) -> list[Change]:
    return changes_between(_rows(stored), _rows(found), key="anomaly_id", ignored=(*SENT, *WORDS, *PLACE), kept=SENT)


def _reading_changes(archive: Archive, corrections: DataFrame) -> list[Change]:
    """Anomalies of the corrected readings themselves; the archive has judged every record it was sent."""
    stored = table(archive.spark, archive.settings, "anomalies")
    since, until = corrections.agg(F.min("event_ts"), F.max("event_ts")).head()  # type: ignore[misc]
    is_flag = F.col("anomaly_type") == "voltage_deviation"
    near = _of_range(stored, since, until + timedelta(microseconds=1)).where((F.col("stage") == "reading") & ~is_flag)
    of_these = near.join(corrections.select(*KEY), list(KEY), "left_semi")
    return _anomaly_changes(of_these, archive.reading_anomalies(corrections).where(~is_flag))


def _of_range(rows: DataFrame, since: datetime, until: datetime) -> DataFrame:
    """Rows with event time in [since, until)."""
    days = F.col("event_date").between(F.lit(since.date()), F.lit(until.date()))
    return rows.where(days & (F.col("event_ts") >= F.lit(since)) & (F.col("event_ts") < F.lit(until)))


def _rows(anomalies: DataFrame) -> list[Row]:
    """Rows of the table anomalies as plain Python."""
    rows: list[Row] = anomalies.select(*ANOMALIES.column_names).toArrow().cast(arrow_schema(ANOMALIES)).to_pylist()
    return rows
