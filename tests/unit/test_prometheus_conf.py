"""conf/prometheus, conf/alertmanager and conf/grafana agree with the metrics, the runbook and one another.

What Prometheus' and Alertmanager's own tools say is in tests/prometheus; that every query returns data, too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipelines.alerts.group_metrics import GroupCollector
from pipelines.lake_sql import open_lake, run_sql
from pipelines.observe.lag import BrokerEnds, LagCollector
from pipelines.observe.metrics import AlertsMetrics, NotifyMetrics, PipelineMetrics
from pipelines.observe.resources import JvmSample, Resources
from pipelines.settings import Kafka, Settings
from pipelines.small_tables import create_tables

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
NAME = re.compile(r"\b((?:\w+:)?gridwatch_\w+(?::\w+)?)\b")


def rules(file: str) -> list[dict[str, Any]]:
    loaded = yaml.safe_load((CONF / "prometheus" / file).read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


ALERTS, RECORDED = rules("alerting.yml"), {rule["record"] for rule in rules("recording.yml")}
DASHBOARDS = {
    p.stem: json.loads(p.read_text(encoding="utf-8")) for p in (CONF / "grafana" / "dashboards").glob("*.json")
}


def queries() -> Iterator[str]:
    for dashboard in DASHBOARDS.values():
        for panel in dashboard["panels"]:
            yield from (target["expr"] for target in panel.get("targets", []))


_NOBODY: Any = SimpleNamespace(members=lambda: 0, committed=dict)
"""A group of the alerts that nobody has joined."""


def exported() -> set[str]:
    """Every sample name that our programs can export."""
    names: set[str] = set()
    for program in (PipelineMetrics(), AlertsMetrics(), NotifyMetrics()):
        program.registry.register(GroupCollector(_NOBODY))
        program.registry.register(LagCollector(BrokerEnds(Kafka(bootstrap_servers="127.0.0.1:1")), dict))
        program.registry.register(Resources({"lake": "/"}, pid=1, jvm=JvmSample({"used": 1}, {"x": 1}, {"x": 1}, 1)))
        for family in program.registry.collect():
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            names |= {family.name + suffix for suffix in suffixes}
    return names


EXPORTED = exported()


def test_every_name_in_rules_and_dashboards_is_exported_or_recorded() -> None:
    expressions = [rule["expr"] for rule in (*ALERTS, *rules("recording.yml"))] + list(queries())
    used = {name for text in expressions for name in NAME.findall(text)}
    assert len(used) > 40
    assert not used - EXPORTED - RECORDED


def test_every_recorded_figure_is_used() -> None:
    used = {name for text in [rule["expr"] for rule in ALERTS] + list(queries()) for name in NAME.findall(text)}
    assert not RECORDED - used


def test_every_alert_has_a_severity_a_summary_and_its_section_in_the_runbook() -> None:
    sections = {line[3:].lower() for line in RUNBOOK.splitlines() if line.startswith("## ")}
    assert sections == {rule["alert"].lower() for rule in ALERTS}
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_every_panel_that_the_runbook_names_exists() -> None:
    titles = {panel["title"] for dashboard in DASHBOARDS.values() for panel in dashboard["panels"]}
    named = {" ".join(name.split()) for name in re.findall(r"\*(\w[^*`]+\w)\*", RUNBOOK)}
    assert named
    assert named <= titles


def test_every_alert_is_tested_silent_and_firing() -> None:
    files = [
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "tests/prometheus").glob("*_test.yml")
    ]
    checks = [check for file in files for test in file["tests"] for check in test["alert_rule_test"]]
    for rule in ALERTS:
        outcomes = {bool(check["exp_alerts"]) for check in checks if check["alertname"] == rule["alert"]}
        assert outcomes == {True, False}, rule["alert"]


def test_alertmanager_has_a_receiver_for_every_severity_and_knows_the_alerts_it_inhibits() -> None:
    config = yaml.safe_load((CONF / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"))
    assert {receiver["name"] for receiver in config["receivers"]} == {"warning", "error", "critical"}
    known = {rule["alert"] for rule in ALERTS} | {"GridIncident"}
    named = set(re.findall(r"Grid\w+", json.dumps(config["inhibit_rules"])))
    assert named
    assert named <= known


def test_the_dashboards_are_what_panels_yml_says() -> None:
    done = subprocess.run([sys.executable, "-m", "scripts.make_dashboards", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_panels_have_ids_of_their_own_a_place_of_their_own_and_the_provisioned_datasource(name: str) -> None:
    dashboard = DASHBOARDS[name]
    panels = dashboard["panels"]
    assert dashboard["uid"] == name
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
    text = (CONF / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text(encoding="utf-8")
    (source,) = yaml.safe_load(text)["datasources"]
    targets = [target for panel in panels for target in panel.get("targets", [])]
    assert {target["datasource"]["uid"] for target in targets} == {source["uid"]}


def test_no_series_on_a_dashboard_is_named_by_a_meter() -> None:
    legends = {
        label
        for dashboard in DASHBOARDS.values()
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"])
    }
    assert legends
    assert not [label for label in legends if "meter" in label]


def test_the_query_that_names_the_worst_meters_runs(tmp_path: Path) -> None:
    (text,) = [
        panel["options"]["content"] for panel in DASHBOARDS["gridwatch-grid"]["panels"] if panel["type"] == "text"
    ]
    (query,) = re.findall(r'gridwatch sql "(.*?)"\n', text, flags=re.DOTALL)
    settings = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(settings)
    with open_lake(settings) as lake:
        found = run_sql(lake, query)
        assert [column[0] for column in found.description or ()] == ["meter_id", "feeder_id", "mean_v", "pu"]
