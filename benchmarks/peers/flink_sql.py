"""The same windows in Flink SQL, through PyFlink. Runs in the peer's own Python; imports nothing of ours.

`python flink_sql.py JOB.json`. Parallelism 2, heap state, a checkpoint every 10 s.

Written as Flink is fast at: panes of one slide, one update a reading, and the sliding windows over the panes. The
direct way, with conditions on the end of the window inside the aggregates, keeps Flink from sharing work between
windows; it took 44.7 CPU seconds a million readings of 3 M, four times as many.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment  # type: ignore[import-not-found]

_IN_BAND, _PLAUSIBLE = "voltage BETWEEN 207 AND 253", "voltage BETWEEN 0 AND 345"
_MIDDLE_V = 230
"""Sums of squares are taken around it, so that they lose no digits."""


def main(job_file: str) -> None:
    """Drain the topic once, then wait to be ended."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in _configuration(job).items():
        tables.get_config().set(name, value)
    tables.execute_sql(_source(job))
    tables.execute_sql(_panes(job))
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
            event_ts AS CAST(TO_TIMESTAMP_LTZ(`timestamp`, 3) AS TIMESTAMP(3)),
            WATERMARK FOR event_ts AS event_ts - INTERVAL '{job["watermark_s"]}' SECOND
        ) WITH (
            'connector' = 'kafka', 'topic' = '{job["topic"]}',
            'properties.bootstrap.servers' = '{job["bootstrap"]}', 'scan.startup.mode' = 'earliest-offset',
            'scan.bounded.mode' = 'latest-offset', 'format' = 'json'
        )"""


def _sink(job: dict[str, str]) -> str:
    columns = ", ".join(f"{name} {'BIGINT' if name.endswith(('_ms', 'n')) else 'DOUBLE'}" for name in _FEATURES)
    return f"""
        CREATE TABLE flagged (meter_id STRING, window_end_ms BIGINT, {columns}) WITH (
            'connector' = 'kafka', 'topic' = '{job["out"]}',
            'properties.bootstrap.servers' = '{job["bootstrap"]}', 'format' = 'json'
        )"""


def _panes(job: dict[str, str]) -> str:
    """View of the readings of one slide: one row a meter, with its own event time `pane_time`."""
    panes = ", ".join(f"{sql} AS {name}" for name, sql in _PANE.items())
    return f"""
        CREATE TEMPORARY VIEW panes AS
        SELECT meterId AS meter_id, window_time AS pane_time, window_end AS pane_end, {panes}
        FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(event_ts), INTERVAL '{job["slide_s"]}' SECOND(3)))
        GROUP BY meterId, window_start, window_end, window_time"""


def _query(job: dict[str, str]) -> str:
    window, slide = f"INTERVAL '{job['window_s']}' SECOND(3)", f"INTERVAL '{job['slide_s']}' SECOND(3)"
    sums = ", ".join(f"{sql} AS {name}" for name, sql in _WINDOW.items())
    features = ", ".join(f"{sql} AS {name}" for name, sql in _FEATURES.items())
    allowed = "GREATEST(2.5 * GREATEST(COALESCE(base_std_v, 0), 1.15), 6.9)"
    return f"""
        INSERT INTO flagged
        SELECT * FROM (
            SELECT meter_id,
                1000 * CAST(TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', window_end) AS BIGINT)
                    AS window_end_ms,
                {features}
            FROM (
                SELECT meter_id, window_end, {sums}
                FROM TABLE(HOP(TABLE panes, DESCRIPTOR(pane_time), {slide}, {window}))
                GROUP BY meter_id, window_start, window_end
            )
        ) WHERE base_n >= 8
            AND (ABS(tested_max_v - base_mean_v) > {allowed} OR ABS(tested_min_v - base_mean_v) > {allowed})"""


def _only(condition: str, value: str = "voltage") -> str:
    return f"CASE WHEN {condition} THEN {value} END"


def _moments(name: str, condition: str) -> dict[str, str]:
    """Count, sum and sum of squares of the voltages of a pane."""
    return {
        f"{name}_n": f"COUNT({_only(condition)})",
        f"{name}_sum": f"SUM({_only(condition, f'voltage - {_MIDDLE_V}')})",
        f"{name}_squares": f"SUM({_only(condition, f'(voltage - {_MIDDLE_V}) * (voltage - {_MIDDLE_V})')})",
    }


def _summed(name: str, of: str, condition: str) -> dict[str, str]:
    """The same of all panes of a window that meet the condition."""
    return {f"{name}_{part}": f"SUM({_only(condition, f'{of}_{part}')})" for part in ("n", "sum", "squares")}


def _spread(name: str) -> dict[str, str]:
    """Mean and sample standard deviation from count, sum and sum of squares."""
    n, total, squares = f"{name}_n", f"{name}_sum", f"{name}_squares"
    variance = f"({squares} - {total} * {total} / NULLIF({n}, 0)) / NULLIF({n} - 1, 0)"
    return {
        f"{name}_mean_v": f"{_MIDDLE_V} + {total} / NULLIF({n}, 0)",
        f"{name}_std_v": f"SQRT(GREATEST({variance}, 0))",
    }


_IS_LAST, _IS_BEFORE = "pane_end = window_end", "pane_end < window_end"
_PANE = {
    "n": "COUNT(*)",
    **_moments("in_band", _IN_BAND),
    **_moments("plausible", _PLAUSIBLE),
    "least_v": f"MIN({_only(_PLAUSIBLE)})",
    "most_v": f"MAX({_only(_PLAUSIBLE)})",
    "most_a": f"MAX({_only(_PLAUSIBLE, '`current`')})",
    "least_c": f"MIN({_only(_PLAUSIBLE, 'temperature')})",
    "most_c": f"MAX({_only(_PLAUSIBLE, 'temperature')})",
    "last_ms": "MAX(`timestamp`)",
}
_WINDOW = {
    "n": "SUM(n)",
    **_summed("base", "in_band", _IS_BEFORE),
    **_summed("tested", "in_band", _IS_LAST),
    **_summed("whole", "plausible", "TRUE"),
    "tested_min_v": f"MIN({_only(_IS_LAST, 'least_v')})",
    "tested_max_v": f"MAX({_only(_IS_LAST, 'most_v')})",
    "min_v": "MIN(least_v)",
    "max_v": "MAX(most_v)",
    "max_current_a": "MAX(most_a)",
    "min_temperature_c": "MIN(least_c)",
    "max_temperature_c": "MAX(most_c)",
    "last_event_ms": "MAX(last_ms)",
}
_FEATURES = {
    "n": "n",
    "base_n": "COALESCE(base_n, 0)",
    **_spread("base"),
    "tested_n": "COALESCE(tested_n, 0)",
    **_spread("tested"),
    "tested_min_v": "tested_min_v",
    "tested_max_v": "tested_max_v",
    "plausible_n": "whole_n",
    **_spread("whole"),
    **{name: name for name in list(_WINDOW)[-6:]},
}
"""The product's feature list; mean and deviation of the whole window are called whole_*."""


if __name__ == "__main__":
    main(sys.argv[1])
