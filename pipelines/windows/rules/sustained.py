"""sustained_undervoltage, sustained_overvoltage (means over 10 minutes), and what keeps a band incident open."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.anomalies.row_rules import RowRule, first_of, number
from pipelines.settings import Detection
from pipelines.windows import messages
from pipelines.windows.look_back import total, windows_in

_meter, _un = pl.col("meter_id"), pl.col("nominal_voltage_v")


def sustained_voltage(d: Detection) -> list[RowRule]:
    """Mean over 10 min (or one window, when that is longer) outside 0.90 to 1.10 Un: ERROR; below 0.85 CRITICAL.

    EN 50160 judges 10-min means. Implausible readings stay out; silent when a window of the span is missing, and
    when every reading of the tested part is back in the band by `hysteresis_pu` Un: then it is the past that speaks.
    """
    limits, (low, high) = limits_of(d), band(d)
    count = windows_in(d.sustained_s, d)
    readings = total("plausible_n", count)
    weighted = pl.sum_horizontal(
        [pl.col(f"mean_v_{k}") * pl.col(f"plausible_n_{k}") for k in range(count)], ignore_nulls=False
    )
    value = pl.when(readings >= d.min_history).then(weighted / readings)
    margin = _un * d.hysteresis_pu
    still_low = ~(pl.col("tested_min_v") >= low + margin).fill_null(value=False)
    still_high = ~(pl.col("tested_max_v") <= high - margin).fill_null(value=False)
    critical = value < _un * number(limits.sustained_critical_pu)

    def rule(anomaly_type: str, severity: pl.Expr, limit: pl.Expr, relation: str) -> RowRule:
        return RowRule(
            anomaly_type,
            severity=severity,
            observed=value,
            threshold=limit,
            deviation=value - limit,
            score=(value - _un).abs() / (limit - _un).abs(),
            text=messages.sustained,
            text_of=(_meter, pl.lit(int(count * d.window_s // 60)), value, pl.lit(relation), limit),
        )

    under = first_of((still_low & critical, "CRITICAL"), (still_low & (value < low), "ERROR"))
    over = first_of((still_high & (value > high), "ERROR"))
    return [
        rule("sustained_undervoltage", under, low, "below"),
        rule("sustained_overvoltage", over, high, "above"),
    ]


def held_voltage(d: Detection) -> list[RowRule]:
    """The hysteresis of the band: INFO, undervoltage or overvoltage of stage window.

    The voltage was out of band earlier in the window and is back in it by less than `hysteresis_pu` Un: the incident
    stays open, but none opens. Silent while readings are out of band: their own anomalies keep it open.
    """
    low, high = band(d)
    margin = _un * d.hysteresis_pu
    least, largest = pl.col("tested_min_v"), pl.col("tested_max_v")
    under = (pl.col("min_v") < low) & (least >= low) & (least < low + margin)
    over = (pl.col("max_v") > high) & (largest <= high) & (largest > high - margin)

    def rule(anomaly_type: str, holds: pl.Expr, value: pl.Expr, limit: pl.Expr) -> RowRule:
        return RowRule(
            anomaly_type,
            severity=first_of((holds, "INFO")),
            observed=value,
            threshold=limit,
            deviation=value - limit,
            score=pl.lit(0.0),
            text=messages.held,
            text_of=(_meter, value, margin, limit),
        )

    return [
        rule("undervoltage", under, least, low),
        rule("overvoltage", over & ~under.fill_null(value=False), largest, high),
    ]


def band(d: Detection) -> tuple[pl.Expr, pl.Expr]:
    """The lower and the upper limit (V) of the row's band."""
    limits = limits_of(d)
    return _un * number(limits.undervoltage_pu[0]), _un * number(limits.overvoltage_pu[0])
