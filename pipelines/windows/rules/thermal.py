"""temperature_rise: the meter warms faster than weather or load can warm it."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.anomalies.row_rules import RowRule, first_of, number
from pipelines.settings import Detection
from pipelines.windows import messages
from pipelines.windows.look_back import windows_in


def temperature_rise(d: Detection) -> RowRule:
    """Hottest reading of the tested part at least 20 °C above the coldest of the 15 min (or one window): WARNING.

    Silent without temperatures; a fall says nothing, since the tested part is the last.
    """
    count, limit = windows_in(d.rise_s, d), number(limits_of(d).rise_c)
    # A minimum over columns skips nulls, so a missing earlier window only shortens the span.
    coldest = pl.min_horizontal(f"min_temperature_c_{k}" for k in range(count))
    hottest = pl.col("tested_max_temperature_c")
    value = hottest - coldest
    return RowRule(
        "temperature_rise",
        severity=first_of((value >= limit, "WARNING")),
        observed=hottest,
        threshold=limit,
        deviation=value,
        score=value / limit,
        text=messages.warmed,
        text_of=(pl.col("meter_id"), hottest, value, pl.lit(int(count * d.window_s // 60)), limit),
    )
