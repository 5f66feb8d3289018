"""sustained_undervoltage, sustained_overvoltage (means over 10 minutes), and what keeps a band incident open."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.transforms.anomalies import finding
from pipelines.transforms.limits import limits_of
from pipelines.transforms.window_rules.measures import total, windows_in


def sustained_voltage(d: Detection) -> Column:
    """Mean over 10 min (or one window, when that is longer) outside 0.90 to 1.10 Un: ERROR; below 0.85 CRITICAL.

    EN 50160 judges 10-min means. Implausible readings stay out; silent when a window of the span is missing, and
    when every reading of the tested part is back in the band by `hysteresis_pu` Un: then it is the past that speaks.
    """
    limits = limits_of(d)
    count = windows_in(d.sustained_s, d)
    readings = total("plausible_n", count)
    weighted = reduce(Column.__add__, [F.col(f"mean_v_{k}") * F.col(f"plausible_n_{k}") for k in range(count)])
    value = F.when(readings >= d.min_history, F.try_divide(weighted, readings))
    un = F.col("nominal_voltage_v")
    low, high = un * limits.undervoltage_pu[0], un * limits.overvoltage_pu[0]
    minutes = int(count * d.window_s // 60)
    margin = un * d.hysteresis_pu
    still_low = ~F.coalesce(F.col("tested_min_v") >= low + margin, F.lit(False))
    still_high = ~F.coalesce(F.col("tested_max_v") <= high - margin, F.lit(False))

    def said(anomaly_type: str, severity: Column, limit: Column, relation: str) -> Column:
        return finding(
            anomaly_type,
            severity=severity,
            observed=value,
            threshold=limit,
            deviation=value - limit,
            score=F.abs(value - un) / F.abs(limit - un),
            text=F.format_string(
                f"Meter %s: the {minutes}-minute mean of %.1f V is {relation} the band's limit of %.1f V.",
                "meter_id", value, limit,
            ),
        )  # fmt: skip

    under = F.when(value < un * limits.sustained_critical_pu, "CRITICAL").when(value < low, "ERROR")
    over = F.when(value > high, "ERROR")
    return F.coalesce(
        said("sustained_undervoltage", F.when(still_low, under), low, "below"),
        said("sustained_overvoltage", F.when(still_high, over), high, "above"),
    )


def held_voltage(d: Detection) -> Column:
    """The hysteresis of the band: INFO, undervoltage or overvoltage of stage window.

    The voltage was out of band earlier in the window and is back in it by less than `hysteresis_pu` Un: the incident
    stays open, but none opens. Silent while readings are out of band: their own anomalies keep it open.
    """
    limits = limits_of(d)
    un = F.col("nominal_voltage_v")
    low, high = un * limits.undervoltage_pu[0], un * limits.overvoltage_pu[0]
    margin = un * d.hysteresis_pu
    least, largest = F.col("tested_min_v"), F.col("tested_max_v")
    under = (F.col("min_v") < low) & (least >= low) & (least < low + margin)
    over = (F.col("max_v") > high) & (largest <= high) & (largest > high - margin)

    def said(anomaly_type: str, holds: Column, value: Column, limit: Column) -> Column:
        return finding(
            anomaly_type,
            severity=F.when(holds, "INFO"),
            observed=value,
            threshold=limit,
            deviation=value - limit,
            score=F.lit(0.0),
            text=F.format_string(
                "Meter %s: %.1f V is back in the band, but within %.1f V of its limit of %.1f V.",
                "meter_id", value, margin, limit,
            ),
        )  # fmt: skip

    return F.coalesce(said("undervoltage", under, least, low), said("overvoltage", over, largest, high))
