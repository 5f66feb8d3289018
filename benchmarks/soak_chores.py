"""What gives upkeep something to do within an hour, although a day has to end for its real work.

Nothing of the product is changed for it: records are sent as a late meter sends them, and files are made older than
they are, as they would be found a week or a month later.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from kafka import KafkaProducer
from kafka.errors import KafkaError

from benchmarks.soak_lake import LOG, walk
from pipelines.settings import Settings
from pipelines.tables import (
    ANOMALIES,
    AUDIT,
    BASELINES,
    INCIDENTS,
    METER_WINDOWS,
    OPERATOR_ACTIONS,
    READINGS,
    REJECTED,
    Table,
)
from pipelines.topics import client_options

UPKEPT = (READINGS, REJECTED, AUDIT, METER_WINDOWS, BASELINES, ANOMALIES, INCIDENTS, OPERATOR_ACTIONS)
"""Tables that the pipeline looks after."""
EXERCISED = {
    "optimize": "real in audit, which has no partitions, and in yesterday's partition of readings, a closed one, into"
    " which late readings are sent every few seconds (rows `compacted`); today's partitions stay open until midnight"
    " UTC, so their files must grow with the batches (`per_hour` of readings.files)",
    "vacuum": "real but once a day for each table, so once in this run, at its first round, with the limit of 7 days"
    " as it is: it must remove one planted file of a killed writer a table, made 8 days old by its time stamp"
    " (`planted`, `left`); what OPTIMIZE replaced stays for 7 days and is in files.data",
    "log": "checkpoint and clean-up in every round, with the retention as it is; log objects are given an older time"
    " stamp once they are `log_aged_after_s` old, so that the retention ends for them within this run",
    "not": "retention of partitions (days), OPTIMIZE of a full day, a second VACUUM of a table",
}
_DAY_S = 86400.0
_ORPHAN = "part-00000-killed-writer.parquet"
_VERSIONED = re.compile(r"\.?\d{20}\.")
_ROUND = re.compile(r"upkeep of (\w+)(:| failed:)")
_FLUSH_S = 30


class LateReadings:
    """Sends readings of yesterday, in band, of the first meter: each is stored, flagged late and kept out of windows.

    The archive must have stored a batch of today before, or they would not be late.
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.kafka.topics.readings
        self._producer: Any = KafkaProducer(**client_options(settings.kafka), acks="all")
        self.acknowledged = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(KafkaError):
            self._producer.close(timeout=_FLUSH_S)

    def send(self, now: float) -> None:
        """One more; a broker that is not there costs the reading, not the soak."""
        event_ms = int((now - _DAY_S) * 1000)
        document = {"meterId": "m0000000", "timestamp": event_ms, "voltage": 230.0, "current": 10.0}
        document |= {"temperature": 20.0, "status": "OK"}
        with suppress(KafkaError):
            sent = self._producer.send(self._topic, json.dumps(document).encode(), key=b"m0000000", partition=0)
            sent.add_callback(self._count)

    def settle(self) -> int:
        """Wait for the broker's word on all; how many it has."""
        with suppress(KafkaError):
            self._producer.flush(timeout=_FLUSH_S)
        return self.acknowledged

    def _count(self, _: object) -> None:
        self.acknowledged += 1


def plant_orphans(settings: Settings, now: float) -> dict[str, Path]:
    """A file that no commit names in the folder of each upkept table, older than VACUUM's limit by a day."""
    planted = {}
    old = now - settings.upkeep.vacuum_after - _DAY_S
    for table in UPKEPT:
        path = _folder_of_old_files(settings, table, now) / _ORPHAN
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half a file")
        os.utime(path, (old, old))
        planted[table.name] = path
    return planted


def age_logs(settings: Settings, *, after_s: float, now: float) -> int:
    """Make log objects that are `after_s` old older than the log's retention, by a day; returns how many.

    What is younger keeps its time stamp, and the order of the versions in time stays.
    """
    aged, by_s = 0, settings.upkeep.log_retention + _DAY_S
    for table in UPKEPT:
        for entry in walk(str(Path(settings.lake.root, table.name, LOG))):
            if not _VERSIONED.match(entry.name):
                continue
            with suppress(FileNotFoundError):  # a clean-up runs meanwhile
                modified = entry.stat().st_mtime
                if after_s < now - modified < by_s:
                    os.utime(entry.path, (modified - by_s, modified - by_s))
                    aged += 1
    return aged


def rounds(log: str) -> dict[str, tuple[int, int]]:
    """Rounds of upkeep in the log of the pipeline, by table: done and failed.

    >>> rounds("upkeep of audit: 3 files, 0 made into larger ones\\nupkeep of audit failed: no\\n")
    {'audit': (1, 1)}
    """
    found: dict[str, tuple[int, int]] = {}
    for name, ending in _ROUND.findall(log):
        done, failed = found.get(name, (0, 0))
        found[name] = (done + 1, failed) if ending == ":" else (done, failed + 1)
    return found


def upkeep_done(
    log: str, maintained: Mapping[tuple[str, str], int], planted: Mapping[str, Path]
) -> list[dict[str, Any]]:
    """What upkeep has done, a row a table. `maintained`: files by table and what was done to them."""
    done = rounds(log)
    return [
        {
            "table": name,
            "rounds": done.get(name, (0, 0))[0],
            "failed": done.get(name, (0, 0))[1],
            "compacted": maintained.get((name, "compacted"), 0),
            "vacuumed": maintained.get((name, "vacuumed"), 0),
            "planted": int(name in planted),
            "left": int(name in planted and planted[name].exists()),
        }
        for name in (table.name for table in UPKEPT)
    ]


def _folder_of_old_files(settings: Settings, table: Table, now: float) -> Path:
    folder = Path(settings.lake.root, table.name)
    if not table.partition_by:
        return folder
    yesterday = datetime.fromtimestamp(now, UTC).date() - timedelta(days=1)
    return folder / f"{table.partition_by[0]}={yesterday}"
