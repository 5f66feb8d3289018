"""Rules that judge one reading by itself, or against the latest baseline of its meter.

Their texts are in `messages`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl

from pipelines.anomalies.events import Finding
from pipelines.anomalies.limits import limits_of
from pipelines.anomalies.row_rules import RowRule, RuleSet, first_of, number, ratio
from pipelines.readings import messages
from pipelines.readings.flags import is_possible, lowest_plausible_v
from pipelines.readings.meters import BASELINE
from pipelines.settings import Detection

_JUDGED = {"over_temperature": "possible_c", "overcurrent": "possible_a"}
"""What a limit rule judges, by the names of `is_possible`; the others judge the voltage."""
_meter = pl.col("meter_id")
_v, _a, _c = pl.col("voltage_v"), pl.col("current_a"), pl.col("temperature_c")
_un, _rated = pl.col("nominal_voltage_v"), pl.col("rated_current_a")
_no_number = pl.lit(None, pl.Float64())


_TEXTS = ("anomaly_type", "severity", "message")
_SCHEMA = {name: pl.String() if name in _TEXTS else pl.Float64() for name in Finding._fields} | {"row": pl.UInt32()}


class ReadingRules:
    """The rules with the settings of `detection`: made once, used for many frames."""

    def __init__(self, detection: Detection) -> None:
        self._rules = RuleSet(reading_rules(detection))
        self._marks = [_baseline(detection).alias("baseline")]

    def mark(self, readings: pl.DataFrame) -> pl.DataFrame:
        """Adds missing columns of BASELINE, and `baseline` (see `judge_readings`)."""
        missing = [pl.lit(None, kind).alias(name) for name, kind in BASELINE.items() if name not in readings.columns]
        return (readings.with_columns(missing) if missing else readings).with_columns(self._marks)

    def findings(self, marked: pl.DataFrame) -> list[Finding]:
        """Findings of readings with `mark`, by row, and of one row in the order of `reading_rules`."""
        return self._rules.findings(marked)


def judge_readings(readings: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """One row per finding, in the order of the readings, and of one reading in that of `reading_rules`.

    In: event_ms, the columns of `attach_meters`, and those of BASELINE where there are baselines.
    Out: all input columns, anomaly_type, severity, score, observed, deviation, threshold_used, message, and baseline
    {mean, std, n, windowStart, windowEnd}: the one the reading may be compared with, null when there is none.
    """
    rules = ReadingRules(detection)
    marked = rules.mark(readings)
    findings = pl.DataFrame(rules.findings(marked), schema=_SCHEMA, orient="row")
    of_found = marked[findings["row"]]
    return of_found.select(readings.columns).hstack(findings.drop("row")).with_columns(of_found["baseline"])


def reading_rules(detection: Detection) -> list[RowRule]:
    """All rules of single readings. The limit rules are silent about a measurement that is not possible."""
    limits = [
        voltage_spike(detection),
        interruption(detection),
        undervoltage(detection),
        overvoltage(detection),
        over_temperature(detection),
        overcurrent(detection),
        voltage_deviation(detection),
    ]
    possible = is_possible(detection)
    of_possible = [
        replace(rule, severity=pl.when(possible[_JUDGED.get(rule.anomaly_type, "possible_v")]).then(rule.severity))
        for rule in limits
    ]
    return [implausible_value(detection), equipment_failure(), *of_possible]


def voltage_spike(d: Detection) -> RowRule:
    """v > fixed_voltage_v (at Un 230 V, in proportion elsewhere): INFO up to the overvoltage limit, WARNING above."""
    limits = limits_of(d)
    limit = _un * limits.spike_pu
    severity = first_of((_v > _un * limits.overvoltage_pu[0], "WARNING"), (_v > limit, "INFO"))
    return _voltage_rule(
        "voltage_spike", severity, limit.round(6, mode="half_away_from_zero"), messages.over_fixed_limit
    )


def interruption(d: Detection) -> RowRule:
    """0 <= v < 0.10 Un: CRITICAL (EN 50160 supply interruption); also slightly below 0, the noise of a dead line."""
    limit = _un * limits_of(d).interruption_pu
    severity = first_of(((lowest_plausible_v(d) <= _v) & (_v < limit), "CRITICAL"))
    return _voltage_rule("interruption", severity, limit, messages.interrupted)


def undervoltage(d: Detection) -> RowRule:
    """0.10 Un <= v < 0.90 Un: WARNING, below 0.85 ERROR, below 0.70 CRITICAL (EN 50160 band)."""
    limits = limits_of(d)
    warning, error, critical = (_un * pu for pu in limits.undervoltage_pu)
    below = first_of((_v < critical, "CRITICAL"), (_v < error, "ERROR"), (_v < warning, "WARNING"))
    severity = pl.when(_un * limits.interruption_pu <= _v).then(below)
    return _voltage_rule("undervoltage", severity, warning, messages.below_band)


def overvoltage(d: Detection) -> RowRule:
    """1.10 Un < v <= 1.50 Un: WARNING, above 1.15 ERROR, above 1.20 CRITICAL (EN 50160 band)."""
    limits = [_un * pu for pu in limits_of(d).overvoltage_pu]
    return _voltage_rule("overvoltage", _above(_v, limits), limits[0], messages.above_band)


def over_temperature(d: Detection) -> RowRule:
    """Temperature above 75, 90, 110 °C: WARNING, ERROR, CRITICAL; silent without a temperature."""
    limits = [number(limit) for limit in limits_of(d).over_temperature_c]
    return RowRule(
        "over_temperature",
        severity=_above(_c, limits),
        observed=_c,
        threshold=limits[0],
        deviation=_c - limits[0],
        score=ratio(_c, limits[0]),
        text=messages.too_hot,
        text_of=(_meter, _c, limits[0]),
    )


def overcurrent(d: Detection) -> RowRule:
    """Current above 1.0, 1.2, 1.5 times the rated current; silent where one of them is not known."""
    limits = [_rated * pu for pu in limits_of(d).overcurrent_pu]
    return RowRule(
        "overcurrent",
        severity=_above(_a, limits),
        observed=_a,
        threshold=limits[0],
        deviation=_a - limits[0],
        score=ratio(_a, limits[0]),
        text=messages.above_rated_current,
        text_of=(_meter, _a, _rated),
    )


def equipment_failure() -> RowRule:
    """Status contains FAILURE in any case, whatever the voltage: CRITICAL."""
    is_failure = pl.col("status").str.to_uppercase().str.contains("FAILURE", literal=True)
    return RowRule(
        "equipment_failure",
        severity=first_of((is_failure, "CRITICAL")),
        observed=_no_number,
        threshold=_no_number,
        deviation=_no_number,
        score=pl.lit(1.0),
        text=messages.failure_reported,
        text_of=(
            _meter,
            pl.col("status"),
        ),
    )


def implausible_value(d: Detection) -> RowRule:
    """v < 0 (beyond the noise of a dead line) or > 1.5 Un, i < 0, or temperature outside its range: WARNING.

    No limit rule says anything of such a measurement.
    """
    limits = limits_of(d)
    highest_v = _un * limits.implausible_pu
    coldest, hottest = (number(limit) for limit in limits.plausible_temperature_c)
    zero = pl.lit(0.0)
    crossed = [
        (highest_v < _v, _v, highest_v, "V"),
        (lowest_plausible_v(d) > _v, _v, zero, "V"),
        (_a < 0, _a, zero, "A"),
        (hottest < _c, _c, hottest, "°C"),
        (coldest > _c, _c, coldest, "°C"),
    ]
    observed = pl.coalesce(pl.when(is_crossed).then(value) for is_crossed, value, _, _ in crossed)
    threshold = pl.coalesce(pl.when(is_crossed).then(limit) for is_crossed, _, limit, _ in crossed)
    return RowRule(
        "implausible_value",
        severity=first_of(*((is_crossed, "WARNING") for is_crossed, *_ in crossed)),
        observed=observed,
        threshold=threshold,
        deviation=observed - threshold,
        score=pl.lit(1.0),
        text=messages.not_possible,
        text_of=(_meter, observed, threshold, first_of(*((is_crossed, unit) for is_crossed, _, _, unit in crossed))),
    )


def voltage_deviation(d: Detection) -> RowRule:
    """|v - mean| > sigma x max(std, floor), >= 3 % Un and >= 2.2 x own p99 against the latest closed window: INFO.

    An early flag of the window rule, which knows the feeder and the meter's own load. Silent ("no baseline") without
    a closed window of at least `min_history` readings that is fresh enough.
    """
    deviation, allowed = _v - pl.col("baseline_mean_v"), allowed_deviation_v(d)
    judged = is_fresh(d) & has_history(d) & (deviation.abs() >= allowed)
    return RowRule(
        "voltage_deviation",
        severity=first_of((judged, "INFO")),
        observed=_v,
        threshold=allowed,
        deviation=deviation,
        score=ratio(deviation.abs(), allowed),
        text=messages.off_its_mean,
        text_of=(_meter, _v, deviation, pl.col("baseline_mean_v"), pl.col("baseline_n"), allowed),
    )


def is_fresh(d: Detection) -> pl.Expr:
    """Whether the baseline ends no later than the reading and at most `baseline_max_age` before it: a reading is
    never part of its own baseline."""
    age_ms = pl.col("event_ms") - pl.col("baseline_end_ms")
    return age_ms.is_between(0, max_age_ms(d))


def max_age_ms(d: Detection) -> int:
    """Age in milliseconds up to which a baseline is used."""
    return int(d.baseline_max_age_s * 1000)


def has_history(d: Detection) -> pl.Expr:
    """Whether the baseline rests on enough readings."""
    return pl.col("baseline_n") >= d.min_history


def allowed_deviation_v(d: Detection) -> pl.Expr:
    """Distance (V) from the baseline's mean at which voltage_deviation fires."""
    spread = pl.max_horizontal("baseline_std_v", _un * d.std_floor_pu)
    own_p99 = pl.col("p99_deviation_v") * d.profile_factor
    return pl.max_horizontal(spread * d.sigma, _un * limits_of(d).min_deviation_pu, own_p99)


def _baseline(d: Detection) -> pl.Expr:
    wire = {"mean": "mean_v", "std": "std_v", "n": "n", "windowStart": "start_ms", "windowEnd": "end_ms"}
    return pl.when(is_fresh(d)).then(pl.struct(pl.col(f"baseline_{name}").alias(key) for key, name in wire.items()))


def _voltage_rule(anomaly_type: str, severity: pl.Expr, limit: pl.Expr, text: Callable[..., str]) -> RowRule:
    return RowRule(
        anomaly_type,
        severity,
        observed=_v,
        threshold=limit,
        deviation=_v - limit,
        score=ratio((_v - _un).abs(), (limit - _un).abs()),
        text=text,
        text_of=(_meter, _v, limit, _v - limit),
    )


def _above(value: pl.Expr, limits: Sequence[pl.Expr]) -> pl.Expr:
    """Severity of a value against limits for WARNING, ERROR and CRITICAL; null when none is crossed."""
    warning, error, critical = limits
    return first_of((value > critical, "CRITICAL"), (value > error, "ERROR"), (value > warning, "WARNING"))
