"""The identity of a run on real parts: what does not belong together is refused, and each way out is walked."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from pipelines.local.broker import RunningBroker
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, arrow_schema, read_rows
from pipelines.tables import READINGS
from pipelines.topics import holds_record, topic_offsets
from tests.integration.rest import wait_for_rest
from tests.integration.support import (
    Place,
    end_leftovers,
    explain,
    stopped,
    text_of,
    wait_for,
    wait_for_end,
    wait_for_text,
    wait_until_reading,
    words,
)
from tests.integration.test_pipeline_kill import (
    countable_readings,
    newest_window_ms,
    sent_ids,
    table_windows,
)
from tests.timelines import assert_same_windows, without_feeder
from tests.window_model import model_windows

pytestmark = pytest.mark.timeout(900)

TRAFFIC = words(
    {
        "--meters": 60,
        "--rate": 600,
        "--seconds": 12,
        "--cadence": 10,
        "--seed": 5,
        "--faults": "demo",
        "--watermark": 80,
    }
)
"""12 s of the wall clock are 20 min of the data's."""


@pytest.fixture
def place(kafka: RunningBroker, tmp_path: Path) -> Iterator[Place]:
    """Small batches, so that there are several."""
    here = Place(tmp_path, kafka.bootstrap_servers).with_settings(
        detection__watermark=80, pipeline__max_offsets_per_trigger=2000
    )
    here.create_topics()
    yield here
    end_leftovers(here.mark)


def run(place: Place, *arguments: str, code: int, within_s: float = 90) -> str:
    """A command that must end by itself with a code; returns its last line, after no stack trace."""
    name = f"command-{time.monotonic_ns()}"
    with stopped(place.gridwatch(name, *arguments)) as child:
        said = wait_for_end(child, within_s, code=code)
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


def live(place: Place, name: str) -> str:
    """Run the pipeline until all that is in Kafka is stored, then SIGTERM to its whole group; returns what it said."""
    with stopped(place.gridwatch(name, "run")) as pipeline:
        wait_until_reading(pipeline)
        wait_for(pipeline, "the archive at the broker's end", place.archived, 240)
        data_end_ms = place.summary()["data_end"]
        wait_for(pipeline, "the last window", lambda: newest_window_ms(place) >= data_end_ms, 120)
        wait_for_rest(place, pipeline)
        assert pipeline.stop(60) == 130, explain(pipeline, "did not end in order")
        return text_of(pipeline.log)


def assert_windows_equal_the_model(place: Place) -> None:
    """Every closed window stands once and is what plain Python makes of the stored readings."""
    found = table_windows(place)
    detection = place.settings.detection
    readings = countable_readings(place)
    expected = model_windows(readings, window_s=int(detection.window_s), slide_s=int(detection.slide_s))
    last_end = max(end for _, end in found)
    assert_same_windows(without_feeder(found), {key: row for key, row in expected.items() if key[1] <= last_end})


@pytest.mark.slow
def test_a_lost_checkpoint_is_refused_and_a_new_generation_goes_on_without_a_gap_or_a_repeat(place: Place) -> None:
    """
    traffic       |=====|
    generation 1           start---SIGTERM in the middle, checkpoint deleted
    generation 2                             refused, new generation, moved: start------SIGTERM
    generation 3                                                     windows computed again: start---SIGTERM
    """
    place.generate(*TRAFFIC)
    slow = place.with_settings(pipeline__max_offsets_per_trigger=250)
    with stopped(slow.gridwatch("first", "run")) as pipeline:
        wait_for_text(pipeline, "windows batch", 200)
        assert pipeline.stop(60) == 130, explain(pipeline, "did not end in order")
        said = text_of(pipeline.log)
    assert "ended between two batches" in said
    assert "Traceback" not in said
    assert "ERROR" not in said
    assert not place.archived(), "all was done: nothing to go on with"

    store_ahead(place)
    shutil.rmtree(place.folder / "checkpoint")
    refusal = run(place, "run", code=3)
    assert "holds archived batches" in refusal
    assert "`gridwatch checkpoint new-generation --from-offsets tables`" in refusal
    assert re.search(r"identity +failed", doctor(place, code=3))
    run(place, "checkpoint", "new-generation", "--from-offsets", "tables", code=0)
    assert re.search(r"identity +ok", doctor(place, code=0))

    place = moved(place)
    live(place, "second")
    assert_windows_equal_the_model(place)
    report = place.verify()
    assert report.ok, report.verdict
    assert report.archived + report.rejected == place.summary()["produced"]
    rows = assert_anomalies_stand_once(place)

    run(place, "checkpoint", "new-generation", "--rebuild", code=0)
    assert place.ask("SELECT count(*) FROM meter_windows") == [(0,)]
    live(place, "third")
    assert_windows_equal_the_model(place)
    assert assert_anomalies_stand_once(place) == rows


def store_ahead(place: Place) -> None:
    """A reading beyond what audit accounts for, as a crash in the middle of a batch leaves it, and a wrong one."""
    settings = place.settings
    newest = read_rows(settings, READINGS).sort_by([("event_ts", "descending")]).slice(0, 1).to_pylist()[0]
    stored = place.ask(f"SELECT max(last_offset) FROM audit WHERE kafka_partition = {newest['kafka_partition']}")
    wrong = newest | {"voltage_v": 1.0, "kafka_offset": stored[0][0] + 1, "is_late": False, "is_resent": False}
    rows = pa.Table.from_pylist([wrong], schema=arrow_schema(READINGS))
    append_rows_once(rows, settings, READINGS, BatchId("crashed", "archive", 0))


def assert_anomalies_stand_once(place: Place) -> int:
    """Each id that was sent is one row; returns the rows."""
    ids = set(sent_ids(place))
    rows, different = place.ask("SELECT count(*), count(DISTINCT anomaly_id) FROM anomalies")[0]
    assert rows == different == len(ids) > 0
    return int(rows)


def moved(place: Place) -> Place:
    """Tables and checkpoint in another folder, as after a restore."""
    for name in ("lake", "checkpoint"):
        (place.folder / name).rename(place.folder / f"{name}-moved")
    return place.with_settings(
        lake__root=place.folder / "lake-moved", pipeline__checkpoint=place.folder / "checkpoint-moved"
    )


def doctor(place: Place, *, code: int) -> str:
    with stopped(place.gridwatch(f"doctor-{time.monotonic_ns()}", "doctor")) as child:
        return wait_for_end(child, 60, code=code)


def test_two_pipelines_on_one_checkpoint_or_one_lake_and_a_topic_made_again_are_refused(place: Place) -> None:
    place.generate(*TRAFFIC, "--seconds", "3")
    with stopped(place.gridwatch("first", "run")) as pipeline:
        wait_until_reading(pipeline)
        wait_for(pipeline, "the first batch", place.archived, 120)
        same = run(place, "run", code=3)
        assert f"is in use by `gridwatch run`, process {pipeline.pid}" in same
        other = run(place.with_settings(pipeline__checkpoint=place.folder / "other"), "run", code=3)
        assert "holds archived batches" in other
        assert f"process {pipeline.pid}" in run(place, "skip-range", "0:0-1", code=3)
        assert pipeline.stop(60) == 130
    refusal = run(place.with_settings(detection__watermark=90), "run", code=3)
    assert "detection.watermark = 90 s, but this checkpoint was made with 80 s" in refusal

    topic = place.settings.kafka.topics.readings
    admin = KafkaAdminClient(bootstrap_servers=place.bootstrap_servers)
    admin.delete_topics([topic])
    time.sleep(2)
    configs = {"message.timestamp.type": "LogAppendTime"}
    admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1, topic_configs=configs)])
    admin.close()
    assert f"topic {topic} was deleted and made again" in run(place, "run", code=3)


def test_markers_of_transactions_are_told_from_records(place: Place) -> None:
    """A transaction's marker uses up the offset behind its records."""
    topic = place.settings.kafka.topics.readings
    producer = KafkaProducer(bootstrap_servers=place.bootstrap_servers, transactional_id=place.mark)
    producer.init_transactions()
    producer.begin_transaction()
    for number in range(3):
        producer.send(topic, b"record %d" % number, partition=0)
    producer.commit_transaction()
    producer.close()
    assert topic_offsets(place.settings.kafka, topic)[0] == (0, 4)
    assert holds_record(place.settings.kafka, topic, 0, 0, 4)
    assert holds_record(place.settings.kafka, topic, 0, 2, 4)
    assert not holds_record(place.settings.kafka, topic, 0, 3, 4)


def test_records_that_retention_took_stop_the_job_and_skip_range_goes_on(place: Place) -> None:
    topic = place.settings.kafka.topics.readings
    send(place, topic, 100)
    live_archive(place, "first")
    send(place, topic, 100)
    admin = KafkaAdminClient(bootstrap_servers=place.bootstrap_servers)
    admin.delete_records({TopicPartition(topic, 0): 150})
    admin.close()
    refusal = run(place, "run", code=3)
    assert "partition 0: offsets 100 to 149" in refusal
    assert "`gridwatch skip-range 0:100-149`" in refusal
    assert "Kafka still has offset 150" in run(place, "skip-range", "0:100-150", code=3)
    assert "the range must begin there" in run(place, "skip-range", "0:120-149", code=3)
    run(place, "skip-range", "0:100-149", "--why", "disk of the broker", code=0)
    live_archive(place, "second")
    rows = place.ask(
        "SELECT first_offset, last_offset, records_in, skipped_because FROM audit WHERE kafka_partition = 0 ORDER BY 1"
    )
    assert (100, 149, 0, "disk of the broker") in rows
    report = place.verify()
    assert report.ok, report.verdict
    offsets = place.ask("SELECT kafka_offset FROM rejected WHERE kafka_partition = 0 ORDER BY 1")
    assert [offset for (offset,) in offsets] == [*range(100), *range(150, 200)]


def send(place: Place, topic: str, count: int) -> None:
    """Records of partition 0 that are no readings: the archive alone is at work."""
    producer = KafkaProducer(bootstrap_servers=place.bootstrap_servers)
    for number in range(count):
        producer.send(topic, b"no json %d" % number, partition=0)
    producer.flush()
    producer.close()


def live_archive(place: Place, name: str) -> None:
    with stopped(place.gridwatch(name, "run")) as pipeline:
        wait_until_reading(pipeline)
        wait_for(pipeline, "the archive at the broker's end", place.archived, 120)
        assert pipeline.stop(60) == 130, explain(pipeline, "did not end in order")
