"""meter_silent: no reading for a while, and back again."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.row_rules import RowRule, first_of
from pipelines.settings import Detection, Incidents
from pipelines.windows import messages

CLEARLY = 1.5
"""A meter is slower than the fleet from this many times its cadence on."""

_warning_s, _error_s = pl.col("silent_warning_s"), pl.col("silent_error_s")
_step, _silence_s = pl.col("silence_step"), pl.col("silence_s")


def with_silence(measured: pl.DataFrame, *, detection: Detection, incidents: Incidents) -> pl.DataFrame:
    """Adds what `meter_silent` needs of rows with the columns of `look_back` and `attach_profiles`.

    silent_warning_s and silent_error_s are the limits, by the cadence of the fleet or by the meter's own: that of its
    profile, or, where this is the fleet's or not known, the shortest gap between the latest readings of its rows of the
    last half hour (or as far as the rules look back). Both are coarse, one by the window's length, the other by the
    slide's, so they count only where they are clearly longer than what the fleet's cadence makes of them.
    silence_step is the limit newly reached (1, 2, ...; 0 for "back"; null when nothing changed), silence_s its length.
    silence_event_ms is the event time: last reading + the limit reached; for "back" the end of the window.
    """
    d, profiled, observed = detection, pl.col("cadence_s"), pl.col("least_gap_s")
    own_s = pl.when(profiled > d.cadence_s * CLEARLY).then(profiled).when(observed > d.slide_s * CLEARLY).then(observed)
    warning_s = pl.max_horizontal(pl.lit(float(d.silent_after_s)), own_s.fill_null(0.0) * d.silent_cadences)
    limited = measured.with_columns(silent_warning_s=warning_s).with_columns(
        silent_error_s=pl.max_horizontal(pl.lit(float(d.silent_error_after_s)), _warning_s * 2)
    )
    heartbeat_s = float(incidents.silence_heartbeat)

    def reached(silence_s: pl.Expr) -> pl.Expr:
        """0 while not silent, 1 from the first limit, 2 from the ERROR limit, one more every heartbeat."""
        beats = ((silence_s - _error_s) / heartbeat_s).floor() + 2
        return pl.when(silence_s >= _error_s).then(beats).when(silence_s >= _warning_s).then(1.0).otherwise(0.0)

    before_s = _age_s("previous_end", "previous_last_ts")
    now, before = reached(_age_s("window_end", "last_event_ts")), reached(before_s).fill_null(0.0)
    is_same = (pl.col("last_event_ts") == pl.col("previous_last_ts")).fill_null(value=False)
    step = (
        pl.when((now > 0) & (~is_same | (now > before))).then(now).when((now == 0) & (before > 0) & ~is_same).then(0.0)
    )
    repeated_s = _error_s + (_step - 2) * heartbeat_s
    limit_s = pl.when(_step == 1).then(_warning_s).otherwise(repeated_s)
    stepped = limited.with_columns(silence_step=step).with_columns(
        silence_s=pl.when(_step == 0).then(before_s).otherwise(limit_s)
    )
    since_ms = pl.col("last_event_ts").dt.epoch("ms") + (_silence_s * 1000).cast(pl.Int64)
    end_ms = pl.col("window_end").dt.epoch("ms")
    return stepped.with_columns(silence_event_ms=pl.when(_step == 0).then(end_ms).otherwise(since_ms))


def meter_silent(d: Detection) -> RowRule:
    """No reading for max(300 s, 5 x cadence): WARNING, from 30 min on ERROR, repeated as a heartbeat; and INFO
    with the word "back" at the first window end after it. The cadence is the fleet's, or the meter's own where that
    is longer.

    Judged on the change between one window end and the one before it, so that a silent meter costs one event a
    heartbeat, and not one a minute. Silent itself while less than `min_reporting` of the fleet reports: then the
    clock of one meter, or the way of the data, is wrong, and not every other meter. A meter that is the whole fleet
    is judged when it is back: the windows that it missed are there then (`complete_fleet`).
    """
    is_heard = pl.col("fleet_awake") >= d.min_reporting
    severity = first_of(
        (is_heard & (_step == 0), "INFO"), (is_heard & (_step == 1), "WARNING"), (is_heard & (_step > 1), "ERROR")
    )
    return RowRule(
        "meter_silent",
        severity=severity,
        observed=_silence_s,
        threshold=_warning_s,
        deviation=_silence_s - _warning_s,
        score=_silence_s / _warning_s,
        text=messages.silent,
        text_of=(pl.col("meter_id"), _step.cast(pl.Int64), _silence_s),
    )


def _age_s(end: str, last: str) -> pl.Expr:
    return (pl.col(end).dt.epoch("ms") - pl.col(last).dt.epoch("ms")) / 1000
