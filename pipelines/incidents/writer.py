"""One update of the incidents, into the tables and onto the topic, in the order that a crash anywhere allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pyarrow as pa

from pipelines.broker.records import Record, send_records
from pipelines.incidents.actions_archive import OperatorActions, Said
from pipelines.incidents.messages import incident_records, tombstones
from pipelines.incidents.open_sessions import OpenSessions
from pipelines.incidents.positions import QUERY
from pipelines.incidents.relations import Key, key_of
from pipelines.incidents.sessions import incident_key, look_back
from pipelines.incidents.tables import AnomaliesArchive, IncidentsInMemory, as_table, stored_anomalies
from pipelines.incidents.update import Row, Updated, first_of_each_key, update
from pipelines.observe.batches import count_anomalies
from pipelines.observe.grid import show_incidents
from pipelines.observe.metrics import PipelineMetrics
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, arrow_schema, highest_value, merge_rows
from pipelines.tables import ANOMALIES, INCIDENTS

Say = Callable[[str], None]
_LATELY = timedelta(days=1)


@dataclass
class IncidentsWriter:
    """Writes updates: anomalies, operators' actions and incidents into their tables, and incidents to their topic.

    Everything derived is computed from anomalies and what the tables hold, so updates that are done again after a
    crash, cut in other ways, end in the same rows with the same ids.
    """

    settings: Settings
    generation: str
    metrics: PipelineMetrics
    say: Say
    clock: datetime | None
    number: int = -1
    """Of the newest update."""
    known: IncidentsInMemory = field(init=False)
    _anomalies: AnomaliesArchive = field(init=False)
    _operators: OperatorActions = field(init=False)
    _open: OpenSessions = field(default_factory=OpenSessions)

    def __post_init__(self) -> None:
        self.known = IncidentsInMemory(self.settings)
        self._anomalies = AnomaliesArchive(self.settings)
        self._operators = OperatorActions(self.settings)

    def open_rows(self) -> dict[Key, Row]:
        """Open incidents by key."""
        return {key_of(row): row for row in self.known.rows() if row["status"] == "open"}

    def send_known(self) -> int:
        """Send what earlier updates may not have sent: incidents that are open or ended lately. Returns how many."""
        newest = highest_value(self.settings, INCIDENTS, "last_anomaly_at")
        if newest is None:
            return 0
        since = min(newest, self.clock or newest) - _LATELY
        return self._send(incident_records(self.known.rows_since(since)))

    def write(self, events: Sequence[Row], actions: Sequence[Said], clock: datetime | None) -> Updated | None:
        """One update by rows of the table anomalies and records of actions, up to the clock; None when no incident was
        touched and none is due.

        Anomalies come first, so that a crash anywhere behind them finds them; tombstones before the table forgets the
        ids; rows are in the table before they are on the topic, so that nothing is there that the table does not know.
        """
        self.number += 1
        batch = BatchId(self.generation, QUERY, self.number)
        if refused := self._operators.archive(actions, batch):
            topic = self.settings.kafka.topics.actions
            self.say(f"{topic}: {refused} records are no action of an operator and are left out")
        new = self._anomalies.new(events)
        if new:
            stored = as_table(new)
            append_rows_once(stored, self.settings, ANOMALIES, batch)
            count_anomalies(self.metrics, stored)
        return self._update(events, new, clock, batch)

    def _update(
        self, events: Sequence[Row], new: Sequence[Row], clock: datetime | None, batch: BatchId
    ) -> Updated | None:
        settings = self.settings
        touched = first_of_each_key(events)
        known = self.known.known(touched)
        self.clock = clock
        if not touched and not known.closed_by(clock, {}):
            return None
        since = known.reach_back(touched)
        rules = self._operators.rules(min(since.values(), default=clock))
        begun = self._open.continued(touched, since)
        back = look_back(rules, settings.detection.steps_s)
        to_read = {key: at - back for key, at in since.items() if key not in begun}
        added = [event for event in new if incident_key(event) in begun]
        updated = update(
            [*stored_anomalies(settings, to_read), *added], clock,
            known=known, since=since, rules=rules, steps_s=settings.detection.steps_s, begun=begun,
        )  # fmt: skip
        self._store(updated, batch)
        self.known.take(updated, touched)
        still_open = {row["incident_id"] for row in self.known.rows() if row["status"] == "open"}
        self._open.remember(updated.sessions, still_open)
        show_incidents(self.metrics, self.known.rows(), settings.metrics.feeders)
        return updated

    def _store(self, updated: Updated, batch: BatchId) -> None:
        if not updated.rows and not updated.gone:
            return
        if updated.gone:
            self._send(tombstones(updated.gone))
        rows = pa.Table.from_pylist(updated.rows, schema=arrow_schema(INCIDENTS))
        merge_rows(rows, updated.gone, self.settings, INCIDENTS, key="incident_id", batch=batch)
        self._send(incident_records(updated.rows))

    def _send(self, records: Iterable[Record]) -> int:
        kafka = self.settings.kafka
        return send_records(kafka, kafka.topics.incidents, records)
