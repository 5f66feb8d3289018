"""Rules that judge closed windows: the whole fleet of a window end at once, with the windows before it.

Each rule is a column over one row of meter_windows that `measures` has put in its place: the meter's earlier windows
beside it, what the rest of its feeder did, and what its profile knows.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.contract import BASELINE_STRUCT
from pipelines.settings import Detection, Incidents
from pipelines.transforms.anomalies import identify, original_event, source_coordinates, source_item
from pipelines.transforms.profiles import without_profiles
from pipelines.transforms.window_rules.deviation import baseline_part, voltage_deviation
from pipelines.transforms.window_rules.measures import measure
from pipelines.transforms.window_rules.measures import span_needed_s as span_needed_s
from pipelines.transforms.window_rules.sensor import noisy_sensor, stuck_sensor
from pipelines.transforms.window_rules.shift import voltage_drift, voltage_step
from pipelines.transforms.window_rules.silence import meter_silent, silent_since, with_silence_limits
from pipelines.transforms.window_rules.sustained import held_voltage, sustained_voltage
from pipelines.transforms.window_rules.thermal import temperature_rise
from pipelines.transforms.windows import countable


def window_findings(windows: DataFrame, history: DataFrame, *, detection: Detection, incidents: Incidents) -> DataFrame:
    """What the window rules say: meter_id, feeder_id, event_ts, last_event_ts, baseline, finding.

    `windows`: rows of meter_windows to judge, with the columns of `attach_meters` and, if there are profiles, of
    `attach_profiles`; `history`: rows of earlier window ends. A row never sees a later one. Event time is
    window_end, for meter_silent the moment at which the silence reached its limit.
    """
    return judge_windows(measure(windows, history, detection=detection), detection=detection, incidents=incidents)


def judge_windows(measured: DataFrame, *, detection: Detection, incidents: Incidents) -> DataFrame:
    """The same of windows that `measure` has put in their place."""
    rules = [
        _said(voltage_deviation(detection), baseline=baseline_part(detection)),
        _said(sustained_voltage(detection)),
        _said(held_voltage(detection)),
        _said(stuck_sensor(detection)),
        _said(noisy_sensor(detection)),
        _said(voltage_step(detection)),
        _said(voltage_drift(detection)),
        _said(temperature_rise(detection)),
        _said(meter_silent(detection, incidents), event_ts=silent_since(detection, incidents)),
    ]
    limited = with_silence_limits(without_profiles(measured), detection=detection)
    found = limited.withColumn("said", F.explode(F.filter(F.array(*rules), lambda one: one["finding"].isNotNull())))
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
        source_item(readings).alias("source_item"),
    )
    return identify(findings.join(latest, ["meter_id", "last_event_ts"], "left"), stage="window")


def _said(rule: Column, *, event_ts: Column | None = None, baseline: Column | None = None) -> Column:
    return F.struct(
        (F.col("window_end") if event_ts is None else event_ts).alias("event_ts"),
        (F.lit(None).cast(BASELINE_STRUCT) if baseline is None else baseline).alias("baseline"),
        rule.alias("finding"),
    )
