"""A real Prometheus and a real Alertmanager on loopback, with the project's configuration."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.local.ports import LOOPBACK, free_port
from pipelines.local.processes import Child
from pipelines.local.server import LocalServer

CONF = Path(__file__).resolve().parents[2] / "conf"
_PROGRAMS = {"alertmanager": ("prometheus-alertmanager", "alertmanager")}
"""Debian's name first."""


def program(name: str) -> str:
    """Path of a program of Debian's packages prometheus and prometheus-alertmanager; skips the test without it."""
    found = next(filter(None, map(shutil.which, _PROGRAMS.get(name, (name,)))), None)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus prometheus-alertmanager")
    return found


def get_json(url: str) -> Any:
    """What a server answers."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


class _WebServer(LocalServer):
    ready: str
    argv: list[str]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}{self.ready}", timeout=2):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def _start_process(self) -> Child:
        return Child.start(self.name, self.argv, log=self.log)


class Prometheus(_WebServer):
    """Scrapes every second, by conf/prometheus with other addresses."""

    name = "prometheus"
    ready = "/-/ready"

    def __init__(self, folder: Path, targets: Mapping[str, str], alertmanager: str | None = None) -> None:
        super().__init__(port=free_port(), log=folder / "prometheus.log")
        config = yaml.safe_load((CONF / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(CONF / "prometheus" / name) for name in config["rule_files"]]
        addresses = {**targets, "prometheus": self.address}
        jobs = [job for job in config["scrape_configs"] if job["job_name"] in addresses]
        for job in jobs:
            job["static_configs"] = [{"targets": [addresses[job["job_name"]]]}]
        config["scrape_configs"] = jobs
        config["alerting"]["alertmanagers"] = [
            {"static_configs": [{"targets": [alertmanager] if alertmanager else []}]}
        ]
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        self.argv = [
            program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={self.address}",
        ]  # fmt: skip

    def query(self, expression: str, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """Series of an expression over a time, one value a second."""
        asked = {"query": expression, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": "1"}
        answer = get_json(f"http://{self.address}/api/v1/query_range?{urllib.parse.urlencode(asked)}")
        assert answer["status"] == "success", answer
        series: list[dict[str, Any]] = answer["data"]["result"]
        return series

    def now(self, expression: str) -> float | None:
        """The only value of an expression; None without one."""
        answer = get_json(f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        values = [float(series["value"][1]) for series in answer["data"]["result"]]
        assert len(values) <= 1, answer
        return values[0] if values else None


class Alertmanager(_WebServer):
    """By conf/alertmanager, its empty receivers given webhooks, and its waits shortened."""

    name = "alertmanager"
    ready = "/-/ready"

    def __init__(self, folder: Path, webhooks: Mapping[str, str], waits: Mapping[str, str]) -> None:
        super().__init__(port=free_port(), log=folder / "alertmanager.log")
        config = yaml.safe_load((CONF / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
        for receiver in config["receivers"]:
            receiver["webhook_configs"] = [{"url": webhooks[receiver["name"]], "send_resolved": True}]
        for route in (config["route"], *config["route"]["routes"]):
            route |= waits
        file = folder / "alertmanager.yml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        self.argv = [
            program("alertmanager"), f"--config.file={file}", f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={self.address}", "--cluster.listen-address=",
        ]  # fmt: skip

    @property
    def url(self) -> str:
        """For `notify.alertmanager`."""
        return f"http://{LOOPBACK}:{self.port}"

    def alerts(self) -> list[dict[str, Any]]:
        """What is active now."""
        found: list[dict[str, Any]] = get_json(f"{self.url}/api/v2/alerts")
        return found
