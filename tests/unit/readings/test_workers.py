"""What workers make of records: each is counted, each item stored once, and what is written was decided so."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr
from pyspark import cloudpickle

from pipelines.lake.store import LakePlace
from pipelines.readings import writing
from pipelines.readings.facts import WrittenDiffers
from pipelines.readings.writing import Decided
from pipelines.settings import Settings
from tests.factories import NOON_MS, document
from tests.unit.readings.chunks import NONE, TOPIC, decoded, facts_of, records, settings_at, stored, written

GOOD = document()


def test_every_record_is_counted_and_each_item_stored_once(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    chunks = decoded(
        settings, records([GOOD, b"no json", GOOD, None]), records([GOOD, b"{}"], first=4), records([GOOD], partition=1)
    )
    facts = facts_of(chunks)
    assert [facts.total(what) for what in ("records", "accepted", "rejected")] == [7, 4, 3]
    (part,) = written(settings, chunks, facts.decide(TOPIC, late_before_ms=None, resent=NONE))
    facts.require_written(part["chunks"])
    readings = stored(settings, "readings", part["files"]["readings"])
    assert readings.select("kafka_partition", "kafka_offset", "kafka_item").rows() == [
        (0, 0, 0), (0, 2, 0), (0, 4, 0), (1, 0, 0),
    ]  # fmt: skip
    assert readings.select("kafka_topic", "kafka_ts").unique().rows() == [(TOPIC, _moment(NOON_MS))]
    rejected = stored(settings, "rejected", part["files"]["rejected"])
    assert rejected.select("kafka_offset", "reason", "key", "value").rows() == [
        (1, "malformed_json", b"k1", b"no json"),
        (3, "empty_value", b"k3", None),
        (5, "missing_meter_id", b"k5", b"{}"),
    ]


def test_records_of_several_partitions_in_one_arrow_batch_are_chunks_of_their_own(tmp_path: Path) -> None:
    import pyarrow as pa

    mixed = pa.concat_batches([records([GOOD]), records([GOOD, b""], partition=1), records([GOOD], first=1)])
    facts = facts_of(decoded(settings_at(tmp_path), mixed))
    assert [(c["partition"], c["first_offset"], c["records"]) for c in facts.chunks] == [(0, 0, 2), (1, 0, 2)]


def test_an_arrow_batch_without_records_makes_no_chunk(tmp_path: Path) -> None:
    assert decoded(settings_at(tmp_path), records([])).num_rows == 0


def test_late_and_resent_readings_are_stored_with_their_flags_and_count_for_no_pane(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    chunks = decoded(settings, records([document(timestamp=NOON_MS + ms) for ms in (0, 1, 2, 3)]))
    facts = facts_of(chunks)
    decided = facts.decide(TOPIC, late_before_ms=NOON_MS + 1, resent=np.array([2]))
    (part,) = written(settings, chunks, decided)
    rows = stored(settings, "readings", part["files"]["readings"])
    assert rows.select("kafka_offset", "is_late", "is_resent").rows() == [
        (0, True, False), (1, False, False), (2, False, True), (3, False, False),
    ]  # fmt: skip
    assert part["panes"].select("n", "last_ts").rows() == [(2, _moment(NOON_MS + 3))]


def test_each_day_has_a_file_of_its_own_with_its_statistics(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    night = round(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)
    chunks = decoded(settings, records([document(timestamp=night + ms) for ms in (-2, -1, 0, 5)], at_ms=night))
    (part,) = written(settings, chunks, facts_of(chunks).decide(TOPIC, late_before_ms=None, resent=NONE))
    files = {file["partition"]: json.loads(file["statistics"]) for file in part["files"]["readings"]}
    assert list(files) == ["2026-02-28", "2026-03-01"]
    assert files["2026-03-01"]["numRecords"] == 2
    assert files["2026-03-01"]["minValues"] == {
        "event_ts": "2026-03-01T00:00:00.000Z", "kafka_partition": 0, "kafka_offset": 2,
    }  # fmt: skip
    assert files["2026-03-01"]["maxValues"]["event_ts"] == "2026-03-01T00:00:00.005Z"
    assert files["2026-03-01"]["nullCount"] == {"event_ts": 0, "kafka_partition": 0, "kafka_offset": 0}


def test_what_was_written_of_other_records_is_refused(tmp_path: Path) -> None:
    """A lost blob is made again: from records that Kafka has compacted meanwhile, or by a worker with other code."""
    settings = settings_at(tmp_path)
    facts = facts_of(decoded(settings, records([GOOD, b"no json"])))
    for other in (
        [GOOD],
        [document(meterId="m2"), b"no json"],
        [document(voltage=1.0), b"no json"],
        [GOOD, b"no JSON"],
        [GOOD, GOOD],
    ):
        chunks = decoded(settings, records(other))
        rows = written(settings, chunks, facts.decide(TOPIC, late_before_ms=None, resent=NONE))
        with pytest.raises(WrittenDiffers):
            facts.require_written(chunk for part in rows for chunk in part["chunks"])


def test_a_chunk_that_is_missing_or_twice_there_is_refused(tmp_path: Path) -> None:
    facts = facts_of(decoded(settings_at(tmp_path), records([GOOD]), records([GOOD], first=1)))
    first, second = ((c["partition"], c["first_offset"], 1, 0, c["checksum"]) for c in facts.chunks)
    facts.require_written([second, first])
    for wrong in ([first], [first, second, (1, 0, 0, 0, 0)], [first, first, second]):
        with pytest.raises(WrittenDiffers):
            facts.require_written(wrong)


def test_large_records_go_to_files_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_MOST_REFUSED_BYTES", 1 << 20)
    settings = settings_at(tmp_path)
    large = [bytes([65 + number]) * (400 << 10) for number in range(12)]
    chunks = decoded(settings, *(records(large[n : n + 2], first=n) for n in range(0, 12, 2)))
    facts = facts_of(chunks)
    rows = written(settings, chunks, facts.decide(TOPIC, late_before_ms=None, resent=NONE))
    facts.require_written(chunk for part in rows for chunk in part["chunks"])
    files = [file for part in rows for file in part["files"]["rejected"]]
    assert len(files) == 3
    assert stored(settings, "rejected", files)["value"].to_list() == large


def test_what_travels_to_workers_holds_no_key() -> None:
    store = {"access_key": SecretStr("access-of-the-store"), "secret_key": SecretStr("secret-of-the-store")}
    settings = Settings.model_validate({"lake": {"root": "s3://grid/lake"}, "store": store})
    writer = writing.Writer(LakePlace.of(settings), Decided(TOPIC, None), settings.detection, None, 0)
    shipped = cloudpickle.dumps(writing.write_chunks(writer)) + pickle.dumps(writer)
    assert b"of-the-store" not in shipped


def test_a_worker_takes_the_keys_of_its_environment(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret-of-the-store\n", encoding="utf-8")
    place = LakePlace.of(Settings.model_validate({"lake": {"root": "s3a://grid/lake"}}))
    environment = {
        "GRIDWATCH_STORE__ACCESS_KEY": "access-of-the-store",
        "GRIDWATCH_STORE__SECRET_KEY_FILE": str(tmp_path / "secret"),
    }
    config = place.objects(environment).config
    assert config["access_key_id"] == "access-of-the-store"
    assert config["secret_access_key"] == "secret-of-the-store"


def _moment(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
