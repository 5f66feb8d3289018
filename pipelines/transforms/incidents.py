"""Incidents from anomalies: sessions of one (scope, family), a pure function of the anomalies and the clock."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.settings import Incidents
from pipelines.tables import INCIDENTS
from pipelines.transforms.rules import FAMILIES, NEVER_OPEN

KEY = ["scope", "scope_id", "family"]
IMPLAUSIBLE_SPAN_S = 900
IMPLAUSIBLE_TIMES = 3
_RANKS = {"WARNING": 1, "ERROR": 2, "CRITICAL": 3}


def with_incident_key(anomalies: DataFrame) -> DataFrame:
    """Adds scope (meter | feeder), scope_id and family, and keeps what opens, continues or ends an incident.

    INFO and rules that never open an incident are left out, but for "back", the INFO that ends a silence.
    """
    families = F.create_map(*[F.lit(x) for pair in FAMILIES.items() for x in pair])
    is_meter = F.col("meter_id").isNotNull()
    keyed = anomalies.withColumns(
        {
            "scope": F.when(is_meter, "meter").otherwise("feeder"),
            "scope_id": F.coalesce("meter_id", "feeder_id"),
            "family": families[F.col("anomaly_type")],
            "ends": (F.col("severity") == "INFO") & (F.col("anomaly_type") == "meter_silent"),
        }
    )
    opens = (F.col("severity") != "INFO") & ~F.col("anomaly_type").isin(*sorted(NEVER_OPEN))
    return keyed.where(F.col("family").isNotNull() & (opens | F.col("ends")))


def off_delay_s(family: str, settings: Incidents) -> float:
    """How long an incident outlives its last anomaly; a silence lasts from heartbeat to heartbeat."""
    return settings.off_delay + (settings.silence_heartbeat if family == "silence" else 0)


def _off_delay_ms(settings: Incidents) -> Column:
    silence, ordinary = (int(off_delay_s(family, settings) * 1000) for family in ("silence", ""))
    return F.when(F.col("family") == "silence", F.lit(silence)).otherwise(F.lit(ordinary))


def sessionise(keyed: DataFrame, *, clock: datetime | None, settings: Incidents) -> DataFrame:
    """Incidents of all given anomalies, in the columns of the table.

    In: `with_incident_key`, all anomalies of each key from some incident's opening on. `clock` (UTC) is the
    latest closed window end: an incident whose last anomaly is further back than the off delay is closed.
    Any order and repetition of the anomalies gives the same rows.
    """
    placed = _place_in_sessions(keyed.dropDuplicates(["anomaly_id"]), settings)
    graded = _grade(placed)
    sessions = graded.groupBy(*KEY, "session").agg(
        F.min(F.when(~F.col("ends"), F.col("event_ts"))).alias("opened_at"),
        F.max(F.when(~F.col("ends"), F.col("event_ts"))).alias("last_anomaly_at"),
        F.max(F.when(F.col("ends"), F.col("event_ts"))).alias("ended_at"),
        F.count_if(~F.col("ends")).alias("anomalies"),
        F.max("meter_id").alias("meter_id"),
        F.max("feeder_id").alias("feeder_id"),
        F.max_by("observed", F.struct("score", "event_ts", "anomaly_id")).alias("worst_value"),
        F.array_sort(F.collect_list(F.when(F.col("rises"), _step()))).alias("steps"),
    )
    opened = sessions.where(F.col("opened_at").isNotNull())
    return _describe(opened, clock=clock, settings=settings)


def _place_in_sessions(keyed: DataFrame, settings: Incidents) -> DataFrame:
    order = Window.partitionBy(*KEY).orderBy("event_ts", "anomaly_id")
    gap_ms = F.unix_millis("event_ts") - F.unix_millis(F.lag("event_ts").over(order))
    follows_end = F.lag("ends").over(order)
    starts = gap_ms.isNull() | follows_end | (gap_ms > _off_delay_ms(settings))
    return keyed.withColumn("starts", starts.cast("int")).withColumn("session", F.sum("starts").over(order))


def _grade(placed: DataFrame) -> DataFrame:
    """Adds effective severity and whether it rises above all before it in the session."""
    session = Window.partitionBy(*KEY, "session")
    recent = session.orderBy(F.unix_seconds("event_ts")).rangeBetween(-IMPLAUSIBLE_SPAN_S, 0)
    implausible = F.col("anomaly_type") == "implausible_value"
    often = implausible & (F.count_if(implausible).over(recent) >= IMPLAUSIBLE_TIMES)
    effective = placed.withColumn("severity", F.when(often, "ERROR").otherwise(F.col("severity")))
    ranks = F.create_map(*[F.lit(x) for pair in _RANKS.items() for x in pair])
    ranked = effective.withColumn("rank", F.when(~F.col("ends"), ranks[F.col("severity")]).otherwise(0))
    before = session.orderBy("event_ts", "anomaly_id").rowsBetween(Window.unboundedPreceding, -1)
    highest_before = F.coalesce(F.max("rank").over(before), F.lit(0))
    return ranked.withColumn("rises", F.col("rank") > highest_before)


def _step() -> Column:
    return F.struct(
        F.unix_millis("event_ts").alias("at"),
        "rank",
        "severity",
        F.col("anomaly_type").alias("anomalyType"),
        "message",
    )


def _over_at(settings: Incidents) -> Column:
    return F.timestamp_millis(F.unix_millis("last_anomaly_at") + _off_delay_ms(settings))


def _describe(sessions: DataFrame, *, clock: datetime | None, settings: Incidents) -> DataFrame:
    worst = F.element_at("steps", -1)
    now = F.lit(clock).cast("timestamp")
    closed_at = F.coalesce(F.col("ended_at"), F.when(_over_at(settings) <= now, _over_at(settings)))
    history = F.transform(
        "steps",
        lambda s: F.struct(s["at"].alias("at"), s["severity"].alias("severity"), s["anomalyType"].alias("anomalyType")),
    )
    identity = F.concat_ws("|", "scope", "scope_id", "family", F.unix_millis("opened_at"))
    described = sessions.withColumns(
        {
            "incident_id": F.sha2(identity, 256),
            "closed_at": closed_at,
            "duration_s": (F.unix_millis("last_anomaly_at") - F.unix_millis("opened_at")) / 1000,
            "severity": worst["severity"],
            "anomaly_type": worst["anomalyType"],
            "message": worst["message"],
            "severity_history": history,
            "alerts": F.size("steps").cast("long"),
            "parent_id": F.lit(None).cast("string"),
        }
    )
    with_status = described.withColumn("status", F.when(F.col("closed_at").isNull(), "open").otherwise("closed"))
    return with_status.select(*INCIDENTS.column_names)
