"""On Spark itself: one batch through its workers gives what the same functions give without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipelines.jobs.context import Run
from pipelines.readings.query import ArchiveBatch
from pipelines.settings import Settings
from pipelines.tables import AUDIT, PANES, READINGS, REJECTED
from tests.factories import at, document, kafka_frame, ms
from tests.unit.readings.archiving import Steps, archive, everything, log_offsets, make_run

FIRST = [document(timestamp=ms(t)) for t in (5, 45, 100)] + [b"no json", None]
SECOND = [document(timestamp=ms(640), extra="?"), document(timestamp=ms(100)), document(meterId="m2", timestamp=ms(3))]


@pytest.fixture(scope="module")
def both(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Settings, Steps]]:
    """The lake after two batches of two partitions, without Spark and with it."""
    lakes = []
    for session in (None, spark):
        steps = Steps()
        made = make_run(Path(tmp_path_factory.mktemp("lake")))
        run = made if session is None else Run(session, made.settings, made.generation, made.say)
        with pytest.MonkeyPatch.context() as patch:
            steps.take(patch)
            sink = ArchiveBatch(run)
            for number, values in enumerate((FIRST, SECOND)):
                first = number * len(FIRST)
                if session is None:
                    archive(run, sink, number, dict.fromkeys((0, 1), (first, values)))
                    continue
                log_offsets(run.settings, number, dict.fromkeys((0, 1), first + len(values)))
                parts = (
                    kafka_frame(session, values, partition=p, first_offset=first, kafka_ts=at(700)) for p in (0, 1)
                )
                sink.write(next(parts).union(next(parts)), number)
        lakes.append((run.settings, steps))
    return lakes


def test_tables_are_the_same(both: list[tuple[Settings, Steps]]) -> None:
    without, with_spark = (everything(settings) for settings, _ in both)
    for table in (READINGS, PANES, AUDIT):
        assert with_spark[table.name] == without[table.name], table.name
    assert len(with_spark[REJECTED.name]) == len(without[REJECTED.name]) == 4


def test_letters_are_the_same(both: list[tuple[Settings, Steps]]) -> None:
    without, with_spark = ([(value, headers) for _, value, headers in steps.letters] for _, steps in both)
    assert sorted(map(repr, with_spark)) == sorted(map(repr, without))
