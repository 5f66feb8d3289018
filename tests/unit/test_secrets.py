"""Secrets come from the environment or from files, and a well-known one is refused where others can reach it."""

from __future__ import annotations

from pathlib import Path

import pytest

from generator.errors import UsageError
from generator.outlet import producer_options
from pipelines.errors import SettingsError
from pipelines.settings import Settings
from pipelines.settings_load import known_environment_names, load_settings

SASL = {"GRIDWATCH_KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "GRIDWATCH_KAFKA__SASL_USERNAME": "me"}
PASSWORD = "GRIDWATCH_KAFKA__SASL_PASSWORD"


def loaded(**environment: str) -> Settings:
    return load_settings(environment=environment).settings


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file \n")
    settings = loaded(**SASL, **{PASSWORD + "_FILE": str(tmp_path / "password")})
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "from a file "


def test_the_file_of_a_secret_must_be_there_and_hold_something(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for path, problem in ((tmp_path / "none", "No such file"), (tmp_path / "empty", "is empty")):
        with pytest.raises(SettingsError, match=problem):
            loaded(**SASL, **{PASSWORD + "_FILE": str(path)})


def test_a_secret_has_one_source(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("one")
    with pytest.raises(SettingsError, match="keep one") as refusal:
        loaded(**SASL, **{PASSWORD: "canary", PASSWORD + "_FILE": str(tmp_path / "password")})
    assert "canary" not in str(refusal.value)


def test_only_secrets_have_files() -> None:
    webhooks = {f"GRIDWATCH_NOTIFY__WEBHOOK_{severity}_FILE" for severity in ("WARNING", "ERROR", "CRITICAL")}
    assert {name for name in known_environment_names() if name.endswith("_FILE")} == webhooks | {
        PASSWORD + "_FILE", "GRIDWATCH_STORE__ACCESS_KEY_FILE", "GRIDWATCH_STORE__SECRET_KEY_FILE",
        "GRIDWATCH_STORE__CA_FILE", "GRIDWATCH_CONSOLE__TOKEN_FILE",
    }  # fmt: skip
    with pytest.raises(SettingsError, match="GRIDWATCH_LAKE__ROOT_FILE is no setting"):
        loaded(GRIDWATCH_LAKE__ROOT_FILE="x")


def test_the_generator_takes_its_password_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret words\n")
    options = producer_options("127.0.0.1:1", {**SASL, PASSWORD + "_FILE": str(tmp_path / "password")})
    assert options["sasl_plain_password"] == "secret words"
    with pytest.raises(UsageError, match="No such file"):
        producer_options("127.0.0.1:1", {PASSWORD + "_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize("endpoint", ["http://10.0.0.5:9000", "https://minio.example.net", None])
def test_default_keys_are_refused_where_others_can_reach_the_store(endpoint: str | None) -> None:
    keys = {"GRIDWATCH_STORE__ACCESS_KEY": "minioadmin", "GRIDWATCH_STORE__SECRET_KEY": "minioadmin"}
    where = {"GRIDWATCH_STORE__ENDPOINT": endpoint} if endpoint else {}
    with pytest.raises(SettingsError, match=r"store\.secret_key is a well-known default") as refusal:
        loaded(**keys, **where)
    assert "minioadmin" not in str(refusal.value)


@pytest.mark.parametrize("password", ["changeme", "Admin-Secret", "me"])
def test_default_passwords_are_refused_where_others_can_reach_the_broker(password: str) -> None:
    servers = {"GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9092,kafka-1.example.net:9093"}
    with pytest.raises(SettingsError, match=r"a well-known default at kafka-1\.example\.net"):
        loaded(**SASL, **servers, **{PASSWORD: password})


def test_default_keys_are_fine_on_this_machine_and_good_ones_anywhere() -> None:
    keys = {"GRIDWATCH_STORE__ACCESS_KEY": "minioadmin", "GRIDWATCH_STORE__SECRET_KEY": "minioadmin"}
    assert loaded(**keys, GRIDWATCH_STORE__ENDPOINT="http://localhost:9000").store.endpoint
    good = {"GRIDWATCH_STORE__ACCESS_KEY": "gridwatch", "GRIDWATCH_STORE__SECRET_KEY": "Wx8-jk2m"}
    assert loaded(**good, GRIDWATCH_STORE__ENDPOINT="https://s3.example.net").store.endpoint
