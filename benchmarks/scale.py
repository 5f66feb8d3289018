"""From a thousand meters to a million, each read once a minute: what the deployed pipeline takes for each fleet."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.candidates import Place
from benchmarks.cpu import tree_cpu_s
from benchmarks.live import Live, Traffic, deployment
from benchmarks.machine import commit, machine
from benchmarks.measure import WrongAnswer
from benchmarks.scale_driver import driver_times
from benchmarks.scale_probe import ScaleProbe
from benchmarks.soak_lake import Contents, checkpoint_files, objects
from pipelines.errors import GridwatchError, InfrastructureUnavailable
from pipelines.local.ports import free_ports
from pipelines.local.processes import Child
from pipelines.observe.resources import folder_size
from pipelines.settings import Detection
from pipelines.tables import TABLES

FLEETS = (1_000, 10_000, 100_000, 1_000_000)
CADENCE_S = 60
LIMIT_S = 720.0

_START = datetime(2026, 3, 2, tzinfo=UTC)
"""A whole number of slides at every cadence."""
_READINGS, _FEWEST, _MOST = 1_200_000, 2, 10
"""Readings of a point, and the number of window ends that it closes at least and at most."""
_BATCH = 1_000_000
"""Most readings of an archive batch, the setting's default; a fleet with fewer a slide gets a batch a slide, so that
windows close about as they do when the pipeline keeps up, and not all at once."""
_RATE = 200_000
"""More readings a second than the generator can make: it sends them as fast as it goes."""
_FILL_LIMIT_S = 1800
_TOLD_S = 15


@dataclass(frozen=True)
class Fleet:
    """So many meters, each read every so many seconds."""

    meters: int
    cadence_s: int = CADENCE_S

    @classmethod
    def of(cls, text: str) -> Fleet:
        """A fleet of `METERS` or `METERS@CADENCE`. Raises ValueError.

        >>> Fleet.of("10000@30")
        Fleet(meters=10000, cadence_s=30)
        """
        meters, _, cadence = text.partition("@")
        fleet = cls(int(meters), int(cadence or CADENCE_S))
        if not (100 <= fleet.meters <= 1_000_000 and 1 <= fleet.cadence_s <= 3600):
            raise ValueError(f"{text}: 100 to 1000000 meters at 1 to 3600 s")
        return fleet

    @property
    def name(self) -> str:
        """For its folder and topics."""
        return f"scale-{self.meters}-{self.cadence_s}"

    @property
    def slide_s(self) -> int:
        """Between two window ends, as the settings derive it from the cadence."""
        return int(Detection(cadence_s=self.cadence_s).slide_s)

    @property
    def window_ends(self) -> int:
        """How many the data close: as many as make up enough readings, within bounds.

        >>> [Fleet(meters).window_ends for meters in FLEETS]
        [10, 10, 4, 2]
        """
        return min(_MOST, max(_FEWEST, round(_READINGS / self.readings_per_slide)))

    @property
    def readings_per_slide(self) -> int:
        """Of the whole fleet, from one window end to the next."""
        return self.meters * self.slide_s // self.cadence_s

    @property
    def end(self) -> datetime:
        """Of the data; the generator's closing readings come after it and close the last window."""
        return _START + timedelta(seconds=self.window_ends * self.slide_s)


def scale(
    place: Place, fleets: tuple[Fleet, ...], broker: int, figures: dict[str, Any], *,
    seed: int, limit_s: float = LIMIT_S, driver_memory: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Fill `figures` and return it: `points`, one a fleet, and `driver`, seconds of the work that the driver does a
    meter. Points of other fleets that are in it already stay.

    `broker`: its process id. A point that ends with an error is kept with it, and the next fleet begins; the first
    error is raised at the end. One that is not done `limit_s` after the start of reading says how far it came.
    """
    failures: list[GridwatchError] = []
    for fleet in fleets:
        point = {"meters": fleet.meters, "cadence_s": fleet.cadence_s, "commit": commit(), "load_average": _load()}
        try:
            point |= _measure(place, fleet, broker, seed, limit_s, driver_memory)
        except GridwatchError as error:
            place.say(f"{fleet.name} failed: {error}")
            point["error"] = str(error).replace(str(place.folder), "...")
            failures.append(error)
        others = [one for one in figures.get("points", ()) if (one["meters"], one["cadence_s"]) != _key(fleet)]
        figures["points"] = sorted([*others, point], key=lambda one: (one["cadence_s"], one["meters"]))
    place.say("the driver's own work a meter")
    figures["driver"] = driver_times(tuple(sorted({fleet.meters for fleet in fleets})), place.folder, place.say)
    if failures:
        raise failures[0]
    return figures


def _measure(
    place: Place, fleet: Fleet, broker: int, seed: int, limit_s: float, driver_memory: str | None
) -> dict[str, Any]:
    more = {
        "GRIDWATCH_DETECTION__CADENCE_S": str(fleet.cadence_s),
        "GRIDWATCH_ALERTS__WITH_PIPELINE": "false",
        "GRIDWATCH_PIPELINE__NICENESS": "0",
        "GRIDWATCH_PIPELINE__MAX_OFFSETS_PER_TRIGGER": str(min(_BATCH, fleet.readings_per_slide)),
        "GRIDWATCH_METRICS__PORT": str(free_ports(1)[0]),
    } | ({"GRIDWATCH_PIPELINE__DRIVER_MEMORY": driver_memory} if driver_memory else {})
    rate = max(1, fleet.meters // fleet.cadence_s)
    with deployment(place, fleet.name, Traffic(rate, 1, meters=fleet.meters, seed=seed), **more) as (live, parts):
        made = _fill(live, fleet, seed)
        began = time.monotonic()
        live.start_job(parts, "run")
        probe = ScaleProbe(live, broker)
        start_s, began = time.monotonic() - began, time.monotonic()
        stopped = _drain(live, fleet, probe, limit_s)
        seconds = time.monotonic() - began
        point = {
            "readings": live.sent(),
            "archived": probe.archived(),
            "window_ends": fleet.window_ends,
            "readings_per_s": round(probe.archived() / seconds),
            "needed_per_s": round(fleet.meters / fleet.cadence_s),
            "start_s": round(start_s, 1),
            "seconds": round(seconds, 1),
            "stopped": stopped,
            "driver_memory": live.settings.pipeline.driver_memory,
            "generator": made,
            **probe.figures(),
            "heap_mib": probe.heap_mib(),
        }
        live.jobs["run"].stop(grace_s=40)
        if not stopped:
            _check(live, fleet)
        return point | _disk(live, broker_folder=place.folder / "broker")


def _fill(live: Live, fleet: Fleet, seed: int) -> dict[str, Any]:
    """Let the generator send the fleet's readings, with all its odd ones and faults; what that took."""
    words = {
        "meters": fleet.meters, "cadence": fleet.cadence_s, "start": _START.isoformat(), "end": fleet.end.isoformat(),
        "rate": _RATE, "seed": seed, "watermark": live.settings.detection.watermark,
        "topic": live.settings.kafka.topics.readings, "bootstrap-servers": live.place.bootstrap,
        "run-dir": live.folder,
    }  # fmt: skip
    command = [sys.executable, "-m", "generator", "--quiet", *(f"--{name}={value}" for name, value in words.items())]
    began, cpu_s, told = time.monotonic(), 0.0, 0.0
    child = Child.start("generator", command, log=live.folder / "generator.log")
    try:
        while child.is_running():
            cpu_s, passed = tree_cpu_s(child.pid), time.monotonic() - began
            if passed > _FILL_LIMIT_S:
                raise InfrastructureUnavailable(f"the generator was not done after {_FILL_LIMIT_S} s; see {child.log}")
            if passed - told > _TOLD_S:
                told = passed
                live.place.say(f"{fleet.name}: {live.sent():,} readings in Kafka")
            time.sleep(0.2)
    finally:
        code = child.stop()
    if code:
        raise InfrastructureUnavailable(f"the generator ended with {code}: {child.log_tail(3)}")
    seconds, sent = time.monotonic() - began, live.sent()
    live.place.say(f"{fleet.name}: {sent:,} readings made in {seconds:.0f} s, {sent / seconds:,.0f}/s")
    return {"seconds": round(seconds, 1), "cpu_s": round(cpu_s, 1), "readings_per_s": round(sent / seconds)}


def _drain(live: Live, fleet: Fleet, probe: ScaleProbe, limit_s: float) -> str | None:
    """Sample until every reading is stored and the last window is closed; else why it was stopped."""
    began, told, sent, done_ms = time.monotonic(), 0.0, live.sent(), 1000 * fleet.end.timestamp()
    while True:
        probe.take()
        archived, passed = probe.archived(), time.monotonic() - began
        if archived >= sent and (tick := live.last_tick()) >= done_ms:
            live.place.say(f"{fleet.name}: done in {passed:.0f} s, {sent / passed:,.0f}/s")
            return None
        if passed > limit_s:
            tick = live.last_tick()
            closed = max(0, round((tick / 1000 - _START.timestamp()) / fleet.slide_s)) if tick else 0
            return (
                f"after {limit_s:.0f} s: {archived:,} of {sent:,} stored, {closed} of {fleet.window_ends} ends closed"
            )
        if passed - told > _TOLD_S:
            told = passed
            live.place.say(f"{fleet.name}: {archived:,} of {sent:,} stored, {passed:.0f} s")
        live.require_jobs()
        time.sleep(1)


def _check(live: Live, fleet: Fleet) -> None:
    """Raises WrongAnswer unless every record stands where it belongs, and every window end has its rows once."""
    live.verified()
    sql = "SELECT count(DISTINCT window_end), count(*) - count(DISTINCT (meter_id, window_end)) FROM meter_windows"
    if (found := live.ask(sql)[0]) != (fleet.window_ends, 0):
        raise WrongAnswer(f"{fleet.name}: window ends and rows too many are {found}, expected {fleet.window_ends}, 0")


def _disk(live: Live, broker_folder: Path) -> dict[str, Any]:
    """Bytes and files of the topic, the tables and the checkpoint."""
    contents, topic = Contents(live.settings), live.settings.kafka.topics.readings
    segments = [log for log in broker_folder.rglob("*.log") if log.parent.name.rpartition("-")[0] == topic]
    tables = {}
    for table in TABLES.values():
        content = contents.of(table)
        if content and content.version:
            found = objects(Path(live.settings.lake.root, table.name))
            tables[table.name] = {
                "rows": content.rows, "bytes": content.bytes, "files": content.files, "all_bytes": found.bytes,
                "all_files": found.data + found.log,
            }  # fmt: skip
    checkpoint = Path(live.settings.pipeline.checkpoint)
    return {
        "kafka_bytes": sum(log.stat().st_size for log in segments),
        "checkpoint_bytes": folder_size(checkpoint)[0],
        "checkpoint_files": sum(checkpoint_files(checkpoint).values()),
        "tables": tables,
    }


def _load() -> float:
    return float(machine()["load_average"][0])


def _key(fleet: Fleet) -> tuple[int, int]:
    return fleet.meters, fleet.cadence_s
