"""voltage_step and voltage_drift: a meter leaves its feeder while the feeder stays where it is."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.anomalies.row_rules import RowRule, all_of, first_of, number
from pipelines.settings import Detection
from pipelines.windows import messages
from pipelines.windows.look_back import slides_in
from pipelines.windows.rules.sensor import stuck_sensor

_meter, _un = pl.col("meter_id"), pl.col("nominal_voltage_v")


def voltage_step(d: Detection) -> RowRule:
    """Distance to the feeder's median (residual_v) beyond 3.5 % Un, the same way for 5 min: WARNING.

    All tested parts of the span must lie beyond, less what the meter's own current explains. Silent without three
    meters to compare with, and while a part of the span has no in-band reading.
    """
    parts = [pl.col(f"residual_v_s{k}") for k in range(slides_in(d.step_s, d))]
    limit = _un * number(limits_of(d).step_pu)
    above, below = all_of(part > limit for part in parts), all_of(part < -limit for part in parts)
    minutes = int(len(parts) * d.slide_s // 60)
    return RowRule(
        "voltage_step",
        severity=first_of((above | below, "WARNING")),
        observed=pl.col("tested_mean_v"),
        threshold=limit,
        deviation=parts[0],
        score=parts[0].abs() / limit,
        text=messages.stepped,
        text_of=(_meter, pl.col("tested_mean_v"), parts[0], pl.lit(minutes), limit),
    )


def voltage_drift(d: Detection) -> RowRule:
    """Median distance to the feeder over 30 min (or one slide, when that is longer), beyond 2.5 % Un of the last full
    day's residual_offset: WARNING.

    Silent without a profile of the day before ("no history"), without three meters to compare with, when fewer
    than half of the span's tested parts have a distance, while stuck_sensor speaks (the feeder moves, the value does
    not), and when the last tested part is back by half: then it is the past that speaks.
    """
    expected, median = pl.col("residual_offset_v"), pl.col("residual_median_v")
    value = median - expected
    enough = pl.col("residual_n") * 2 >= slides_in(d.drift_s, d)
    limit = _un * number(limits_of(d).drift_pu)
    is_away = ((pl.col("residual_v_s0") - expected).abs() > limit / 2).fill_null(value=True)
    is_moving = stuck_sensor(d).severity.is_null()
    minutes = int(max(d.drift_s, d.slide_s) // 60)
    return RowRule(
        "voltage_drift",
        severity=first_of((enough & is_moving & is_away & (value.abs() > limit), "WARNING")),
        observed=median,
        threshold=limit,
        deviation=value,
        score=value.abs() / limit,
        text=messages.drifted,
        text_of=(_meter, pl.lit(minutes), median, expected, limit),
    )
