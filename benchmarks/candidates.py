"""gridwatch and the plain build as candidates: how each is started, when it is done, what it must have found."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.answers import Answer, answer
from benchmarks.load import Load, create_topic, fill_topic, write_fleet
from benchmarks.measure import (
    Job,
    Outlet,
    Timing,
    WrongAnswer,
    compare,
    engine_environment,
    flagged_by_gridwatch,
    flagged_by_peer,
    time_engine,
)
from pipelines.lake_sql import open_lake
from pipelines.local import Say
from pipelines.local.processes import Child
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from pipelines.topics import create_topics


@dataclass(frozen=True)
class Place:
    """Where a benchmark runs: the broker, the folder of its files, who is told of progress, and a time limit."""

    bootstrap: str
    folder: Path
    say: Say
    limit_s: float = 900.0
    loaded: set[str] = field(default_factory=set)
    """Topics that hold their load already."""

    def fill(self, load: Load) -> None:
        """Put a load into its topic, unless it is there."""
        if load.topic not in self.loaded:
            fill_topic(self.bootstrap, load, self.folder, self.say)
            self.loaded.add(load.topic)

    def job(self, engine: str, load: Load) -> Job:
        """A job over a loaded topic, with an output topic and a folder nobody else has."""
        name = f"{engine}-{load.readings}-{uuid.uuid4().hex[:6]}"
        return Job(self.bootstrap, load.topic, f"out-{name}", self.folder / name, load)


def run_peer(place: Place, engine: str, load: Load, start: Callable[[Job], Child]) -> Timing:
    """Time an engine that sends flagged windows; raises WrongAnswer when they are not the expected ones."""
    job, expected = place.job(engine, load), answer(load).deviating
    create_topic(job.bootstrap, job.out)
    with Outlet(job.bootstrap, job.out) as outlet:
        timing = time_engine(
            engine,
            lambda: start(job),
            readings=load.readings,
            # The last of them close only by the closing readings: so many mean that all was read.
            is_done=lambda: outlet.count() >= len(expected),
            limit_s=place.limit_s,
            say=place.say,
        )
        compare(engine, flagged_by_peer(outlet.read()), expected)
    return timing


def run_plain(place: Place, load: Load) -> Timing:
    """Time the plain build."""
    return run_peer(place, "plain", load, lambda job: start_module(job, "benchmarks.engines.plain", str(job.write())))


def run_gridwatch(place: Place, load: Load, mode: str, **more: str) -> Timing:
    """Time gridwatch: `windows` parses, checks and judges windows from Kafka; `archive` also stores every reading.

    `more`: environment variables of further settings.
    """
    engine = f"gridwatch-{mode}"
    job, expected = place.job(engine, load), answer(load)
    write_fleet(job.folder / "fleet.csv", load)
    environment = product_environment(job.bootstrap, job.folder, readings=job.topic, suffix=job.folder.name)
    environment |= {"GRIDWATCH_DETECTION__CADENCE_S": str(load.cadence_s), **more}
    settings = load_settings(environment=environment).settings
    create_topics(settings)
    with Outlet(job.bootstrap, settings.kafka.topics.ticks) as ticks:
        timing = time_engine(
            engine,
            lambda: start_module(job, "benchmarks.engines.gridwatch", mode, environment=environment),
            readings=load.readings,
            # The tick of a window end is sent after everything else of it.
            is_done=lambda: ticks.count() >= load.window_ends,
            limit_s=place.limit_s,
            say=place.say,
        )
    events = _anomalies_of_meters(settings)
    compare(engine, flagged_by_gridwatch(iter(events)), expected.alone)
    _check_tables(engine, settings, load, expected, archived=mode == "archive")
    if mode == "archive":
        _check_readings_anomalies(engine, events, expected)
    return timing


def product_environment(bootstrap: str, folder: Path, *, readings: str, suffix: str) -> dict[str, str]:
    """Settings of one run of the product: topics, tables and a checkpoint of its own."""
    topics = {
        name: f"{name.lower()}-{suffix}" for name in ("ANOMALIES", "HEARTBEATS", "TICKS", "INCIDENTS", "DEAD_LETTERS")
    }
    return {
        "GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "GRIDWATCH_KAFKA__TOPICS__READINGS": readings,
        **{f"GRIDWATCH_KAFKA__TOPICS__{name}": topic for name, topic in topics.items()},
        "GRIDWATCH_LAKE__ROOT": str(folder / "lake"),
        "GRIDWATCH_LAKE__FLEET": str(folder / "fleet.csv"),
        "GRIDWATCH_PIPELINE__CHECKPOINT": str(folder / "checkpoint"),
    }


def start_module(job: Job, module: str, *words: str, environment: Mapping[str, str] | None = None) -> Child:
    """Start `python -m module words` with its log in the job's folder."""
    command = [sys.executable, "-m", module, *words]
    return Child.start(module, command, log=job.folder / "engine.log", env=engine_environment(**(environment or {})))


def _anomalies_of_meters(settings: Settings) -> list[Any]:
    with Outlet(settings.kafka.bootstrap_servers, settings.kafka.topics.anomalies) as outlet:
        return [record for record in outlet.read() if record.key.startswith(b"m")]


def _check_tables(engine: str, settings: Settings, load: Load, expected: Answer, *, archived: bool) -> None:
    """Every window is stored once and, with the archive, every record is accounted for."""
    stored = "SELECT count(*), count(DISTINCT (meter_id, window_end)) FROM meter_windows WHERE n > 0"
    wanted: dict[str, tuple[int, ...]] = {stored: (expected.windows,) * 2}
    if archived:
        wanted["SELECT count(*), count(DISTINCT (kafka_partition, kafka_offset)) FROM readings"] = (load.records,) * 2
        wanted["SELECT sum(records_in)::BIGINT, sum(accepted)::BIGINT FROM audit"] = (load.records,) * 2
        wanted["SELECT count(*) FROM readings WHERE is_late OR is_resent"] = (0,)
    with open_lake(settings) as lake:
        for sql, right in wanted.items():
            if (found := lake.execute(sql).fetchone()) != right:
                raise WrongAnswer(f"{engine}: {sql} gives {found}, expected {right}")


def _check_readings_anomalies(engine: str, events: list[Any], expected: Answer) -> None:
    ids: dict[str, set[str]] = {}
    for record in events:
        event = json.loads(record.value)
        if event["stage"] == "reading":
            ids.setdefault(event["anomalyType"], set()).add(event["anomalyId"])
    right = {
        "undervoltage": expected.readings_low,
        "overvoltage": expected.readings_high,
        "voltage_spike": expected.readings_high,
    }
    found = {name: len(ids.get(name, ())) for name in right}
    if found != right:
        raise WrongAnswer(f"{engine}: reading anomalies {found}, expected {right}")
