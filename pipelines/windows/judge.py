"""Closed windows of the whole fleet become complete windows, findings, baselines and the history of the next ones.

The one judge: the stream, `detect`, `recompute`, `backtest` and `profiles` call it. It is a pure function of (windows,
history, fleet) over any whole set of feeders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.anomalies.events import Event, Finding, Subject, anomaly_event, original_event, source_of
from pipelines.anomalies.row_rules import RowRule, RuleSet
from pipelines.lake.frames import as_declared, empty
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.settings import Detection, Incidents
from pipelines.tables import METER_WINDOWS
from pipelines.windows.fleet import complete_fleet
from pipelines.windows.look_around import look_around
from pipelines.windows.look_back import REMEMBERED, look_back, span_needed_s
from pipelines.windows.neighbours import compare_with_feeder
from pipelines.windows.profiles import attach_profiles
from pipelines.windows.rules.deviation import baseline_part, voltage_deviation
from pipelines.windows.rules.feeder import count_feeders, feeder_rules, judge_feeders
from pipelines.windows.rules.own_past import own_drift, own_step
from pipelines.windows.rules.sensor import noisy_sensor, stuck_sensor
from pipelines.windows.rules.shift import voltage_drift, voltage_step
from pipelines.windows.rules.silence import meter_silent, with_silence
from pipelines.windows.rules.sustained import held_voltage, sustained_voltage
from pipelines.windows.rules.thermal import temperature_rise

EVENT_TIMES = {"meter_silent": "silence_event_ms"}
"""Column of a rule's event time; of all others it is window_end."""


@dataclass(frozen=True)
class Found:
    """A finding of a window with what its anomaly says beside it; its reading is joined by `last_event_ms`."""

    finding: Finding
    meter_id: str
    feeder_id: str | None
    event_ms: int
    last_event_ms: int
    baseline: dict[str, Any] | None


@dataclass(frozen=True)
class Judged:
    """What is known of some window ends."""

    measured: pl.DataFrame
    """Complete rows of meter_windows and the columns of `attach_meters`, `look_back` and `look_around`."""
    history: pl.DataFrame
    """REMEMBERED of all rows that later window ends may need."""

    @property
    def windows(self) -> pl.DataFrame:
        """In the columns of meter_windows."""
        return as_declared(self.measured.drop("phase"), METER_WINDOWS)


class WindowsJudge:
    """The rules with one version of settings and of the table meters."""

    def __init__(self, detection: Detection, incidents: Incidents, meters: pl.DataFrame) -> None:
        """In: the table meters."""
        self._detection, self._incidents = detection, incidents
        self._placed = placed_meters(meters, detection=detection)
        self._rules, self._feeder_rules = RuleSet(window_rules(detection)), RuleSet(feeder_rules(detection))

    def measure(self, windows: pl.DataFrame, history: pl.DataFrame, fleet: pl.DataFrame | None = None) -> Judged:
        """Complete the fleet of one or more window ends and put every row beside its neighbours and its past.

        In: rows of meter_windows without residual_v and feeder_std_v; `history` of the `Judged` before, or
        `no_history`. A row never sees a later one. `fleet`: the window ends of the whole fleet and its fleet_awake,
        where the rows are those of some of its feeders.
        """
        d = self._detection
        latest = history.filter(pl.col("window_end") == pl.col("window_end").max())
        known, span = self._placed["meter_id"], {"window_s": d.window_s, "slide_s": d.slide_s}
        complete = complete_fleet(windows, latest, known, **span, ends=fleet)
        placed = attach_meters(complete, self._placed, detection=d)
        compared = compare_with_feeder(placed, detection=d)
        measured = look_around(look_back(compared, history, detection=d, fleet=fleet), detection=d)
        return Judged(measured, remembered(pl.concat([history, compared.select(REMEMBERED)]), detection=d))

    def window_findings(self, measured: pl.DataFrame, profiles: pl.DataFrame) -> list[Found]:
        """Findings of rows as `measure` makes them; `profiles`: rows of the table of the days before."""
        return self.findings_of(attach_profiles(measured, profiles, detection=self._detection))

    def findings_of(self, known: pl.DataFrame) -> list[Found]:
        """The same of rows with the columns of `attach_profiles`."""
        rows = with_silence(known, detection=self._detection, incidents=self._incidents)
        findings = self._rules.findings(rows)
        if not findings:
            return []
        odd = sorted({finding.row for finding in findings})
        of_rows = rows[odd].select(
            "meter_id",
            "feeder_id",
            pl.col("last_event_ts").dt.epoch("ms").alias("last_event_ms"),
            pl.col("window_end").dt.epoch("ms").alias("end_ms"),
            baseline_part(self._detection).alias("baseline"),
            *EVENT_TIMES.values(),
        )
        by_row = dict(zip(odd, of_rows.to_dicts(), strict=True))
        return [_found(finding, by_row[finding.row]) for finding in findings]

    def feeder_events(self, measured: pl.DataFrame) -> list[Event]:
        """AnomalyEvents of stage feeder: no meter, no baseline, no reading."""
        counted = count_feeders(measured, detection=self._detection)
        said = judge_feeders(counted, detection=self._detection)
        subjects = said.select("feeder_id", "event_ms", "phase").rows()
        events = []
        for finding in self._feeder_rules.findings(said):
            feeder_id, event_ms, phase = subjects[finding.row]
            subject = Subject(None, feeder_id, event_ms, None, None, None, None, place=phase)
            events.append(anomaly_event("feeder", finding, subject))
        return events


def window_rules(detection: Detection) -> list[RowRule]:
    """All rules of single windows, in the order in which their findings of one row come."""
    d = detection
    return [
        voltage_deviation(d),
        *sustained_voltage(d),
        *held_voltage(d),
        stuck_sensor(d),
        noisy_sensor(d),
        voltage_step(d),
        voltage_drift(d),
        own_step(d),
        own_drift(d),
        temperature_rise(d),
        meter_silent(d),
    ]


def window_events(found: Sequence[Found], readings: pl.DataFrame) -> list[Event]:
    """AnomalyEvents of stage window.

    `readings`: countable rows of the table, those of (meter_id, last_event_ms) of the findings at least: the latest
    reading of the window gives originalEvent and source.
    """
    latest = {
        (row["meter_id"], row["event_ms"]): row
        for row in readings.with_columns(
            event_ms=pl.col("event_ts").dt.epoch("ms"), kafka_ms=pl.col("kafka_ts").dt.epoch("ms")
        ).to_dicts()
    }
    return [
        anomaly_event("window", one.finding, _subject(one, latest.get((one.meter_id, one.last_event_ms))))
        for one in found
    ]


def named_by(found: Sequence[Found]) -> pl.DataFrame:
    """meter_id and event_ms of the latest reading that each finding names: long ago for a silent meter."""
    return pl.DataFrame(
        {"meter_id": [one.meter_id for one in found], "event_ms": [one.last_event_ms for one in found]},
        schema={"meter_id": pl.String(), "event_ms": pl.Int64()},
    ).unique()


def no_history() -> pl.DataFrame:
    """The history before the first window end."""
    return empty(METER_WINDOWS).select(REMEMBERED)


def remembered(rows: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Of rows of meter_windows, in the columns REMEMBERED, what the window end after the latest may look at."""
    reach = pl.duration(seconds=int(span_needed_s(detection) - detection.slide_s))
    return rows.filter(pl.col("window_end") >= pl.col("window_end").max() - reach)


def _found(finding: Finding, row: dict[str, Any]) -> Found:
    is_compared = finding.anomaly_type == "voltage_deviation"
    event_ms = row[EVENT_TIMES.get(finding.anomaly_type, "end_ms")]
    return Found(
        finding, row["meter_id"], row["feeder_id"], event_ms, row["last_event_ms"],
        row["baseline"] if is_compared else None,
    )  # fmt: skip


def _subject(found: Found, reading: dict[str, Any] | None) -> Subject:
    original, source, item = None, None, None
    if reading is not None:
        original = original_event(*(reading[name] for name in _READING))
        source = source_of(*(reading[name] for name in _COORDINATES))
        item = reading.get("kafka_item")
    return Subject(found.meter_id, found.feeder_id, found.event_ms, found.baseline, original, source, item)


_READING = ("meter_id", "event_ms", "voltage_v", "current_a", "temperature_c", "status")
_COORDINATES = ("kafka_topic", "kafka_partition", "kafka_offset", "kafka_ms")
