"""voltage_step and voltage_drift: a meter leaves its feeder while the feeder stays where it is."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.transforms.anomalies import finding
from pipelines.transforms.limits import limits_of
from pipelines.transforms.window_rules.measures import slides_in
from pipelines.transforms.window_rules.sensor import stuck_sensor


def voltage_step(d: Detection) -> Column:
    """Distance to the feeder's median (residual_v) beyond 3.5 % Un, the same way for 5 min: WARNING.

    All tested parts of the span must lie beyond, less what the meter's own current explains. Silent without three
    meters to compare with, and while a part of the span has no in-band reading.
    """
    limits = limits_of(d)
    parts = [F.col(f"residual_v_s{k}") for k in range(slides_in(d.step_s, d))]
    limit = F.col("nominal_voltage_v") * limits.step_pu
    complete = reduce(Column.__and__, [part.isNotNull() for part in parts])
    above = reduce(Column.__and__, [part > limit for part in parts])
    below = reduce(Column.__and__, [part < -limit for part in parts])
    value = parts[0]
    minutes = int(len(parts) * d.slide_s // 60)
    return finding(
        "voltage_step",
        severity=F.when(complete & (above | below), "WARNING"),
        observed=F.col("tested_mean_v"),
        threshold=limit,
        deviation=value,
        score=F.abs(value) / limit,
        text=F.format_string(
            f"Meter %s: its mean of %.1f V has been %+.1f V off its feeder for {minutes} minutes; %.1f V are allowed.",
            "meter_id", "tested_mean_v", value, limit,
        ),
    )  # fmt: skip


def voltage_drift(d: Detection) -> Column:
    """Median distance to the feeder over 30 min (or one slide, when that is longer), beyond 2.5 % Un of the last full
    day's residual_offset: WARNING.

    Silent without a profile of the day before ("no history"), without three meters to compare with, when fewer
    than half of the span's tested parts have a distance, while stuck_sensor speaks (the feeder moves, the value does
    not), and when the last tested part is back by half: then it is the past that speaks.
    """
    limits = limits_of(d)
    expected = F.col("residual_offset_v")
    value = F.col("residual_median_v") - expected
    enough = F.col("residual_n") * 2 >= slides_in(d.drift_s, d)
    limit = F.col("nominal_voltage_v") * limits.drift_pu
    is_away = F.coalesce(F.abs(F.col("residual_v_s0") - expected) > limit / 2, F.lit(True))
    is_moving = stuck_sensor(d).isNull()
    minutes = int(max(d.drift_s, d.slide_s) // 60)
    return finding(
        "voltage_drift",
        severity=F.when(enough & is_moving & is_away & (F.abs(value) > limit), "WARNING"),
        observed=F.col("residual_median_v"),
        threshold=limit,
        deviation=value,
        score=F.abs(value) / limit,
        text=F.format_string(
            f"Meter %s: over {minutes} minutes it lies %+.1f V off its feeder, the day before %+.1f V;"
            " %.1f V of change are allowed.",
            "meter_id", "residual_median_v", expected, limit,
        ),
    )  # fmt: skip
