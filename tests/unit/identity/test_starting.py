"""Where archive and alerts begin is found once, noted with the tables, and the same for both ever after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.identity import starting
from pipelines.identity.starting import settle_start
from pipelines.identity.tables import lake_id, noted_start
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from pipelines.small_tables import append_rows, as_arrow, create_tables
from pipelines.tables import AUDIT

ENDS = {0: (3, 40), 1: (0, 50)}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(starting, "topic_offsets", lambda kafka, topic: ENDS)
    places = {"GRIDWATCH_LAKE__ROOT": str(tmp_path / "lake"), "GRIDWATCH_PIPELINE__CHECKPOINT": str(tmp_path / "check")}
    found = load_settings(environment=places).settings
    create_tables(found, [AUDIT])
    return found


def with_starting(settings: Settings, value: str) -> Settings:
    return settings.model_copy(update={"pipeline": settings.pipeline.model_copy(update={"starting": value})})


def archived(settings: Settings, *batches: tuple[int, int, int, int]) -> None:
    """Batches as (number, partition, first, last)."""
    rows = [
        {"generation": "g", "batch_id": number, "kafka_topic": "sensor-readings", "kafka_partition": partition,
         "first_offset": first, "last_offset": last}
        for number, partition, first, last in batches
    ]  # fmt: skip
    append_rows(as_arrow([tuple(row.get(name) for name in AUDIT.column_names) for row in rows], AUDIT), settings, AUDIT)


@pytest.mark.parametrize(("value", "offsets"), [("earliest", {0: 3, 1: 0}), ("latest", {0: 40, 1: 50})])
def test_the_first_start_makes_offsets_of_the_setting_and_notes_them(
    settings: Settings, value: str, offsets: dict[int, int]
) -> None:
    assert settle_start(with_starting(settings, value), print) == offsets
    assert noted_start(settings) == offsets


def test_a_time_begins_at_the_first_record_of_it_and_at_the_end_where_there_is_none(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "offsets_at", lambda kafka, topic, at_ms: {0: 17} if at_ms == 1772323200000 else {})
    assert settle_start(with_starting(settings, "2026-03-01T00:00:00Z"), print) == {0: 17, 1: 50}


def test_later_starts_change_nothing(settings: Settings) -> None:
    settle_start(with_starting(settings, "latest"), print)
    assert settle_start(with_starting(settings, "earliest"), print) == {0: 40, 1: 50}


def test_on_an_earlier_lake_alerts_begin_with_the_newest_batch(settings: Settings) -> None:
    """Its anomalies may not have been sent; those of the batches before it were."""
    archived(settings, (0, 0, 3, 9), (0, 1, 0, 9), (1, 0, 10, 19))
    told: list[str] = []
    assert settle_start(settings, told.append) == {0: 10, 1: 10}
    assert "0:10, 1:10" in told[0]


def test_or_where_the_real_time_job_had_committed(settings: Settings) -> None:
    archived(settings, (0, 0, 3, 9), (0, 1, 0, 9), (1, 0, 10, 19))
    checkpoint = Path(settings.pipeline.checkpoint)
    for name, text in {
        "alerts-mode/1.json": json.dumps({"mode": "realtime", "published": {"0": 3, "1": 4}}),
        "alerts-1/offsets/0": 'v1\n{}\n{"sensor-readings": {"0": 8}}',
        "alerts-1/offsets/1": 'v1\n{}\n{"sensor-readings": {"0": 15}}',
        "alerts-1/commits/0": "v1\n{}",
    }.items():
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_text(text, encoding="utf-8")
    assert settle_start(settings, print) == {0: 8, 1: 4}, "batch 1 was not committed; partition 1 never was"


def test_after_a_change_back_the_archive_had_published(settings: Settings) -> None:
    archived(settings, (0, 0, 3, 9), (1, 0, 10, 19))
    modes = Path(settings.pipeline.checkpoint, "alerts-mode")
    modes.mkdir(parents=True)
    for number, mode in ((1, "realtime"), (2, "microbatch")):
        (modes / f"{number}.json").write_text(json.dumps({"mode": mode, "published": {}}), encoding="utf-8")
    assert settle_start(settings, print) == {0: 10}


def test_the_id_of_a_lake_lasts(settings: Settings) -> None:
    before = lake_id(settings)
    settle_start(settings, print)
    archived(settings, (0, 0, 3, 9))
    assert lake_id(settings) == before
