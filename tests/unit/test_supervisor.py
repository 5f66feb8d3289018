"""When failed queries are started again and when not: an outage does not count, a mismatch and a signal come first.

The session is not touched: what a life of the queries comes to is given, Kafka and the checks answer as told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError

from pipelines.alerts.child import AlertsEnded
from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable
from pipelines.jobs import supervisor
from pipelines.jobs.ending import Ending
from pipelines.jobs.supervisor import Stuck, Supervisor
from pipelines.observe.metrics import PipelineMetrics
from pipelines.settings import Settings


@dataclass
class Lives(Supervisor):
    """A supervisor whose queries fail at once, with one error after the other; the last one again and again."""

    errors: list[Exception] = field(default_factory=list)
    lives: int = 0

    def _run_once(self) -> None:
        self.lives += 1
        raise self.errors[min(self.lives, len(self.errors)) - 1]

    def _stop_all(self) -> None:
        pass

    def _pause(self, problem: GridwatchError, failures: int) -> None:
        self.say(f"pause {failures}")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Functions that a test may replace: the waits, and the check."""
    world: dict[str, Any] = {"wait": lambda say: None, "check": lambda: None, "answers": True}
    monkeypatch.setattr(supervisor, "answers", lambda spark: world["answers"])
    monkeypatch.setattr(supervisor, "wait_for_kafka", lambda kafka, say: world["wait"](say))
    monkeypatch.setattr(supervisor, "wait_for_lake", lambda settings, say: None)
    monkeypatch.setattr(supervisor, "settle_identity", lambda settings, say: world["check"]())
    return world


def lives(*errors: Exception, restarts: int = 2) -> tuple[Lives, list[str]]:
    settings, said = Settings.model_validate({"pipeline": {"max_restarts": restarts}}), list[str]()
    spark: Any = None
    start: Any = None
    return Lives(spark, settings, start, said.append, Ending(), PipelineMetrics(), errors=list(errors)), said


def raises(error: Exception) -> Any:
    def check(*_: object) -> None:
        raise error

    return check


def test_a_mismatch_is_refused_also_after_the_last_restart(world: dict[str, Any]) -> None:
    one, _ = lives(GridwatchError("a batch failed"), restarts=0)
    world["check"] = raises(DataRefused("table rejected is gone"))
    with pytest.raises(DataRefused, match="table rejected is gone"):
        one.run()


def test_a_slow_answer_is_no_outage_and_the_failures_are_counted(
    world: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, said = lives(GridwatchError("a batch failed"))
    clock = iter(range(0, 100_000, 2))
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(GridwatchError, match="a batch failed"):
        one.run()
    assert (one.lives, said) == (3, ["pause 1", "pause 2"])
    assert one.metrics.registry.get_sample_value("gridwatch_outage_seconds_total") == 0


def test_an_outage_does_not_count(world: dict[str, Any]) -> None:
    one, said = lives(*[GridwatchError("no broker")] * 9, DataRefused("enough"))
    world["wait"] = lambda say: say("waiting for Kafka")
    with pytest.raises(DataRefused, match="enough"):
        one.run()
    assert said.count("pause 1") == 9
    assert (one.metrics.registry.get_sample_value("gridwatch_outage_seconds_total") or 0) > 0


@pytest.mark.parametrize("error", [InfrastructureUnavailable("topics"), KafkaConnectionError(), OSError("store")])
def test_a_part_that_goes_away_again_during_the_check_does_not_end_the_job(
    world: dict[str, Any], error: Exception
) -> None:
    one, said = lives(GridwatchError("a batch failed"), DataRefused("the second life"))
    world["check"] = raises(error)
    with pytest.raises(DataRefused, match="the second life"):
        one.run()
    assert said == ["pause 1"]


def test_a_stuck_batch_ends_the_job_though_java_answers(world: dict[str, Any]) -> None:
    one, said = lives(Stuck("query windows has been in one batch for 900 s"))
    with pytest.raises(InfrastructureUnavailable, match="in one batch for 900 s"):
        one.run()
    assert (one.lives, said) == (1, [])


def test_a_failure_after_a_signal_is_the_end_and_waits_for_nobody(world: dict[str, Any]) -> None:
    one, said = lives(GridwatchError("BatchNotBegun"))
    world["wait"] = raises(AssertionError("waited"))

    def asked() -> None:
        one.ending.asked.set()
        raise GridwatchError("BatchNotBegun")

    one._run_once = asked  # type: ignore[method-assign]
    one.run()
    assert said == []


def test_alerts_that_have_given_up_end_the_job_at_once_with_their_exit_code(world: dict[str, Any]) -> None:
    one, _ = lives(AlertsEnded("the alerts ended with exit code 4", 4))
    with pytest.raises(AlertsEnded) as ended:
        one.run()
    assert (one.lives, ended.value.exit_code) == (1, 4)
