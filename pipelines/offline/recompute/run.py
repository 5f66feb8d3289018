"""`gridwatch recompute`: plan, write, tell."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipelines.client_errors import as_ours
from pipelines.errors import DataRefused
from pipelines.fleet import require_known_classes
from pipelines.identity.check import changed_shape, require_own_tables
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.lock import CheckpointLock
from pipelines.identity.record import read_record, shape_of
from pipelines.identity.tables import missing_columns
from pipelines.jobs.context import Say
from pipelines.offline.recompute.changes import count, count_by
from pipelines.offline.recompute.plan import Plan, make_plan
from pipelines.offline.recompute.write import note_run, send_changes, write_plan
from pipelines.settings import Settings
from pipelines.small_tables import create_table, wait_for_lake
from pipelines.tables import ANOMALIES, INCIDENTS, METER_WINDOWS, READINGS, RECOMPUTATIONS
from pipelines.topics import wait_for_kafka

if TYPE_CHECKING:
    from pipelines.offline.on_spark import Cluster


@dataclass(frozen=True)
class Outcome:
    """A plan, and what became of it."""

    plan: Plan
    run_id: str | None
    """Of the rows of recomputations; None when nothing was written or sent."""
    sent: dict[str, int] | None
    """Records by topic; None when nothing was to be sent."""

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        plan = self.plan
        return {
            "from": plan.since.isoformat(), "to": plan.until.isoformat(), "readings": plan.readings,
            "left_out": plan.left_out, "not_closed": plan.not_closed, "left_alone": plan.left_alone,
            "spans": [{"first": span.first.isoformat(), "last": span.last.isoformat()} for span in plan.spans],
            "meter_windows": plan.window_counts, "anomalies": count(plan.anomalies),
            "anomalies_by_type": count_by(plan.anomalies, "anomaly_type"), "incidents": count(plan.incidents),
            "written": self.run_id is not None and not plan.is_empty, "run_id": self.run_id, "sent": self.sent,
        }  # fmt: skip


def run_recompute(
    settings: Settings,
    since: datetime,
    until: datetime,
    *,
    dry_run: bool,
    notify: bool,
    say: Say,
    cluster: Cluster | None = None,
) -> Outcome:
    """Compute again what late and corrected readings of [since, until) change; aware times (UTC).

    Raises DataRefused while another process holds the lock (not for a dry run), when the checkpoint is not that of the
    tables, settings that shape windows are not those of the checkpoint, or what it is made of is gone by retention;
    SettingsError for a class of meters that the settings do not know.
    """
    with ExitStack() as held:
        if not dry_run:
            held.enter_context(CheckpointLock(settings, "gridwatch recompute"))
        held.enter_context(as_ours(settings))
        if notify and not dry_run:
            wait_for_kafka(settings.kafka, say)
        wait_for_lake(settings, say)
        _require_fit(settings)
        plan = make_plan(settings, since, until, say, cluster)
        if dry_run:
            return Outcome(plan, None, None)
        return carry_out(settings, plan, notify=notify, say=say)


def carry_out(settings: Settings, plan: Plan, *, notify: bool, say: Say) -> Outcome:
    """Write a plan, and send what this and earlier runs of its range have changed when asked. The caller holds the
    lock."""
    create_table(settings, RECOMPUTATIONS)
    run_id = uuid.uuid4().hex
    write_plan(settings, plan, run_id=run_id, say=say)
    sent = send_changes(settings, plan.since, plan.until) if notify else None
    outcome = Outcome(plan, None if plan.is_empty and not notify else run_id, sent)
    if outcome.run_id:
        note_run(settings, plan, run_id=run_id, figures=outcome.to_json())
    return outcome


def _require_fit(settings: Settings) -> None:
    require_own_tables(settings)
    require_known_classes(settings)
    record = read_record(CheckpointFiles(settings))
    for problem in changed_shape(record.shape if record else {}, shape_of(settings)):
        raise DataRefused(problem)
    for table in (READINGS, METER_WINDOWS, ANOMALIES, INCIDENTS):
        if missing := missing_columns(settings, table):
            raise DataRefused(
                f"table {table.name} of {settings.lake.root} has no column {missing[0].name}: it was made by an older"
                " version; start `gridwatch run` once"
            )
