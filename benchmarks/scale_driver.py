"""Work that the driver's Python does for every meter or reading, each alone and without Spark: what does not spread
over executors."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from generator.fleet import build_fleet, write_fleet
from pipelines.fleet import load_reference_tables
from pipelines.incidents.sessions import sessionise
from pipelines.local import Say
from pipelines.observe.grid import worst_voltages
from pipelines.readings.recent_keys import RecentKeys
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import arrow_schema, create_tables, merge_rows, read_rows, replace_rows_once
from pipelines.tables import BASELINES, INCIDENTS, METERS

CADENCE_S = 60
ODD = 100
"""One meter in so many has an anomaly in the batch of incidents."""
_AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def driver_times(fleets: tuple[int, ...], folder: Path, say: Say) -> list[dict[str, Any]]:
    """One row a fleet: seconds of each piece of work, and the memory of the keys of `input.resent_horizon`."""
    return [_times(meters, folder / f"driver-{meters}", say) for meters in fleets]


def _times(meters: int, folder: Path, say: Say) -> dict[str, Any]:
    folder.mkdir(parents=True)
    settings = Settings.model_validate({"lake": {"root": str(folder / "lake"), "fleet": str(folder / "fleet.csv")}})
    create_tables(settings)
    fleet = build_fleet(meters, 7)
    write_fleet(fleet, folder / "fleet.csv")
    ids = pa.array(fleet["meter_id"])
    baselines, windows, odd = _baselines(ids), _windows(ids), _incidents(fleet["meter_id"].tolist()[::ODD], settings)
    batch = BatchId("driver", "windows", 1)
    keys = RecentKeys()
    row = {
        "meters": meters,
        "fleet_load_s": _timed(lambda: load_reference_tables(settings)),
        "fleet_read_s": _timed(lambda: read_rows(settings, METERS)),
        "baselines_write_s": _timed(lambda: replace_rows_once(baselines, settings, BASELINES, batch)),
        "baselines_read_s": _timed(lambda: read_rows(settings, BASELINES)),
        "keys_fill_s": _timed(lambda: _fill(keys, meters, int(settings.resent_horizon_s))),
        "keys_batch_s": _timed(lambda: _one_minute(keys, meters)),
        "keys_mib": round(len(keys) * 8 / 2**20, 1),
        "bands_s": _timed(lambda: worst_voltages(windows, {}, settings.detection, 10)),
        "incidents_s": _timed(odd),
    }
    say(f"{meters:,} meters: " + ", ".join(f"{name} {value:g}" for name, value in row.items() if name != "meters"))
    return row


def _baselines(ids: pa.Array) -> pa.Table:
    count = len(ids)
    volts = np.full(count, 230.0)
    times = {"window_start": _AT - timedelta(minutes=15), "window_end": _AT}
    given: dict[str, Any] = {name: pa.array([at] * count, pa.timestamp("us", "UTC")) for name, at in times.items()}
    given |= {"meter_id": ids, "n": np.full(count, 15), "mean_v": volts, "std_v": volts / 100}
    schema = arrow_schema(BASELINES)
    columns = [given[field.name] if field.name in given else pa.nulls(count, field.type) for field in schema]
    return pa.table(columns, names=schema.names).cast(schema)


def _windows(ids: pa.Array) -> pa.Table:
    count = len(ids)
    return pa.table({"meter_id": ids, "n": np.full(count, 15), "mean_v": 230.0 + np.arange(count) % 7})


def _fill(keys: RecentKeys, meters: int, horizon_s: int) -> None:
    """A horizon full of readings, a minute at a time."""
    for minute in range(horizon_s // 60):
        keys.add(*_readings(meters * 60 // CADENCE_S, minute))


def _one_minute(keys: RecentKeys, meters: int) -> None:
    """A batch of one more minute, as the archive treats it."""
    found = _readings(meters * 60 // CADENCE_S, 10)
    keys.find_resent(*found)
    keys.add(*found)


def _readings(count: int, minute: int) -> tuple[Any, Any]:
    draws = np.random.Generator(np.random.Philox(key=minute))
    keys = draws.integers(-(2**63), 2**63 - 1, count)
    return keys, np.full(count, minute * 60_000) + np.arange(count) % 60_000


def _incidents(meters: list[str], settings: Settings) -> Callable[[], None]:
    """An anomaly of each meter becomes an incident, which is merged into the table."""
    anomalies = [
        {
            "anomaly_id": meter, "meter_id": meter, "feeder_id": f"f-{number // 50}", "anomaly_type": "undervoltage",
            "severity": "WARNING", "stage": "reading", "event_ts": _AT, "observed": 200.0, "score": 1.0, "message": "",
        }
        for number, meter in enumerate(meters)
    ]  # fmt: skip

    def work() -> None:
        found = sessionise(anomalies, clock=_AT, settings=settings.session_rules, step_s=settings.detection.steps_s)
        rows = pa.Table.from_pylist(found, schema=arrow_schema(INCIDENTS))
        merge_rows(rows, [], settings, INCIDENTS, key="incident_id")

    return work


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 3)
