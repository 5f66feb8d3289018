"""The figures of a demo, read from Kafka and the tables alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

from pipelines.anomalies.rules import RULES
from pipelines.reconcile.verify import VerifyReport
from pipelines.settings import Settings

_AFTER = "INTERVAL 5 MINUTE"
"""An anomaly or incident still belongs to a fault this long after its end (detection.md, Evaluation)."""


@dataclass(frozen=True)
class DemoReport:
    """What `gridwatch demo --report` writes; field names are an interface."""

    produced: int
    archived: int
    rejected: int
    late: int
    resent: int
    duplicates: int
    unaccounted: int
    anomalies: dict[str, int]
    incidents: dict[str, int]
    latency_ms: dict[str, dict[str, float | int | None]]
    faults: dict[str, float | int | None]
    rejected_by_reason: dict[str, int]
    labels: dict[str, Any]
    """What the generator says it sent: resent, and rejected by reason."""
    store: str
    versions: dict[str, str]
    seconds: float

    @property
    def ok(self) -> bool:
        """Nothing unaccounted or doubled, and every stage has produced output."""
        stages = (self.archived, self.rejected, self.anomalies, self.incidents["opened"])
        return not self.unaccounted and not self.duplicates and all(stages)


def build_report(
    lake: DuckDBPyConnection,
    settings: Settings,
    checked: VerifyReport,
    summary: dict[str, Any],
    *,
    store: str,
    versions: dict[str, str],
    seconds: float,
) -> DemoReport:
    """The report of a drained run. `lake`: views of the tables; `summary`: what the generator wrote."""
    return DemoReport(
        produced=summary["produced"],
        archived=checked.archived,
        rejected=checked.rejected,
        late=checked.late,
        resent=checked.resent,
        duplicates=checked.duplicates,
        unaccounted=checked.unaccounted + checked.lag,
        anomalies=anomaly_counts(lake),
        incidents=incident_counts(lake),
        latency_ms={"reading": reading_latency(lake), "window": window_latency(lake, settings)},
        faults=fault_figures(lake),
        rejected_by_reason=dict(checked.rejected_by_reason),
        labels={name: summary[name] for name in ("resent", "late", "rejected")},
        store=store,
        versions=versions,
        seconds=seconds,
    )


def anomaly_counts(lake: DuckDBPyConnection) -> dict[str, int]:
    """Anomalies by type, most frequent first."""
    sql = "SELECT anomaly_type, count(*) FROM anomalies GROUP BY 1 ORDER BY 2 DESC, 1"
    return dict(lake.execute(sql).fetchall())


def incident_counts(lake: DuckDBPyConnection) -> dict[str, int]:
    """Incidents opened, closed and still open."""
    sql = "SELECT count(*), count(*) FILTER (status = 'closed'), count(*) FILTER (status = 'open') FROM incidents"
    opened, closed, still_open = _row(lake, sql)
    return {"opened": opened, "closed": closed, "open": still_open}


def reading_latency(lake: DuckDBPyConnection) -> dict[str, float | int | None]:
    """Broker time of the anomaly minus broker time of its reading, in ms."""
    return _quantiles(
        lake,
        "SELECT epoch_ms(kafka_ts) - source.timestamp AS ms FROM anomalies"
        " WHERE stage = 'reading' AND source IS NOT NULL",
    )


def window_latency(lake: DuckDBPyConnection, settings: Settings) -> dict[str, float | int | None]:
    """Broker time of the anomaly minus the earliest broker time at which its window could close, in ms.

    That is the first reading with event time >= window end + watermark. meter_silent has a time of its own and is
    left out.
    """
    watermark_ms = int(settings.detection.watermark * 1000)
    return _quantiles(
        lake,
        f"""
        WITH found AS (
            SELECT event_ts, kafka_ts FROM anomalies WHERE stage = 'window' AND anomaly_type <> 'meter_silent'
        ), could_close AS (
            SELECT w.event_ts, min(r.kafka_ts) AS kafka_ts
            FROM (SELECT DISTINCT event_ts FROM found) w
            JOIN readings r ON r.event_ts >= w.event_ts + INTERVAL {watermark_ms} MILLISECOND
            GROUP BY 1
        )
        SELECT epoch_ms(found.kafka_ts) - epoch_ms(could_close.kafka_ts) AS ms
        FROM found JOIN could_close USING (event_ts)
        """,
    )


def fault_figures(lake: DuckDBPyConnection) -> dict[str, float | int | None]:
    """Labelled faults that a rule looks for: injected, detected, recall; and precision of the incidents.

    A fault is detected by an anomaly of an expected type on its meter (or a meter of its feeder) between its start
    and 5 min after its end. An incident is right when it overlaps any labelled fault of its meter or feeder.
    """
    rules = ", ".join(f"'{name}'" for name in sorted({rule.anomaly_type for rule in RULES}))
    injected, detected = _row(
        lake,
        f"""
        WITH wanted AS (
            SELECT * FROM labels WHERE len(list_intersect(string_split(expected_types, '|'), [{rules}])) > 0
        )
        SELECT count(*), count(*) FILTER (EXISTS (
            SELECT 1 FROM anomalies a
            WHERE (a.meter_id = w.meter_id OR (w.scope = 'feeder' AND a.feeder_id = w.feeder_id))
              AND list_contains(string_split(w.expected_types, '|'), a.anomaly_type)
              AND a.event_ts BETWEEN w.start AND w."end" + {_AFTER}
        )) FROM wanted w
        """,
    )
    opened, right = _row(
        lake,
        f"""
        SELECT count(*), count(*) FILTER (EXISTS (
            SELECT 1 FROM labels l
            WHERE (l.meter_id = i.meter_id OR (l.scope = 'feeder' AND l.feeder_id = i.feeder_id))
              AND i.opened_at <= l."end" + {_AFTER} AND i.last_anomaly_at >= l.start
        )) FROM incidents i
        """,
    )
    return {
        "injected": injected,
        "detected": detected,
        "precision": round(right / opened, 3) if opened else None,
        "recall": round(detected / injected, 3) if injected else None,
    }


def _quantiles(lake: DuckDBPyConnection, sql: str) -> dict[str, float | int | None]:
    quantiles, largest, n = _row(lake, f"SELECT quantile_cont(ms, [0.5, 0.9, 0.99]), max(ms), count(*) FROM ({sql})")
    p50, p90, p99 = quantiles or (None, None, None)
    return {"p50": p50, "p90": p90, "p99": p99, "max": largest, "n": n}


def _row(lake: DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    row = lake.execute(sql).fetchone()
    assert row is not None  # an aggregate without GROUP BY always has one row
    return row
