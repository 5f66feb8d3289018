"""What the tested part of a meter's window does, and what its feeder does in the same window."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.anomalies.row_rules import number
from pipelines.settings import Detection
from pipelines.windows.look_back import NOISE_SLIDES
from pipelines.windows.neighbours import LEAST_METERS, in_volts, less_own_load, per_unit


def look_around(rows: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Adds the deviation of the tested part and what the meter's feeder did in the same window.

    raw_deviation_v (largest distance of a tested reading from the baseline mean), deviation_v (less what the meter's
    own current explains), allowed_v, deviates; is_alone (fewer than two neighbours); peers_alike (other meters of the
    feeder that deviate the same way by `peer_share` of it), feeder_moved_v (median of tested mean minus baseline mean),
    feeder_meters; is_feeders (the deviation is the feeder's); noise_v.
    """
    d, limits = detection, limits_of(detection)
    mean, un = pl.col("base_mean_v"), pl.col("nominal_voltage_v")
    above, below = pl.col("tested_max_v") - mean, pl.col("tested_min_v") - mean
    raw = pl.when(pl.col("base_n") >= d.min_history).then(
        pl.when(above.abs() >= below.abs()).then(above).otherwise(below)
    )
    own = pl.col("base_mean_current_a").fill_null(0.0)
    rise = (pl.col("tested_max_current_a") - own).fill_null(0.0)
    fall = (own - pl.col("tested_min_current_a")).fill_null(0.0)
    group = pl.coalesce("feeder_id", pl.concat_str(pl.lit("\0"), "meter_id"))  # a meter without a feeder is alone
    measured = rows.with_columns(
        raw_deviation_v=raw,
        moved_v=pl.when(pl.col("base_n") >= d.min_history).then(pl.col("tested_mean_v") - mean),
        noise_v=noise(),
        group=group,
    )
    feeder = ["group", "window_end"]
    moved = per_unit(pl.col("moved_v"), detection=d).median().over(feeder)
    around = measured.with_columns(
        deviation_v=less_own_load(pl.col("raw_deviation_v"), rise_a=rise, fall_a=fall, detection=d),
        feeder_moved_v=in_volts(moved, detection=d),
        feeder_meters=pl.col("moved_v").count().over(feeder).cast(pl.Int64),
    )
    around = around.with_columns(is_alone=pl.col("feeder_meters") < LEAST_METERS)
    is_alone = pl.col("is_alone")
    least = un * pl.when(is_alone).then(number(limits.alone_deviation_pu)).otherwise(number(limits.min_deviation_pu))
    spread = pl.max_horizontal("base_std_v", un * d.std_floor_pu)
    around = around.with_columns(allowed_v=pl.max_horizontal(spread * d.sigma, least))
    around = around.with_columns(deviates=(pl.col("deviation_v").abs() > pl.col("allowed_v")).fill_null(value=False))
    around = around.with_row_index("row")
    alike = _alike(around, d)
    counted = around.join(alike, on="row", how="left", maintain_order="left").drop("row", "group")
    return counted.with_columns(is_feeders=_is_feeders(d))


def noise() -> pl.Expr:
    """Spread (V) common to the last five tested parts: the largest of the five is left out, since a step lifts one
    of them and noise all; from each variance four times the feeder's median variance is taken off, since switching
    loads lift all meters. Null when a part is missing or has fewer than two readings."""
    parts = range(NOISE_SLIDES)
    variances = [
        pl.max_horizontal(
            pl.col(f"tested_std_v_s{k}") ** 2 - (pl.col(f"feeder_std_v_s{k}") ** 2).fill_null(0.0) * 4, 0.0
        )
        for k in parts
    ]
    is_whole = pl.all_horizontal(pl.col(f"tested_std_v_s{k}").is_not_null() for k in parts)
    quiet = pl.sum_horizontal(variances) - pl.max_horizontal(variances)
    return pl.when(is_whole).then((pl.max_horizontal(quiet, 0.0) / (NOISE_SLIDES - 1)).sqrt())


def _alike(rows: pl.DataFrame, d: Detection) -> pl.DataFrame:
    """`peers_alike` of the rows that deviate: other meters of the group whose deviation, the same way, reaches
    `peer_share` of their own. By order of size, not by pairs: in a storm every meter deviates."""
    own = per_unit(pl.col("raw_deviation_v"), detection=d)
    by = ["group", "window_end"]
    values = rows.select("row", "deviates", *by, value=own).filter(pl.col("value").is_not_null())
    found = []
    for sign in (1.0, -1.0):
        deviating = values.filter(pl.col("deviates") & (pl.col("value") * sign > 0))
        if not deviating.height:
            continue
        reached = deviating.select("row", *by, value=pl.col("value").abs() * d.peer_share).sort("value")
        others = values.join(deviating.select(by).unique(), on=by, how="semi").select(*by, value=pl.col("value") * sign)
        ranked = others.sort("value").with_columns(
            at_least=pl.len().over(by).cast(pl.Int64) - pl.int_range(pl.len()).over(by).cast(pl.Int64)
        )
        ranked = ranked.group_by([*by, "value"], maintain_order=True).agg(pl.col("at_least").max())
        counted = reached.join_asof(ranked, on="value", by=by, strategy="forward", check_sortedness=False)
        found.append(counted.select("row", peers_alike=pl.col("at_least").fill_null(0) - 1))
    nothing = pl.DataFrame(schema={"row": rows.schema["row"], "peers_alike": pl.Int64()})
    return pl.concat([nothing, *found])


def _is_feeders(d: Detection) -> pl.Expr:
    """Whether `peers` others deviate alike, or the feeder's median moved half as much."""
    # Of two meters the median is half this one's own movement: take the other's.
    is_pair = (pl.col("feeder_meters") == 2) & pl.col("moved_v").is_not_null()
    moved = pl.when(is_pair).then(pl.col("feeder_moved_v") * 2 - pl.col("moved_v")).otherwise(pl.col("feeder_moved_v"))
    follows = (pl.col("feeder_meters") > 1) & (moved.abs() >= pl.col("raw_deviation_v").abs() / 2)
    shared = (pl.col("peers_alike") >= d.peers) | follows
    return pl.col("feeder_id").is_not_null() & shared.fill_null(value=False)
