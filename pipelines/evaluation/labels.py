"""Labelled events of a run: the generator's labels.csv, or any CSV with kind, scope, meter_id, start and end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipelines.anomalies.rules import FAMILIES
from pipelines.csv_files import Row, read_rows, some, time_in
from pipelines.errors import SettingsError

SLOW = frozenset({"drift", "stuck", "noisy", "silent", "step", "temperature_rise"})
"""Faults that must be found before they end; the others within five minutes after it."""
GRACE = pd.Timedelta(minutes=5)
EXPECTED = {
    "sag": "undervoltage|interruption|sustained_undervoltage|voltage_deviation",
    "swell": "overvoltage|sustained_overvoltage|voltage_deviation",
    "spike": "overvoltage|voltage_deviation|implausible_value",
    "interruption": "interruption|sustained_undervoltage|voltage_deviation",
    "glitch": "voltage_deviation|implausible_value",
    "unit_x10": "implausible_value",
    "step": "voltage_step|voltage_drift|voltage_deviation",
    "drift": "voltage_drift|voltage_step",
    "stuck": "stuck_sensor",
    "noisy": "noisy_sensor|voltage_deviation",
    "silent": "meter_silent",
    "failure_status": "equipment_failure",
    "overtemp": "over_temperature|temperature_rise",
    "over_temperature": "over_temperature|temperature_rise",
    "temperature_rise": "temperature_rise",
    "overcurrent": "overcurrent",
}
"""Anomaly types that may find a kind, where the file does not say."""
NEEDED = ("kind", "scope", "meter_id", "start", "end")
SCOPES = ("meter", "feeder", "lateral", "phase")
"""All but the first are events of many meters of a feeder."""
FEEDER_TYPES = "feeder_undervoltage|feeder_overvoltage|feeder_outage"
"""Of a feeder's event every feeder rule may find it."""


@dataclass(frozen=True)
class Label:
    """One event: [start, end), the meters it touches, and the anomaly types that may find it."""

    kind: str
    is_feeder: bool
    meters: frozenset[str]
    feeder_id: str | None
    start: pd.Timestamp
    end: pd.Timestamp
    types: frozenset[str]

    @property
    def until(self) -> pd.Timestamp:
        """Latest moment at which an alarm still finds it."""
        return self.end if self.kind in SLOW else self.end + GRACE


def read_labels(path: Path, fleet: pd.DataFrame) -> list[Label]:
    """Labels of a CSV. `fleet` (meter_id, feeder_id) says which meters a feeder's event touches; without a column
    feeder_id the event is of the only feeder. Raises SettingsError for a file that cannot be read or lacks a column,
    and for a line that cannot be: an unknown scope, no time, an end before its start, no meter, no feeder."""
    by_feeder = {str(name): frozenset(group) for name, group in fleet.groupby("feeder_id")["meter_id"]}
    by_meter = dict(zip(fleet["meter_id"], fleet["feeder_id"], strict=True))
    lines = read_rows(path, option="--labels", needed=NEEDED, hint=f"name a CSV of events: {', '.join(NEEDED)}")
    return [_label(f"--labels {path}, line {line}", row, by_feeder, by_meter) for line, row in lines]


def _label(said: str, row: Row, by_feeder: dict[str, frozenset[str]], by_meter: dict[str, str]) -> Label:
    scope, kind, start, end = row["scope"], row["kind"], _time(said, row, "start"), _time(said, row, "end")
    if scope not in SCOPES:
        raise SettingsError(f"{said}: scope = {scope!r}; legal: {', '.join(SCOPES)}")
    if end < start:
        raise SettingsError(f"{said}: end {row['end']} is before start {row['start']}; are the two exchanged?")
    if scope == "meter":
        meter = row["meter_id"]
        if not meter:
            raise SettingsError(f"{said}: an event of scope meter has no meter_id; name the meter")
        types = _types(said, kind, row.get("expected_types", ""))
        return Label(kind, False, frozenset({meter}), by_meter.get(meter), start, end, types)
    feeder = row.get("feeder_id", "")
    if not feeder and len(by_feeder) == 1:
        (feeder,) = by_feeder
    if feeder not in by_feeder:
        raise SettingsError(
            f"{said}: feeder_id = {feeder!r} names no feeder of the fleet; it has {some(sorted(by_feeder)) or 'none'}"
        )
    return Label(kind, True, by_feeder[feeder], feeder, start, end, frozenset(FEEDER_TYPES.split("|")))


def _types(said: str, kind: str, expected: str) -> frozenset[str]:
    """The types that may find an event of a meter: those it names, else those of its kind."""
    types = frozenset((expected or EXPECTED.get(kind, "")).split("|"))
    unknown = types - FAMILIES.keys()
    if expected and unknown:
        raise SettingsError(
            f"{said}: expected_types names {some(sorted(unknown))}; legal: {', '.join(sorted(FAMILIES))}"
        )
    if unknown:
        raise SettingsError(
            f"{said}: kind = {kind!r} is not known and expected_types is empty; name there the anomaly types that may"
            f" find it, or a kind of {', '.join(sorted(EXPECTED))}"
        )
    return types


def _time(said: str, row: Row, name: str) -> pd.Timestamp:
    try:
        return pd.Timestamp(time_in(row[name]))
    except ValueError:
        raise SettingsError(f"{said}: {name} = {row[name]!r} is no ISO time such as 2026-03-02T12:00:00Z") from None
