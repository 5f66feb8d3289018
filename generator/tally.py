"""Count what arrived and write it down: `transport.jsonl` as it happens, `summary.json` at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from generator.labels import transport_line
from generator.load import Network
from generator.malformed import expected_reason
from generator.plan import RunPlan
from generator.transport import DUPLICATE, KIND_NAMES, LATE, MALFORMED, NORMAL, OUT_OF_ORDER, Record


class Tally:
    """Counts of acknowledged records, and the file with one line an odd record.

    A record is added when its delivery is certain, so the counts equal what the receiver holds (lines of a
    run that was killed may be missing, never too many).
    """

    def __init__(self, network: Network, folder: Path) -> None:
        self._meter_id = network.meter_id
        self._lines = (folder / "transport.jsonl").open("w", encoding="utf-8")
        self._kinds = [0] * len(KIND_NAMES)
        self._rejected: Counter[str] = Counter()

    def __enter__(self) -> Tally:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()

    @property
    def produced(self) -> int:
        """Number of records of all kinds added so far."""
        return sum(self._kinds)

    def add(self, record: Record) -> None:
        """Count one acknowledged record."""
        self._kinds[record.kind] += 1
        if record.kind != NORMAL:
            self._write_down(record)

    def add_all(self, records: Iterable[Record]) -> None:
        """Count acknowledged records."""
        for record in records:
            self.add(record)

    def summary(self, plan: RunPlan, seconds: float, **extra: object) -> dict[str, Any]:
        """Return the summary of the run; `seconds` is its wall time, `extra` goes in as it is.

        produced = readings + resent + the sum of rejected; late and out_of_order are among the readings.
        Times are epoch ms.
        """
        resent, malformed = self._kinds[DUPLICATE], self._kinds[MALFORMED]
        return {
            "produced": self.produced,
            "readings": self.produced - resent - malformed,
            "resent": resent,
            "late": self._kinds[LATE],
            "out_of_order": self._kinds[OUT_OF_ORDER],
            "rejected": dict(sorted(self._rejected.items())),
            "data_start": plan.start_ms,
            "data_end": plan.data_end_ms,
            "closing_end": plan.closing_end_ms,
            "seed": plan.seed,
            "options": asdict(plan),
            "seconds": round(seconds, 3),
            **extra,
        }

    def _write_down(self, record: Record) -> None:
        reason = expected_reason(record.variant) if record.kind == MALFORMED else None
        if reason:
            self._rejected[reason] += 1
        meter_id, kind = self._meter_id[record.meter], KIND_NAMES[record.kind]
        line = transport_line(kind, record.variant, meter_id, record.event_ms, record.due_ms, reason)
        self._lines.write(line)


def write_summary(summary: dict[str, Any], folder: Path) -> None:
    """Write `summary.json`, replacing the file."""
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
