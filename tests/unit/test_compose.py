"""docker-compose.yml agrees with conf, .env.example, README and settings. No container is started here."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.local.cache import pinned
from pipelines.settings_load import known_environment_names, load_settings
from scripts.make_env import filled

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
EXAMPLE_TEXT = (ROOT / ".env.example").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
VARIABLE = re.compile(r"\$\{(\w+)([^}]*)\}")


def example_values() -> dict[str, str]:
    """What `make env` would write, with a secret in every empty place."""
    lines = [line for line in filled(EXAMPLE_TEXT).splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def compose() -> dict[str, Any]:
    values = example_values()
    loaded: dict[str, Any] = yaml.safe_load(VARIABLE.sub(lambda found: values[found[1]], COMPOSE_TEXT))
    return loaded


SERVICES: dict[str, dict[str, Any]] = compose()["services"]


CLUSTER = {name for name, service in SERVICES.items() if "cluster" in service.get("profiles", [])}
"""What is started with `--profile cluster` only."""


def environments() -> Iterator[tuple[str, dict[str, str]]]:
    for name, service in SERVICES.items():
        yield name, service.get("environment", {})


def published_ports() -> list[str]:
    return [port for service in SERVICES.values() for port in service.get("ports", [])]


def test_every_part_of_the_pipeline_is_there() -> None:
    assert set(SERVICES) == {
        "kafka", "object-store", "bucket", "topics", "fleet", "pipeline", "alerts", "generator", "notify", "prometheus",
        "alertmanager", "grafana", "kafka-exporter", "console", *CLUSTER,
    }  # fmt: skip


def test_every_image_is_pinned() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    tags = [image.rpartition(":")[2] for image in images]
    assert all(":" in image for image in images)
    assert all(re.search(r"\d", tag) and "latest" not in tag for tag in tags), images


def test_kafka_is_the_version_the_demo_and_the_tests_run() -> None:
    assert SERVICES["kafka"]["image"].rpartition(":")[2] == pinned("broker", "kafka").rpartition(":")[2]


def test_our_image_carries_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert SERVICES["pipeline"]["image"] == f"gridwatch:{version}"


def test_every_published_port_is_on_loopback_and_listed_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert published_ports()
    for port in published_ports():
        host, outside, _ = port.split(":")
        assert host == "127.0.0.1"
        assert f"127.0.0.1:{outside}" in readme


def test_no_service_shares_the_hosts_network_or_rights() -> None:
    for service in SERVICES.values():
        assert "network_mode" not in service
        assert "privileged" not in service
        assert "no-new-privileges:true" in service["security_opt"]


def test_every_gridwatch_variable_is_a_setting() -> None:
    names = {name for _, values in environments() for name in values if name.startswith("GRIDWATCH_")}
    names |= set(re.findall(r"GRIDWATCH_\w+", DOCKERFILE + EXAMPLE_TEXT))
    assert names
    assert names <= known_environment_names()


@pytest.mark.parametrize("service", ["pipeline", "alerts", "topics", "bucket", "notify", "console"])
def test_the_settings_of_a_service_are_accepted(service: str) -> None:
    load_settings(environment=SERVICES[service]["environment"])


def test_every_variable_has_a_value_and_compose_stops_without_it() -> None:
    used = VARIABLE.findall(COMPOSE_TEXT)
    assert {name for name, _ in used} == set(example_values())
    assert {otherwise for _, otherwise in used} == {":?run make env first"}


def test_secrets_stand_in_no_file_and_are_new_each_time() -> None:
    empty = re.findall(r"^(\w+)=$", EXAMPLE_TEXT, flags=re.MULTILINE)
    assert empty == ["OBJECT_STORE_ACCESS_KEY", "OBJECT_STORE_SECRET_KEY", "GRAFANA_ADMIN_PASSWORD", "CONSOLE_TOKEN"]
    first, second = example_values(), example_values()
    assert all(len(first[name]) == 40 and first[name] != second[name] for name in empty)
    secret_like = [
        (service, name)
        for service, values in yaml.safe_load(COMPOSE_TEXT)["services"].items()
        for name, value in values.get("environment", {}).items()
        if re.search("PASSWORD|SECRET|ACCESS_KEY|TOKEN", name) and not str(value).startswith("${")
    ]
    assert not secret_like


def test_every_service_has_a_health_check_or_a_reason() -> None:
    assert not [
        name
        for name, service in SERVICES.items()
        if not (service.get("healthcheck", {}).get("test") or service.get("x-no-healthcheck"))
    ]


def test_a_service_waits_for_what_it_needs_in_the_way_that_part_ends() -> None:
    """What runs on is waited for until healthy, what runs once until it has ended well."""
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            runs_once = SERVICES[needed]["restart"] == "no"
            wanted = "service_completed_successfully" if runs_once else "service_healthy"
            assert how["condition"] == wanted, needed


def test_every_service_is_limited_in_memory_and_log() -> None:
    for service in SERVICES.values():
        assert service["deploy"]["resources"]["limits"]["memory"]
        assert service["logging"]["options"]["max-size"]


def test_what_must_survive_is_on_a_named_volume() -> None:
    volumes = compose()["volumes"]
    mounts = {
        mount.split(":")[1]: mount.split(":")[0]
        for service in SERVICES.values()
        for mount in service.get("volumes", [])
    }
    kept = [
        SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"],
        SERVICES["object-store"]["command"][-1],
        SERVICES["pipeline"]["environment"]["GRIDWATCH_PIPELINE__CHECKPOINT"],
    ]
    assert all(mounts[folder] in volumes for folder in kept)


def test_addresses_inside_name_services_and_their_ports() -> None:
    listeners = SERVICES["kafka"]["environment"]["KAFKA_LISTENERS"]
    for _, values in environments():
        for name in ("GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS", "GRIDWATCH_STORE__ENDPOINT"):
            if name in values:
                host, port = values[name].removeprefix("http://").split(":")
                assert host in SERVICES
                assert f":{port}" in listeners + " ".join(SERVICES["object-store"]["command"])


def test_the_lake_is_in_the_bucket_of_conf() -> None:
    roots = {values["GRIDWATCH_LAKE__ROOT"] for _, values in environments() if "GRIDWATCH_LAKE__ROOT" in values}
    assert {root.split("/")[2] for root in roots} == {pinned("objectstore", "bucket")}


def test_topics_are_the_ones_of_the_settings() -> None:
    """No service renames a topic and Kafka makes none itself: `topics create` makes those of the settings."""
    assert not [name for _, values in environments() for name in values if "TOPICS__" in name]
    assert SERVICES["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert SERVICES["topics"]["command"] == ["topics", "create"]


def test_alerts_are_a_service_of_their_own_over_the_same_lake_and_need_no_checkpoint() -> None:
    pipeline, alerts = (
        load_settings(environment=SERVICES[name]["environment"]).settings for name in ("pipeline", "alerts")
    )
    assert not pipeline.alerts.with_pipeline
    assert (pipeline.lake.root, pipeline.alerts.group) == (alerts.lake.root, alerts.alerts.group)
    assert not SERVICES["alerts"].get("volumes")


def test_fleet_and_generator_simulate_the_same_meters() -> None:
    def shape(service: str) -> dict[str, str]:
        words = SERVICES[service]["command"]
        return {word: words[words.index(word) + 1] for word in ("--meters", "--seed")}

    assert shape("fleet") == shape("generator")


def test_the_image_holds_all_that_its_build_copies() -> None:
    allowed = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), flags=re.MULTILINE)
    copied = [word for line in re.findall(r"^COPY (.*)", DOCKERFILE, flags=re.MULTILINE) for word in line.split()[:-1]]
    assert set(copied) == set(allowed)


def test_make_env_writes_a_private_file_once(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".env.example").write_text(EXAMPLE_TEXT, encoding="utf-8")
    script = tmp_path / "scripts" / "make_env.py"
    script.write_text((ROOT / "scripts" / "make_env.py").read_text(encoding="utf-8"), encoding="utf-8")

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)

    assert run().returncode == 0
    written = (tmp_path / ".env").read_text(encoding="utf-8")
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    refused = run()
    assert refused.returncode == 1
    assert "stays as it is" in refused.stderr
    assert (tmp_path / ".env").read_text(encoding="utf-8") == written


def test_prometheus_scrapes_services_at_the_ports_they_serve() -> None:
    config = yaml.safe_load((ROOT / "conf" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    targets = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in config["scrape_configs"]}
    metrics = load_settings(environment={}).settings.metrics
    served = {"pipeline": metrics.port, "alerts": metrics.alerts_port, "notify": metrics.notify_port}
    for name, port in served.items():
        assert targets[f"gridwatch-{name}"] == f"{name}:{port}"
        assert SERVICES[name]["environment"]["GRIDWATCH_METRICS__HOST"] == "0.0.0.0"
        assert not SERVICES[name].get("ports"), "metrics stay inside"
    hosts = {target.rpartition(":")[0] for target in targets.values()} - {"127.0.0.1"}
    assert hosts <= set(SERVICES)
    (alertmanager,) = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert alertmanager.rpartition(":")[0] in SERVICES
    assert SERVICES["notify"]["environment"]["GRIDWATCH_NOTIFY__ALERTMANAGER"] == f"http://{alertmanager}"


def test_every_folder_of_ours_that_is_mounted_exists_and_is_read_only() -> None:
    mounts = [m.split(":") for s in SERVICES.values() for m in s.get("volumes", []) if m.startswith("./")]
    assert len(mounts) == 4
    assert all((ROOT / source).is_dir() and mode == "ro" for source, _, mode in mounts)


def test_grafana_finds_what_is_provisioned_where_it_is_mounted() -> None:
    targets = {m.split(":")[0]: m.split(":")[1] for m in SERVICES["grafana"]["volumes"]}
    folder = ROOT / "conf" / "grafana" / "provisioning"
    provider = yaml.safe_load((folder / "dashboards" / "gridwatch.yml").read_text(encoding="utf-8"))
    assert provider["providers"][0]["options"]["path"] == targets["./conf/grafana/dashboards"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "conf" / "grafana" / "dashboards" / Path(home).name).is_file()
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_what_runs_beside_the_jobs_keeps_its_data_on_a_named_volume() -> None:
    kept = {"prometheus": "/prometheus", "alertmanager": "/alertmanager", "grafana": "/var/lib/grafana"}
    volumes = compose()["volumes"]
    for service, place in kept.items():
        named = dict(reversed(m.split(":")[:2]) for m in SERVICES[service]["volumes"])
        assert named[place] in volumes
