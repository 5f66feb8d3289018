"""The same windows in Flink SQL, through PyFlink. Runs in the peer's own Python; imports nothing of ours.

`python flink_sql.py JOB.json`. Parallelism 2, heap state, a checkpoint every 10 s.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment  # type: ignore[import-not-found]

_IN_BAND, _PLAUSIBLE = "voltage BETWEEN 207 AND 253", "voltage BETWEEN 0 AND 345"


def main(job_file: str) -> None:
    """Drain the topic once, then wait to be ended."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in _configuration(job).items():
        tables.get_config().set(name, value)
    tables.execute_sql(_source(job))
    tables.execute_sql(_sink(job))
    sys.stdout.write("BENCH READY\n")
    sys.stdout.flush()
    tables.execute_sql(_query(job)).wait()
    signal.pause()


def _configuration(job: dict[str, str]) -> dict[str, str]:
    return {
        "pipeline.jars": f"file://{job['connector']}",
        "parallelism.default": "2",
        "state.backend.type": job["state"],
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.dir": f"file://{job['folder']}/checkpoint",
        "table.local-time-zone": "UTC",
    }


def _source(job: dict[str, str]) -> str:
    return f"""
        CREATE TABLE readings (
            meterId STRING, `timestamp` BIGINT, voltage DOUBLE, `current` DOUBLE, temperature DOUBLE, status STRING,
            event_ts AS TO_TIMESTAMP_LTZ(`timestamp`, 3),
            WATERMARK FOR event_ts AS event_ts - INTERVAL '{job["watermark_s"]}' SECOND
        ) WITH (
            'connector' = 'kafka', 'topic' = '{job["topic"]}',
            'properties.bootstrap.servers' = '{job["bootstrap"]}', 'scan.startup.mode' = 'earliest-offset',
            'scan.bounded.mode' = 'latest-offset', 'format' = 'json'
        )"""


def _sink(job: dict[str, str]) -> str:
    columns = ", ".join(f"{name} {'BIGINT' if name.endswith(('_ms', 'n')) else 'DOUBLE'}" for name in _features(job))
    return f"""
        CREATE TABLE flagged (meter_id STRING, window_end_ms BIGINT, {columns}) WITH (
            'connector' = 'kafka', 'topic' = '{job["out"]}',
            'properties.bootstrap.servers' = '{job["bootstrap"]}', 'format' = 'json'
        )"""


def _query(job: dict[str, str]) -> str:
    features = ", ".join(f"{sql} AS {name}" for name, sql in _features(job).items())
    window, slide = f"INTERVAL '{job['window_s']}' SECOND(3)", f"INTERVAL '{job['slide_s']}' SECOND(3)"
    allowed = "GREATEST(2.5 * GREATEST(COALESCE(base_std_v, 0), 1.15), 6.9)"
    return f"""
        INSERT INTO flagged
        SELECT meter_id, window_end_ms, {", ".join(_features(job))} FROM (
            SELECT meter_id, window_end_ms, {features} FROM (
                SELECT meterId AS meter_id, `timestamp` AS event_ms, voltage, `current`, temperature,
                    window_start, window_end,
                    1000 * UNIX_TIMESTAMP(DATE_FORMAT(window_end, 'yyyy-MM-dd HH:mm:ss')) AS window_end_ms
                FROM TABLE(HOP(TABLE readings, DESCRIPTOR(event_ts), {slide}, {window}))
            ) GROUP BY meter_id, window_start, window_end, window_end_ms
        ) WHERE base_n >= 8
            AND (ABS(tested_max_v - base_mean_v) > {allowed} OR ABS(tested_min_v - base_mean_v) > {allowed})"""


def _features(job: dict[str, str]) -> dict[str, str]:
    tested = f"event_ms >= window_end_ms - {int(job['slide_s']) * 1000}"
    base_v = f"CASE WHEN {_IN_BAND} AND NOT ({tested}) THEN voltage END"
    tested_v = f"CASE WHEN {_IN_BAND} AND {tested} THEN voltage END"
    tested_plausible = f"CASE WHEN {_PLAUSIBLE} AND {tested} THEN voltage END"
    usable = f"CASE WHEN {_PLAUSIBLE} THEN voltage END"
    return {
        "n": "COUNT(*)",
        "base_n": f"COUNT({base_v})",
        "base_mean_v": f"AVG({base_v})",
        "base_std_v": f"STDDEV_SAMP({base_v})",
        "tested_n": f"COUNT({tested_v})",
        "tested_mean_v": f"AVG({tested_v})",
        "tested_std_v": f"STDDEV_SAMP({tested_v})",
        "tested_min_v": f"MIN({tested_plausible})",
        "tested_max_v": f"MAX({tested_plausible})",
        "plausible_n": f"COUNT({usable})",
        "mean_v": f"AVG({usable})",
        "std_v": f"STDDEV_SAMP({usable})",
        "min_v": f"MIN({usable})",
        "max_v": f"MAX({usable})",
        "max_current_a": f"MAX(CASE WHEN {_PLAUSIBLE} THEN `current` END)",
        "min_temperature_c": f"MIN(CASE WHEN {_PLAUSIBLE} THEN temperature END)",
        "max_temperature_c": f"MAX(CASE WHEN {_PLAUSIBLE} THEN temperature END)",
        "last_event_ms": "MAX(event_ms)",
    }


if __name__ == "__main__":
    main(sys.argv[1])
