"""The whole detection over readings that are all there: one plan for files and for the archive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.incidents.sessions import NEEDED, sessionise
from pipelines.readings.batch import reading_anomalies
from pipelines.settings import Settings
from pipelines.transforms.daily_profiles import daily_profiles
from pipelines.transforms.feeder_rules import feeder_anomalies, feeder_findings
from pipelines.transforms.profiles import attach_profiles
from pipelines.transforms.readings import attach_meters, flag_readings
from pipelines.transforms.topology import compare_with_feeder
from pipelines.transforms.window_rules import judge_windows, window_anomalies
from pipelines.transforms.window_rules.measures import measure
from pipelines.transforms.windows import complete_fleet, countable, summarise_windows

SILENT_INFO = ("voltage_spike", "voltage_deviation")
"""INFO of these touches no incident: a day above 250 V would otherwise fill the driver."""


@dataclass(frozen=True)
class Detected:
    """Windows and anomalies, in the columns of their tables (anomalies without the Kafka columns)."""

    windows: DataFrame
    anomalies: DataFrame


def build(readings: DataFrame, meters: DataFrame, profiles: DataFrame | None, *, settings: Settings) -> Detected:
    """The transforms of the stream on the whole of the readings at once; what several steps need is computed here.

    In: readings with the columns of the table (flags is_late and is_resent decided), the table meters, and the
    table profiles; None: profiles are taken from the days of these readings themselves, each day from the days
    before it. The early flags (INFO of voltage_deviation, stage reading) depend on when a stream closes its windows
    and are left out; a reading that is a copy has no finding of its own.
    """
    detection = settings.detection
    placed = flag_readings(attach_meters(readings, meters, detection=detection), detection=detection)
    counted = countable(placed)
    raw = _begun(counted, summarise_windows(counted, window_s=detection.window_s, slide_s=detection.slide_s), settings)
    raw = _computed(raw)
    complete = attach_meters(complete_fleet(raw, raw.limit(0), meters), meters, detection=detection)
    windows = _computed(compare_with_feeder(complete, detection=detection))
    with_meters = attach_meters(windows, meters, detection=detection)
    measured = _computed(measure(with_meters, with_meters.limit(0), detection=detection))
    own = daily_profiles(measured, detection=detection) if profiles is None else profiles
    known = attach_profiles(measured, own)
    findings = _computed(judge_windows(known, detection=detection, incidents=settings.incidents))
    found = [
        _computed(reading_anomalies(placed.where(~F.col("is_resent")), detection=detection)),
        window_anomalies(findings, _latest_of(findings, counted)),
        feeder_anomalies(feeder_findings(with_meters, detection=detection)),
    ]
    anomalies = _computed(found[0].unionByName(found[1]).unionByName(found[2]))
    return Detected(windows, anomalies)


def incidents_of(detected: Detected, *, settings: Settings) -> list[dict[str, Any]]:
    """Incidents, rows of the table, by the clock of the last window end."""
    touching = (F.col("severity") != "INFO") | ~F.col("anomaly_type").isin(*SILENT_INFO)
    rows = detected.anomalies.where(touching).select(*NEEDED).toArrow().to_pylist()
    (latest,) = detected.windows.agg(F.max("window_end")).collect()[0]
    clock: datetime | None = latest.replace(tzinfo=UTC) if latest else None
    return sessionise(rows, clock=clock, settings=settings.session_rules, step_s=settings.detection.steps_s)


def _computed(rows: DataFrame) -> DataFrame:
    """The same rows, computed once and held by Spark until nobody refers to them, without the plan they came from.

    With `persist` the plans would nest, and Spark spends longer on comparing them than on the data.
    """
    return rows.localCheckpoint()


def _latest_of(findings: DataFrame, readings: DataFrame) -> DataFrame:
    """The readings that some finding names: few, so that the join with them sorts no day of readings."""
    named = findings.select("meter_id", F.col("last_event_ts").alias("event_ts")).distinct()
    return readings.join(F.broadcast(named), ["meter_id", "event_ts"], "left_semi")


def _begun(readings: DataFrame, windows: DataFrame, settings: Settings) -> DataFrame:
    """The windows up to the slide of the latest reading: on a stream the later ones would still be open, and the end
    of a file is no silence."""
    latest = readings.agg(F.max("event_ts").alias("latest_ts"))
    slide_ms = int(settings.detection.slide_s * 1000)
    is_begun = F.unix_millis("window_end") - slide_ms <= F.unix_millis("latest_ts")
    return windows.crossJoin(F.broadcast(latest)).where(is_begun).drop("latest_ts")
