"""The engines that work off a loaded topic: how each is started, when it is done, what it must have found."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from benchmarks.answers import Answer, answer
from benchmarks.load import Load, create_topic, fill_topic
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
from benchmarks.product import ALERTS, READY, RUN, WITHOUT_WINDOWS, Product, ids_by_type, place_product
from pipelines.jobs.pipeline import prepare
from pipelines.local import Say
from pipelines.local.processes import Child

_POLL_S = 0.5
"""Asking the tables takes CPU from the engine."""
_END_S = 20.0
_NO_MORE: Mapping[str, str] = MappingProxyType({})


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
        name = _unique(engine, load)
        return Job(self.bootstrap, load.topic, f"out-{name}", self.folder / name, load)

    def product(self, engine: str, load: Load, **more: str) -> Product:
        """A deployment of gridwatch over a loaded topic."""
        return place_product(
            self.bootstrap, self.folder / _unique(engine, load), readings=load.topic, meters=load.meters,
            cadence_s=load.cadence_s, **more,
        )  # fmt: skip


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

    def start(job: Job) -> Child:
        command = [sys.executable, "-m", "benchmarks.engines.plain", str(job.write())]
        return Child.start("plain", command, log=job.folder / "engine.log", env=engine_environment())

    return run_peer(place, "plain", load, start)


def run_gridwatch(place: Place, load: Load, *, windows: bool = True, more: Mapping[str, str] = _NO_MORE) -> Timing:
    """Time the pipeline as it runs, from its first read to the last record in `audit` and, with windows, the last
    window's tick. CPU is that of driver, JVM and workers. The alerts are stopped: `run_alerts` times them.

    `more`: environment variables of further settings.
    """
    command, engine = (RUN, "gridwatch") if windows else (WITHOUT_WINDOWS, "gridwatch-archive")
    product, expected = place.product(engine, load, **more), answer(load)
    with Outlet(product.bootstrap, product.settings.kafka.topics.ticks) as ticks:
        # The tick of a window end is sent after everything else of it.
        closed = load.window_ends if windows else 0
        timing = time_engine(
            engine,
            lambda: product.start(command),
            readings=load.readings,
            is_done=lambda: ticks.count() >= closed and product.archived() >= load.records,
            limit_s=place.limit_s,
            say=place.say,
            ready=READY[command],
            poll_s=_POLL_S,
            end_s=_END_S,
        )
    if windows:
        compare(engine, flagged_by_gridwatch(product.records_of_meters()), expected.alone)
    _check_tables(engine, product, load, expected, windows=windows)
    return timing


def run_alerts(place: Place, load: Load) -> Timing:
    """Time one member of the alerts' group over the whole topic, alone, from its first read to its last commit."""
    product, expected = place.product("alerts", load), answer(load)
    prepare(product.settings, place.say)  # tables, fleet, and where the alerts begin
    timing = time_engine(
        "alerts",
        lambda: product.start(ALERTS),
        readings=load.readings,
        is_done=lambda: product.judged() >= load.records,
        limit_s=place.limit_s,
        say=place.say,
        ready=READY[ALERTS],
        poll_s=_POLL_S,
        end_s=_END_S,
    )
    ids = ids_by_type(product.records_of_meters())
    right = {
        "undervoltage": expected.readings_low,
        "overvoltage": expected.readings_high,
        "voltage_spike": expected.readings_high,
    }
    if (found := {name: len(ids.get(name, ())) for name in right}) != right:
        raise WrongAnswer(f"alerts: anomalies of readings {found}, expected {right}")
    return timing


def _check_tables(engine: str, product: Product, load: Load, expected: Answer, *, windows: bool) -> None:
    """Every record is accounted for, and every window is stored once."""
    wanted: dict[str, tuple[int, ...]] = {
        "SELECT count(*), count(DISTINCT (kafka_partition, kafka_offset)) FROM readings": (load.records,) * 2,
        "SELECT sum(records_in)::BIGINT, sum(accepted)::BIGINT FROM audit": (load.records,) * 2,
        "SELECT count(*) FROM readings WHERE is_late OR is_resent": (0,),
    }
    if windows:
        stored = "SELECT count(*), count(DISTINCT (meter_id, window_end)) FROM meter_windows WHERE n > 0"
        wanted[stored] = (expected.windows,) * 2
    for sql, right in wanted.items():
        if (found := product.ask(sql)[0]) != right:
            raise WrongAnswer(f"{engine}: {sql} gives {found}, expected {right}")


def _unique(engine: str, load: Load) -> str:
    return f"{engine}-{load.readings}-{uuid.uuid4().hex[:6]}"
