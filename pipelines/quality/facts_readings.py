"""Figures of the readings of a day, by meter, hour and slide; exact over all readings, whatever their number.

The readings are counted by slices of time into a table of one row a meter and hour; everything else follows from it.
"""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
from duckdb import DuckDBPyConnection

from pipelines.contract import message
from pipelines.quality.day import Day, Say, Span, one_row
from pipelines.quality.suites_readings import MEASURED, NEVER_NULL
from pipelines.settings import Settings


def count_slots(lake: DuckDBPyConnection, day: Day, settings: Settings) -> None:
    """Table q_slots: readings and clean readings (neither late nor sent again) of each slide.

    It begins one window before the day: the first windows of the day reach back to there.
    """
    detection = settings.detection
    since = day.start - timedelta(seconds=detection.window_s)
    # The origin is that of Spark's windows: slots and window ends then share their edges.
    lake.execute(
        f"""CREATE TEMP TABLE q_slots AS
        SELECT time_bucket(INTERVAL '{detection.slide_s:.3f} seconds', event_ts, TIMESTAMPTZ '1970-01-01') AS slot,
            count(*) AS n, count(*) FILTER (NOT is_late AND NOT is_resent) AS clean
        FROM s_readings
        WHERE event_date BETWEEN DATE '{since.date()}' AND DATE '{day.date}'
            AND event_ts >= TIMESTAMPTZ '{since}' AND event_ts < TIMESTAMPTZ '{day.end}'
        GROUP BY 1"""
    )


def covered_span(lake: DuckDBPyConnection, day: Day, settings: Settings) -> Span:
    """The part of the day that the archive covers.

    Where a neighbouring day has readings the day is whole on that side; else it begins and ends with the first
    and last slide that has a tenth of what is usual: a meter with a wrong clock does not stretch it.
    """
    first, last = one_row(
        lake,
        f"""SELECT min(slot), max(slot) FROM q_slots, (
            SELECT median(n) AS usual FROM q_slots WHERE slot >= TIMESTAMPTZ '{day.start}')
        WHERE slot >= TIMESTAMPTZ '{day.start}' AND n >= usual / 10""",
    )
    slide = timedelta(seconds=settings.detection.slide_s)
    start = day.start if day.before or first is None else min(first + slide, day.end)
    end = day.end if day.after or last is None or last + slide >= day.end else last
    return Span(start, max(start, end))


def count_meter_hours(lake: DuckDBPyConnection, day: Day, span: Span, settings: Settings, say: Say) -> None:
    """Table q_meter_hour: one row a meter and hour of event time."""
    slices = list(day.slices())
    for number, condition in enumerate(slices):
        make = "CREATE TEMP TABLE q_meter_hour AS" if number == 0 else "INSERT INTO q_meter_hour"
        lake.execute(f"{make} {_meter_hours(settings, span)} WHERE {condition} GROUP BY 1, 2")
        say(f"readings: {number + 1} of {len(slices)} parts counted")


def _meter_hours(settings: Settings, span: Span) -> str:
    nulls = ", ".join(f"count(*) FILTER ({name} IS NULL) AS null_{name}" for name in NEVER_NULL)
    fields = [message("sensor_reading").field(name) for name in MEASURED]
    illegal = ", ".join(
        f"count(*) FILTER (NOT isfinite({f.column}) OR {f.column} < {f.minimum} OR {f.column} > {f.maximum})"
        f" AS illegal_{f.column}"
        for f in fields
    )
    dead_v = settings.detection.interruption_pu * settings.detection.nominal_voltage_v
    return f"""SELECT meter_id, date_trunc('hour', event_ts) AS hour, count(*) AS n,
        count(event_ts) FILTER (NOT is_resent) AS own,
        count(*) FILTER (is_late) AS late, count(*) FILTER (is_resent) AS resent,
        count(*) FILTER (NOT is_resent AND event_ts >= TIMESTAMPTZ '{span.start}'
            AND event_ts < TIMESTAMPTZ '{span.end}') AS in_span,
        count(DISTINCT event_ts) FILTER (NOT is_resent) AS own_times, {nulls}, {illegal},
        count(*) FILTER (event_date <> event_ts::DATE) AS wrong_date,
        count(*) FILTER (event_ts > kafka_ts + INTERVAL '{settings.input.max_skew:.3f} seconds') AS from_future,
        count(*) FILTER (is_in_band AND voltage_v <= 0) AS flags_disagree,
        count(*) FILTER (NOT is_plausible) AS implausible,
        min(voltage_v) AS min_v, max(voltage_v) AS max_v, median(voltage_v) AS median_v,
        median(current_a) AS median_a, median(temperature_c) AS median_c,
        count(*) FILTER (current_a = 0) AS no_current,
        count(*) FILTER (abs(voltage_v) < {dead_v!r} AND abs(current_a) > 1) AS dead_with_current,
        median(epoch(kafka_ts) - epoch(event_ts)) AS delay_s, max(event_ts) AS last_ts
        FROM d_readings"""


def by_meter(lake: DuckDBPyConnection, span: Span, settings: Settings) -> pd.DataFrame:
    """One row a meter."""
    sums = [*(f"null_{n}" for n in NEVER_NULL), *(f"illegal_{n}" for n in MEASURED), "wrong_date", "from_future",
            "flags_disagree"]  # fmt: skip
    due = span.seconds / settings.detection.cadence_s
    return lake.execute(
        f"""WITH fleet AS (SELECT hour, median(delay_s) AS delay_s FROM q_meter_hour GROUP BY hour)
        SELECT q.meter_id, sum(n)::BIGINT AS readings, {", ".join(f"sum({n})::BIGINT AS {n}" for n in sums)},
            sum(own - own_times)::BIGINT AS repeated,
            any_value(if((SELECT count(*) FROM q_meters) = 0, NULL, (m.meter_id IS NULL)::INTEGER)) AS is_unknown,
            if({due} < 10, NULL, sum(in_span) / {max(due, 1)}) AS completeness,
            if({due} < 10, NULL, epoch(TIMESTAMPTZ '{span.end}') - epoch(max(last_ts))) AS silent_at_end_s,
            median(median_v) / any_value({_un(settings)}) AS median_pu,
            median(median_a) / any_value(m.rated_current_a) AS median_rated,
            median(q.delay_s - fleet.delay_s) AS clock_offset_s
        FROM q_meter_hour q LEFT JOIN q_meters m ON m.meter_id = q.meter_id LEFT JOIN fleet ON fleet.hour = q.hour
        GROUP BY q.meter_id ORDER BY q.meter_id"""
    ).df()


def by_hour(lake: DuckDBPyConnection, span: Span, settings: Settings) -> pd.DataFrame:
    """One row an hour of the span, also one without readings; an hour covered for less than a slide is left out.

    A frozen meter has ten readings or more of one voltage, and is not dead.
    """
    detection = settings.detection
    least_n, dead = detection.stuck_readings, detection.interruption_pu
    return lake.execute(
        f"""WITH hours AS (
            SELECT unnest(generate_series(date_trunc('hour', TIMESTAMPTZ '{span.start}'),
                TIMESTAMPTZ '{span.end}' - INTERVAL 1 MICROSECOND, INTERVAL 1 HOUR)) AS hour
        ), covered AS (
            SELECT hour, epoch(least(hour + INTERVAL 1 HOUR, TIMESTAMPTZ '{span.end}'))
                - epoch(greatest(hour, TIMESTAMPTZ '{span.start}')) AS seconds FROM hours
        ), facts AS (
            SELECT q.*, q.median_v / {_un(settings)} AS pu FROM q_meter_hour q
            LEFT JOIN q_meters m ON m.meter_id = q.meter_id
        ), fleet AS (SELECT count(DISTINCT meter_id) AS meters FROM q_meter_hour)
        SELECT c.hour, coalesce(sum(f.n), 0)::BIGINT AS readings, count(f.meter_id) AS meters,
            coalesce(sum(f.in_span), 0) / any_value(c.seconds / {detection.cadence_s} * fleet.meters) AS completeness,
            avg((f.min_v = f.max_v AND abs(f.pu) > {dead})::INTEGER) FILTER (f.n >= {least_n}) AS frozen_share,
            median(f.pu) AS median_pu, median(f.median_c) AS median_c,
            sum(f.no_current) / sum(f.n) AS no_current_share,
            sum(f.dead_with_current) / sum(f.n) AS dead_with_current_share,
            sum(f.implausible) / sum(f.n) AS implausible_share, median(f.delay_s) AS delay_s
        FROM covered c CROSS JOIN fleet LEFT JOIN facts f ON f.hour = c.hour
        WHERE c.seconds >= {detection.slide_s} GROUP BY c.hour ORDER BY c.hour"""
    ).df()


def by_slot(lake: DuckDBPyConnection, span: Span, settings: Settings) -> pd.DataFrame:
    """One row a slide wholly inside the span, also one without readings."""
    slide = f"INTERVAL '{settings.detection.slide_s:.3f} seconds'"
    return lake.execute(
        f"""WITH slots AS (
            SELECT unnest(generate_series(
                TIMESTAMPTZ '{span.start}', TIMESTAMPTZ '{span.end}' - {slide}, {slide})) AS slot
        ), usual AS (SELECT median(n) AS n FROM q_slots)
        SELECT s.slot, coalesce(q.n, 0) AS readings, coalesce(q.n, 0) / usual.n AS share_of_usual
        FROM slots s CROSS JOIN usual LEFT JOIN q_slots q ON q.slot = s.slot ORDER BY s.slot"""
    ).df()


def of_day(lake: DuckDBPyConnection, day: Day) -> pd.DataFrame:
    """One row. constant_delay_s is null unless three hours or more have the same delay to within five minutes."""
    whole = day.starts_whole and day.before and day.after
    return lake.execute(
        f"""WITH hours AS (
            SELECT hour, median(delay_s) AS delay_s FROM q_meter_hour WHERE hour IS NOT NULL GROUP BY hour),
        clock AS (SELECT CASE WHEN count(*) >= 3 AND quantile_cont(delay_s, 0.9) - quantile_cont(delay_s, 0.1) < 300
            THEN median(delay_s) END AS constant_delay_s FROM hours)
        SELECT DATE '{day.date}' AS day, sum(n)::BIGINT AS readings, count(DISTINCT q.meter_id) AS meters,
            sum(late) / sum(n) AS late_share, sum(resent) / sum(n) AS resent_share,
            count(DISTINCT m.meter_id) / nullif((SELECT count(*) FROM q_meters), 0) AS heard_share,
            any_value(clock.constant_delay_s) AS constant_delay_s,
            {f"sum(n) / {day.before}" if whole else "NULL::DOUBLE"} AS volume_ratio
        FROM q_meter_hour q CROSS JOIN clock LEFT JOIN q_meters m ON m.meter_id = q.meter_id"""
    ).df()


def _un(settings: Settings) -> str:
    return f"coalesce(m.nominal_voltage_v, {settings.detection.nominal_voltage_v!r})"
