"""`gridwatch notify` refuses to start where it could tell nobody, or of nothing."""

from __future__ import annotations

from functools import partial

import pytest
from kafka import KafkaConsumer

from pipelines.cli.main import main
from pipelines.errors import InfrastructureUnavailable
from pipelines.local.ports import free_port
from pipelines.notify import run
from pipelines.notify.run import run_notifier
from pipelines.settings import Settings
from pipelines.settings_load import load_settings


def test_without_a_receiver_it_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notify"]) == 2
    said = capsys.readouterr().err
    assert "notify.alertmanager" in said
    assert "GRIDWATCH_NOTIFY__WEBHOOK_CRITICAL" in said


@pytest.mark.parametrize("url", ["hunter2", "https://chat.example.net/hunter2 x", "https://"])
def test_a_webhook_that_is_no_url_is_refused_without_being_shown(url: str) -> None:
    from pipelines.errors import SettingsError

    with pytest.raises(SettingsError) as refused:
        load_settings(environment={"GRIDWATCH_NOTIFY__WEBHOOK_ERROR": url})
    assert "notify.webhook_error" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_without_kafka_it_ends_after_the_time_it_was_given() -> None:
    settings = load_settings(
        environment={
            "GRIDWATCH_NOTIFY__ALERTMANAGER": "http://127.0.0.1:9093",
            "GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "GRIDWATCH_KAFKA__CONNECT_TIMEOUT": "1 s",
        }
    ).settings
    with pytest.raises(InfrastructureUnavailable, match="no broker answers"):
        run_notifier(settings, lambda line: None)


def test_a_broker_that_goes_away_after_it_was_looked_at_is_a_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    for look in ("wait_for_kafka", "check_topics"):
        monkeypatch.setattr(run, look, lambda *_: None)
    monkeypatch.setattr(run, "KafkaConsumer", partial(KafkaConsumer, bootstrap_timeout_ms=300))
    settings = Settings.model_validate(
        {
            "notify": {"alertmanager": "http://127.0.0.1:9093"},
            "kafka": {"bootstrap_servers": f"127.0.0.1:{port}"},
            "metrics": {"notify_port": 0},
        }
    )
    with pytest.raises(InfrastructureUnavailable, match=str(port)):
        run_notifier(settings, lambda line: None)
