"""Every meter against its feeder at one window end: what the neighbours saw too is not the meter's own.

Plain group-bys over the whole fleet of a window end, so the same answer on a stream, an archive and a file.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.tables import METER_WINDOWS
from pipelines.transforms.limits import in_volts, limits_of, per_unit

LEAST_METERS = 3
"""A median of two is as much one meter's as the other's."""


def compare_with_feeder(windows: DataFrame, *, detection: Detection) -> DataFrame:
    """Fills residual_v and feeder_std_v, in the columns of meter_windows.

    In: complete rows of one or more window ends with the columns of `attach_meters`. Compared are the in-band means
    of the tested parts, with the meters of the same phase where three of them are known, else with the feeder; null
    for a meter without a feeder or with fewer than two others. With classes the means are compared in units of Un.
    """
    feeder = Window.partitionBy(group_of("feeder_id"), "window_end")
    phase = Window.partitionBy(group_of("feeder_id"), F.coalesce("phase", F.lit("")), "window_end")

    def median(name: str) -> Column:
        middle = F.median(per_unit(F.col(name), detection=detection))
        by_phase = F.when(
            F.col("phase").isNotNull() & (F.count("tested_mean_v").over(phase) >= LEAST_METERS), middle.over(phase)
        )
        by_feeder = F.when(F.count("tested_mean_v").over(feeder) >= LEAST_METERS, middle.over(feeder))
        return in_volts(F.coalesce(by_phase, by_feeder), detection=detection)

    distance = F.col("tested_mean_v") - F.col("middle_v")
    current = F.coalesce("tested_min_current_a", F.lit(0.0))
    return (
        windows.withColumns({"middle_v": median("tested_mean_v"), "feeder_std_v": median("tested_std_v")})
        .withColumn("residual_v", less_own_load(distance, rise_a=current, fall_a=F.lit(0.0), detection=detection))
        .select(*METER_WINDOWS.column_names)
    )


def less_own_load(voltage: Column, *, rise_a: Column, fall_a: Column, detection: Detection) -> Column:
    """What is left of a voltage difference (V) after the drop over the line that the meter's own current makes.

    A rise of the current (A) explains a drop of up to rise x own_load_ohm, a fall of it a rise of the voltage.
    """
    ohm = F.lit(limits_of(detection).own_load_ohm)
    drop, gain = F.greatest(rise_a, F.lit(0.0)) * ohm, F.greatest(fall_a, F.lit(0.0)) * ohm
    return F.when(voltage < 0, F.least(voltage + drop, F.lit(0.0))).otherwise(F.greatest(voltage - gain, F.lit(0.0)))


def group_of(name: str) -> Column:
    """The feeder of a meter; a meter without one is a group of its own, never one of all such meters."""
    return F.coalesce(F.col(name), F.concat(F.lit("\0"), F.col("meter_id")))
