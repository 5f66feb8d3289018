"""What a plan changes, into the tables; each step may die and the whole be done again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.anomalies.events import Event, anomaly_record
from pipelines.anomalies.rows import anomaly_events
from pipelines.broker.records import Record, send_records
from pipelines.incidents.messages import incident_records, tombstones
from pipelines.jobs.context import Say
from pipelines.lake.frames import as_declared
from pipelines.offline.recompute.changes import GONE, Change, as_json
from pipelines.offline.recompute.plan import Plan
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import (
    append_rows,
    append_rows_once,
    arrow_schema,
    merge_changes,
    merge_rows,
    moment,
    read_rows,
)
from pipelines.tables import ANOMALIES, INCIDENTS, METER_WINDOWS, RECOMPUTATIONS, Table

RUN = "run"
"""What recomputations calls the row of a run itself."""
_SAID = ("change", "before", "after")
_RANGE = ("since", "until")


def write_plan(settings: Settings, plan: Plan, *, run_id: str, say: Say) -> None:
    """Write all changes of a plan. The caller holds the lock.

    First `recomputations`: nothing is changed whose earlier state does not stand there. Then incidents before the
    anomalies they are made of, and these before the windows: whatever is still missing after a crash, the next plan
    finds it again, since it compares with a batch and not with what was done.
    """
    if plan.is_empty:
        return
    now = datetime.now(UTC)
    anomalies = [_detected(change, now) for change in plan.anomalies]
    _note(settings, plan, anomalies, run_id=run_id, now=now)
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


def send_changes(settings: Settings, since: datetime, until: datetime) -> dict[str, int]:
    """Send what recomputes inside [since, until) have ever changed, as it is now: anomalies, incidents, and tombstones
    of incidents that are gone. Returns how many records of each topic; at least once, with the same ids. An anomaly has
    the header `recomputed`, since its id may be known with other values."""
    noted = to_be_sent(settings, since, until)
    topics = settings.kafka.topics
    anomalies, _ = _as_now(noted, settings, ANOMALIES, "anomaly_id")
    send_records(settings.kafka, topics.anomalies, map(_again, anomaly_events(anomalies.to_pylist())))
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


def _note(settings: Settings, plan: Plan, anomalies: Sequence[Change], *, run_id: str, now: datetime) -> None:
    """One row per change, but for what a run that died has noted as its last word on the same row.

    Only where `to_be_sent` of this range finds that word.
    """
    said = [*_notes(ANOMALIES, anomalies, "event_ts"), *_notes(INCIDENTS, plan.incidents, "opened_at")]
    constant = {"run_id": run_id, "at": now, "since": plan.since, "until": plan.until}
    rows = as_declared(pl.DataFrame(pa.Table.from_pylist(said, schema=arrow_schema(RECOMPUTATIONS))), RECOMPUTATIONS)
    if plan.windows is not None:
        rows = pl.concat([rows, as_declared(_window_notes(plan.windows), RECOMPUTATIONS)])
    rows = rows.with_columns(pl.lit(value).alias(name) for name, value in constant.items())
    noted = pl.DataFrame(read_rows(settings, RECOMPUTATIONS, columns=["table_name", "key", "at", *_SAID, *_RANGE]))
    last = noted.sort("at").unique(["table_name", "key"], keep="last").drop("at")
    is_repeat = (pl.col("since_last") >= plan.since) & (pl.col("until_last") <= plan.until)
    for name in _SAID:
        is_repeat &= pl.col(name).eq_missing(pl.col(f"{name}_last"))
    known = rows.join(last, on=["table_name", "key"], how="left", suffix="_last", maintain_order="left")
    fresh = as_declared(known.filter(~is_repeat.fill_null(value=False)), RECOMPUTATIONS)
    append_rows_once(fresh.to_arrow(), settings, RECOMPUTATIONS, BatchId(run_id, "recompute", 0))


def _notes(of: Table, changes: Sequence[Change], at: str) -> list[dict[str, object]]:
    return [
        {
            "table_name": of.name, "key": change.key, "change": change.label, "meter_id": change.row["meter_id"],
            "feeder_id": change.row["feeder_id"], "event_ts": change.row[at], "before": as_json(change.before),
            "after": as_json(change.after),
        }
        for change in changes
    ]  # fmt: skip


def _window_notes(changes: pl.DataFrame) -> pl.DataFrame:
    key = pl.format("{}|{}", "meter_id", pl.col("window_end").dt.epoch("ms"))
    return changes.select(
        "change", "meter_id", table_name=pl.lit(METER_WINDOWS.name), key=key, event_ts="window_end", before="was",
        after="now",
    )  # fmt: skip


def _merge(changes: Sequence[Change], settings: Settings, of: Table, *, key: str, among: str | None = None) -> None:
    if not changes:
        return
    rows = [dict(change.after) for change in changes if change.after is not None]
    gone = [change.key for change in changes if change.after is None]
    merge_rows(pa.Table.from_pylist(rows, schema=arrow_schema(of)), gone, settings, of, key=key, among=among)


def _days_of(changes: Sequence[Change]) -> str | None:
    days = sorted({change.row["event_date"] for change in changes})
    return f"old.event_date BETWEEN '{days[0]}' AND '{days[-1]}'" if days else None


def _merge_windows(changes: pl.DataFrame, settings: Settings) -> None:
    """One commit. The source holds no stored row that stays as it is."""
    days = changes["window_date"].unique().sort()
    among = f"old.window_date BETWEEN '{days[0]}' AND '{days[-1]}'"
    rows = changes.with_columns(is_gone=pl.col("change") == GONE).select(*METER_WINDOWS.column_names, "is_gone")
    merge_changes(rows.to_arrow(), settings, METER_WINDOWS, keys=("meter_id", "window_end"), among=among)


def _again(event: Event) -> Record:
    """The record of an anomaly whose id may be known with other values."""
    key, value, headers = anomaly_record(event, detected_ms=time.time_ns() // 1_000_000)
    return key, value, [*headers, ("recomputed", b"true")]
