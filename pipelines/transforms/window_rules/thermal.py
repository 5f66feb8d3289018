"""temperature_rise: the meter warms faster than weather or load can warm it."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.transforms.anomalies import finding
from pipelines.transforms.limits import limits_of
from pipelines.transforms.window_rules.measures import windows_in


def temperature_rise(d: Detection) -> Column:
    """Hottest reading of the tested part at least 20 °C above the coldest of the 15 min (or one window): WARNING.

    Silent without temperatures; a fall says nothing, since the tested part is the last.
    """
    limits = limits_of(d)
    count = windows_in(d.rise_s, d)
    # greatest and least skip nulls, so a missing earlier window only shortens the span.
    coldest = F.least(*(F.col(f"min_temperature_c_{k}") for k in range(count)), F.col("min_temperature_c"))
    hottest = F.col("tested_max_temperature_c")
    value = hottest - coldest
    minutes = int(count * d.window_s // 60)
    return finding(
        "temperature_rise",
        severity=F.when(value >= limits.rise_c, "WARNING"),
        observed=hottest,
        threshold=F.lit(limits.rise_c),
        deviation=value,
        score=value / limits.rise_c,
        text=F.format_string(
            f"Meter %s: %.1f °C is %+.1f °C within {minutes} minutes; %.1f °C are allowed.",
            "meter_id", hottest, value, F.lit(limits.rise_c),
        ),
    )  # fmt: skip
