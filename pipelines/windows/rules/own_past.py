"""voltage_step and voltage_drift of a meter without neighbours: it leaves what it did at that hour in days before."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import Limit, limits_of
from pipelines.anomalies.row_rules import RowRule, all_of, first_of, number
from pipelines.settings import Detection
from pipelines.windows import messages
from pipelines.windows.look_back import slides_in
from pipelines.windows.neighbours import less_own_load
from pipelines.windows.rules.sensor import stuck_sensor

_meter, _un = pl.col("meter_id"), pl.col("nominal_voltage_v")
_low, _high = pl.col("own_low_v"), pl.col("own_high_v")
_current = pl.col("tested_min_current_a").fill_null(0.0)


def own_step(d: Detection) -> RowRule:
    """Distance to the range of the hour (own_low_v to own_high_v) beyond 3.5 % Un and its width, the same way for 5
    min: WARNING.

    All tested parts of the span must lie beyond, less what the meter's own current explains. Silent with two neighbours
    or more, without a profile of the hour, and while a part of the span has no in-band reading.
    """
    parts = [_outside(pl.col(f"tested_mean_v_s{k}"), d) for k in range(slides_in(d.step_s, d))]
    limit = _allowed(limits_of(d).step_pu)
    above, below = all_of(part > limit for part in parts), all_of(part < -limit for part in parts)
    return _rule("voltage_step", above | below, pl.col("tested_mean_v"), parts[0], limit, len(parts) * d.slide_s)


def own_drift(d: Detection) -> RowRule:
    """Distance of the median of 30 min (or one slide, when that is longer) to the range of the hour, beyond 2.5 % Un
    and its width: WARNING.

    Silent as `own_step`, when fewer than half of the span's tested parts have a voltage, while stuck_sensor
    speaks, and when the last tested part is back by half.
    """
    value = _outside(pl.col("tested_median_v"), d)
    limit = _allowed(limits_of(d).drift_pu)
    enough = pl.col("tested_parts") * 2 >= slides_in(d.drift_s, d)
    is_away = (_outside(pl.col("tested_mean_v"), d).abs() > limit / 2).fill_null(value=True)
    is_moving = stuck_sensor(d).severity.is_null()
    drifts = enough & is_moving & is_away & (value.abs() > limit)
    return _rule("voltage_drift", drifts, pl.col("tested_median_v"), value, limit, max(d.drift_s, d.slide_s))


def _allowed(part: Limit) -> pl.Expr:
    """A part of Un; on a line that swings more the width of its range."""
    return pl.max_horizontal(_un * number(part), _high - _low)


def _outside(voltage: pl.Expr, d: Detection) -> pl.Expr:
    """How far (V) a voltage lies outside the range of the hour, less what the meter's own current explains; 0 in it."""
    return less_own_load(voltage - voltage.clip(_low, _high), rise_a=_current, fall_a=pl.lit(0.0), detection=d)


def _rule(
    anomaly_type: str, speaks: pl.Expr, observed: pl.Expr, distance: pl.Expr, limit: pl.Expr, span_s: float
) -> RowRule:
    return RowRule(
        anomaly_type,
        severity=first_of((pl.col("is_alone") & speaks, "WARNING")),
        observed=observed,
        threshold=limit,
        deviation=distance,
        score=distance.abs() / limit,
        text=messages.left_own_past,
        text_of=(_meter, observed, pl.lit(int(span_s // 60)), distance, _low, _high, limit),
    )
