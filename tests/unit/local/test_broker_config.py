"""The embedded broker's configuration, pins and kit: what can be checked without starting it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import InfrastructureUnavailable, SettingsError
from pipelines.local import jars, minio_build
from pipelines.local.broker_config import BrokerFiles, server_settings
from pipelines.local.broker_kit import BrokerKit, random_uuid
from pipelines.local.jars import ivy_settings, kafka_coordinates


def test_every_address_is_on_loopback() -> None:
    settings = server_settings(Path("/data"), port=1111, controller_port=2222)
    addresses = [settings[key] for key in ("listeners", "advertised.listeners", "controller.quorum.voters")]
    assert all(part.partition("127.0.0.1:")[1] for address in addresses for part in address.split(","))


def test_every_internal_topic_asks_for_one_replica() -> None:
    """One broker cannot hold Kafka's default of three."""
    settings = server_settings(Path("/data"), port=1, controller_port=2)
    wanted = {key: value for key, value in settings.items() if "replication" in key or "min.isr" in key}
    assert len(wanted) == 5
    assert set(wanted.values()) == {"1"}


def test_limits_of_messages_stay_at_kafkas_defaults() -> None:
    assert not [key for key in server_settings(Path("/d"), port=1, controller_port=2) if "message" in key]


def test_extra_settings_win_over_ours(tmp_path: Path) -> None:
    files = BrokerFiles(tmp_path)
    files.write(port=1, controller_port=2, extra={"advertised.listeners": "PLAINTEXT://127.0.0.1:3"})
    lines = files.properties.read_text().splitlines()
    assert [line for line in lines if line.startswith("advertised")] == ["advertised.listeners=PLAINTEXT://127.0.0.1:3"]


def test_storage_is_formatted_once_with_an_identity_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "bootstrap.checkpoint").write_bytes(b"checkpoint")
    kit = BrokerKit(Path("java"), (), tmp_path)
    kit.format(tmp_path / "one")
    first = (tmp_path / "one" / "meta.properties").read_text()
    kit.format(tmp_path / "one")
    kit.format(tmp_path / "two")
    assert (tmp_path / "one" / "meta.properties").read_text() == first
    assert (tmp_path / "two" / "meta.properties").read_text() != first
    assert (tmp_path / "two" / "bootstrap.checkpoint").read_bytes() == b"checkpoint"


def test_nodes_of_a_cluster_share_its_id(tmp_path: Path) -> None:
    (tmp_path / "bootstrap.checkpoint").write_bytes(b"checkpoint")
    kit = BrokerKit(Path("java"), (), tmp_path)
    for node in (1, 2):
        kit.format(tmp_path / str(node), node_id=node, cluster_id="shared")
        lines = (tmp_path / str(node) / "meta.properties").read_text().splitlines()
        assert {f"node.id={node}", "cluster.id=shared"} <= set(lines)


def test_an_id_is_spelled_as_kafka_spells_it() -> None:
    ids = {random_uuid() for _ in range(300)}
    assert len(ids) == 300
    assert all(len(text) == 22 and not text.startswith("-") for text in ids)


def test_a_mirrors_address_is_escaped_in_the_ivy_settings() -> None:
    assert 'root="https://mirror.example/m2?a=1&amp;b=2"' in ivy_settings("https://mirror.example/m2?a=1&b=2")


def test_the_pinned_broker_is_a_complete_coordinate(monkeypatch: pytest.MonkeyPatch) -> None:
    group, module, version = kafka_coordinates()
    assert (group, module) == ("org.apache.kafka", "kafka_2.13")
    assert version[0].isdigit()
    monkeypatch.setattr(jars, "pinned", lambda part, key: "kafka:4")
    with pytest.raises(SettingsError, match="group:module:version"):
        kafka_coordinates()


def test_without_go_one_line_says_how_to_get_it_and_how_to_do_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InfrastructureUnavailable, match=r"Go not found .*install.*--store local") as refused:
        minio_build.require_go()
    assert "\n" not in str(refused.value)


def test_a_go_that_cannot_fetch_a_newer_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(InfrastructureUnavailable, match=r"is Go 1\.19"):
        minio_build.require_go()
