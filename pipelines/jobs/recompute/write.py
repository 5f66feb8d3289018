"""What a plan changes, into the tables; each step may die and the whole be done again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.broker.records import send_records
from pipelines.incidents.messages import incident_records, tombstones
from pipelines.jobs.context import Say
from pipelines.jobs.recompute.changes import Change, as_json
from pipelines.jobs.recompute.plan import Plan
from pipelines.lake_sql import absolute
from pipelines.settings import Settings
from pipelines.sinks import BatchId, append_once, send
from pipelines.small_tables import append_rows, arrow_schema, merge_rows, moment, read_rows
from pipelines.sources import table
from pipelines.tables import ANOMALIES, INCIDENTS, METER_WINDOWS, RECOMPUTATIONS, Table, table_path
from pipelines.transforms.anomalies import encode_anomalies
from pipelines.write_times import timed

RUN = "run"
"""What recomputations calls the row of a run itself."""
_SAID = ("change", "before", "after")
_RANGE = ("since", "until")


def write_plan(spark: SparkSession, settings: Settings, plan: Plan, *, run_id: str, say: Say) -> None:
    """Write all changes of a plan. The caller holds the lock.

    First `recomputations`: nothing is changed whose earlier state does not stand there. Then incidents before the
    anomalies they are made of, and these before the windows: whatever is still missing after a crash, the next plan
    finds it again, since it compares with a batch and not with what was done.
    """
    if plan.is_empty:
        return
    now = datetime.now(UTC)
    anomalies = [_detected(change, now) for change in plan.anomalies]
    _note(spark, settings, plan, anomalies, run_id=run_id, now=now)
    say("recomputations written")
    _merge(plan.incidents, settings, INCIDENTS, key="incident_id")
    say(f"incidents written: {len(plan.incidents)}")
    _merge(anomalies, settings, ANOMALIES, key="anomaly_id", among=_days_of(anomalies))
    say(f"anomalies written: {len(anomalies)}")
    if plan.windows is not None and any(plan.window_counts.values()):
        _merge_windows(plan.windows, settings)
    say(f"meter_windows written: {sum(plan.window_counts.values()):,}")


def note_run(settings: Settings, plan: Plan, *, run_id: str, figures: Mapping[str, object]) -> None:
    """The last row of a run: that it came to its end, how much it changed, and what it sent."""
    row = {
        "run_id": run_id, "at": datetime.now(UTC), "since": plan.since, "until": plan.until, "table_name": RUN,
        "key": run_id, "event_ts": plan.since, "after": json.dumps(figures),
    }  # fmt: skip
    rows = pa.Table.from_pylist([row], schema=arrow_schema(RECOMPUTATIONS))
    append_rows(rows, settings, RECOMPUTATIONS)


def send_changes(spark: SparkSession, settings: Settings, since: datetime, until: datetime) -> dict[str, int]:
    """Send what recomputes inside [since, until) have ever changed, as it is now: anomalies, incidents, and tombstones
    of incidents that are gone. Returns how many records of each topic; at least once, with the same ids. An anomaly has
    the header `recomputed`, since its id may be known with other values."""
    noted = to_be_sent(settings, since, until)
    topics = settings.kafka.topics
    anomalies, _ = _as_now(noted, settings, ANOMALIES, "anomaly_id")
    if anomalies.num_rows:
        records = encode_anomalies(spark.createDataFrame(anomalies))
        mark = F.struct(F.lit("recomputed").alias("key"), F.lit(b"true").alias("value"))
        marked = records.withColumn("headers", F.concat("headers", F.array(mark)))
        send(marked, settings, topics.anomalies)
    incidents, gone = _as_now(noted, settings, INCIDENTS, "incident_id")
    send_records(settings.kafka, topics.incidents, [*incident_records(incidents.to_pylist()), *tombstones(gone)])
    return {topics.anomalies: anomalies.num_rows, topics.incidents: incidents.num_rows + len(gone)}


def to_be_sent(settings: Settings, since: datetime, until: datetime) -> pa.Table:
    """table_name, key and event_ts of what runs inside [since, until) have noted of anomalies and incidents.

    Of a run that died, also when it only overlaps: what it has written no later run finds changed, and notes.
    """
    columns = ["run_id", "since", "until", "table_name", "key", "event_ts"]
    overlaps = f"since < {moment(until)} AND until > {moment(since)} AND table_name <> '{METER_WINDOWS.name}'"
    noted = read_rows(settings, RECOMPUTATIONS, columns=columns, where=overlaps)
    ended = noted.filter(pc.equal(noted["table_name"], RUN))["run_id"]
    is_inside = pc.and_(
        pc.greater_equal(noted["since"], pa.scalar(since)), pc.less_equal(noted["until"], pa.scalar(until))
    )
    died = pc.invert(pc.is_in(noted["run_id"], ended))
    return noted.filter(pc.or_(is_inside, died)).select(["table_name", "key", "event_ts"])


def _as_now(noted: pa.Table, settings: Settings, of: Table, key: str) -> tuple[pa.Table, list[str]]:
    """The stored rows of the ids that were noted of a table, and the ids that are not there any more."""
    mine = noted.filter(pc.equal(noted["table_name"], of.name))
    if not mine.num_rows:
        return arrow_schema(of).empty_table(), []
    span = pc.min_max(mine["event_ts"]).as_py()
    at = "event_ts" if "event_ts" in of.column_names else "opened_at"
    rows = read_rows(settings, of, where=f"{at} BETWEEN {moment(span['min'])} AND {moment(span['max'])}")
    there = rows.filter(pc.is_in(rows[key], pc.unique(mine["key"])))
    return there, sorted(set(mine["key"].to_pylist()) - set(there[key].to_pylist()))


def _detected(change: Change, now: datetime) -> Change:
    """A new anomaly was detected now."""
    if change.before is not None or change.after is None:
        return change
    return Change(change.key, None, {**change.after, "detected_at": now})


def _note(
    spark: SparkSession, settings: Settings, plan: Plan, anomalies: Sequence[Change], *, run_id: str, now: datetime
) -> None:
    """One row a change, but for what a run that died has noted as its last word on the same row.

    Only where `to_be_sent` of this range finds that word.
    """
    said = [*_notes(ANOMALIES, anomalies, "event_ts"), *_notes(INCIDENTS, plan.incidents, "opened_at")]
    constant = {"run_id": run_id, "at": now, "since": plan.since, "until": plan.until}
    rows = spark.createDataFrame(
        pa.Table.from_pylist([constant | row for row in said], schema=arrow_schema(RECOMPUTATIONS))
    )
    if plan.windows is not None:
        rows = rows.unionByName(_window_notes(plan.windows, constant))
    noted = table(spark, settings, RECOMPUTATIONS.name)
    last = noted.groupBy("table_name", "key").agg(F.max_by(F.struct(*_SAID, *_RANGE), "at").alias("last"))
    is_repeat = (F.col("last")["since"] >= F.lit(plan.since)) & (F.col("last")["until"] <= F.lit(plan.until))
    for name in _SAID:
        is_repeat = is_repeat & F.col(name).eqNullSafe(F.col("last")[name])
    known = rows.join(last, ["table_name", "key"], "left")
    fresh = known.where(F.col("last").isNull() | ~is_repeat)
    append_once(fresh.coalesce(1), settings, RECOMPUTATIONS, BatchId(run_id, "recompute", 0))


def _notes(of: Table, changes: Sequence[Change], at: str) -> list[dict[str, object]]:
    return [
        {
            "table_name": of.name, "key": change.key, "change": change.label, "meter_id": change.row["meter_id"],
            "feeder_id": change.row["feeder_id"], "event_ts": change.row[at], "before": as_json(change.before),
            "after": as_json(change.after),
        }
        for change in changes
    ]  # fmt: skip


def _window_notes(changes: DataFrame, constant: dict[str, object]) -> DataFrame:
    key = F.concat_ws("|", "meter_id", F.unix_millis("window_end"))
    values = {name: F.lit(value) for name, value in constant.items()} | {
        "table_name": F.lit(METER_WINDOWS.name), "key": key, "change": F.col("change"), "meter_id": F.col("meter_id"),
        "feeder_id": F.lit(None).cast("string"), "event_ts": F.col("window_end"), "before": F.col("was"),
        "after": F.col("now"),
    }  # fmt: skip
    return changes.select(*(values[name].alias(name) for name in RECOMPUTATIONS.column_names))


def _merge(changes: Sequence[Change], settings: Settings, of: Table, *, key: str, among: str | None = None) -> None:
    if not changes:
        return
    rows = [dict(change.after) for change in changes if change.after is not None]
    gone = [change.key for change in changes if change.after is None]
    merge_rows(pa.Table.from_pylist(rows, schema=arrow_schema(of)), gone, settings, of, key=key, among=among)


def _days_of(changes: Sequence[Change]) -> str | None:
    days = sorted({change.row["event_date"] for change in changes})
    return f"old.event_date BETWEEN '{days[0]}' AND '{days[-1]}'" if days else None


def _merge_windows(changes: DataFrame, settings: Settings) -> None:
    """One commit. The source holds no stored row that stays as it is."""
    names = METER_WINDOWS.column_names
    days = sorted({str(row[0]) for row in changes.select("window_date").distinct().collect()})
    statement = _windows_merge(settings.lake.root, days)
    with timed("delta", METER_WINDOWS.name):
        changes.sparkSession.sql(statement, changes=changes.select(*names, "change"))


def _windows_merge(root: str, days: Sequence[str]) -> str:
    """The statement over `{changes}`. Spark's SQL takes a relative path for the name of a table."""
    names = METER_WINDOWS.column_names
    listed = ", ".join(f"DATE '{day}'" for day in days)
    path = table_path(absolute(root), METER_WINDOWS.name).replace("`", "``")
    updates = ", ".join(f"old.{name} = new.{name}" for name in names)
    return (
        f"MERGE INTO delta.`{path}` AS old USING {{changes}} AS new"
        f" ON old.meter_id = new.meter_id AND old.window_end = new.window_end AND old.window_date IN ({listed})"
        f" WHEN MATCHED AND new.change = 'gone' THEN DELETE WHEN MATCHED THEN UPDATE SET {updates}"
        f" WHEN NOT MATCHED AND new.change <> 'gone' THEN INSERT ({', '.join(names)})"
        f" VALUES ({', '.join(f'new.{name}' for name in names)})"
    )
