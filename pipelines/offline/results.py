"""What `detect` writes: windows, anomalies and incidents as parquet files, piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.anomalies.rows import EVENT_SCHEMA, event_rows
from pipelines.incidents.sessions import NEEDED, sessionise
from pipelines.offline.detection import Detected
from pipelines.settings import Settings
from pipelines.small_tables import arrow_schema
from pipelines.tables import INCIDENTS, METER_WINDOWS

SILENT_INFO = ("voltage_spike", "voltage_deviation")
"""INFO of these touches no incident: a day above 250 V would otherwise fill the memory."""
WINDOW_SCHEMA: pa.Schema = pa.schema(column for column in arrow_schema(METER_WINDOWS) if column.name != "window_date")
_EVENTS_AT_ONCE = 20_000


@dataclass
class Results:
    """The files in the folder `out`, under their names once `finish` is done; before, and after an error, none."""

    out: Path
    windows: int = 0
    anomalies: Counter[str] = field(default_factory=Counter)
    """By type."""
    clock: datetime | None = None
    """Latest window end."""

    def __post_init__(self) -> None:
        self._files = {name: self.out / f"{name}.tmp.parquet" for name in ("windows", "anomalies", "incidents")}
        self._windows = pq.ParquetWriter(self._files["windows"], WINDOW_SCHEMA, compression="zstd")
        self._anomalies = pq.ParquetWriter(self._files["anomalies"], EVENT_SCHEMA, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._windows.close()
        self._anomalies.close()
        for path in self._files.values():
            path.unlink(missing_ok=True)

    def add(self, part: Detected) -> None:
        """Write what was found next."""
        if part.windows.height:
            self._windows.write_table(part.windows.drop("window_date").to_arrow().cast(WINDOW_SCHEMA))
            self.windows += part.windows.height
            newest: datetime = part.windows["window_end"].max()  # type: ignore[assignment]
            self.clock = max(self.clock or newest, newest)
        self.anomalies.update(event["anomalyType"] for event in part.anomalies)
        for first in range(0, len(part.anomalies), _EVENTS_AT_ONCE):
            self._anomalies.write_table(event_rows(part.anomalies[first : first + _EVENTS_AT_ONCE]))

    def finish(self, settings: Settings) -> list[dict[str, Any]]:
        """Write the incidents of all anomalies, by the clock of the last window end; returns their rows."""
        self._windows.close()
        self._anomalies.close()
        rows = _touching(self._files["anomalies"])
        step_s = settings.detection.steps_s
        incidents = sessionise(rows, clock=self.clock, settings=settings.session_rules, step_s=step_s)
        pq.write_table(pa.Table.from_pylist(incidents, schema=arrow_schema(INCIDENTS)), self._files["incidents"])
        for name, path in self._files.items():
            path.replace(self.out / f"{name}.parquet")
        return incidents


def _touching(path: Path) -> Iterator[dict[str, Any]]:
    """Anomalies that may touch an incident, in the columns NEEDED."""
    for batch in pq.ParquetFile(path).iter_batches(columns=list(NEEDED)):
        for row in batch.to_pylist():
            if row["severity"] != "INFO" or row["anomaly_type"] not in SILENT_INFO:
                yield row
