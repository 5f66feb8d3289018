"""The archive's verdicts and rows do not depend on when the process died, and with what settings it was restarted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import DataRefused
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.record import RunRecord, write_record
from pipelines.identity.tables import claim
from pipelines.jobs.context import Run
from pipelines.readings.carry_out import carry_out_open_plan
from pipelines.readings.query import ArchiveBatch
from pipelines.settings import Settings
from pipelines.small_tables import open_table, table_version
from pipelines.tables import AUDIT, PANES, READINGS, REJECTED
from tests.factories import at, document, ms
from tests.unit.readings.archiving import Killed, Steps, archive, everything, log_offsets, make_run, rows_of
from tests.unit.readings.archiving import steps as steps

BATCHES = [
    [document(timestamp=ms(5)), document(timestamp=ms(45)), document(timestamp=ms(100)), b"no json"],
    [document(timestamp=ms(640)), document(timestamp=ms(100))],
    [document(timestamp=ms(t)) for t in (5, 45, 100, 629.999, 630, 640)],
]
"""The horizon of re-sent readings is 600 s, the watermark 10 s: batch 2 stands at 40 s and 630 s."""

BROKEN = [[b"no json"], [document(timestamp=ms(5))], [b"no json", None], [document(timestamp=ms(5))]]
"""Batches in which nothing is accepted, before and after one with a reading."""

VERDICTS = ("kafka_offset", "is_late", "is_resent")
FIGURES = ("batch_id", "records_in", "accepted", "rejected", "late", "resent", "gaps")


def write(run: Run, batches: Sequence[Sequence[bytes | None]], *, restart: bool = False) -> None:
    """Archive the batches, in one process or in one for each."""
    sink, offset = ArchiveBatch(run), 0
    for number, values in enumerate(batches):
        sink = ArchiveBatch(run) if restart else sink
        archive(run, sink, number, {0: (offset, values)})
        offset += len(values)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Settings]:
    """The lake after one process (False) and after a restart before each batch (True)."""
    lakes = {}
    with pytest.MonkeyPatch.context() as patch:
        Steps().take(patch)
        for again in (False, True):
            run = make_run(Path(tmp_path_factory.mktemp("a")))
            write(run, BATCHES, restart=again)
            lakes[again] = run.settings
    return lakes


def test_verdicts_follow_the_earlier_batches(lived: dict[bool, Settings]) -> None:
    """
    offset   0  1  2  | 4      5         | 6      7      8      9        10       11
    second   5  45 100| 640    100       | 5      45     100    629.999  630      640
    verdict  -  -  -  | -      re-sent   | (edge) both   both   late     -        re-sent
    """
    rows = sorted(rows_of(lived[False], READINGS, *VERDICTS))
    assert [row for row in rows if row[0] != 6] == [
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


def test_audit_accounts_for_every_record(lived: dict[bool, Settings]) -> None:
    audit = rows_of(lived[False], AUDIT, *FIGURES)
    assert [row[:5] for row in audit] == [(0, 4, 3, 1, 0), (1, 2, 2, 0, 0), (2, 6, 6, 0, 4)]
    verdicts = rows_of(lived[False], READINGS, *VERDICTS)
    assert sum(row[5] for row in audit) == sum(row[2] for row in verdicts)


def test_panes_count_what_is_neither_late_nor_resent(lived: dict[bool, Settings]) -> None:
    verdicts = rows_of(lived[False], READINGS, *VERDICTS)
    counted = [row for row in verdicts if not row[1] and not row[2]]
    assert sum(row[0] for row in rows_of(lived[False], PANES, "n")) == len(counted)


def test_restart_before_every_batch_changes_no_verdict(lived: dict[bool, Settings]) -> None:
    """Also for the re-sent reading of second 5, in the same minute as the horizon at 40 s."""
    assert everything(lived[True]) == everything(lived[False])


@pytest.mark.parametrize("restart", [False, True])
def test_batches_without_one_good_record_are_archived_like_others(tmp_path: Path, steps: Steps, restart: bool) -> None:
    run = make_run(tmp_path)
    write(run, BROKEN, restart=restart)
    audit = rows_of(run.settings, AUDIT, *FIGURES)
    assert [row[:6] for row in audit] == [
        (0, 1, 0, 1, 0, 0),
        (1, 1, 1, 0, 0, 0),
        (2, 2, 0, 2, 0, 0),
        (3, 1, 1, 0, 0, 1),
    ]
    assert rows_of(run.settings, READINGS, *VERDICTS) == [(1, False, False), (4, False, True)]
    assert [letter[2]["origin-offset"] for letter in steps.letters] == ["0", "2", "3"]


FIRST = {0: (0, [document(timestamp=ms(5)), b"no json"]), 1: (0, [document(meterId="m2", timestamp=ms(70))])}
KILLED = {0: (2, [document(timestamp=ms(65)), b"{", None]), 1: (1, [document(meterId="m2", timestamp=ms(71)), b"}"])}
LAST = {0: (5, [b'{"id":"m1","timestamp":%d,"voltage":1.0}' % ms(130), document(timestamp=ms(131))])}
DEATHS = [
    f"{when} {step}"
    for step in ("plan", "readings", "rejected", "panes", "audit", "letters")
    for when in ("before", "after")
]


def other_settings(settings: Settings) -> Settings:
    """The same places, and everything else that decides a batch changed."""
    changed = {
        "lake": {"root": settings.lake.root},
        "pipeline": {"checkpoint": settings.pipeline.checkpoint, "max_offsets_per_trigger": 100},
        "input": {"fields": {"meter_id": "id"}},
        "detection": {"undervoltage_pu": [0.99, 0.98, 0.97]},
    }
    return Settings.model_validate(changed)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The tables when nobody dies; by what the second batch was decided with: the settings of before, or the others."""
    found = {}
    for decided_with in ("before", "others"):
        run = make_run(Path(tmp_path_factory.mktemp("u")))
        others = Run(run.spark, other_settings(run.settings), run.generation, run.say)
        with pytest.MonkeyPatch.context() as patch:
            made = Steps()
            made.take(patch)
            sink = ArchiveBatch(run)
            archive(run, sink, 0, FIRST)
            sink = sink if decided_with == "before" else ArchiveBatch(others)
            archive(run, sink, 1, KILLED)
            archive(run, ArchiveBatch(others), 2, LAST)
        found[decided_with] = everything(run.settings) | {"letters": sorted(map(repr, made.letters))}
    return found


@pytest.mark.parametrize("death", DEATHS)
def test_a_batch_that_died_is_done_once_and_as_it_was_decided(
    tmp_path: Path, steps: Steps, undisturbed: dict[str, dict[str, Any]], death: str
) -> None:
    """The restart has another mapping, other limits and another size of batches."""
    run = make_run(tmp_path)
    archive(run, sink := ArchiveBatch(run), 0, FIRST)
    steps.die_at = death
    with pytest.raises(Killed):
        archive(run, sink, 1, KILLED)
    again = Run(run.spark, other_settings(run.settings), run.generation, run.say)
    archive(again, sink := ArchiveBatch(again), 1, KILLED)
    archive(again, sink, 2, LAST)
    expected = undisturbed["others" if death == "before plan" else "before"]
    assert everything(run.settings) == {name: rows for name, rows in expected.items() if name != "letters"}
    assert sorted(set(map(repr, steps.letters))) == expected["letters"]


def test_records_of_one_partition_may_be_missing_and_are_counted_as_gaps(tmp_path: Path, steps: Steps) -> None:
    """Markers of transactions: in the middle of a range, and as all of it."""
    run = make_run(tmp_path)
    sink = ArchiveBatch(run)
    archive(run, sink, 0, {0: (0, [document(timestamp=ms(5))]), 1: (0, [])}, ends={0: 4, 1: 2})
    archive(run, sink, 1, {0: (4, []), 1: (2, [])}, ends={0: 5, 1: 2})
    names = ("batch_id", "kafka_partition", "first_offset", "last_offset", "records_in", "gaps")
    assert rows_of(run.settings, AUDIT, *names) == [(0, 0, 0, 3, 1, 3), (0, 1, 0, 1, 0, 2), (1, 0, 4, 4, 0, 1)]


def test_audit_notes_where_the_alerts_stood(tmp_path: Path, steps: Steps) -> None:
    run = make_run(tmp_path)
    steps.judged = {0: 17}
    archive(run, ArchiveBatch(run), 0, {0: (0, [document(timestamp=ms(5))]), 1: (0, [document(timestamp=ms(5))])})
    assert rows_of(run.settings, AUDIT, "kafka_partition", "judged_until") == [(0, 17), (1, None)]


def test_a_batch_that_a_table_holds_and_no_plan_describes_is_refused(tmp_path: Path, steps: Steps) -> None:
    """A checkpoint was restored, or is one of before there were plans."""
    run = make_run(tmp_path)
    archive(run, ArchiveBatch(run), 0, FIRST)
    (tmp_path / "checkpoint" / "plans" / "0.json").unlink()
    with pytest.raises(DataRefused, match="new-generation"):
        archive(run, ArchiveBatch(run), 0, FIRST)
    assert len(rows_of(run.settings, AUDIT)) == 2


def test_a_plan_of_other_ranges_gives_way_unless_a_table_holds_the_batch(tmp_path: Path, steps: Steps) -> None:
    """Spark's own log of the batch was lost in a power cut, and it has planned anew."""
    run = make_run(tmp_path)
    steps.die_at = "after plan"
    with pytest.raises(Killed):
        archive(run, ArchiveBatch(run), 0, FIRST)
    archive(run, ArchiveBatch(run), 0, {0: FIRST[0]})
    assert rows_of(run.settings, AUDIT, "kafka_partition", "records_in") == [(0, 2)]
    log_offsets(run.settings, 0, {0: 1})
    with pytest.raises(DataRefused, match="another plan"):
        archive(run, ArchiveBatch(run), 0, FIRST)


def test_panes_wait_for_the_partition_behind_and_come_out_in_a_later_batch(tmp_path: Path, steps: Steps) -> None:
    """Partition 0 is at second 300 when partition 1 is at 20, and both have more: what is behind second 20 is held."""
    base = make_run(tmp_path)
    settings = base.settings.model_copy(
        update={"pipeline": base.settings.pipeline.model_copy(update={"max_offsets_per_trigger": 100})}
    )
    run = Run(base.spark, settings, base.generation, base.say)
    ahead = [document(meterId="a", timestamp=ms(201 + n)) for n in range(50)]
    behind = [document(meterId="b", timestamp=ms(n / 10)) for n in range(50)]
    steps.ends = {0: 60, 1: 60}
    archive(run, ArchiveBatch(run), 0, {0: (0, ahead), 1: (0, behind)})
    assert rows_of(settings, PANES, "meter_id", "n") == [("b", 50)]
    assert rows_of(settings, AUDIT, "aligned_ts") == [(at(4.9).replace(tzinfo=UTC),)] * 2
    rest = {p: (50, [document(meterId=m, timestamp=ms(260))] * 1) for p, m in ((0, "a"), (1, "b"))}
    archive(run, ArchiveBatch(run), 1, rest)
    assert sum(row[0] for row in rows_of(settings, PANES, "n")) == 102
    assert not any(row[1] for row in rows_of(settings, READINGS, *VERDICTS))


def test_a_million_characters_and_many_bad_records_pass(tmp_path: Path, steps: Steps) -> None:
    run = make_run(tmp_path)
    values = [b"x" * 1_000_000 for _ in range(40)] + [b"y"] * 5_000
    archive(run, ArchiveBatch(run), 0, {0: (0, values)})
    assert len(rows_of(run.settings, REJECTED, "kafka_offset")) == 5_040
    assert len(steps.letters) == 5_040


def test_an_open_plan_is_carried_out_by_a_command_that_begins_a_generation(tmp_path: Path, steps: Steps) -> None:
    run = make_run(tmp_path)
    files, said = CheckpointFiles(run.settings), []
    assert not carry_out_open_plan(run.settings, said.append), "nothing has run here"
    write_record(files, RunRecord(run.generation))
    assert not carry_out_open_plan(run.settings, said.append), "no batch was planned"
    steps.die_at = "after readings"
    with pytest.raises(Killed):
        archive(run, ArchiveBatch(run), 0, FIRST)
    assert not carry_out_open_plan(run.settings, said.append), "the tables are not known to be those of the plan"
    claim(run.settings, run.generation)
    said.clear()
    assert carry_out_open_plan(run.settings, said.append)
    assert [row[:4] for row in rows_of(run.settings, AUDIT, *FIGURES)] == [(0, 1, 1, 0), (0, 2, 1, 1)]
    assert len(rows_of(run.settings, READINGS)) == 2
    assert len(steps.letters) == 1
    assert len(said) == 1
    files.write("archive/commits/0", "v1\n{}")
    assert not carry_out_open_plan(run.settings, said.append), "Spark has noted that the batch is done"


@pytest.mark.parametrize("lost", ["files", "batches before it", "plan"])
def test_an_open_plan_of_another_moment_is_left_and_its_records_are_read_again(
    tmp_path: Path, steps: Steps, lost: str
) -> None:
    run = make_run(tmp_path)
    claim(run.settings, run.generation)
    write_record(CheckpointFiles(run.settings), RunRecord(run.generation))
    archive(run, ArchiveBatch(run), 0, FIRST)
    steps.die_at = "after plan"
    with pytest.raises(Killed):
        archive(run, ArchiveBatch(run), 1, KILLED)
    lake = Path(run.settings.lake.root)
    before = table_version(run.settings, READINGS)
    if lost == "files":
        stored = {str(path) for path in open_table(run.settings, READINGS).file_uris()}
        for file in (lake / "readings").rglob("*.parquet"):
            if not any(name.endswith(file.name) for name in stored):
                file.unlink()
    elif lost == "plan":
        (plan,) = (Path(run.settings.pipeline.checkpoint) / "plans").glob("*1*")
        plan.write_text("{")
    else:
        open_table(run.settings, AUDIT).delete()
    assert not carry_out_open_plan(run.settings, lambda line: None)
    assert table_version(run.settings, READINGS) == before
