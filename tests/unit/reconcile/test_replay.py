"""Rejected records in real tables: which of them may be replayed, and that none is chosen twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
)
from kafka.future import Future

from pipelines.cli.main import main
from pipelines.errors import DataRefused, InfrastructureUnavailable
from pipelines.reconcile import replay as replaying
from pipelines.reconcile.rejected import Selection, count_by_reason, rejected_records
from pipelines.reconcile.replay import _note, replay, to_replay
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.tables import READINGS, REJECTED
from tests.unit.identity.lakes import NOON, Lake, reading, settings_in

NASTY = b'{"meterId":"\x1b[2J\nm"'
VALUES = [b"no json", NASTY, None, b"no json", b"\xff" * 300_000]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    lake = Lake(settings_in(tmp_path)).make(batches=0)
    rows = [
        reading(n, value=value, key=b"m", reason="malformed_json" if n < 4 else "not_utf8", rule_version="1")
        for n, value in enumerate(VALUES)
    ]
    lake.add(REJECTED, rows, BatchId("g", "archive", 0))
    return lake.settings


def states(settings: Settings) -> list[tuple[int, str]]:
    return [(r.kafka_offset, r.state) for r in rejected_records(settings, Selection())]


def test_the_same_bytes_are_fresh_once(settings: Settings) -> None:
    assert states(settings) == [(0, "fresh"), (1, "fresh"), (2, "fresh"), (3, "parked"), (4, "fresh")]


def test_a_claimed_record_is_unsure_a_sent_one_replayed_and_its_return_parked(settings: Settings) -> None:
    chosen = to_replay(settings, Selection(reasons=["malformed_json"]), limit=2, say=print)
    assert [record.value for record in chosen] == [b"no json", NASTY]
    _note(settings, "first", "claimed", chosen)
    assert states(settings)[:4] == [(0, "unsure"), (1, "unsure"), (2, "fresh"), (3, "parked")]
    _note(settings, "first", "sent", chosen[:1])
    assert states(settings)[:4] == [(0, "replayed"), (1, "unsure"), (2, "fresh"), (3, "parked")]
    assert [record.kafka_offset for record in to_replay(settings, Selection(), limit=10, say=print)] == [2, 4]


def test_the_whole_value_is_replayed_and_not_the_queues_cut(settings: Settings) -> None:
    (large,) = to_replay(settings, Selection(reasons=["not_utf8"]), limit=10, say=print)
    assert large.value == b"\xff" * 300_000


def test_records_of_another_topic_are_refused(settings: Settings) -> None:
    other = settings.model_validate(settings.model_dump() | {"kafka": {"topics": {"readings": "other"}}})
    with pytest.raises(DataRefused, match="records of topic sensor-readings cannot be sent to other"):
        to_replay(other, Selection(), limit=10, say=print)


def test_a_selection_is_by_reason_time_and_place(settings: Settings) -> None:
    def offsets(**selection: object) -> list[int]:
        return [r.kafka_offset for r in rejected_records(settings, Selection(**selection))]  # type: ignore[arg-type]

    assert offsets(reasons=["not_utf8"]) == [4]
    assert offsets(since=NOON + timedelta(seconds=1), until=NOON + timedelta(seconds=3)) == [1, 2]
    assert offsets(partition=0, offset=3) == [3]
    assert offsets(partition=1) == []
    assert offsets(since=datetime(2030, 1, 1, tzinfo=UTC)) == []


def test_counts_by_reason(settings: Settings) -> None:
    counts = count_by_reason(settings, Selection())
    assert counts["malformed_json"] == {
        "fresh": 3, "replayed": 0, "unsure": 0, "parked": 1, "bytes": 2 * len(b"no json") + len(NASTY),
    }  # fmt: skip
    assert counts["not_utf8"]["bytes"] == 300_000


class TestSeveralItems:
    """Of the record at offset 10 items 1, 3 and 4 are bad, 0 and 2 good; of the one at 11 item 0 alone is bad."""

    VALUE = b'[{"meterId":"a"},{},{"meterId":"b"},{},{}]'

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        lake = Lake(settings)
        bad = {"rule_version": "1", "key": b"m"}
        rows = [
            # The row without bytes comes first: their order in the files is not that of the items.
            reading(10, kafka_item=4, reason="out_of_range", rule_version="1"),
            reading(10, kafka_item=1, reason="wrong_type", value=self.VALUE, **bad),
            reading(10, kafka_item=3, reason="wrong_type", rule_version="1"),
            reading(11, kafka_item=0, reason="missing_meter_id", value=b"[{},{}]", **bad),
            reading(12, kafka_item=0, reason="missing_meter_id", value=b"{}", **bad),
            reading(13, kafka_item=None, reason="empty_value", value=None, **bad),
        ]
        lake.add(REJECTED, rows, BatchId("g", "archive", 1))
        good = [reading(10, kafka_item=0), reading(10, kafka_item=2), reading(11, kafka_item=1)]
        lake.add(READINGS, good, BatchId("g", "archive", 1))
        return settings

    def test_a_record_is_listed_once_with_all_its_bad_items(self, settings: Settings) -> None:
        found = {r.kafka_offset: r for r in rejected_records(settings, Selection()) if r.kafka_offset >= 10}
        assert sorted(found) == [10, 11, 12, 13]
        assert found[10].bad_items == ((1, "wrong_type"), (3, "wrong_type"), (4, "out_of_range"))
        assert (found[10].value, found[10].reason, found[11].items) == (self.VALUE, "wrong_type", (0,))

    @pytest.mark.parametrize("reason", ["wrong_type", "out_of_range"])
    def test_it_is_selected_by_the_reason_of_any_of_them(self, settings: Settings, reason: str) -> None:
        (record,) = rejected_records(settings, Selection(reasons=[reason]))
        assert (record.kafka_offset, record.items, record.value) == (10, (1, 3, 4), self.VALUE)

    def test_reasons_count_readings_and_bytes_count_once(self, settings: Settings) -> None:
        counts = count_by_reason(settings, Selection(reasons=["wrong_type", "out_of_range"]))
        assert (counts["wrong_type"]["fresh"], counts["out_of_range"]["fresh"]) == (2, 1)
        assert (counts["wrong_type"]["bytes"], counts["out_of_range"]["bytes"]) == (len(self.VALUE), 0)

    def test_it_is_sent_once_with_the_numbers_of_its_bad_items(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        producer = Producer({})
        monkeypatch.setattr(replaying, "KafkaProducer", producer)
        chosen = to_replay(settings, Selection(reasons=["out_of_range", "missing_meter_id"]), limit=10, say=print)
        assert replay(settings, chosen) == 3
        items = {value: headers.get("gridwatch-replay-items") for value, headers in producer.sent.items()}
        assert items == {self.VALUE: b"1,3,4", b"[{},{}]": b"0", b"{}": None}
        assert dict(states(settings))[10] == "replayed"
        assert to_replay(settings, Selection(reasons=["wrong_type"]), limit=10, say=print) == []

    def test_the_command_shows_it_as_one_line(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["dlq", "show", "--offset", "10", "--format", "json", *words_for(settings)]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["items"], row["reason"], row["length"]) == ("1,3,4", "wrong_type, out_of_range", len(self.VALUE))


class Producer:
    """A producer whose broker answers each value as it is told to; an error that is to be raised is raised at once."""

    def __init__(self, answers: dict[bytes, KafkaError | None], raised: dict[bytes, Exception] | None = None) -> None:
        self.answers, self.raised = answers, raised or {}
        self.sent: dict[bytes, dict[str, bytes]] = {}
        """Headers by value."""

    def __call__(self, **options: Any) -> Producer:
        return self

    def send(self, topic: str, value: bytes, key: bytes, headers: list[Any], *, partition: int) -> Any:
        if value in self.raised:
            raise self.raised[value]
        self.sent[value] = dict(headers)
        future: Any = Future()
        answer = self.answers.get(value)
        return future.success(None) if answer is None else future.failure(answer)

    def flush(self, timeout: float) -> None: ...

    def close(self, timeout: float) -> None: ...


def replay_with(settings: Settings, monkeypatch: pytest.MonkeyPatch, producer: Any) -> None:
    monkeypatch.setattr(replaying, "KafkaProducer", producer)
    replay(settings, to_replay(settings, Selection(reasons=["malformed_json"]), limit=10, say=print))


def test_what_was_surely_not_sent_is_fresh_again_and_what_may_have_been_is_unsure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(settings)
    rows = [reading(n, value=b"%d" % n, key=b"m", reason="malformed_json", rule_version="1") for n in (5, 6, 7)]
    lake.add(REJECTED, rows, BatchId("g", "archive", 1))
    answers = {NASTY: TopicAuthorizationFailedError(), b"5": MessageSizeTooLargeError()}
    answers[b"6"] = NotLeaderForPartitionError()
    producer = Producer(answers, raised={b"7": KafkaTimeoutError("no metadata")})
    with pytest.raises(
        InfrastructureUnavailable, match=r"2 of 6 records .* 3 were not sent and stay fresh, 1 are unsure"
    ):
        replay_with(settings, monkeypatch, producer)
    assert dict(states(settings)) == {
        0: "replayed", 1: "fresh", 2: "replayed", 3: "parked", 4: "fresh", 5: "fresh", 6: "unsure", 7: "fresh",
    }  # fmt: skip
    replay_with(settings, monkeypatch, Producer({}))
    assert dict(states(settings)) == dict.fromkeys(range(8), "replayed") | {3: "parked", 4: "fresh", 6: "unsure"}


def test_without_a_broker_nothing_is_claimed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_broker(**options: Any) -> None:
        raise KafkaTimeoutError("Unable to bootstrap")

    before = states(settings)
    with pytest.raises(InfrastructureUnavailable, match="Unable to bootstrap; nothing was sent"):
        replay_with(settings, monkeypatch, no_broker)
    assert states(settings) == before


def test_what_was_acknowledged_is_noted_also_when_the_sending_is_interrupted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted: Any = {NASTY: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        replay_with(settings, monkeypatch, Producer({}, raised=interrupted))
    assert states(settings)[:3] == [(0, "replayed"), (1, "unsure"), (2, "fresh")]


def test_a_record_without_key_and_value_is_left_out_and_the_others_are_chosen(settings: Settings) -> None:
    """No producer takes it; it once ended the replay of all."""
    rows = [reading(9, value=None, key=None, reason="empty_value", rule_version="1")]
    Lake(settings).add(REJECTED, rows, BatchId("g", "archive", 1))
    said: list[str] = []
    chosen = to_replay(settings, Selection(), limit=10, say=said.append)
    assert [record.kafka_offset for record in chosen] == [0, 1, 2, 4]
    assert said == ["partition 0, offset 9 has no key and no value: left out"]


def words_for(settings: Settings) -> list[str]:
    return ["--set", f"lake.root={settings.lake.root}", "--set", f"pipeline.checkpoint={settings.pipeline.checkpoint}"]


def test_no_control_character_of_a_payload_reaches_the_terminal(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dlq", "show", *words_for(settings)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert '{"meterId":"\\x1b[2J\\nm"' in said
    assert len(said.splitlines()) == 2 + len(VALUES)


def test_one_value_can_be_written_whole(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "value"
    assert main(["dlq", "show", "--partition", "0", "--offset", "4", "--out", str(out), *words_for(settings)]) == 0
    assert out.read_bytes() == b"\xff" * 300_000
    assert main(["dlq", "show", "--out", str(out), *words_for(settings)]) == 2


def test_a_dry_run_needs_no_kafka_and_changes_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", "replay", "--reason", "malformed_json", "--dry-run", *words_for(settings)]) == 0
    assert "3 records would be sent to sensor-readings" in capsys.readouterr().out
    assert [state for _, state in states(settings)].count("fresh") == 4
    assert main(["dlq", "replay", "--dry-run", *words_for(settings)]) == 2


def test_the_newest_records_are_shown_newest_last(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    older = [reading(20, kafka_ts=NOON - timedelta(days=1), value=b"old", reason="not_utf8", rule_version="1")]
    Lake(settings).add(REJECTED, older, BatchId("g", "archive", 1))
    assert main(["dlq", "show", "--limit", "2", "--format", "json", *words_for(settings)]) == 0
    assert [row["offset"] for row in json.loads(capsys.readouterr().out)] == [3, 4]


@pytest.mark.parametrize("limit", ["0", "-3"])
@pytest.mark.parametrize("action", ["show", "replay"])
def test_a_limit_that_selects_nothing_is_usage(
    action: str, limit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dlq", action, "--limit", limit, "--set", f"lake.root={tmp_path}"]) == 2
    assert f"--limit {limit}: must be 1 or more" in capsys.readouterr().err
