"""One batch of the archive, from Kafka records to a plan: decoded and written by workers, decided in the driver."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import polars as pl
from pyspark.sql import DataFrame

from pipelines.alerts.group import Group
from pipelines.broker.ends import committed_ends
from pipelines.identity.batches import Batches
from pipelines.jobs.context import Run
from pipelines.lake.parquet import DataFile, write_data_file
from pipelines.lake.store import LakePlace, object_store
from pipelines.readings import workers, writing
from pipelines.readings.alignment import Alignment, Ranges, is_cut
from pipelines.readings.blobs import from_blob, to_blob
from pipelines.readings.carry_out import PLANS
from pipelines.readings.decode import Decoder
from pipelines.readings.facts import BatchFacts
from pipelines.readings.held import HeldPanes, count_after, split_panes, still_held
from pipelines.readings.meters import placed_meters
from pipelines.readings.past import Past
from pipelines.readings.plan import Plan, Plans
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import read_rows, table_version
from pipelines.tables import METERS, PANES, READINGS, REJECTED
from pipelines.windows.panes import empty_panes

HELD = "held"
"""Folder of the held-back panes, as the record of the run places it."""
_ROWS_PER_TASK = 500_000
_REFUSED_PER_TASK = 64 << 20
"""As many tasks write a batch as its size asks for: each leaves at least one file."""


def build(records: DataFrame, settings: Settings) -> DataFrame:
    """The plan of a batch up to what the driver decides by: one row of `workers.CHUNKS` per Arrow batch of records."""
    taken = records.select("key", "value", "partition", "offset", "timestamp")
    return taken.mapInArrow(workers.decode_records(Decoder(settings.input)), workers.CHUNKS)


@dataclass(frozen=True)
class Parts:
    """What every batch of one start shares."""

    run: Run
    log: Batches
    """Spark's log as it was at the start."""

    @property
    def settings(self) -> Settings:
        return self.run.settings

    @cached_property
    def plans(self) -> Plans:
        return Plans(self.checkpoint, self.run.folder(PLANS))

    @cached_property
    def held(self) -> HeldPanes:
        return HeldPanes(self.checkpoint, self.run.folder(HELD))

    @cached_property
    def checkpoint(self) -> Any:
        return object_store(self.settings.pipeline.checkpoint, self.settings.store)

    @cached_property
    def tables(self) -> Any:
        return object_store(self.settings.lake.root, self.settings.store)

    @cached_property
    def alerts(self) -> Group:
        return Group(self.settings)

    @cached_property
    def decoder_hash(self) -> str:
        """Hash of what makes readings of bytes: code and settings."""
        said = json.dumps([version("gridwatch"), self.settings.input.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    @cached_property
    def meters(self) -> tuple[Any, int]:
        """The placed meters as a broadcast, and their version: the table changes only before the queries start."""
        rows: Any = pl.from_arrow(read_rows(self.settings, METERS))
        placed = placed_meters(rows, detection=self.settings.detection)
        return self.run.spark.sparkContext.broadcast(to_blob(placed)), table_version(self.settings, METERS)

    def was_planned(self, number: int) -> bool:
        """Whether an earlier run had begun the batch, under a limit that nobody knows."""
        return number in self.log.planned

    def ranges_of(self, number: int) -> dict[int, tuple[int, int]]:
        """The ranges of a batch by Spark's own log. A partition that is new begins at its start."""
        topic = self.settings.kafka.topics.readings
        before = self.log.end_of(number - 1) if number else self.log.first_offsets()
        first = before.get(topic, {})
        return {p: (first.get(p, 0), end) for p, end in sorted(self.log.end_of(number).get(topic, {}).items())}


@dataclass
class Decision:
    """One batch on its way from records to a plan."""

    parts: Parts
    past: Past
    batch: BatchId
    ranges: Ranges
    was_planned: bool
    judged_until: Mapping[int, int]
    """Where the alerts had come to before the batch was decided, by partition."""

    def make(self, records: DataFrame) -> tuple[Plan, Alignment, BatchFacts]:
        """The plan, the alignment after it, and the facts it rests on. Data files and held panes are written then."""
        settings, past = self.parts.settings, self.past
        cut = self._is_cut()
        kept = build(records, settings).persist()
        try:
            facts = BatchFacts.of(kept.drop("readings", "refused").toArrow())
            resent = past.keys.find_resent(facts.keys, facts.event_ms)
            late_before_ms = past.alignment.late_before_ms(settings.detection.watermark)
            decided = facts.decide(settings.kafka.topics.readings, late_before_ms=late_before_ms, resent=resent)
            files, panes = self._write(kept, facts, decided)
        finally:
            kept.unpersist()
        progress = facts.progress(self.ranges, is_cut=cut)
        after = past.alignment.after(
            progress,
            max_held=settings.pipeline.max_held_panes,
            held_after=lambda at_ms: count_after(panes, past.held, at_ms),
        )
        released, held = split_panes(panes, after.aligned_ms)
        came_out = self.parts.held.release(past.held, after_ms=past.alignment.aligned_ms, up_to_ms=after.aligned_ms)
        files[PANES.name] = self._write_panes(pl.concat([came_out, released]))
        plan = Plan(
            self.batch.generation, self.batch.number, dict(self.ranges), cut, after.aligned_ms,
            self.parts.decoder_hash, files,
            facts.audit_rows(self.ranges, decided, after, judged_until=self.judged_until),
            [*still_held(past.held, after.aligned_ms), *self.parts.held.hold(held, self.batch.number)],
        )  # fmt: skip
        return plan, after, facts

    def _is_cut(self) -> bool:
        settings = self.parts.settings
        limit = None if self.was_planned else settings.pipeline.max_offsets_per_trigger
        ends = {p: end for p, (_, end) in self.ranges.items()}
        taken = sum(end - first for first, end in self.ranges.values())
        if limit is None or taken >= limit - len(self.ranges):
            ends = committed_ends(settings.kafka, settings.kafka.topics.readings)
        return is_cut(self.ranges, limit=limit, ends=ends)

    def _write(
        self, kept: DataFrame, facts: BatchFacts, decided: writing.Decided
    ) -> tuple[dict[str, list[DataFile]], pl.DataFrame]:
        """Let the workers write; the data files by table, and the partial panes."""
        if not facts.chunks:
            return {}, empty_panes()
        settings = self.parts.settings
        meters, meters_version = self.parts.meters
        writer = writing.Writer(LakePlace.of(settings), decided, settings.detection, meters, meters_version)
        tasks = max(
            1, round(facts.total("accepted") / _ROWS_PER_TASK), round(facts.total("rejected_bytes") / _REFUSED_PER_TASK)
        )
        blobs = kept.select("partition", "first_offset", "readings", "refused").coalesce(tasks)
        written = blobs.mapInArrow(writing.write_chunks(writer), writing.WRITTEN).toArrow().to_pylist()
        facts.require_written(chunk for part in written for chunk in json.loads(part["chunks"]))
        files: dict[str, list[DataFile]] = {READINGS.name: [], REJECTED.name: []}
        for part in written:
            for table, of_table in json.loads(part["files"]).items():
                files[table] += map(DataFile.of, of_table)
        return files, pl.concat([empty_panes(), *(from_blob(part["panes"]) for part in written)])

    def _write_panes(self, released: pl.DataFrame) -> list[DataFile]:
        """The released panes of a batch are one file, so that no limit of the stream cuts them in two."""
        if not released.height:
            return []
        rows = released.with_columns(
            generation=pl.lit(self.batch.generation), batch_id=pl.lit(self.batch.number, pl.Int64)
        )
        return [write_data_file(rows, PANES, self.parts.tables)]
