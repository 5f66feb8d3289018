"""What the page asks of the tables, by DuckDB: feeders, meters, one meter's voltage with what was expected of it.

Answers are on the page's terms: camelCase, epoch milliseconds, volts.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from pipelines.errors import GridwatchError, InfrastructureUnavailable, SettingsError
from pipelines.lake_sql import open_lake
from pipelines.settings import Detection, Settings
from pipelines.small_tables import STORE_ERRORS, highest_value
from pipelines.tables import METER_WINDOWS, READINGS, Table

Row = dict[str, Any]

MOST_POINTS = 3000
_MOST_FOUND = 500
_FRUGAL = ("SET threads = 1", "SET memory_limit = '512MB'")
"""The console goes beside the jobs: its questions are small, and must stay so."""

_FEEDERS = """
    SELECT coalesce(m.feeder_id, '') AS feeder, any_value(m.transformer_id) AS transformer, count(*) AS meters,
        count(*) FILTER (w.n > 0) AS reporting, avg(w.mean_v) FILTER (w.n > 0) AS mean_v, min(w.min_v) AS min_v,
        max(w.max_v) AS max_v,
        count(*) FILTER (w.n > 0 AND NOT w.mean_v BETWEEN m.un * $low AND m.un * $high) AS outside,
        any_value(m.un) AS un
    FROM (SELECT *, coalesce(nominal_voltage_v, $un) AS un FROM meters) m
    LEFT JOIN (SELECT * FROM meter_windows WHERE window_end = $at AND window_date = $day) w USING (meter_id)
    GROUP BY 1 ORDER BY 1"""

_METERS = """
    SELECT m.meter_id AS meter, m.phase, coalesce(m.nominal_voltage_v, $un) AS un, w.n, w.mean_v, w.min_v, w.max_v,
        w.residual_v, w.max_current_a, epoch_ms(w.last_event_ts) AS last
    FROM meters m
    LEFT JOIN (SELECT * FROM meter_windows WHERE window_end = $at AND window_date = $day) w USING (meter_id)
    WHERE coalesce(m.feeder_id, '') = $feeder ORDER BY 1 LIMIT 2000"""

_READINGS = """
    SELECT epoch_ms(event_ts) AS t, voltage_v AS v FROM readings
    WHERE meter_id = $meter AND event_date BETWEEN $first AND $last AND event_ts BETWEEN $start AND $end
        AND NOT is_resent ORDER BY 1"""

_WINDOWS = """
    SELECT epoch_ms(window_end) AS t, base_n AS n, base_mean_v AS mean, base_std_v AS std, tested_mean_v AS tested
    FROM meter_windows
    WHERE meter_id = $meter AND window_date BETWEEN $first AND $last AND window_end BETWEEN $start AND $end
    ORDER BY 1"""

_FOUND = f"""
    SELECT anomaly_id AS "anomalyId", anomaly_type AS "anomalyType", severity, stage, epoch_ms(event_ts) AS "eventTime",
        observed, threshold_used AS "thresholdUsed", deviation, score, message, meter_id AS "meterId",
        feeder_id AS "feederId"
    FROM anomalies
    WHERE event_date BETWEEN $first AND $last AND event_ts BETWEEN $start AND $end AND {{who}}
    ORDER BY event_ts DESC LIMIT {_MOST_FOUND}"""

_SEARCH = (
    "SELECT meter_id AS meter, feeder_id AS feeder FROM meters WHERE contains(lower(meter_id), $q) ORDER BY 1 LIMIT 50"
)


class Tables:
    """The lake behind one connection, opened when it is first needed and again after a failure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lake: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()

    def feeders(self) -> Row:
        """Every feeder at the latest window end."""
        return self._at_the_latest(_FEEDERS, low=self._rules.undervoltage_pu[0], high=self._rules.overvoltage_pu[0])

    def meters(self, feeder: str) -> Row:
        """Every meter of a feeder at the latest window end; the empty name is for those without one."""
        return self._at_the_latest(_METERS, feeder=feeder)

    def search(self, text: str) -> list[Row]:
        """Up to 50 meters whose id contains the text."""
        return self._ask(_SEARCH, q=text.lower())

    def meter(self, meter: str, *, until_ms: int | None, minutes: float) -> Row:
        """Voltage, what was expected, limits and findings of one meter, up to a moment or to the newest reading."""
        until = _moment(until_ms) if until_ms else self._highest(READINGS, "event_ts")
        if until is None:
            raise SettingsError("no readings yet")
        span = _span(until - timedelta(minutes=minutes), until)
        known = self._ask("SELECT * FROM meters WHERE meter_id = $meter", meter=meter)
        rules = self._rules.of_class(known[0].get("meterClass") if known else None)
        un = (known[0]["nominalVoltageV"] if known else None) or rules.nominal_voltage_v
        points = self._ask(_READINGS, meter=meter, **span)
        return {
            "meter": meter,
            "known": known[0] if known else None,
            "start": _ms(span["start"]),
            "end": _ms(until),
            "un": un,
            "limits": limits(rules, un),
            "readings": thin([(point["t"], point["v"]) for point in points], MOST_POINTS),
            "count": len(points),
            "expected": [expected(row, rules, un) for row in self._ask(_WINDOWS, meter=meter, **span)],
            "anomalies": self._ask(_FOUND.format(who="meter_id = $meter"), meter=meter, **span),
        }

    def findings(self, scope: str, scope_id: str, start_ms: int, end_ms: int) -> list[Row]:
        """The stored anomalies of a meter, or of a feeder as a whole, in a span of event time, the newest first."""
        who = "meter_id = $id" if scope == "meter" else "feeder_id = $id AND meter_id IS NULL"
        return self._ask(_FOUND.format(who=who), id=scope_id, **_span(_moment(start_ms), _moment(end_ms)))

    @property
    def _rules(self) -> Detection:
        return self._settings.detection

    def _at_the_latest(self, sql: str, **values: Any) -> Row:
        at = self._highest(METER_WINDOWS, "window_end")
        moment = at or datetime.fromtimestamp(0, UTC)
        rows = self._ask(sql, un=self._rules.nominal_voltage_v, at=moment, day=moment.date(), **values)
        return {"at": _ms(at) if at else None, "rows": rows}

    def _highest(self, table: Table, column: str) -> Any:
        try:
            return highest_value(self._settings, table, column)
        except STORE_ERRORS as error:
            why = str(error).strip().splitlines()[0][:200]
            raise InfrastructureUnavailable(f"table {table.name} of {self._settings.lake.root}: {why}") from None

    def _ask(self, sql: str, **values: Any) -> list[Row]:
        with self._lock:
            try:
                answer = self._open().execute(sql, values)
                names = [_camel(column[0]) for column in answer.description or ()]
                return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
            except duckdb.CatalogException as error:
                self._close()
                raise SettingsError(
                    f"{str(error).splitlines()[0]}: the pipeline makes its tables at its start"
                ) from None
            except duckdb.Error as error:
                self._close()
                raise GridwatchError(str(error).splitlines()[0]) from None

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._lake is None:
            self._lake = open_lake(self._settings)
            for statement in _FRUGAL:
                self._lake.execute(statement)
        return self._lake

    def _close(self) -> None:
        if self._lake is not None:
            self._lake.close()
            self._lake = None


def limits(rules: Detection, un: float) -> list[Row]:
    """The fixed limits of a meter's voltage, in volts, for the lines of the chart."""
    low, high = rules.undervoltage_pu, rules.overvoltage_pu
    return [
        *({"name": f"{name} above", "v": un * pu} for name, pu in zip(_GRADES, high, strict=True)),
        *({"name": f"{name} below", "v": un * pu} for name, pu in zip(_GRADES, low, strict=True)),
    ]


def expected(window: Row, rules: Detection, un: float) -> Row:
    """The band around a window's baseline beyond which its tested part, and the readings after it, deviate.

    Without enough history there is no band: `low` and `high` are null. A meter's own profile can widen it.
    """
    mean, std, n = window["mean"], window["std"], window["n"] or 0
    if mean is None or n < rules.min_history:
        return {"t": window["t"], "mean": mean, "low": None, "high": None, "n": n}
    allowed = max(rules.sigma * max(std or 0.0, un * rules.std_floor_pu), un * rules.min_deviation_pu)
    return {"t": window["t"], "mean": mean, "low": mean - allowed, "high": mean + allowed, "n": n}


def thin(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most so many points that show the same extremes: of each stretch the least and the largest.

    >>> thin([(0, 5.0), (1, 9.0), (2, 1.0), (3, 4.0)], 2)
    [(1, 9.0), (2, 1.0)]
    """
    if len(points) <= most:
        return list(points)
    size = -(-2 * len(points) // most)
    kept: list[tuple[int, float]] = []
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        ends = min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])
        kept += sorted(set(ends))
    return kept


_GRADES = ("WARNING", "ERROR", "CRITICAL")


def _span(start: datetime, end: datetime) -> Row:
    return {"start": start, "end": end, "first": start.date(), "last": end.date()}


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _camel(name: str) -> str:
    """A name of a column as the page has it; units keep their place.

    >>> _camel("max_current_a"), _camel("eventTime")
    ('maxCurrentA', 'eventTime')
    """
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
