"""What Kafka's clients raise or say of a topic becomes one line of ours, with the way out that fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from pipelines import topics
from pipelines.errors import GridwatchError, InfrastructureUnavailable, SettingsError
from pipelines.settings import Settings

SETTINGS = Settings()


class Admin:
    """A client whose brokers know all topics and answer as told."""

    code = 0

    def __init__(self, **options: Any) -> None: ...

    def list_topics(self) -> list[str]:
        return list(SETTINGS.kafka.topics.model_dump().values())

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"name": name, "topic_id": "1", "error_code": self.code} for name in names]

    def describe_configs(self, resources: Any, config_filter: str) -> Any:
        raise TopicAuthorizationFailedError("sensor-readings")

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (3, SettingsError, "topic a does not exist"),
        (5, InfrastructureUnavailable, "topic a at 127.0.0.1:9092: LeaderNotAvailableError"),
        (29, InfrastructureUnavailable, "TopicAuthorizationFailedError; `gridwatch check` looks at the rights"),
    ],
)
def test_a_topic_does_not_exist_only_when_the_broker_says_so(
    code: int, kind: type[GridwatchError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Admin, "code", code)
    monkeypatch.setattr(topics, "KafkaAdminClient", Admin)
    with pytest.raises(kind, match=said):
        topics.topic_ids(SETTINGS.kafka, ["a"])


def test_a_missing_right_is_named_and_no_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "KafkaAdminClient", Admin)
    with pytest.raises(InfrastructureUnavailable, match=r"TopicAuthorizationFailedError: .*`gridwatch check` looks at"):
        topics.check_topics(SETTINGS)


@pytest.mark.parametrize(
    "ask",
    [
        topics.check_topics,
        lambda settings: topics.topic_ids(settings.kafka, ["a"]),
        lambda settings: topics.topic_offsets(settings.kafka, "a"),
        lambda settings: topics.holds_record(settings.kafka, "a", 0, 1, 2),
    ],
)
def test_a_client_that_cannot_be_made_is_an_outage(
    ask: Callable[[Settings], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_broker(**options: Any) -> None:
        raise KafkaTimeoutError("Unable to bootstrap")

    monkeypatch.setattr(topics, "KafkaAdminClient", no_broker)
    monkeypatch.setattr(topics, "KafkaConsumer", no_broker)
    with pytest.raises(InfrastructureUnavailable, match=r"at 127.0.0.1:9092: KafkaTimeoutError: .*Unable to bootstrap"):
        ask(SETTINGS)
