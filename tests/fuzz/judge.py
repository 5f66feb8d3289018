"""Runs inputs through the decode plan of the pipeline and compares each outcome with a reader in plain Python."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipelines.settings import Settings
from tests.factories import NOON
from tests.fuzz.mutate import Value
from tests.transforms.decoding import FIELDS, REASONS, decide_records, is_valid

ACCEPTED = "accepted"
_COLUMNS = ("meter_id", "event_ms", "voltage_v", "current_a", "temperature_c", "status")
_NAMES = tuple(field["name"] for field in FIELDS)
_NOON = NOON.replace(tzinfo=UTC)
_KNOWN = set(_NAMES)


@dataclass
class Verdict:
    """What a batch showed: outcomes, and inputs on which pipeline and reader disagree or the pipeline crashed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    disagreements: list[tuple[Value, str, str]] = field(default_factory=list)
    crashes: list[tuple[Value, str]] = field(default_factory=list)
    novel: list[Value] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.disagreements or self.crashes)


def judge(spark: SparkSession, values: Sequence[Value], seen: set[object] | None = None) -> Verdict:
    """Every input has exactly one outcome; accepted exactly when the reader accepts, and with the reader's values.

    `seen`: signatures of outcomes known so far; inputs with a new one are `novel`, and it is added.
    """
    verdict = Verdict()
    try:
        rows = _decide(spark, values)
    except (PySparkException, Py4JError) as error:
        if len(values) == 1:
            verdict.crashes.append((values[0], str(error).splitlines()[0]))
            return verdict
        half = len(values) // 2
        for part in (values[:half], values[half:]):
            found = judge(spark, part, seen)
            verdict.crashes += found.crashes
            verdict.disagreements += found.disagreements
        return verdict
    if [row["kafka_offset"] for row in rows] != list(range(len(values))):
        verdict.disagreements.append((None, f"{len(rows)} outcomes", f"{len(values)} inputs"))
        return verdict
    for value, row in zip(values, rows, strict=True):
        _compare(value, row, verdict)
        signature = _signature(value, row)
        if seen is not None and signature not in seen:
            seen.add(signature)
            verdict.novel.append(value)
    return verdict


def _decide(spark: SparkSession, values: Sequence[Value]) -> list[dict[str, Any]]:
    count = len(values)
    records = pa.table(
        {
            "key": pa.array([b"k"] * count, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "topic": pa.array(["sensor-readings"] * count),
            "partition": pa.array([0] * count, pa.int32()),
            "offset": pa.array(range(count), pa.int64()),
            "timestamp": pa.array([_NOON] * count, pa.timestamp("us", "UTC")),
        }
    )
    decided = decide_records(spark.createDataFrame(records), Settings())
    columns = ["kafka_offset", "reason", *_COLUMNS, "extra"]
    table = decided.withColumn("event_ms", F.unix_millis("event_ts")).select(*columns).toArrow()
    return sorted(table.to_pylist(), key=lambda row: row["kafka_offset"])


def _compare(value: Value, row: dict[str, Any], verdict: Verdict) -> None:
    limits = Settings().input
    reason = row["reason"]
    verdict.outcomes[reason or ACCEPTED] += 1
    valid = is_valid(value, max_skew_s=limits.max_skew, max_age_s=limits.max_age)
    if reason is not None:
        if valid or reason not in REASONS:
            verdict.disagreements.append((value, reason, "valid" if valid else "no such reason"))
        return
    if not valid:
        verdict.disagreements.append((value, ACCEPTED, "not valid"))
        return
    document = json.loads(value or b"")
    wanted = tuple(document.get(name) for name in _NAMES)
    found = tuple(row[name] for name in _COLUMNS)
    extra = {name: rest for name, rest in document.items() if name not in _KNOWN}
    if found != wanted or bool(extra) != (row["extra"] is not None):
        verdict.disagreements.append((value, str(found), str(wanted)))


def _signature(value: Value, row: dict[str, Any]) -> object:
    """What makes an outcome worth another look: reason, which columns were read, and the shape of the text."""
    text = value or b""
    marks = tuple(min(text.count(mark), 3) for mark in (b"{", b"[", b"\\", b'":', b"\x00", b"e", b"-", b"\n", b"/"))
    high = any(byte > 127 for byte in text)
    return row["reason"], tuple(row[name] is None for name in _COLUMNS[2:]), row["extra"] is None, marks, high
