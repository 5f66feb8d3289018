"""Labels: what went wrong, when, where, and which rule should say so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from generator.kinds import KINDS
from generator.load import Network
from generator.schedule import Fault

LABEL_COLUMNS = (
    "fault_id", "kind", "scope", "meter_id", "feeder_id", "phase", "start", "end",
    "magnitude", "expected_types",
)  # fmt: skip


def iso_ms(epoch_ms: float) -> str:
    """Return an epoch time in ms as ISO 8601 UTC with milliseconds.

    >>> iso_ms(1_700_000_000_123)
    '2023-11-14T22:13:20.123Z'
    """
    moment = datetime.fromtimestamp(epoch_ms / 1000, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def label_frame(faults: Iterable[Fault], network: Network) -> pd.DataFrame:
    """Return one row a fault, in the order given.

    Columns: fault_id (`sag-001`), kind, scope (meter or feeder), meter_id (empty for a feeder), feeder_id,
    phase (empty for all), start and end (ISO UTC with ms, end exclusive), magnitude (unit by kind, see
    `generator.faults`), expected_types (names of anomaly types that should find it, joined by `|`).
    """
    count: Counter[str] = Counter()
    rows = []
    for fault in faults:
        count[fault.kind] += 1
        rows.append(_row(fault, count[fault.kind], network))
    return pd.DataFrame(rows, columns=list(LABEL_COLUMNS))


def write_labels(labels: pd.DataFrame, path: str | Path) -> None:
    """Write the labels as CSV with a header, replacing the file."""
    labels.to_csv(path, index=False, lineterminator="\n")


def transport_line(kind: str, variant: str, meter_id: str, event_ms: int, due_ms: int, reason: str | None) -> str:
    """Return one line of `transport.jsonl`.

    kind: late, duplicate, out_of_order or malformed; variant: the malformed kind, else null; event_ts:
    event time of the reading (ms), for a malformed record the time on the data's clock when it is sent;
    due_ts: when it is sent, on the data's clock (ms); expected_reason: the rejection reason or null.
    """
    line = {
        "kind": kind, "variant": variant or None, "meter_id": meter_id,
        "event_ts": event_ms, "due_ts": due_ms, "expected_reason": reason,
    }  # fmt: skip
    return json.dumps(line, separators=(",", ":")) + "\n"


def _row(fault: Fault, number: int, network: Network) -> tuple[str | float, ...]:
    kind = KINDS[fault.kind]
    meter_id = network.meter_id[fault.meter] if fault.meter >= 0 else ""
    return (
        f"{fault.kind}-{number:03d}", fault.kind, kind.scope, meter_id, network.feeder_id[fault.feeder],
        fault.phase, iso_ms(fault.start_ms), iso_ms(fault.end_ms), fault.magnitude, "|".join(kind.expected),
    )  # fmt: skip
