"""Rules that judge closed windows: the whole fleet of a window end at once, with the windows before it.

Each rule is a column over one row of meter_windows that `look_back` and `look_around` have put in its place: the
meter's earlier windows beside it, and what the rest of its feeder did.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.settings import Detection, Incidents
from pipelines.transforms.anomalies import finding, identify, original_event, source_coordinates
from pipelines.transforms.windows import countable

_REMEMBERED = ("plausible_n", "mean_v", "min_v", "max_v")
_BASELINE_TYPE = "struct<mean:double,std:double,n:bigint,windowStart:bigint,windowEnd:bigint>"


def window_findings(windows: DataFrame, history: DataFrame, *, detection: Detection, incidents: Incidents) -> DataFrame:
    """What the window rules say: meter_id, feeder_id, event_ts, last_event_ts, baseline, finding.

    `windows`: rows of meter_windows to judge, with the columns of `attach_meters`; `history`: rows of earlier
    window ends. A row never sees a later one. Event time is window_end, for meter_silent the moment at which the
    silence reached its limit.
    """
    placed = look_around(look_back(windows, history, detection=detection), detection=detection)
    rules = [
        _said(voltage_deviation(detection), baseline=_baseline(detection)),
        _said(sustained_voltage(detection)),
        _said(stuck_sensor(detection)),
        _said(meter_silent(detection, incidents), event_ts=_silent_since(detection, incidents)),
    ]
    found = placed.withColumn("said", F.explode(F.filter(F.array(*rules), lambda one: one["finding"].isNotNull())))
    said = F.col("said")
    return found.select(
        "meter_id", "feeder_id", said["event_ts"].alias("event_ts"), "last_event_ts",
        said["baseline"].alias("baseline"), said["finding"].alias("finding"),
    )  # fmt: skip


def window_anomalies(findings: DataFrame, readings: DataFrame) -> DataFrame:
    """Anomalies of stage window, in the columns of the contract.

    `readings` (columns of the table) gives the latest reading of the window: originalEvent and source.
    """
    latest = countable(readings).select(
        "meter_id",
        F.col("event_ts").alias("last_event_ts"),
        original_event().alias("original_event"),
        source_coordinates().alias("source"),
    )
    return identify(findings.join(latest, ["meter_id", "last_event_ts"], "left"), stage="window")


def span_needed_s(detection: Detection) -> float:
    """How far before a window end `history` must reach, in seconds of window_end."""
    longest = max(detection.stuck_s, detection.sustained_s)
    return (windows_in(longest, detection) - 1) * detection.window_s + detection.slide_s


def windows_in(seconds: float, d: Detection) -> int:
    """How many disjoint windows cover a span."""
    return max(1, -(-int(seconds) // int(d.window_s)))


def look_back(windows: DataFrame, history: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds the meter's row before (previous_end, previous_last_ts) and, as `<name>_<k>`, the features of its k-th
    disjoint window before; `<name>_0` is the window itself."""
    keys = ["meter_id", "window_end", "last_event_ts", *_REMEMBERED]
    earlier = history.join(windows.select("meter_id").distinct(), "meter_id", "left_semi").select(*keys)
    rows = windows.withColumn("is_judged", F.lit(True)).unionByName(earlier, allowMissingColumns=True)
    seconds = F.unix_seconds("window_end")
    by_meter = Window.partitionBy("meter_id").orderBy(seconds)
    columns = {
        "previous_end": F.lag("window_end").over(by_meter),
        "previous_last_ts": F.lag("last_event_ts").over(by_meter),
        **{f"{name}_0": F.col(name) for name in _REMEMBERED},
    }
    longest = max(detection.stuck_s, detection.sustained_s)
    for k in range(1, windows_in(longest, detection)):
        back = int(-k * detection.window_s)
        exactly = by_meter.rangeBetween(back, back)
        columns |= {f"{name}_{k}": F.max(name).over(exactly) for name in _REMEMBERED}
    return rows.withColumns(columns).where("is_judged").drop("is_judged")


def look_around(windows: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds the deviation of the tested part and what the meter's feeder did in the same window.

    deviation_v, allowed_v, deviates; peers_alike (other meters of the feeder that deviate the same way),
    feeder_moved_v (median of tested mean minus baseline mean) and feeder_meters.
    """
    d, mean, un = detection, F.col("base_mean_v"), F.col("nominal_voltage_v")
    above, below = F.col("tested_max_v") - mean, F.col("tested_min_v") - mean
    deviation = F.when(F.abs(above) >= F.abs(below), above).otherwise(below)
    spread = F.greatest(F.col("base_std_v"), un * d.std_floor_pu)
    enough = F.col("base_n") >= d.min_history
    measured = windows.withColumns(
        {
            "deviation_v": F.when(enough, deviation),
            "allowed_v": F.greatest(F.lit(d.sigma) * spread, un * d.min_deviation_pu),
            "moved_v": F.when(enough, F.col("tested_mean_v") - mean),
        }
    )
    direction = F.signum("deviation_v")
    deviates = F.coalesce(F.abs("deviation_v") > F.col("allowed_v"), F.lit(False))
    feeder = Window.partitionBy("feeder_id", "window_end")
    alike = F.when(direction > 0, F.count_if(deviates & (direction > 0)).over(feeder)).otherwise(
        F.count_if(deviates & (direction < 0)).over(feeder)
    )
    return measured.withColumns(
        {
            "deviates": deviates,
            "peers_alike": alike - F.when(deviates, 1).otherwise(0),
            "feeder_moved_v": F.median("moved_v").over(feeder),
            "feeder_meters": F.count("moved_v").over(feeder),
        }
    )


def voltage_deviation(d: Detection) -> Column:
    """The tested part leaves the baseline part: WARNING.

    Beyond sigma x max(std, floor) and 3 % Un. Silent below `min_history` baseline readings, when `peers` other
    meters of the feeder deviate alike, or when the feeder's median moved half as much: the feeder's event.
    """
    deviation, mean, allowed = F.col("deviation_v"), F.col("base_mean_v"), F.col("allowed_v")
    # Of two meters the median is half this one's own movement: take the other's.
    is_pair = (F.col("feeder_meters") == 2) & F.col("moved_v").isNotNull()
    feeder_moved = F.when(is_pair, 2 * F.col("feeder_moved_v") - F.col("moved_v")).otherwise(F.col("feeder_moved_v"))
    shared = (F.col("peers_alike") >= d.peers) | (
        (F.col("feeder_meters") > 1) & (F.abs(feeder_moved) >= F.abs(deviation) / 2)
    )
    is_feeders = F.col("feeder_id").isNotNull() & F.coalesce(shared, F.lit(False))
    observed = mean + deviation
    return finding(
        "voltage_deviation",
        severity=F.when(F.col("deviates") & ~is_feeders, "WARNING"),
        observed=observed,
        threshold=allowed,
        deviation=deviation,
        score=F.abs(deviation) / allowed,
        text=F.format_string(
            "Meter %s: %.1f V is %+.1f V off its mean of %.1f V over %d readings; %.1f V are allowed.",
            "meter_id", observed, deviation, mean, "base_n", allowed,
        ),
    )  # fmt: skip


def sustained_voltage(d: Detection) -> Column:
    """Mean over 10 min (or one window, when that is longer) outside 0.90 to 1.10 Un: ERROR; below 0.85 CRITICAL.

    EN 50160 judges 10-min means. Implausible readings stay out; silent when a window of the span is missing.
    """
    count = windows_in(d.sustained_s, d)
    total = _total("plausible_n", count)
    weighted = reduce(Column.__add__, [F.col(f"mean_v_{k}") * F.col(f"plausible_n_{k}") for k in range(count)])
    value = F.when(total >= d.min_history, F.try_divide(weighted, total))
    un = F.col("nominal_voltage_v")
    low, high = un * d.undervoltage_pu[0], un * d.overvoltage_pu[0]
    minutes = int(count * d.window_s // 60)

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

    under = F.when(value < un * d.sustained_critical_pu, "CRITICAL").when(value < low, "ERROR")
    over = F.when(value > high, "ERROR")
    return F.coalesce(
        said("sustained_undervoltage", under, low, "below"),
        said("sustained_overvoltage", over, high, "above"),
    )


def stuck_sensor(d: Detection) -> Column:
    """Largest equals least voltage over 15 min, at least 10 readings, above 0.1 Un: WARNING.

    A window without plausible readings, or a missing one, makes the comparison null: silent.
    """
    count = windows_in(d.stuck_s, d)
    value, readings = F.col("min_v_0"), _total("plausible_n", count)
    unchanged = reduce(
        Column.__and__, [F.greatest(f"max_v_{k}", f"min_v_{k}") == value for k in range(count)]
    ) & reduce(Column.__and__, [F.least(f"max_v_{k}", f"min_v_{k}") == value for k in range(count)])
    energised = value > F.col("nominal_voltage_v") * d.interruption_pu
    minutes = int(count * d.window_s // 60)
    return finding(
        "stuck_sensor",
        severity=F.when(unchanged & (readings >= d.stuck_readings) & energised, "WARNING"),
        observed=value,
        threshold=F.lit(0.0),
        deviation=F.lit(0.0),
        score=F.lit(1.0),
        text=F.format_string(
            f"Meter %s: the voltage has been exactly %.1f V for {minutes} minutes (%d readings).",
            "meter_id", value, readings,
        ),
    )  # fmt: skip


def meter_silent(d: Detection, i: Incidents) -> Column:
    """No reading for max(300 s, 5 x cadence): WARNING, from 30 min on ERROR, repeated as a heartbeat; and INFO
    with the word "back" at the first window end after it.

    Judged on the change between one window end and the one before it, so that a silent meter costs one event a
    heartbeat, and not one a minute.
    """
    step, silence_s = _silence(d, i)
    minutes = silence_s / 60
    severity = F.when(step == 0, "INFO").when(step == 1, "WARNING").when(step > 1, "ERROR")
    text = F.when(
        step == 0,
        F.format_string("Meter %s is back after more than %.0f minutes of silence.", "meter_id", minutes),
    ).otherwise(F.format_string("Meter %s: no reading for %.0f minutes.", "meter_id", minutes))
    return finding(
        "meter_silent",
        severity=severity,
        observed=silence_s,
        threshold=F.lit(d.silent_after_s),
        deviation=silence_s - d.silent_after_s,
        score=silence_s / d.silent_after_s,
        text=text,
    )


def _silent_since(d: Detection, i: Incidents) -> Column:
    """Event time of meter_silent: last reading + the limit reached; for "back" the end of the window."""
    step, silence_s = _silence(d, i)
    reached = F.timestamp_millis((F.unix_millis("last_event_ts") + silence_s * 1000).cast("long"))
    return F.when(step == 0, F.col("window_end")).otherwise(reached)


def _silence(d: Detection, i: Incidents) -> tuple[Column, Column]:
    """The limit newly reached (1, 2, ...; 0 for "back"; null when nothing changed) and its length in seconds."""
    now_s = _age_s("window_end", "last_event_ts")
    before_s = _age_s("previous_end", "previous_last_ts")
    now, before = _silence_step(now_s, d, i), F.coalesce(_silence_step(before_s, d, i), F.lit(0))
    is_same = F.coalesce(F.col("last_event_ts") == F.col("previous_last_ts"), F.lit(False))
    step = F.when((now > 0) & (~is_same | (now > before)), now).when((now == 0) & (before > 0) & ~is_same, 0)
    limit_s = F.when(step == 1, F.lit(d.silent_after_s)).otherwise(d.silent_error_s + (step - 2) * i.silence_heartbeat)
    return step, F.when(step == 0, before_s).otherwise(limit_s)


def _age_s(end: str, last: str) -> Column:
    return (F.unix_millis(end) - F.unix_millis(last)) / 1000


def _silence_step(silence_s: Column, d: Detection, i: Incidents) -> Column:
    """0 while not silent, 1 from the first limit, 2 from the ERROR limit, one more every heartbeat."""
    beats = F.floor((silence_s - d.silent_error_s) / i.silence_heartbeat) + 2
    return F.when(silence_s >= d.silent_error_s, beats).when(silence_s >= d.silent_after_s, 1).otherwise(0)


def _total(name: str, count: int) -> Column:
    return reduce(Column.__add__, [F.col(f"{name}_{k}") for k in range(count)])


def _baseline(d: Detection) -> Column:
    return F.struct(
        F.col("base_mean_v").alias("mean"),
        F.col("base_std_v").alias("std"),
        F.col("base_n").alias("n"),
        F.unix_millis("window_start").alias("windowStart"),
        (F.unix_millis("window_end") - F.lit(int(d.slide_s * 1000))).alias("windowEnd"),
    )


def _said(rule: Column, *, event_ts: Column | None = None, baseline: Column | None = None) -> Column:
    return F.struct(
        (F.col("window_end") if event_ts is None else event_ts).alias("event_ts"),
        (F.lit(None).cast(_BASELINE_TYPE) if baseline is None else baseline).alias("baseline"),
        rule.alias("finding"),
    )
