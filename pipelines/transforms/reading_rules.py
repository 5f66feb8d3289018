"""Rules that judge one reading by itself, or against the latest baseline of its meter.

Stateless (project, filter, explode, broadcast join): the archive query and a real-time job call the same code.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.transforms.anomalies import (
    finding,
    graded,
    identify,
    original_event,
    source_coordinates,
    source_item,
)
from pipelines.transforms.limits import limits_of
from pipelines.transforms.readings import is_plausible, lowest_plausible_v


def attach_baseline(readings: DataFrame, baselines: DataFrame, *, max_age_s: float) -> DataFrame:
    """Adds `baseline` {mean, std, n, windowStart, windowEnd} and p99_deviation_v of the reading's meter.

    The baseline is the latest closed window; it is null (outcome "no baseline") when the window ends after the
    reading or more than `max_age_s` before it, so a reading is never part of its own baseline.
    """
    latest = baselines.select(
        "meter_id",
        "p99_deviation_v",
        F.struct(
            F.col("mean_v").alias("mean"),
            F.col("std_v").alias("std"),
            "n",
            F.unix_millis("window_start").alias("windowStart"),
            F.unix_millis("window_end").alias("windowEnd"),
        ).alias("latest"),
    )
    joined = readings.join(F.broadcast(latest), "meter_id", "left")
    age_ms = F.unix_millis("event_ts") - F.col("latest")["windowEnd"]
    usable = age_ms.between(F.lit(0), F.lit(int(max_age_s * 1000)))
    return joined.withColumn("baseline", F.when(usable, F.col("latest"))).drop("latest")


def judge_readings(readings: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds `findings`: what each rule says of a reading (null where it is silent); null for a normal reading.

    In: the columns of `type_readings`, `attach_meters` and `attach_baseline`.
    """
    said = _findings(detection)
    is_odd = reduce(Column.__or__, [one.isNotNull() for one in said])
    return readings.withColumn("findings", F.when(is_odd, F.array(*said)))


def reading_anomalies(judged: DataFrame) -> DataFrame:
    """Anomalies of stage reading, in the columns of the contract. Event time is the reading's.

    In: accepted readings with the findings of `judge_readings`.
    """
    found = judged.where(F.col("findings").isNotNull()).withColumn("finding", F.explode("findings"))
    spoken = found.where(F.col("finding").isNotNull())
    origin = {"original_event": original_event(), "source": source_coordinates(), "source_item": source_item(spoken)}
    complete = spoken.withColumns(origin)
    return identify(complete, stage="reading")


def _findings(detection: Detection) -> list[Column]:
    plausible = is_plausible(detection)
    limits = [
        voltage_spike(detection),
        interruption(detection),
        undervoltage(detection),
        overvoltage(detection),
        over_temperature(detection),
        overcurrent(detection),
        voltage_deviation(detection),
    ]
    return [
        implausible_value(detection),
        equipment_failure(),
        *[F.when(plausible, limit) for limit in limits],
    ]


def voltage_spike(d: Detection) -> Column:
    """v > fixed_voltage_v (at Un 230 V, in proportion elsewhere): INFO up to the overvoltage limit, WARNING above."""
    limits = limits_of(d)
    limit = _un() * F.lit(limits.spike_pu)
    severity = F.when(_v() > _un() * limits.overvoltage_pu[0], "WARNING").when(_v() > limit, "INFO")
    return _voltage_finding("voltage_spike", severity, F.round(limit, 6), "above the fixed limit of")


def interruption(d: Detection) -> Column:
    """0 <= v < 0.10 Un: CRITICAL (EN 50160 supply interruption); also slightly below 0, the noise of a dead line."""
    limits = limits_of(d)
    limit = _un() * limits.interruption_pu
    severity = F.when((_v() >= lowest_plausible_v(d)) & (_v() < limit), "CRITICAL")
    return _voltage_finding("interruption", severity, limit, "below the interruption limit of")


def undervoltage(d: Detection) -> Column:
    """0.10 Un <= v < 0.90 Un: WARNING, below 0.85 ERROR, below 0.70 CRITICAL (EN 50160 band)."""
    limits = limits_of(d)
    graded_severity = graded(_v(), tuple(_un() * pu for pu in limits.undervoltage_pu), above=False)
    severity = F.when(_v() >= _un() * limits.interruption_pu, graded_severity)
    return _voltage_finding(
        "undervoltage", severity, _un() * limits.undervoltage_pu[0], "below the band's lower limit of"
    )


def overvoltage(d: Detection) -> Column:
    """1.10 Un < v <= 1.50 Un: WARNING, above 1.15 ERROR, above 1.20 CRITICAL (EN 50160 band)."""
    limits = limits_of(d)
    severity = graded(_v(), tuple(_un() * pu for pu in limits.overvoltage_pu), above=True)
    return _voltage_finding(
        "overvoltage", severity, _un() * limits.overvoltage_pu[0], "above the band's upper limit of"
    )


def over_temperature(d: Detection) -> Column:
    """Temperature above 75, 90, 110 °C: WARNING, ERROR, CRITICAL."""
    limits = limits_of(d)
    value, limit = F.col("temperature_c"), F.lit(limits.over_temperature_c[0])
    return finding(
        "over_temperature",
        severity=graded(value, limits.over_temperature_c, above=True),
        observed=value,
        threshold=limit,
        deviation=value - limit,
        score=value / limit,
        text=F.format_string("Meter %s: %.1f °C is above the limit of %.1f °C.", "meter_id", value, limit),
    )


def overcurrent(d: Detection) -> Column:
    """Current above 1.0, 1.2, 1.5 times the rated current; silent where the rated current is not known."""
    limits = limits_of(d)
    value, rated = F.col("current_a"), F.col("rated_current_a")
    return finding(
        "overcurrent",
        severity=graded(value, tuple(rated * pu for pu in limits.overcurrent_pu), above=True),
        observed=value,
        threshold=rated * limits.overcurrent_pu[0],
        deviation=value - rated * limits.overcurrent_pu[0],
        score=F.try_divide(value, rated * limits.overcurrent_pu[0]),
        text=F.format_string("Meter %s: %.1f A is above the rated current of %.1f A.", "meter_id", value, rated),
    )


def equipment_failure() -> Column:
    """Status contains FAILURE in any case, whatever the voltage: CRITICAL."""
    severity = F.when(F.upper("status").contains("FAILURE"), "CRITICAL")
    nothing = F.lit(None)
    text = F.format_string("Meter %s reports the status '%s'.", "meter_id", F.substring("status", 1, 80))
    return finding(
        "equipment_failure",
        severity=severity, observed=nothing, threshold=nothing, deviation=nothing, score=F.lit(1.0), text=text,
    )  # fmt: skip


def implausible_value(d: Detection) -> Column:
    """v < 0 (beyond the noise of a dead line) or > 1.5 Un, i < 0, or temperature outside its range: WARNING.

    No other limit rule speaks of the reading.
    """
    limits = limits_of(d)
    highest_v = _un() * limits.implausible_pu
    coldest, hottest = (F.lit(limit) for limit in limits.plausible_temperature_c)
    zero, current, temperature = F.lit(0.0), F.col("current_a"), F.col("temperature_c")
    crossed = (
        F.when(_v() > highest_v, _crossed(_v(), highest_v, "V"))
        .when(_v() < lowest_plausible_v(d), _crossed(_v(), zero, "V"))
        .when(current < 0, _crossed(current, zero, "A"))
        .when(temperature > hottest, _crossed(temperature, hottest, "°C"))
        .when(temperature < coldest, _crossed(temperature, coldest, "°C"))
    )
    return finding(
        "implausible_value",
        severity=F.when(crossed.isNotNull(), "WARNING"),
        observed=crossed["value"],
        threshold=crossed["limit"],
        deviation=crossed["value"] - crossed["limit"],
        score=F.lit(1.0),
        text=F.format_string(
            "Meter %s: %.1f %s is not possible (limit %.1f): the reading stays out of every baseline.",
            "meter_id", crossed["value"], crossed["unit"], crossed["limit"],
        ),
    )  # fmt: skip


def voltage_deviation(d: Detection) -> Column:
    """|v - mean| > sigma x max(std, floor), >= 3 % Un and >= 2.2 x own p99 against the latest closed window: INFO.

    An early flag of the window rule, which knows the feeder and the meter's own load.

    Silent ("no baseline") without a closed window of at least `min_history` readings that is fresh enough.
    """
    limits = limits_of(d)
    baseline = F.col("baseline")
    deviation = _v() - baseline["mean"]
    floor = _un() * d.std_floor_pu
    own_p99 = F.lit(d.profile_factor) * F.col("p99_deviation_v")
    allowed = F.greatest(F.lit(d.sigma) * F.greatest(baseline["std"], floor), _un() * limits.min_deviation_pu, own_p99)
    judged = (baseline["n"] >= d.min_history) & (F.abs(deviation) >= allowed)
    return finding(
        "voltage_deviation",
        severity=F.when(judged, "INFO"),
        observed=_v(),
        threshold=allowed,
        deviation=deviation,
        score=F.abs(deviation) / allowed,
        text=F.format_string(
            "Meter %s: %.1f V is %+.1f V off its mean of %.1f V over %d readings; %.1f V are allowed.",
            "meter_id", _v(), deviation, baseline["mean"], baseline["n"], allowed,
        ),
    )  # fmt: skip


def _v() -> Column:
    return F.col("voltage_v")


def _un() -> Column:
    return F.col("nominal_voltage_v")


def _crossed(value: Column, limit: Column, unit: str) -> Column:
    return F.struct(value.alias("value"), limit.alias("limit"), F.lit(unit).alias("unit"))


def _voltage_finding(anomaly_type: str, severity: Column, limit: Column, relation: str) -> Column:
    deviation = _v() - limit
    return finding(
        anomaly_type,
        severity=severity,
        observed=_v(),
        threshold=limit,
        deviation=deviation,
        score=F.abs(_v() - _un()) / F.abs(limit - _un()),
        text=F.format_string(f"Meter %s: %.1f V is {relation} %.1f V (%+.1f V).", "meter_id", _v(), limit, deviation),
    )
