"""What `--help` says after the options: examples, files and exit codes, so that it serves as a manual page."""

from __future__ import annotations

import argparse

_CODES = "exit codes: 0 done, 2 settings or usage, 3 data refused, 4 infrastructure not reachable, 130 interrupted."
_PLACES = "Settings come from --settings FILE (or GRIDWATCH_SETTINGS), GRIDWATCH_* variables and --set, in this order."

_EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": (
        "gridwatch demo                                  # a minute of traffic, a report",
        "gridwatch demo --seconds 120 --hold             # stay with broker and console until Ctrl-C",
        "gridwatch demo --dir runs/demo --report r.json  # keep tables and logs",
        "gridwatch demo --store minio                    # tables in a real MinIO; needs Go",
    ),
    "run": ("gridwatch run --settings my.toml", "gridwatch run --set lake.root=s3a://grid/lake"),
    "check": (
        "gridwatch check --settings my.toml",
        "gridwatch check --settings my.toml --sample 5000   # are my records readings?",
        "gridwatch check --json | jq -e .ok                 # in a script",
    ),
    "describe": ("gridwatch describe --set detection.cadence_s=60",),
    "verify": ("gridwatch verify --settings my.toml", "gridwatch verify --json | jq .unaccounted"),
    "quality": (
        "gridwatch quality --settings my.toml                  # yesterday, from a scheduler",
        "gridwatch quality --day 2026-03-01 --report-dir reports",
        "gridwatch quality --day 2026-03-01 --json | jq .failed",
    ),
    "sql": (
        'gridwatch sql "SELECT anomaly_type, count(*) FROM anomalies GROUP BY ALL"',
        'gridwatch sql --format csv "SELECT * FROM readings WHERE NOT is_resent" > readings.csv',
        'gridwatch sql --engine spark "SELECT count(*) FROM readings"',
    ),
    "topics create": ("gridwatch topics create --set kafka.bootstrap_servers=kafka-1:9092",),
    "broker start": ("gridwatch broker start", "gridwatch broker start --dir runs/mine --port 9092"),
    "objectstore start": ("gridwatch objectstore start",),
    "broker stop": ("gridwatch broker stop",),
    "objectstore stop": ("gridwatch objectstore stop",),
    "alerts": ("gridwatch alerts --settings my.toml   # one more member, on this host or another",),
    "notify": ("gridwatch notify --settings my.toml --set notify.alertmanager=http://127.0.0.1:9093",),
    "doctor": ("gridwatch doctor --settings my.toml", "gridwatch doctor --json | jq -e .ok"),
    "checkpoint show": ("gridwatch checkpoint show --settings my.toml",),
    "checkpoint new-generation": (
        "gridwatch checkpoint new-generation --settings my.toml --from-offsets tables",
        "gridwatch checkpoint new-generation --settings my.toml --rebuild   # the windows again, from readings",
    ),
    "skip-range": ('gridwatch skip-range 0:100-199 --settings my.toml --why "disk of the broker"',),
    "upgrade": ("gridwatch upgrade --settings my.toml", "gridwatch upgrade --settings my.toml --yes"),
    "maintain": ("gridwatch maintain --settings my.toml",),
    "dlq list": ("gridwatch dlq list --settings my.toml",),
    "dlq show": (
        "gridwatch dlq show --reason future_timestamp --limit 5",
        "gridwatch dlq show --partition 0 --offset 4711 --out record.bin",
    ),
    "dlq replay": ("gridwatch dlq replay --reason future_timestamp --dry-run",),
    "recompute": (
        "gridwatch recompute --from 2026-03-01T12:00 --to 2026-03-01T14:00 --dry-run",
        "gridwatch recompute --from 2026-03-01 --to 2026-03-02 --settings my.toml --notify",
    ),
    "detect": ("gridwatch detect --readings readings.parquet --fleet conf/fleet.csv --out results",),
    "evaluate": (
        "gridwatch evaluate --results results --readings readings.parquet --fleet conf/fleet.csv --labels labels.csv",
    ),
    "profiles": ("gridwatch profiles --settings my.toml   # once a day, from a scheduler",),
    "backtest": ("gridwatch backtest --from 2026-03-01 --to 2026-03-02 --set detection.sigma=3",),
}
"""By command: lines that a user may type. Commands that are not here bring an example of their own."""

_NOTES = {
    "check": "A warning stops nothing. With --sample the pipeline's decoder judges the records; nothing is written.",
    "verify": "Exit code 3 names the offsets of what is lost or stored twice; lag is not loss.",
    "run": "The first start creates missing tables. Ctrl-C and SIGTERM end it after the running batch.",
}


def add_manual(parser: argparse.ArgumentParser) -> None:
    """Put notes and examples below the options of every command, after what it says itself."""
    for name, command in _commands(parser):
        lines = []
        if note := _NOTES.get(name):
            lines.append(note)
        if examples := _EXAMPLES.get(name):
            lines.append("examples:\n" + "\n".join(f"  {line}" for line in examples))
            has_settings = any(action.dest == "settings" for action in command._actions)
            codes = "" if "exit codes" in (command.epilog or "") else _CODES
            lines.append(f"{_PLACES if has_settings else ''}\n{codes}".strip())
        if lines:
            command.epilog = "\n\n".join([*([command.epilog] if command.epilog else []), *lines])
            command.formatter_class = argparse.RawDescriptionHelpFormatter


def _commands(parser: argparse.ArgumentParser, prefix: str = "") -> list[tuple[str, argparse.ArgumentParser]]:
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                found += [(prefix + name, child), *_commands(child, f"{prefix}{name} ")]
    return found
