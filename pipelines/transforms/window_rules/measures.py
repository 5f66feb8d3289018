"""What the window rules look at: a meter's row with its earlier rows beside it, and what its feeder did meanwhile."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.transforms.limits import in_volts, limits_of, per_unit
from pipelines.transforms.topology import LEAST_METERS, group_of, less_own_load

BY_WINDOW = ("plausible_n", "mean_v", "min_v", "max_v", "min_temperature_c")
"""Remembered of the disjoint windows before: `<name>_<k>` is k windows back, k = 0 the window itself."""
BY_SLIDE = ("tested_n", "tested_std_v", "feeder_std_v", "residual_v")
"""Remembered of the tested parts before: `<name>_s<k>` is k slides back."""
NOISE_SLIDES = 5
EVEN_GAPS = 3
"""A cadence shows in gaps of which the longest is at most so many times the shortest; else one of them is a silence."""


def measure(windows: DataFrame, history: DataFrame, *, detection: Detection) -> DataFrame:
    """The rows of `windows` with everything that `look_back` and `look_around` add."""
    return look_around(look_back(windows, history, detection=detection), detection=detection)


def windows_in(seconds: float, d: Detection) -> int:
    """How many disjoint windows cover a span."""
    return max(1, -(-int(seconds) // int(d.window_s)))


def slides_in(seconds: float, d: Detection) -> int:
    """How many tested parts cover a span."""
    return max(1, -(-int(seconds) // int(d.slide_s)))


def span_needed_s(detection: Detection) -> float:
    """How far before a window end `history` must reach, in seconds of window_end."""
    return max(
        (_windows_back(detection) - 1) * detection.window_s + detection.slide_s,
        max(slides_in(detection.drift_s, detection), _slides_back(detection)) * detection.slide_s,
    )


def look_back(windows: DataFrame, history: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds the meter's row before (previous_end, previous_last_ts), the features of its windows (`BY_WINDOW`) and
    tested parts (`BY_SLIDE`) before, residual_median_v and residual_n over `drift_s`, least_gap_s (shortest step of
    the latest reading from one row to the next, in the rows before; null where the steps differ much, and for what
    was a silence of ERROR),
    and fleet_awake, the part of the fleet that is not silent at the window end."""
    names = sorted({"meter_id", "window_end", "last_event_ts", *BY_WINDOW, *BY_SLIDE})
    earlier = history.join(windows.select("meter_id").distinct(), "meter_id", "left_semi").select(*names)
    rows = windows.withColumn("is_judged", F.lit(True)).unionByName(earlier, allowMissingColumns=True)
    by_meter = Window.partitionBy("meter_id").orderBy(F.unix_seconds("window_end"))
    # Where a slide is longer than the span, that slide is the span.
    drift = by_meter.rangeBetween(-max(0, int(detection.drift_s - detection.slide_s)), 0)
    columns = {
        "previous_end": F.lag("window_end").over(by_meter),
        "previous_last_ts": F.lag("last_event_ts").over(by_meter),
        # F.median refuses an ordered window.
        "residual_median_v": F.percentile("residual_v", 0.5).over(drift),
        "residual_n": F.count("residual_v").over(drift),
        **{f"{name}_0": F.col(name) for name in BY_WINDOW},
        **{f"{name}_s0": F.col(name) for name in BY_SLIDE},
    }
    steps: list[tuple[tuple[str, ...], str, float, int]] = [
        (BY_WINDOW, "", detection.window_s, _windows_back(detection)),
        (BY_SLIDE, "s", detection.slide_s, _slides_back(detection)),
    ]
    for names_back, mark, step_s, count in steps:
        for k in range(1, count):
            exactly = by_meter.rangeBetween(-int(k * step_s), -int(k * step_s))
            columns |= {f"{name}_{mark}{k}": F.max(name).over(exactly) for name in names_back}
    beside = rows.withColumns(columns)
    gap_s = (F.unix_millis("last_event_ts") - F.unix_millis("previous_last_ts")) / 1000
    # A row less than the history holds: the first row's gap needs the row before it. Not the row itself: it may end
    # a silence.
    recent = by_meter.rangeBetween(-int(span_needed_s(detection) - detection.slide_s), -1)
    gap_s = F.when((gap_s > 0) & (gap_s < detection.silent_error_after_s), gap_s)
    least, most = F.min(gap_s).over(recent), F.max(gap_s).over(recent)
    beside = beside.withColumn("least_gap_s", F.when(most <= EVEN_GAPS * least, least))
    judged = beside.where("is_judged").drop("is_judged")
    return judged.withColumn("fleet_awake", awake_part(detection))


def awake_part(d: Detection) -> Column:
    """Part of the fleet whose latest reading is younger than the limit of silence at the row's window end."""
    age_ms = F.unix_millis("window_end") - F.unix_millis("last_event_ts")
    awake = F.when(age_ms < int(d.silent_after_s * 1000), 1.0).otherwise(0.0)
    return F.avg(awake).over(Window.partitionBy("window_end"))


def look_around(windows: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds the deviation of the tested part and what the meter's feeder did in the same window.

    raw_deviation_v (largest distance of a tested reading from the baseline mean), deviation_v (less what the meter's
    own current explains), allowed_v, deviates; peers_alike (other meters of the feeder that deviate the same way by
    `peer_share` of it), feeder_moved_v (median of tested mean minus baseline mean), feeder_meters; is_feeders (the
    deviation is the feeder's); noise_v.
    """
    limits = limits_of(detection)
    d, mean, un = detection, F.col("base_mean_v"), F.col("nominal_voltage_v")
    above, below = F.col("tested_max_v") - mean, F.col("tested_min_v") - mean
    deviation = F.when(F.abs(above) >= F.abs(below), above).otherwise(below)
    spread = F.greatest(F.col("base_std_v"), un * d.std_floor_pu)
    enough = F.col("base_n") >= d.min_history
    own = F.coalesce("base_mean_current_a", F.lit(0.0))
    rise = F.coalesce(F.col("tested_max_current_a") - own, F.lit(0.0))
    fall = F.coalesce(own - F.col("tested_min_current_a"), F.lit(0.0))
    measured = windows.withColumns(
        {
            "raw_deviation_v": F.when(enough, deviation),
            "deviation_v": less_own_load(F.when(enough, deviation), rise_a=rise, fall_a=fall, detection=d),
            "moved_v": F.when(enough, F.col("tested_mean_v") - mean),
            "noise_v": noise(),
        }
    )
    feeder = Window.partitionBy(group_of("feeder_id"), "window_end")
    around = measured.withColumns(
        {
            "all_deviations": F.collect_list(per_unit(F.col("raw_deviation_v"), detection=d)).over(feeder),
            "feeder_moved_v": in_volts(F.median(per_unit(F.col("moved_v"), detection=d)).over(feeder), detection=d),
            "feeder_meters": F.count("moved_v").over(feeder),
        }
    )
    is_alone = F.col("feeder_meters") < LEAST_METERS
    least = un * F.when(is_alone, F.lit(limits.alone_deviation_pu)).otherwise(F.lit(limits.min_deviation_pu))
    around = around.withColumn("allowed_v", F.greatest(F.lit(d.sigma) * spread, least))
    around = around.withColumn("deviates", F.coalesce(F.abs("deviation_v") > F.col("allowed_v"), F.lit(False)))
    counted = around.withColumn("peers_alike", F.when(F.col("deviates"), _alike(d))).drop("all_deviations")
    return counted.withColumn("is_feeders", _is_feeders(d))


def _alike(d: Detection) -> Column:
    own = per_unit(F.col("raw_deviation_v"), detection=d)
    signed = F.signum(own)
    return F.size(F.filter("all_deviations", lambda v: v * signed >= F.abs(own) * d.peer_share)) - 1


def _is_feeders(d: Detection) -> Column:
    """Whether `peers` others deviate alike, or the feeder's median moved half as much."""
    deviation = F.col("raw_deviation_v")
    # Of two meters the median is half this one's own movement: take the other's.
    is_pair = (F.col("feeder_meters") == 2) & F.col("moved_v").isNotNull()
    moved = F.when(is_pair, 2 * F.col("feeder_moved_v") - F.col("moved_v")).otherwise(F.col("feeder_moved_v"))
    shared = (F.col("peers_alike") >= d.peers) | ((F.col("feeder_meters") > 1) & (F.abs(moved) >= F.abs(deviation) / 2))
    return F.col("feeder_id").isNotNull() & F.coalesce(shared, F.lit(False))


def noise() -> Column:
    """Spread (V) common to the last five tested parts: the largest of the five is left out, since a step lifts one
    of them and noise all; from each variance four times the feeder's median variance is taken off, since switching
    loads lift all meters. Null when a part is missing or has fewer than two readings."""
    variances = [
        F.greatest(
            F.col(f"tested_std_v_s{k}") * F.col(f"tested_std_v_s{k}")
            - 4 * F.coalesce(F.col(f"feeder_std_v_s{k}") * F.col(f"feeder_std_v_s{k}"), F.lit(0.0)),
            F.lit(0.0),
        )
        for k in range(NOISE_SLIDES)
    ]
    whole = reduce(Column.__and__, [F.col(f"tested_std_v_s{k}").isNotNull() for k in range(NOISE_SLIDES)])
    quiet = reduce(Column.__add__, variances) - F.greatest(*variances)
    return F.when(whole, F.sqrt(F.greatest(quiet, F.lit(0.0)) / (NOISE_SLIDES - 1)))


def total(name: str, count: int) -> Column:
    """Sum of a remembered count over windows; null when one is missing."""
    return reduce(Column.__add__, [F.col(f"{name}_{k}") for k in range(count)])


def _windows_back(d: Detection) -> int:
    return windows_in(max(d.stuck_s, d.sustained_s, d.rise_s), d)


def _slides_back(d: Detection) -> int:
    return max(NOISE_SLIDES, slides_in(d.step_s, d))
