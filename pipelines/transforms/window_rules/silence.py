"""meter_silent: no reading for a while, and back again."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.settings import Detection, Incidents
from pipelines.transforms.anomalies import finding

CLEARLY = 1.5
"""A meter is slower than the fleet from this many times its cadence on."""


def with_silence_limits(measured: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds silent_warning_s and silent_error_s: by the cadence of the fleet, or by the meter's own.

    Its own cadence is its profile's, or, where that is the fleet's or not known, the shortest gap between the latest
    readings of its rows of the last half hour (or as far as the rules look back, `span_needed_s`). Both are coarse,
    one by the window's length, the other by the slide's, so they count only where they are clearly longer than what
    the fleet's cadence makes of them.
    """
    d, profiled, observed = detection, F.col("cadence_s"), F.col("least_gap_s")
    own_s = F.coalesce(
        F.when(profiled > d.cadence_s * CLEARLY, profiled), F.when(observed > d.slide_s * CLEARLY, observed), F.lit(0.0)
    )
    warning_s = F.greatest(F.lit(float(d.silent_after_s)), own_s * d.silent_cadences)
    # Two steps: the rule names each limit often, and as one expression each time would bring all of it.
    limited = measured.withColumn("silent_warning_s", warning_s)
    error_s = F.greatest(F.lit(float(d.silent_error_after_s)), F.col("silent_warning_s") * 2)
    return limited.withColumn("silent_error_s", error_s)


def meter_silent(d: Detection, i: Incidents) -> Column:
    """No reading for max(300 s, 5 x cadence): WARNING, from 30 min on ERROR, repeated as a heartbeat; and INFO
    with the word "back" at the first window end after it. The cadence is the fleet's, or the meter's own where that
    is longer.

    Judged on the change between one window end and the one before it, so that a silent meter costs one event a
    heartbeat, and not one a minute. Silent itself while less than `min_reporting` of the fleet reports: then the
    clock of one meter, or the way of the data, is wrong, and not every other meter.
    """
    step, silence_s = _silence(d, i)
    limit_s = F.col("silent_warning_s")
    minutes = silence_s / 60
    is_heard = F.col("fleet_awake") >= d.min_reporting
    severity = F.when(~is_heard, None).when(step == 0, "INFO").when(step == 1, "WARNING").when(step > 1, "ERROR")
    text = F.when(
        step == 0,
        F.format_string("Meter %s is back after more than %.0f minutes of silence.", "meter_id", minutes),
    ).otherwise(F.format_string("Meter %s: no reading for %.0f minutes.", "meter_id", minutes))
    return finding(
        "meter_silent",
        severity=severity,
        observed=silence_s,
        threshold=limit_s,
        deviation=silence_s - limit_s,
        score=silence_s / limit_s,
        text=text,
    )


def silent_since(d: Detection, i: Incidents) -> Column:
    """Event time of meter_silent: last reading + the limit reached; for "back" the end of the window."""
    step, silence_s = _silence(d, i)
    reached = F.timestamp_millis((F.unix_millis("last_event_ts") + silence_s * 1000).cast("long"))
    return F.when(step == 0, F.col("window_end")).otherwise(reached)


def _silence(d: Detection, i: Incidents) -> tuple[Column, Column]:
    """The limit newly reached (1, 2, ...; 0 for "back"; null when nothing changed) and its length in seconds."""
    now_s = _age_s("window_end", "last_event_ts")
    before_s = _age_s("previous_end", "previous_last_ts")
    warning_s, error_s = F.col("silent_warning_s"), F.col("silent_error_s")

    def reached(silence_s: Column) -> Column:
        """0 while not silent, 1 from the first limit, 2 from the ERROR limit, one more every heartbeat."""
        beats = F.floor((silence_s - error_s) / i.silence_heartbeat) + 2
        return F.when(silence_s >= error_s, beats).when(silence_s >= warning_s, 1).otherwise(0)

    now, before = reached(now_s), F.coalesce(reached(before_s), F.lit(0))
    is_same = F.coalesce(F.col("last_event_ts") == F.col("previous_last_ts"), F.lit(False))
    step = F.when((now > 0) & (~is_same | (now > before)), now).when((now == 0) & (before > 0) & ~is_same, 0)
    repeated_s = error_s + (step - 2) * i.silence_heartbeat
    limit_s = F.when(step == 1, warning_s).otherwise(repeated_s)
    return step, F.when(step == 0, before_s).otherwise(limit_s)


def _age_s(end: str, last: str) -> Column:
    return (F.unix_millis(end) - F.unix_millis(last)) / 1000
