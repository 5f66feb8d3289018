"""Writes conf/grafana/dashboards/*.json from conf/grafana/panels.yml: `python -m scripts.make_dashboards [--check]`.

A dashboard's JSON is 40 lines a panel, of which three say something; those three stand in panels.yml.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "conf" / "grafana"
DATASOURCE = {"type": "prometheus", "uid": "gridwatch-prometheus"}
COLUMNS = 24

Entry = Mapping[str, Any]
"""A dashboard, row or panel of panels.yml."""


def as_json(dashboard: Entry) -> str:
    """The file Grafana reads."""
    document = {
        "uid": dashboard["uid"], "title": dashboard["title"], "description": dashboard["about"], "tags": ["gridwatch"],
        "timezone": "utc", "schemaVersion": 39, "refresh": "15s", "time": {"from": "now-1h", "to": "now"},
        "editable": False, "graphTooltip": 1, "panels": list(_panels(dashboard)),
    }  # fmt: skip
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _panels(dashboard: Entry) -> Iterator[dict[str, Any]]:
    number = top = 0
    for row in dashboard["rows"]:
        left = 0
        for panel in row["panels"]:
            number += 1
            place = {"x": left, "y": top, "w": panel["width"], "h": row["height"]}
            common = {"id": number, "title": panel["title"], "gridPos": place}
            yield common | (_text(panel) if "text" in panel else _figure(panel))
            left += panel["width"]
        if left != COLUMNS:
            raise ValueError(
                f"{dashboard['uid']}: a row is {left} columns wide, not {COLUMNS}: {row['panels'][0]['title']}"
            )
        top += row["height"]


def _text(panel: Entry) -> dict[str, Any]:
    return {"type": "text", "options": {"mode": "markdown", "content": panel["text"]}}


def _figure(panel: Entry) -> dict[str, Any]:
    kind = panel.get("kind", "timeseries")
    stacked = panel.get("stacked", False)
    defaults: dict[str, Any] = {"unit": panel["unit"]}
    if panel.get("least", 0) is not None:
        defaults["min"] = panel.get("least", 0)
    if kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1, "fillOpacity": 20 if stacked else 0, "showPoints": "never",
            "stacking": {"mode": "normal" if stacked else "none"},
        }  # fmt: skip
    return {
        "type": kind, "description": panel.get("about", ""), "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []}, "options": _options(kind),
        "targets": list(_targets(panel["queries"], is_now=kind != "timeseries")),
    }  # fmt: skip


def _options(kind: str) -> dict[str, Any]:
    if kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    shown = {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "auto"}
    return shown | ({"displayMode": "basic"} if kind == "bargauge" else {"colorMode": "none", "graphMode": "area"})


def _targets(queries: Mapping[str, str], *, is_now: bool) -> Iterator[dict[str, Any]]:
    for number, (legend, expression) in enumerate(queries.items()):
        target = {"refId": chr(65 + number), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
        yield target | ({"instant": True, "range": False} if is_now else {"range": True})


def main() -> int:
    """Write the files, or say which differ."""
    declared = yaml.safe_load((FOLDER / "panels.yml").read_text(encoding="utf-8"))
    wanted = {FOLDER / "dashboards" / f"{one['uid']}.json": as_json(one) for one in declared}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.name} is not what panels.yml says: python -m scripts.make_dashboards", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
