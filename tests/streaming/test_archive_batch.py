"""The archive's verdicts do not depend on when the process was restarted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.jobs import archive
from pipelines.jobs.archive import ArchiveBatch
from pipelines.jobs.context import Run
from tests.factories import at, document, kafka_frame, ms
from tests.streaming.conftest import MakeRun, Outbox

BATCHES = [
    [document(timestamp=ms(5)), document(timestamp=ms(45)), document(timestamp=ms(100)), b"no json"],
    [document(timestamp=ms(640)), document(timestamp=ms(100))],
    [document(timestamp=ms(t)) for t in (5, 45, 100, 629.999, 630, 640)],
]
"""The horizon of re-sent readings is 600 s, the watermark 10 s: batch 2 stands at 40 s and 630 s."""

BROKEN = [[b"no json"], [document(timestamp=ms(5))], [b"no json", None], [document(timestamp=ms(5))]]
"""Batches in which nothing is accepted, before and after one with a reading."""


def write(
    run: Run, *, restart: bool, batches: Sequence[Sequence[bytes | None]] = BATCHES
) -> dict[str, list[tuple[Any, ...]]]:
    """Archive the batches, in one process or in one for each; what the tables say then."""
    sink, offset = ArchiveBatch(run), 0
    for number, values in enumerate(batches):
        records = kafka_frame(run.spark, list(values), first_offset=offset, kafka_ts=at(700))
        offset += len(values)
        flagged = archive.build(records, meters=run.table("meters"), settings=run.settings)
        sink = ArchiveBatch(run) if restart else sink
        sink.write(flagged, number)
    readings = run.table("readings").select("kafka_offset", "is_late", "is_resent").orderBy("kafka_offset")
    audit = run.table("audit").select("batch_id", "records_in", "accepted", "rejected", "late", "resent")
    return {
        "readings": [tuple(row) for row in readings.collect()],
        "audit": [tuple(row) for row in audit.orderBy("batch_id").collect()],
    }


@pytest.fixture(scope="module")
def lived(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, dict[str, Any]]:
    """What the tables say after one process (False) and after a restart before each batch (True)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "send", lambda frame, settings, topic: Outbox().send(frame.limit(0), settings, topic))
        return {again: write(make_run(Path(tmp_path_factory.mktemp("a"))), restart=again) for again in (False, True)}


def test_verdicts_follow_the_earlier_batches(lived: dict[bool, dict[str, Any]]) -> None:
    """
    offset   0  1  2  | 4      5         | 6      7      8      9        10       11
    second   5  45 100| 640    100       | 5      45     100    629.999  630      640
    verdict  -  -  -  | -      re-sent   | (edge) both   both   late     -        re-sent
    """
    assert [row for row in lived[False]["readings"] if row[0] != 6] == [
        (0, False, False),
        (1, False, False),
        (2, False, False),
        (4, False, False),
        (5, False, True),
        (7, True, True),
        (8, True, True),
        (9, True, False),
        (10, False, False),
        (11, False, True),
    ]


def test_audit_accounts_for_every_record(lived: dict[bool, dict[str, Any]]) -> None:
    assert [row[:5] for row in lived[False]["audit"]] == [(0, 4, 3, 1, 0), (1, 2, 2, 0, 0), (2, 6, 6, 0, 4)]
    for verdicts in lived.values():
        assert sum(row[5] for row in verdicts["audit"]) == sum(row[2] for row in verdicts["readings"])


def test_restart_before_every_batch_changes_no_verdict(lived: dict[bool, dict[str, Any]]) -> None:
    """Also for the re-sent reading of second 5, in the same minute as the horizon at 40 s."""
    assert lived[True] == lived[False]


@pytest.mark.parametrize("restart", [False, True])
def test_batches_without_one_good_record_are_archived_like_others(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    monkeypatch.setattr(archive, "send", lambda frame, settings, topic: Outbox().send(frame.limit(0), settings, topic))
    tables = write(make_run(tmp_path), restart=restart, batches=BROKEN)
    assert tables["audit"] == [(0, 1, 0, 1, 0, 0), (1, 1, 1, 0, 0, 0), (2, 2, 0, 2, 0, 0), (3, 1, 1, 0, 0, 1)]
    assert tables["readings"] == [(1, False, False), (4, False, True)]
