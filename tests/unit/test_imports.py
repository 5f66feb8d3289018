"""Imports point one way, so that a plan can be tested without a network and read without a program around it.

errors <- settings, contract <- tables <- {sources, sinks, observe} <- jobs
<- {cli, local demo, console}
"""

from __future__ import annotations

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LEVELS: tuple[tuple[str, ...], ...] = (
    ("pipelines.errors", "pipelines.durations", "pipelines.heap", "pipelines.conf_files", "pipelines.credentials",
     "pipelines.secret_files", "pipelines.places", "pipelines.write_times", "pipelines.kafka_refusals",
     "pipelines.addresses", "pipelines.former_settings", "pipelines.restarts"),
    ("pipelines.detection_settings", "pipelines.csv_files"),
    ("pipelines.watch_settings", "pipelines.console_settings", "pipelines.quality_settings",
     "pipelines.place_settings"),
    ("pipelines.settings", "pipelines.contract", "pipelines.setting_facts", "pipelines.package"),
    ("pipelines.settings_load", "pipelines.tables", "pipelines.kafka_options", "pipelines.kafka_tls",
     "pipelines.store_tls", "pipelines.lake_views", "pipelines.windows.panes", "pipelines.lake.store",
     "pipelines.lake.parquet", "pipelines.lake.frames"),
    ("pipelines.anomalies",),
    ("pipelines.sources", "pipelines.sinks", "pipelines.observe", "pipelines.topics",
     "pipelines.lake_sql", "pipelines.lake_probe", "pipelines.kafka_probe",
     "pipelines.local", "pipelines.broker"),
    ("pipelines.readings", "pipelines.windows"),
    ("pipelines.incidents",),
    ("pipelines.small_tables", "pipelines.session", "pipelines.evaluation"),
    ("pipelines.lake", "pipelines.readings.past", "pipelines.incidents.positions", "pipelines.incidents.tables",
     "pipelines.incidents.actions_archive"),
    ("pipelines.client_errors", "pipelines.table_features"),
    ("pipelines.fleet", "pipelines.reconcile", "pipelines.lake_spark", "pipelines.identity", "pipelines.upkeep",
     "pipelines.notify", "pipelines.readings.carry_out", "pipelines.incidents.writer", "pipelines.incidents.reader"),
    ("pipelines.jobs", "pipelines.quality", "pipelines.readings.query", "pipelines.readings.decision",
     "pipelines.windows.query", "pipelines.windows.latest", "pipelines.windows.fill", "pipelines.alerts",
     "pipelines.offline", "pipelines.incidents.query"),
    ("pipelines.describe", "pipelines.doctor", "pipelines.sample", "pipelines.console", "pipelines.local.demo",
     "pipelines.local.demo_console", "pipelines.local.demo_report"),
    ("pipelines.cli", "pipelines.__main__"),
)  # fmt: skip
"""From the bottom up: a module imports modules of lower levels, and of its own package."""

APART = ("pipelines.sources", "pipelines.sinks", "pipelines.observe")
"""These never import one another."""

ALLOWED = {
    # The entry of spark-submit hands its arguments to the command `gridwatch run`.
    ("pipelines.jobs.pipeline", "pipelines.cli"),
}
"""Imports against the order, each with its reason. That `session` imports `local.java` and `local.jars` (what
must stand before the JVM starts) is in the order: `local` without the demo lies below it."""

GENERATOR_USERS = {"pipelines.cli.jobs", "pipelines.local.demo", "pipelines.local.demo_report"}
"""The only modules of the pipeline that may know the generator: the command that starts it, and the demo."""


def modules() -> dict[str, Path]:
    found = [*ROOT.glob("pipelines/**/*.py"), *ROOT.glob("generator/**/*.py")]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


MODULES = modules()


def imports() -> Iterator[tuple[str, str]]:
    """Importing and imported module, wherever in the file the import stands."""
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    deeper = f"{node.module}.{alias.name}"
                    yield name, deeper if deeper in MODULES else node.module
            elif isinstance(node, ast.Import):
                yield from ((name, alias.name) for alias in node.names)


IMPORTS = sorted({(a, b) for a, b in imports() if b.partition(".")[0] in ("pipelines", "generator")})


def unit(module: str) -> str:
    """The longest entry of LEVELS that the module belongs to."""
    entries = [entry for level in LEVELS for entry in level if is_in(module, entry)]
    return max(entries, key=len, default="")


def is_in(module: str, entry: str) -> bool:
    return module == entry or module.startswith(entry + ".")


def level(module: str) -> int:
    return next(number for number, entries in enumerate(LEVELS) if unit(module) in entries)


def test_every_module_has_a_place_in_the_order() -> None:
    assert not [m for m in MODULES if m.startswith("pipelines.") and not unit(m)]


def test_imports_point_down_the_order() -> None:
    wrong = [
        f"{a} imports {b}"
        for a, b in IMPORTS
        if a.startswith("pipelines.") and b.startswith("pipelines.")
        if unit(a) != unit(b) and level(b) > level(a)
        if (a, unit(b)) not in ALLOWED
    ]
    assert not wrong


def test_sources_sinks_and_observe_do_not_know_one_another() -> None:
    wrong = [
        f"{a} imports {b}"
        for a, b in IMPORTS
        for mine in APART
        for other in APART
        if mine != other and is_in(a, mine) and is_in(b, other)
    ]
    assert not wrong


def test_the_generator_and_the_pipeline_are_two_programs() -> None:
    assert not [pair for pair in IMPORTS if is_in(pair[0], "generator") and is_in(pair[1], "pipelines")]
    users = {a for a, b in IMPORTS if is_in(a, "pipelines") and is_in(b, "generator")}
    assert users <= GENERATOR_USERS


def test_nothing_that_ships_knows_the_benchmarks() -> None:
    assert not [(a, b) for a, b in imports() if b.partition(".")[0] == "benchmarks"]


def test_what_judges_knows_no_session_no_table_and_no_broker() -> None:
    forbidden = ("pipelines.session", "pipelines.settings_load", "pipelines.small_tables", "pipelines.topics")
    judging = ("pipelines.anomalies", "pipelines.readings", "pipelines.windows")
    assert not [(a, b) for a, b in IMPORTS if unit(a) in judging and unit(b) in forbidden]


@pytest.mark.parametrize("name", sorted(m for m in MODULES if not m.endswith("__main__")))
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
