"""Trouble at the start: one line that says what is wrong and what to do, and the exit code that fits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from pipelines.errors import InfrastructureUnavailable
from pipelines.local.minio_build import why_no_minio
from pipelines.local.objectstore import RunningObjectStore, start_objectstore
from pipelines.local.ports import free_port
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, as_arrow, create_tables, wait_for_lake
from pipelines.tables import AUDIT
from tests.integration.support import Place, stopped, wait_for_end

NO_MINIO = why_no_minio()
needs_minio = [pytest.mark.minio, pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningObjectStore]:
    with start_objectstore(tmp_path_factory.mktemp("store")) as running:
        running.create_bucket("gridwatch")
        yield running


def refused(place: Place, *arguments: str, code: int, within_s: float = 45) -> str:
    """Run the pipeline, which must end with this code; returns its last line, after no stack trace."""
    with stopped(place.gridwatch("run", "run", *arguments)) as child:
        said = wait_for_end(child, within_s, code=code)
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


def said_by(place: Place) -> str:
    return place.log("run").read_text(encoding="utf-8")


def test_an_unknown_setting_is_refused_before_anything_starts(nowhere: Place) -> None:
    line = refused(nowhere, "--set", "detection.sigmma=3", code=2, within_s=20)
    assert "detection.sigmma is no setting" in line


def test_contradictory_settings_are_refused_before_anything_starts(nowhere: Place) -> None:
    line = refused(nowhere, "--set", "detection.watermark=3", code=2, within_s=20)
    assert "input.max_skew = 5 s must be below detection.watermark = 3 s" in line


def test_without_a_broker_it_says_what_it_waits_for_and_gives_up(nowhere: Place) -> None:
    servers = f"127.0.0.1:{free_port()}"
    options = ("--set", "kafka.connect_timeout=3", "--set", f'kafka.bootstrap_servers="{servers}"')
    line = refused(nowhere, *options, code=4)
    assert "no broker answers within 3 s" in line
    assert servers in line
    assert f"waiting for Kafka at {servers}" in said_by(nowhere)


def test_without_the_object_store_it_says_what_it_waits_for_and_gives_up(place: Place) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    here = place.with_settings(
        lake__root="s3a://gridwatch/lake", store__endpoint=endpoint, store__access_key="canary-key",
        store__secret_key="canary-secret", kafka__connect_timeout="3 s",
    )  # fmt: skip
    here.create_topics()
    began = time.monotonic()
    line = refused(here, code=4, within_s=60)
    assert time.monotonic() - began < 60
    assert "the store does not answer within 3 s (Connection refused" in line
    assert endpoint in line
    assert f"waiting for the store at {endpoint}" in said_by(here)
    assert "canary" not in said_by(here)


def test_a_missing_topic_is_named_with_the_command_that_makes_it(place: Place) -> None:
    line = refused(place, code=2)
    assert f"topic {place.settings.kafka.topics.readings} does not exist" in line
    assert "`gridwatch topics create` makes it" in line


def test_a_topic_whose_clock_is_the_producers_is_refused_with_the_way_out(place: Place) -> None:
    topic = place.settings.kafka.topics.readings
    admin = KafkaAdminClient(bootstrap_servers=place.bootstrap_servers)
    configs = {"message.timestamp.type": "CreateTime"}
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1, topic_configs=configs)])
    admin.close()
    place.create_topics()  # the others; one that exists stays as it is
    line = refused(place, code=3)
    assert f"topic {topic} has message.timestamp.type = CreateTime" in line
    assert "set LogAppendTime on the topic, or input.trust_create_time = true" in line


def test_tables_with_batches_and_no_checkpoint_are_refused(place: Place) -> None:
    """Going on would read the topic from its start and store every reading a second time."""
    place.create_topics()
    create_tables(place.settings)
    append_rows_once(as_arrow([audit_row()], AUDIT), place.settings, AUDIT, BatchId("earlier", "archive", 0))
    line = refused(place, code=3, within_s=120)
    assert "holds archived batches" in line
    assert "restore the checkpoint" in line


def audit_row() -> tuple[object, ...]:
    """One batch of ten records, as an earlier run has left it."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    values = {
        "generation": "earlier", "batch_id": 0, "kafka_topic": "readings", "kafka_partition": 0,
        "first_offset": 0, "last_offset": 9, "records_in": 10, "accepted": 10, "rejected": 0,
        "rejected_by_reason": {}, "late": 0, "resent": 0, "max_event_ts": at, "max_kafka_ts": at,
        "skipped_because": None, "gaps": 0, "aligned_ts": at, "judged_until": None,
    }  # fmt: skip
    assert set(values) == set(AUDIT.column_names)
    return tuple(values[name] for name in AUDIT.column_names)


@pytest.mark.parametrize("command", [("verify",), ("topics", "create")])
def test_other_commands_wait_and_give_up_the_same_way(nowhere: Place, command: tuple[str, ...]) -> None:
    servers = f"127.0.0.1:{free_port()}"
    options = ("--set", "kafka.connect_timeout=2", "--set", f'kafka.bootstrap_servers="{servers}"')
    with stopped(nowhere.gridwatch("run", *command, *options)) as child:
        said = wait_for_end(child, 45, code=4)
    assert "Traceback" not in said
    assert "no broker answers within 2 s" in said.strip().splitlines()[-1]


def lake_in(store: RunningObjectStore, *, bucket: str = "gridwatch", secret: str | None = None) -> Settings:
    environment = {
        "GRIDWATCH_KAFKA__CONNECT_TIMEOUT": "30",
        "GRIDWATCH_LAKE__ROOT": f"s3a://{bucket}/lake",
        "GRIDWATCH_STORE__ENDPOINT": store.endpoint,
        "GRIDWATCH_STORE__ACCESS_KEY": store.access_key,
        "GRIDWATCH_STORE__SECRET_KEY": secret or store.secret_key,
    }
    return load_settings(environment=environment).settings


class TestWaitingForTheStore:
    pytestmark = needs_minio

    def test_a_store_that_comes_late_is_waited_for(self, store: RunningObjectStore) -> None:
        store.stop()
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if len(said) == 2:
                store.launch()

        wait_for_lake(lake_in(store), say)
        assert said[0].startswith(f"waiting for the store at {store.endpoint} (")

    @pytest.mark.parametrize(
        ("wrong", "reason"),
        [({"secret": "not-the-secret"}, "SignatureDoesNotMatch"), ({"bucket": "no-such"}, "NoSuchBucket")],
    )
    def test_a_store_that_refuses_is_not_waited_for(
        self, store: RunningObjectStore, wrong: dict[str, str], reason: str
    ) -> None:
        with pytest.raises(InfrastructureUnavailable, match=reason) as refusal:
            wait_for_lake(lake_in(store, **wrong), pytest.fail)
        assert "not-the-secret" not in str(refusal.value)
        assert "\n" not in str(refusal.value)
