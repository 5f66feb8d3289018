"""Rules over all meters of a feeder, or of one of its phases, at one window end.

One voltage event at the transformer is one finding, not one of every meter behind it.
"""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.anomalies.row_rules import RowRule, first_of, number
from pipelines.settings import Detection
from pipelines.windows import messages

DAY_MS = 86_400_000
DARK_SLIDES = 2
"""An outage at the edge of two slides is dark in both: longer is not at once."""
MOST = 0.5
"""An outage lasts while this part of the feeder's meters is dark: until then it explains what its meters say."""
MOMENTS = ("dark_ts", "low_ts", "high_ts")

_needed, _reporting, _dead = pl.col("needed"), pl.col("reporting"), pl.col("dead")
_feeder, _phase = pl.col("feeder_id"), pl.col("phase")
_BY = ["feeder_id", "phase", "window_end"]


def count_feeders(windows: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """One row per feeder, phase (null: all phases) and window end, with what the feeder rules look at.

    In: complete rows of meter_windows with the columns of `attach_meters`. Counted are meters whose tested part has a
    plausible reading below 0.90 Un, above 1.10 Un, or below 0.10 Un (or that fell silent within one slide of two
    others); needed are max(`feeder_meters`, `feeder_share` of the reporting ones). A meter that was in band in no
    part of its window, of more than two slides of readings, counts nowhere: what is dead for longer is not dead at
    once. Silent for meters without a feeder, and for feeders of fewer meters than are needed.
    Out: reporting, dead, needed, most; and for dark, low and high: `<name>_n` and `<name>_ms`, the moment (epoch ms) at
    which the last of the needed ones left the band, for silent meters window_end.
    """
    d = detection
    states = _states(windows.filter(_feeder.is_not_null()), d)
    both = pl.concat([states.with_columns(phase=pl.lit(None, pl.String)), states.filter(_phase.is_not_null())])
    grouped = both.group_by(_BY, maintain_order=True).agg(
        pl.col("is_reporting").sum().cast(pl.Int64).alias("reporting"),
        pl.col("is_dead").sum().cast(pl.Int64).alias("dead"),
        *(pl.col(name).drop_nulls().sort() for name in MOMENTS),
    )
    shared = grouped.with_columns(
        needed=_share(_reporting, d.feeder_share, d), most=_share(_reporting + _dead, MOST, d)
    )
    return shared.select(
        *_BY, "reporting", "dead", "needed", "most",
        *(pl.col(name).list.len().cast(pl.Int64).alias(name.replace("_ts", "_n")) for name in MOMENTS),
        *(
            pl.col(name).list.get(_needed - 1, null_on_oob=True).dt.epoch("ms").alias(name.replace("_ts", "_ms"))
            for name in MOMENTS
        ),
    )  # fmt: skip


def judge_feeders(counted: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Adds `speaks`, the rule that speaks of the row (null: none), and its `event_ms`.

    Of three rules on one feeder the worst speaks. While half of the feeder is dark, feeder_outage is INFO ("held"): it
    opens no incident and keeps that of the outage open. A phase speaks only where its feeder as a whole says less.
    """
    # The middle of the slide: never further from the slide before than the off delay reaches.
    middle_ms = pl.col("window_end").dt.epoch("ms") - int(detection.slide_s * 500)
    is_held = _phase.is_null() & (_dead > 0) & (pl.col("dark_n") + _dead >= pl.col("most"))
    cases = {"dark": pl.col("dark_ms"), "low": pl.col("low_ms"), "high": pl.col("high_ms")}
    conditions = {name: pl.col(f"{name}_n") >= _needed for name in cases} | {"held": is_held}
    speaks = first_of(*((condition, name) for name, condition in conditions.items()))
    at_ms = pl.coalesce(
        *(pl.when(pl.col("speaks") == name).then(moment) for name, moment in (cases | {"held": middle_ms}).items())
    )
    said = counted.with_columns(speaks=speaks).filter(pl.col("speaks").is_not_null()).with_columns(event_ms=at_ms)
    speaks_whole = _phase.is_null() & (pl.col("speaks") != "held")
    covered = said.filter(speaks_whole).select("feeder_id", "window_end").unique()
    phases = said.filter(_phase.is_not_null()).join(covered, on=["feeder_id", "window_end"], how="anti")
    return pl.concat([said.filter(_phase.is_null()), phases])


def feeder_rules(d: Detection) -> list[RowRule]:
    """What the rules say of the rows of `judge_feeders`: CRITICAL, and INFO of an outage that lasts."""
    limits = limits_of(d)
    silent = "without voltage, or silent since the same moment,"
    count = pl.col("dark_n") + _dead
    held = RowRule(
        "feeder_outage",
        severity=first_of((pl.col("speaks") == "held", "INFO")),
        observed=count,
        threshold=pl.col("most"),
        deviation=count - pl.col("most"),
        score=pl.lit(0.0),
        text=messages.still_out,
        text_of=(_feeder, count, _dead, pl.col("most")),
    )
    return [
        _many("feeder_outage", "dark", silent),
        _many("feeder_undervoltage", "low", f"below {_in_words(limits.undervoltage_pu[0])}"),
        _many("feeder_overvoltage", "high", f"above {_in_words(limits.overvoltage_pu[0])}"),
        held,
    ]


def _many(anomaly_type: str, name: str, what: str) -> RowRule:
    count = pl.col(f"{name}_n")
    return RowRule(
        anomaly_type,
        severity=first_of((pl.col("speaks") == name, "CRITICAL")),
        observed=count,
        threshold=_needed,
        deviation=count - _needed,
        score=count / _needed,
        text=messages.many_at_once,
        text_of=(_feeder, _phase, count, _reporting, pl.lit(what), _needed),
    )


def _states(windows: pl.DataFrame, d: Detection) -> pl.DataFrame:
    """One row per meter: is_reporting, low_ts, high_ts, dark_ts (when it left the band that way, else null), is_dead
    (dark, and nothing in band in a window of more than `DARK_SLIDES`: none of these)."""
    limits, un = limits_of(d), pl.col("nominal_voltage_v")
    low_v, high_v, out_ts = pl.col("tested_min_v"), pl.col("tested_max_v"), pl.col("tested_out_ts")
    is_dark = (low_v < un * number(limits.interruption_pu)).fill_null(value=False)
    was_in_band = pl.col("base_n").fill_null(0) + pl.col("tested_n").fill_null(0) > 0
    read_s = pl.col("plausible_n").fill_null(0) * d.cadence_s
    marked = _fell_silent(windows, d).with_columns(
        is_dead=is_dark & ~was_in_band & (read_s > DARK_SLIDES * d.slide_s), is_dark=is_dark
    )
    is_dead, fell_silent = pl.col("is_dead"), pl.col("fell_silent")
    moments = {
        "dark_ts": pl.when("is_dark").then(out_ts).when(fell_silent).then("window_end"),
        "low_ts": pl.when(low_v < un * number(limits.undervoltage_pu[0])).then(out_ts),
        "high_ts": pl.when(high_v > un * number(limits.overvoltage_pu[0])).then(out_ts),
    }
    return marked.select(
        *_BY,
        is_reporting=(low_v.is_not_null() & ~is_dead) | fell_silent,
        is_dead=is_dead,
        **{name: pl.when(~is_dead).then(moment) for name, moment in moments.items()},
    )


def _fell_silent(windows: pl.DataFrame, d: Detection) -> pl.DataFrame:
    """Adds fell_silent: silent, with `feeder_meters` of the feeder (itself counted) whose latest readings lie within
    one slide of its own, in a fleet that reports."""
    silence_ms = (pl.col("window_end") - pl.col("last_event_ts")).dt.total_milliseconds()
    rows = windows.with_columns(
        is_silent=silence_ms.is_between(int(d.silent_after_s * 1000), DAY_MS)
        & (pl.col("fleet_awake") >= d.min_reporting),
        last_s=pl.col("last_event_ts").dt.epoch("s"),
    ).with_row_index("row")
    slide, by = int(d.slide_s), ["feeder_id", "window_end"]
    silent = rows.filter("is_silent").sort("last_s")
    around = silent.rolling("last_s", period=f"{2 * slide + 1}i", offset=f"-{slide + 1}i", group_by=by, closed="right")
    counted = around.agg(pl.len().alias("together")).unique([*by, "last_s"])
    many = silent.join(counted, on=[*by, "last_s"]).filter(pl.col("together") >= d.feeder_meters)
    return rows.with_columns(fell_silent=pl.col("row").is_in(many["row"].implode()))


def _share(meters: pl.Expr, part: float, d: Detection) -> pl.Expr:
    """This part of the meters, at least as many as make a feeder."""
    return pl.max_horizontal(pl.lit(d.feeder_meters), (meters * part).ceil().cast(pl.Int64)).cast(pl.Int64)


def _in_words(limit: float | pl.Expr) -> str:
    return f"{limit:.2f} Un" if isinstance(limit, float) else "the band of their class"
