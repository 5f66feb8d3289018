"""The dead letter of a record: its bytes once, cut at the contract's limit, and where it was."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import polars as pl

from pipelines.contract import dead_letter_limit_bytes
from pipelines.readings.letters import letters

AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC)


def rejected(**values: Any) -> dict[str, Any]:
    row = {
        "reason": "wrong_type", "rule_version": "1", "key": b"k", "value": b"v", "kafka_topic": "t",
        "kafka_partition": 2, "kafka_offset": 9, "kafka_ts": AT, "kafka_item": 0,
    }  # fmt: skip
    return row | values


def test_a_letter_says_where_the_record_was() -> None:
    ((key, value, headers),) = letters([pl.DataFrame([rejected()])])
    assert (key, value) == (b"k", b"v")
    assert {name: content.decode() for name, content in headers} == {
        "reason": "wrong_type", "rule-version": "1", "origin-topic": "t", "origin-partition": "2",
        "origin-offset": "9", "origin-timestamp": "1772366400250", "length": "1",
        "sha256": sha256(b"v").hexdigest(), "items": "0",
    }  # fmt: skip


def test_a_value_is_cut_and_its_length_and_digest_are_of_the_whole() -> None:
    whole = b"x" * (dead_letter_limit_bytes() + 5)
    ((_, value, headers),) = letters([pl.DataFrame([rejected(value=whole)])])
    assert value == whole[:-5]
    assert dict(headers)["length"] == str(len(whole)).encode()
    assert dict(headers)["sha256"] == sha256(whole).hexdigest().encode()


def test_a_tombstone_stays_one() -> None:
    ((key, value, headers),) = letters([pl.DataFrame([rejected(value=None)], schema_overrides={"value": pl.Binary})])
    assert (key, value) == (b"k", None)
    assert (dict(headers)["length"], dict(headers)["sha256"]) == (b"-1", b"")


def test_a_record_with_several_bad_items_is_one_letter_though_its_rows_come_in_pieces() -> None:
    rows = [rejected(kafka_item=3), rejected(kafka_item=4, key=None, value=None), rejected(kafka_item=8, value=None)]
    pieces = [pl.DataFrame(rows[:1]), pl.DataFrame(rows[1:]), pl.DataFrame([rejected(kafka_offset=10)])]
    sent = list(letters(pieces))
    assert [(value, dict(headers)["items"]) for _, value, headers in sent] == [(b"v", b"3,4,8"), (b"v", b"0")]


def test_a_row_of_before_there_were_items_is_of_the_whole_record() -> None:
    ((_, _, headers),) = letters([pl.DataFrame([rejected(kafka_item=None)])])
    assert dict(headers)["items"] == b"0"
