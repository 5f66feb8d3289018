"""Query archive: every record of the topic into `readings` or `rejected`, decided once, counted in `audit`."""

from __future__ import annotations

import time

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.identity.batches import Batches
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.tables import Ownership
from pipelines.jobs.context import Run
from pipelines.jobs.generation_start import first_offsets
from pipelines.observe.batches import count_archive
from pipelines.readings.absent import silent_rules
from pipelines.readings.alignment import Alignment
from pipelines.readings.carry_out import QUERY, commit_tables, find_plan, newest_plan, send_letters
from pipelines.readings.decision import Decision, Parts
from pipelines.readings.facts import BatchFacts
from pipelines.readings.held import HeldFile
from pipelines.readings.past import Past, recall
from pipelines.readings.plan import Plan
from pipelines.sources import kafka_stream
from pipelines.tables import AUDIT, PANES, READINGS, REJECTED
from pipelines.windows.fill import ensure_filled


def start_archive(run: Run) -> StreamingQuery:
    """Start the query; the first start reads from the noted start, later ones from the checkpoint."""
    settings = run.settings
    records = kafka_stream(
        run.spark,
        settings,
        [settings.kafka.topics.readings],
        starting=first_offsets(run),
        max_offsets=settings.pipeline.max_offsets_per_trigger,
    )
    writer = records.writeStream.queryName(QUERY).foreachBatch(PacedBatches(run).write)
    writer = writer.option("checkpointLocation", run.checkpoint(QUERY))
    return writer.trigger(processingTime=f"{settings.pipeline.archive_trigger} seconds").start()


class PacedBatches:
    """Sink of the stream: each batch, and after it the wait for the next one where little comes."""

    def __init__(self, run: Run) -> None:
        self._run, self._batches = run, ArchiveBatch(run)
        self._began: float | None = None

    def write(self, records: DataFrame, number: int) -> None:
        """Write a batch. A crash while it waits is repaired as any other: the batch is done already."""
        before, self._began = self._began, time.monotonic()
        held = self._batches.write(records, number)
        if before is not None:
            self._run.let_gather(self._began, readings=held, since_s=self._began - before)


class ArchiveBatch:
    """Decides a batch and carries it out; a batch that has a plan is only carried out.

    What a verdict needs of earlier batches is kept in memory and read back after a start (`Past`).
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._parts = Parts(run, Batches.read(CheckpointFiles(run.settings), run.folder(QUERY)))
        self._past: Past | None = None
        self._is_complete_known = False
        self._ownership = Ownership(run.settings, run.generation)

    def write(self, records: DataFrame, number: int) -> int:
        """Write a batch and return how many records it holds.

        A crash at any line is repaired by the replay of the batch.
        """
        batch, settings = self._run.batch(QUERY, number), self._run.settings
        self._ownership.require()
        ranges = self._parts.ranges_of(number)
        plan = find_plan(self._parts.plans, settings, batch, ranges) if self._past is None else None
        if plan is not None:
            self._carry_out(plan, None)
        else:
            past = self._past = self._past or self._recall()
            judged_until = self._parts.alerts.committed()
            decision = Decision(self._parts, past, batch, ranges, self._parts.was_planned(number), judged_until)
            plan, after, facts = decision.make(records)
            self._parts.plans.create(plan)
            self._carry_out(plan, facts)
            self._say_left_out(past.alignment, after)
            self._say_absent(facts)
            came_out = set(past.held) - set(plan.held)
            past.take_in(plan, after, facts.keys, facts.event_ms)
            self._tidy(came_out, plan)
        self._run.keep_up(READINGS, REJECTED, PANES, AUDIT)
        self._run.say(f"archive batch {number}: {plan.records} records, {plan.rejected} rejected")
        return plan.records

    def _carry_out(self, plan: Plan, facts: BatchFacts | None) -> None:
        """Do what the plan says, and count it with its commit: a batch that is done again counts once."""
        if commit_tables(plan, self._run.settings):
            appended = None if facts is None else facts.appended()
            count_archive(self._run.metrics, plan.audit, appended, time.time())
        self._run.archive_has({partition: end for partition, (_, end) in plan.ranges.items()})
        self._run.metrics.held_panes.set(sum(file.rows for file in plan.held))
        send_letters(plan, self._run.settings)

    def _tidy(self, came_out: set[HeldFile], plan: Plan) -> None:
        """Remove what only earlier plans needed."""
        self._parts.plans.keep_newest()
        if came_out:
            self._parts.held.tidy(plan.held)

    def _say_absent(self, facts: BatchFacts) -> None:
        """Say once after a start which rules are silent because no reading has what they judge."""
        if not self._is_complete_known and facts.total("accepted"):
            self._is_complete_known = True
            for line in silent_rules(facts.absent()):
                self._run.say(line)

    def _say_left_out(self, before: Alignment, after: Alignment) -> None:
        for partition in sorted(after.left_out):
            self._run.metrics.partitions_left_out.labels(partition).inc()
        for partition in sorted(after.left_out - before.left_out):
            self._run.say(
                f"partition {partition} is so far behind that more than pipeline.max_held_panes ="
                f" {self._run.settings.pipeline.max_held_panes} panes would wait for it: its readings may be late"
            )

    def _recall(self) -> Past:
        """The past of a generation's first batch, or of the first one after a start."""
        settings, filled = self._run.settings, ensure_filled(self._run)
        newest = newest_plan(self._parts.plans, settings)
        past = recall(settings, filled if newest is None else newest.held)
        self._parts.held.tidy(past.held)
        return past
