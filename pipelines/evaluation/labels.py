"""Labelled events of a run: the generator's labels.csv, or any CSV with kind, scope, meter_id, start and end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

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
    "step": "voltage_step|voltage_deviation",
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
"""Anomaly types that may find a kind, where the file does not say; of a feeder's event every feeder rule."""
FEEDER_TYPES = "feeder_undervoltage|feeder_overvoltage|feeder_outage"


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
    feeder_id the event is of the only feeder. Raises SettingsError for a missing file, column or feeder."""
    try:
        rows = pd.read_csv(path)
    except (OSError, pd.errors.ParserError) as error:
        raise SettingsError(f"--labels {path}: {error}; name a csv file of events") from None
    missing = {"kind", "scope", "meter_id", "start", "end"} - set(rows.columns)
    if missing:
        raise SettingsError(f"--labels {path}: no column {', '.join(sorted(missing))}")
    by_feeder = {str(name): frozenset(group) for name, group in fleet.groupby("feeder_id")["meter_id"]}
    by_meter = dict(zip(fleet["meter_id"], fleet["feeder_id"], strict=True))
    return [_label(path, row, by_feeder, by_meter) for row in rows.to_dict("records")]


def _label(path: Path, row: dict[Any, Any], by_feeder: dict[str, frozenset[str]], by_meter: dict[str, str]) -> Label:
    is_feeder, kind = row["scope"] != "meter", str(row["kind"])
    start, end = (pd.Timestamp(str(row[name])) for name in ("start", "end"))
    start, end = (at.tz_localize("UTC") if at.tz is None else at.tz_convert("UTC") for at in (start, end))
    if not is_feeder:
        meter = str(row["meter_id"])
        types = row.get("expected_types") or EXPECTED.get(kind, "")
        return Label(kind, False, frozenset({meter}), by_meter.get(meter), start, end, frozenset(str(types).split("|")))
    feeder = str(row["feeder_id"]) if row.get("feeder_id") == row.get("feeder_id") and "feeder_id" in row else ""
    if not feeder and len(by_feeder) == 1:
        (feeder,) = by_feeder
    if feeder not in by_feeder:
        raise SettingsError(f"--labels {path}: the {kind} at {start} names no feeder of the fleet")
    return Label(kind, True, by_feeder[feeder], feeder, start, end, frozenset(FEEDER_TYPES.split("|")))
