"""What operators say on the console, into the table operator_actions, and their mutes for the incidents.

Part of the query incidents, which owns the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from pipelines.incidents.operator_actions import parse_action, with_mutes
from pipelines.settings import Incidents, Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, arrow_schema, read_rows
from pipelines.tables import OPERATOR_ACTIONS

_LONG_BEFORE = timedelta(days=30)


@dataclass(frozen=True)
class Said:
    """A record of the topic operator-actions."""

    value: bytes | None
    offset: int
    kafka_ts: datetime


@dataclass
class OperatorActions:
    """The actions of the table, read once: this query alone writes it."""

    settings: Settings
    _known: dict[str, dict[str, Any]] | None = field(default=None, init=False)

    def archive(self, records: Iterable[Said], batch: BatchId) -> int:
        """Append the actions whose id is new; returns how many records were none. What comes again appends nothing."""
        new: dict[str, dict[str, Any]] = {}
        refused = 0
        for record in records:
            if (action := parse_action(record.value)) is None:
                refused += 1
            elif action["action_id"] not in self._rows():
                placed = {"kafka_offset": record.offset, "kafka_ts": record.kafka_ts}
                new.setdefault(action["action_id"], action | placed)
        if new:
            rows = pa.Table.from_pylist(list(new.values()), schema=arrow_schema(OPERATOR_ACTIONS))
            append_rows_once(rows, self.settings, OPERATOR_ACTIONS, batch)
            self._rows().update(new)
        return refused

    def rules(self, earliest: datetime | None) -> Incidents:
        """The settings of incidents as they work, with the operators' mutes.

        Those that ended long before `earliest`, the first event time that matters, are left out: years of them would
        make every batch slower.
        """
        after = earliest - _LONG_BEFORE if earliest else None
        return with_mutes(self.settings.session_rules, self._rows().values(), after=after)

    def _rows(self) -> dict[str, dict[str, Any]]:
        if self._known is None:
            rows = read_rows(self.settings, OPERATOR_ACTIONS).to_pylist()
            self._known = {row["action_id"]: row for row in rows}
        return self._known
