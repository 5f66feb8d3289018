"""Dead letters: rejected records for Kafka, made of the data files of `rejected` that a batch's plan names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from io import BytesIO
from itertools import groupby
from typing import Any

import obstore
import polars as pl

from pipelines.contract import dead_letter_limit_bytes
from pipelines.lake.parquet import DataFile
from pipelines.tables import REJECTED

Headers = list[tuple[str, bytes]]
Letter = tuple[bytes | None, bytes | None, Headers]


def letters_of(files: Iterable[DataFile], objects: Any) -> Iterator[Letter]:
    """The letters of data files, one file in memory at a time; `objects` is the place of the tables."""
    contents = (obstore.get(objects, f"{REJECTED.name}/{file.path}").bytes() for file in files)
    return letters(pl.read_parquet(BytesIO(content)) for content in contents)


def letters(rejected: Iterable[pl.DataFrame]) -> Iterator[Letter]:
    """One letter per record: its key, its value cut at the contract's limit, and headers that say where it was.

    In: rows of the table rejected in pieces; those of a record follow each other, and the first of them has key and
    value.
    """
    rows = (row for piece in rejected for row in piece.iter_rows(named=True))
    for _, items in groupby(rows, key=lambda row: (row["kafka_partition"], row["kafka_offset"])):
        yield _letter(list(items))


def _letter(items: Sequence[dict[str, Any]]) -> Letter:
    first = items[0]
    value: bytes | None = first["value"]
    headers = {
        "reason": first["reason"],
        "rule-version": first["rule_version"],
        "origin-topic": first["kafka_topic"],
        "origin-partition": first["kafka_partition"],
        "origin-offset": first["kafka_offset"],
        "origin-timestamp": round(first["kafka_ts"].timestamp() * 1000),
        "length": -1 if value is None else len(value),
        "sha256": "" if value is None else sha256(value).hexdigest(),
        "items": ",".join(str(item["kafka_item"] or 0) for item in items),
    }
    cut = None if value is None else value[: dead_letter_limit_bytes()]
    return first["key"], cut, [(name, str(content).encode()) for name, content in headers.items()]
