"""A day of the generator's readings as the archive would hold it: real Delta tables, written without Spark.

`World` is what meters send and what becomes of it. A test changes `sent` before the tables are derived (then the
world was odd and the archive is right), or `tables` afterwards (then the archive is broken).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from generator.faults import STATUSES
from generator.plan import make_plan
from generator.scenario import build_scenario, readings_between
from pipelines.anomalies.rules import RULE_VERSION
from pipelines.settings import Settings
from pipelines.small_tables import append_rows, arrow_schema, create_tables
from pipelines.tables import TABLES

DAY = date(2026, 3, 1)
START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
METERS, CADENCE_S, PARTITIONS = 24, 120.0, 2
DELAY = timedelta(seconds=2)
FOUND_AT = START + 15 * HOUR
"""Window end of the anomalies."""
WINDOW, SLIDE = timedelta(minutes=30), timedelta(minutes=6)
TOPIC = "sensor-readings"
Frame = pd.DataFrame
Tables = dict[str, Frame]


def settings_at(root: Path, **more: Any) -> Settings:
    """Settings of a lake of two-minute readings."""
    return Settings.model_validate({"lake": {"root": str(root)}, "detection": {"cadence_s": CADENCE_S}} | more)


@cache
def _normal() -> tuple[Frame, Frame]:
    """Readings from an hour before the day to an hour after it, and the fleet; no faults."""
    start, end = START - HOUR, START + 25 * HOUR
    ms = [int(at.timestamp() * 1000) for at in (start, end)]
    plan = make_plan(
        ms[1], paced=False, start_ms=ms[0], end_ms=ms[1], meters=METERS, cadence_s=CADENCE_S, faults="none", seed=3,
        meters_per_feeder=8,
    )  # fmt: skip
    scenario = build_scenario(plan)
    block = readings_between(scenario, *ms)
    event_ts = pd.to_datetime(block.ts, unit="ms", utc=True)
    sent = pd.DataFrame(
        {
            "meter_id": [scenario.network.meter_id[m] for m in block.meter],
            "event_ts": event_ts,
            "voltage_v": block.voltage_v,
            "current_a": block.current_a,
            "temperature_c": block.temperature_c,
            "status": [STATUSES[s] for s in block.status],
            "kafka_ts": event_ts + DELAY,
            "is_late": False,
            "is_resent": False,
            "rejected": False,
        }
    )
    sent.loc[sent.index % 997 == 5, "rejected"] = True
    return sent, scenario.fleet


@dataclass
class World:
    """Readings as sent, with what the archive says of each; the fleet."""

    sent: Frame = field(default_factory=lambda: _normal()[0].copy())
    fleet: Frame = field(default_factory=lambda: _normal()[1].copy())

    def tables(self) -> Tables:
        """What a correct archive holds of it."""
        placed = _place(self.sent)
        readings = placed[~placed["rejected"]]
        return {
            "readings": readings,
            "rejected": _rejected(placed[placed["rejected"]]),
            "audit": _audit(placed),
            "meter_windows": _windows(readings),
            "anomalies": _anomalies(readings),
            "meters": self.fleet,
        }


def write(root: Path, *, world: Callable[[World], None] | None = None, archive: Callable[[Tables], None] | None = None,
          settings: Settings | None = None) -> Settings:  # fmt: skip
    """Write a lake; `world` changes what is sent, `archive` what the tables hold."""
    settings = settings or settings_at(root)
    made = World()
    if world:
        world(made)
    tables = made.tables()
    if archive:
        archive(tables)
    create_tables(settings)
    for name, rows in tables.items():
        schema = arrow_schema(TABLES[name])
        columns = [pa.Array.from_pandas(rows[f.name], type=f.type) if f.name in rows else pa.nulls(len(rows), f.type)
                   for f in schema]  # fmt: skip
        append_rows(pa.Table.from_arrays(columns, schema=schema), settings, TABLES[name])
    return settings


def of_day(rows: Frame, column: str = "event_ts") -> pd.Series[bool]:
    """Rows of the day."""
    return (rows[column] >= START) & (rows[column] < START + 24 * HOUR)


def _place(sent: Frame) -> Frame:
    """In order of arrival, with coordinates and flags."""
    rows = sent.sort_values(["kafka_ts", "meter_id"], kind="stable").reset_index(drop=True)
    partition = rows["meter_id"].str[-2:].astype(int) % PARTITIONS
    volts = rows["voltage_v"] / 230.0
    plausible = (volts > -0.004) & (volts < 1.5)
    return rows.assign(
        kafka_topic=TOPIC, kafka_partition=partition, kafka_offset=rows.groupby(partition).cumcount(),
        is_plausible=plausible, is_in_band=plausible & (volts > 0.9) & (volts < 1.1),
        event_date=rows["event_ts"].dt.date, kafka_date=rows["kafka_ts"].dt.date,
    )  # fmt: skip


def _rejected(rows: Frame) -> Frame:
    return rows.assign(reason="malformed_json", rule_version="1", key=b"k", value=b"{")


def _audit(placed: Frame) -> Frame:
    """A batch every half hour."""
    placed = placed.assign(batch_id=(placed["kafka_ts"] - placed["kafka_ts"].min()) // timedelta(minutes=30))
    batches = []
    for (batch, partition), rows in placed.groupby(["batch_id", "kafka_partition"]):
        kept = rows[~rows["rejected"]]
        rejected = len(rows) - len(kept)
        batches.append(
            {
                "generation": "g", "batch_id": batch, "kafka_topic": TOPIC, "kafka_partition": partition,
                "first_offset": rows["kafka_offset"].min(), "last_offset": rows["kafka_offset"].max(),
                "records_in": len(rows), "accepted": len(kept), "rejected": rejected,
                "rejected_by_reason": [("malformed_json", rejected)] if rejected else [],
                "late": int(kept["is_late"].sum()), "resent": int(kept["is_resent"].sum()),
                "max_event_ts": kept["event_ts"].max(), "max_kafka_ts": rows["kafka_ts"].max(),
            }
        )  # fmt: skip
    return pd.DataFrame(batches)


def _windows(readings: Frame) -> Frame:
    """Every meter at every window end, as the windows query and `complete_fleet` leave them."""
    fleet = readings[["meter_id"]].drop_duplicates()
    clean = readings[~readings["is_late"] & ~readings["is_resent"]]
    first, last = (clean["event_ts"].quantile(q).floor(SLIDE) for q in (0.001, 1))
    ends = pd.DataFrame({"window_end": pd.date_range(first + SLIDE, last + SLIDE, freq=SLIDE)})
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        for name, rows in (("clean", clean), ("ends", ends), ("fleet", fleet)):
            engine.register(name, rows)
        return engine.execute(
            f"""SELECT f.meter_id, window_end - INTERVAL '{WINDOW.seconds} seconds' AS window_start, window_end,
                count(c.event_ts) AS n, count(c.event_ts) FILTER (is_plausible) AS plausible_n,
                count(*) FILTER (is_in_band AND event_ts < window_end - INTERVAL '{SLIDE.seconds} seconds') AS base_n,
                count(*) FILTER (is_in_band AND event_ts >= window_end - INTERVAL '{SLIDE.seconds} seconds')
                    AS tested_n,
                avg(voltage_v) FILTER (is_plausible) AS mean_v, min(voltage_v) FILTER (is_plausible) AS min_v,
                max(voltage_v) FILTER (is_plausible) AS max_v, stddev(voltage_v) FILTER (is_plausible) AS std_v,
                max(event_ts) AS last_event_ts, window_end::DATE AS window_date
            FROM ends CROSS JOIN fleet f LEFT JOIN clean c ON c.meter_id = f.meter_id AND c.event_ts < window_end
                AND c.event_ts >= window_end - INTERVAL '{WINDOW.seconds} seconds'
            GROUP BY f.meter_id, window_end"""
        ).df()


def _anomalies(readings: Frame) -> Frame:
    """One of each stage: of a reading, of a silent meter's window, of a feeder."""
    one = readings[of_day(readings)].iloc[500]
    source = {"topic": TOPIC, "partition": int(one["kafka_partition"]), "offset": int(one["kafka_offset"]),
              "timestamp": 0}  # fmt: skip
    at = pd.Timestamp(FOUND_AT)
    common = {"severity": "WARNING", "detected_at": at, "rule_version": RULE_VERSION, "score": 1.5, "message": "Odd.",
              "meter_id": one["meter_id"], "feeder_id": "f-001", "event_date": DAY, "source": None}  # fmt: skip
    return pd.DataFrame(
        [
            common | {"anomaly_id": "a", "anomaly_type": "undervoltage", "stage": "reading",
                      "event_ts": one["event_ts"], "source": source},
            common | {"anomaly_id": "b", "anomaly_type": "meter_silent", "stage": "window",
                      "event_ts": at - pd.Timedelta(seconds=61)},
            common | {"anomaly_id": "c", "anomaly_type": "feeder_outage", "stage": "feeder", "event_ts": at,
                      "meter_id": None},
        ]
    )  # fmt: skip
