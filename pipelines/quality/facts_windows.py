"""Figures of the windows of a day, by window end."""

from __future__ import annotations

import pandas as pd
from duckdb import DuckDBPyConnection

from pipelines.quality.day import Span
from pipelines.settings import Settings


def by_end(lake: DuckDBPyConnection, span: Span, settings: Settings) -> pd.DataFrame:
    """One row a window end. `readings_off` compares with the slides that the window is made of (table q_slots); 0 where
    `gridwatch recompute` has put late readings in.

    The first end of a day has no `since_previous_s`, and only windows inside the span have a `reporting_share`.
    """
    detection = settings.detection
    window = f"INTERVAL '{detection.window_s:.3f} seconds'"
    un = f"coalesce(m.nominal_voltage_v, {detection.nominal_voltage_v!r})"
    low, high = f"-{detection.zero_tolerance_pu!r} * {un}", f"{detection.implausible_pu!r} * {un}"
    return lake.execute(
        f"""WITH ends AS (
            SELECT w.window_end, count(*) AS windows, count(DISTINCT w.meter_id) AS meters,
                count(*) FILTER (w.n > 0) AS reporting, sum(w.n)::BIGINT AS n,
                count(*) FILTER (w.meter_id IS NULL) AS null_meter_id, count(*) FILTER (w.n IS NULL) AS null_n,
                count(w.meter_id) - count(DISTINCT w.meter_id) AS repeated,
                count(*) FILTER (w.window_end - w.window_start <> {window} OR w.window_date <> w.window_end::DATE)
                    AS wrong_length,
                count(*) FILTER (w.n < 0 OR w.base_n < 0 OR w.tested_n < 0 OR w.base_n + w.tested_n > w.n
                    OR w.plausible_n > w.n) AS counts_disagree,
                count(*) FILTER (w.min_v > w.mean_v + 1e-6 OR w.mean_v > w.max_v + 1e-6 OR w.std_v < 0
                    OR w.base_std_v < 0 OR w.tested_std_v < 0) AS order_disagrees,
                count(*) FILTER (w.mean_v < {low} - 1e-6 OR w.mean_v > {high} + 1e-6) AS implausible,
                count(*) FILTER (w.last_event_ts >= w.window_end) AS last_after_end
            FROM d_windows w LEFT JOIN q_meters m ON m.meter_id = w.meter_id GROUP BY w.window_end
        ), expected AS (
            SELECT e.window_end, coalesce(sum(s.clean), 0)::BIGINT AS readings
            FROM (SELECT DISTINCT window_end FROM ends) e
            LEFT JOIN q_slots s ON s.slot >= e.window_end - {window} AND s.slot < e.window_end GROUP BY 1
        )
        SELECT ends.*,
            if(window_end IN (SELECT event_ts FROM s_recomputed), 0, abs(n - readings)) AS readings_off,
            epoch(window_end) - epoch(lag(window_end) OVER (ORDER BY window_end)) AS since_previous_s,
            CASE WHEN window_end - {window} >= TIMESTAMPTZ '{span.start}' AND window_end <= TIMESTAMPTZ '{span.end}'
                THEN reporting / max(reporting) OVER () END AS reporting_share
        FROM ends JOIN expected USING (window_end) ORDER BY window_end"""
    ).df()
