"""Rules over all meters of a feeder, or of one of its phases, at one window end.

One voltage event at the transformer is one finding, not one of every meter behind it.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.contract import BASELINE_STRUCT, COORDINATES_STRUCT, READING_STRUCT
from pipelines.settings import Detection
from pipelines.transforms.anomalies import finding, identify
from pipelines.transforms.limits import Limit, limits_of
from pipelines.transforms.window_rules.measures import awake_part

DAY_MS = 86_400_000
DARK_SLIDES = 2
"""An outage at the edge of two slides is dark in both: longer is not at once."""
MOST = 0.5
"""An outage lasts while this part of the feeder's meters is dark: until then it explains what its meters say."""
MOMENTS = ("dark_ts", "low_ts", "high_ts")


def feeder_findings(windows: DataFrame, *, detection: Detection) -> DataFrame:
    """What the feeder rules say: feeder_id, phase (null for all phases), event_ts, finding.

    In: complete rows of meter_windows with the columns of `attach_meters`. Counted are meters whose tested part has a
    plausible reading below 0.90 Un, above 1.10 Un, or below 0.10 Un (or that fell silent within one slide of two
    others); needed are max(`feeder_meters`, `feeder_share` of the reporting ones). A meter that was in band in no
    part of its window, of more than two slides of readings, counts nowhere: what is dead for longer is not dead at
    once. Event time is the moment at which the last of the needed ones left the band, for silent meters window_end.
    While half of the feeder is dark, feeder_outage is INFO: it opens no incident and keeps that of the outage open. A
    phase speaks only where its feeder as a whole says less, and of three rules on one feeder the worst speaks. Silent
    for meters without a feeder, and for feeders of fewer meters than are needed.
    """
    states = _states(windows.where(F.col("feeder_id").isNotNull()), detection)
    whole = _counted(states.withColumn("phase", F.lit(None).cast("string")), detection)
    phases = _counted(states.where(F.col("phase").isNotNull()), detection)
    said = whole.unionByName(phases).where(F.col("finding").isNotNull())
    by_feeder = Window.partitionBy("feeder_id", "window_end")
    is_whole, is_held = F.col("phase").isNull(), F.col("finding.severity") == "INFO"
    is_covered = ~is_whole & (F.count_if(is_whole & ~is_held).over(by_feeder) > 0)
    return said.withColumn("is_covered", is_covered).where(~F.col("is_covered")).drop("is_covered", "window_end")


def feeder_anomalies(findings: DataFrame) -> DataFrame:
    """Anomalies of stage feeder, in the columns of the contract: no meter, no baseline, no reading."""
    nothing = {
        "meter_id": F.lit(None).cast("string"),
        "baseline": F.lit(None).cast(BASELINE_STRUCT),
        "original_event": F.lit(None).cast(READING_STRUCT),
        "source": F.lit(None).cast(COORDINATES_STRUCT),
    }
    return identify(findings.withColumns(nothing), stage="feeder", place=F.col("phase"))


def _states(windows: DataFrame, d: Detection) -> DataFrame:
    """One row a meter: is_reporting, low_ts, high_ts, dark_ts (when it left the band that way, else null), is_dead
    (dark, and nothing in band in a window of more than `DARK_SLIDES`: none of these)."""
    limits = limits_of(d)
    un, low_v, high_v = F.col("nominal_voltage_v"), F.col("tested_min_v"), F.col("tested_max_v")
    silence_ms = F.unix_millis("window_end") - F.unix_millis("last_event_ts")
    is_silent = (silence_ms >= d.silent_after_s * 1000) & (silence_ms <= DAY_MS)
    last_s = F.unix_seconds("last_event_ts")
    slide = int(d.slide_s)
    together = Window.partitionBy("feeder_id", "window_end").orderBy(last_s).rangeBetween(-slide, slide)
    many = F.count_if(is_silent).over(together) >= d.feeder_meters
    fell_silent = is_silent & many & (awake_part(d) >= d.min_reporting)
    out_ts = F.col("tested_out_ts")
    is_dark = F.coalesce(low_v < un * limits.interruption_pu, F.lit(False))
    was_never_in_band = F.coalesce("base_n", F.lit(0)) + F.coalesce("tested_n", F.lit(0)) == 0
    read_s = F.coalesce("plausible_n", F.lit(0)) * d.cadence_s
    is_dead = is_dark & was_never_in_band & (read_s > DARK_SLIDES * d.slide_s)
    dark = F.when(is_dark, out_ts).when(fell_silent, F.col("window_end"))
    return windows.select(
        "feeder_id",
        "phase",
        "window_end",
        ((low_v.isNotNull() & ~is_dead) | fell_silent).alias("is_reporting"),
        is_dead.alias("is_dead"),
        F.when(low_v < un * limits.undervoltage_pu[0], out_ts).alias("low_ts"),
        F.when(high_v > un * limits.overvoltage_pu[0], out_ts).alias("high_ts"),
        dark.alias("dark_ts"),
    ).withColumns({name: F.when(~F.col("is_dead"), F.col(name)) for name in MOMENTS})


def _counted(states: DataFrame, d: Detection) -> DataFrame:
    """One row a feeder, phase and window end, with the worst that can be said of it."""
    limits = limits_of(d)
    moments = {name: F.sort_array(F.collect_list(name)) for name in MOMENTS}
    grouped = states.groupBy("feeder_id", "phase", "window_end").agg(
        F.count_if("is_reporting").alias("reporting"),
        F.count_if("is_dead").alias("dead"),
        *(value.alias(name) for name, value in moments.items()),
    )
    counted = grouped.withColumns(
        {
            "needed": _share(F.col("reporting"), d.feeder_share, d),
            "most": _share(F.col("reporting") + F.col("dead"), MOST, d),
        }
    )
    said = F.coalesce(
        _said("feeder_outage", "dark_ts", "without voltage, or silent since the same moment,"),
        _said("feeder_undervoltage", "low_ts", f"below {_in_words(limits.undervoltage_pu[0])}"),
        _said("feeder_overvoltage", "high_ts", f"above {_in_words(limits.overvoltage_pu[0])}"),
        _held_outage(d),
    )
    return counted.withColumn("said", said).select(
        "feeder_id", "phase", "window_end", F.col("said")["event_ts"].alias("event_ts"),
        F.col("said")["finding"].alias("finding"),
    )  # fmt: skip


def _in_words(limit: Limit) -> str:
    return f"{limit:.2f} Un" if isinstance(limit, float) else "the band of their class"


def _share(meters: Column, part: float, d: Detection) -> Column:
    """This part of the meters, at least as many as make a feeder."""
    return F.greatest(F.lit(d.feeder_meters), F.ceil(meters * part).cast("int"))


def _held_outage(d: Detection) -> Column:
    """feeder_outage as INFO: with the meters that are dark for longer it is most of the feeder. It is dated in the
    middle of the slide, never further from the slide before than the off delay reaches."""
    count, needed = F.size("dark_ts") + F.col("dead"), F.col("most")
    middle = F.timestamp_millis(F.unix_millis("window_end") - int(d.slide_s * 500))
    is_met = F.col("phase").isNull() & (F.col("dead") > 0) & (count >= needed)
    found = finding(
        "feeder_outage",
        severity=F.when(is_met, "INFO"),
        observed=count,
        threshold=needed,
        deviation=count - needed,
        score=F.lit(0.0),
        text=F.format_string(
            "Feeder %s: %d meters are still without voltage, %d of them for longer; %d keep its outage open.",
            "feeder_id", count, "dead", needed,
        ),
    )  # fmt: skip
    return F.when(is_met, F.struct(middle.alias("event_ts"), found.alias("finding")))


def _said(anomaly_type: str, moments: str, what: str) -> Column:
    count, needed = F.size(moments), F.col("needed")
    place = F.coalesce(F.concat(F.lit(", phase "), "phase"), F.lit(""))
    is_met = count >= needed
    found = finding(
        anomaly_type,
        severity=F.when(is_met, "CRITICAL"),
        observed=count,
        threshold=needed,
        deviation=count - needed,
        score=count / needed,
        text=F.format_string(
            f"Feeder %s%s: %d of %d reporting meters are {what} at once; %d make it the feeder's.",
            "feeder_id", place, count, "reporting", needed,
        ),
    )  # fmt: skip
    moment = F.try_element_at(F.col(moments), needed)
    return F.when(is_met, F.struct(moment.alias("event_ts"), found.alias("finding")))
