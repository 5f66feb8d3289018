"""One small feeder a rule: quiet peers, and a subject with the fault that the rule is for. Readings once a minute.

minute   0 ........ 45 ===== fault ===== 45 + its length ..... 90
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTES, FAULT = 90, 45
PEERS = 5


@dataclass(frozen=True)
class Sample:
    """One reading; `minute` may be broken."""

    minute: float
    voltage_v: float
    current_a: float | None = 5.0
    temperature_c: float | None = 20.0
    status: str | None = "OK"


Change = Callable[[Sample, int], Sample | None]
"""What a fault makes of a reading, with the number of minutes since its start; None: the reading is missing."""


def volts(value: float, minutes: int) -> tuple[Change, int]:
    """A voltage for some minutes."""
    return (lambda sample, _: replace(sample, voltage_v=value)), minutes


def shifted(by_v: float, minutes: int) -> tuple[Change, int]:
    """The usual movement, somewhere else."""
    return (lambda sample, _: replace(sample, voltage_v=sample.voltage_v + by_v)), minutes


FAULTS: dict[str, tuple[Change, int]] = {
    "voltage_spike": volts(256.0, 1),
    "overvoltage": volts(256.0, 4),
    "interruption": volts(1.0, 4),
    "undervoltage": volts(200.0, 4),
    "equipment_failure": ((lambda s, _: replace(s, status="RELAY_FAILURE")), 3),
    "over_temperature": ((lambda s, _: replace(s, temperature_c=80.0)), 3),
    "overcurrent": ((lambda s, _: replace(s, current_a=50.0)), 3),
    "implausible_value": volts(2300.0, 3),
    "voltage_deviation": volts(218.0, 1),
    "sustained_undervoltage": volts(195.0, 20),
    "sustained_overvoltage": volts(260.0, 20),
    "stuck_sensor": volts(231.0, 24),
    "noisy_sensor": ((lambda s, i: replace(s, voltage_v=s.voltage_v + (6.0 if i % 2 else -6.0))), 24),
    "voltage_step": shifted(10.0, 15),
    "voltage_drift": shifted(7.0, 36),
    "temperature_rise": ((lambda s, i: replace(s, temperature_c=20.0 + 3 * i)), 12),
    "meter_silent": ((lambda _s, _i: None), 20),
    "feeder_undervoltage": volts(200.0, 4),
    "feeder_overvoltage": volts(256.0, 4),
    "feeder_outage": volts(1.0, 4),
}
NEEDS_FIELDS = {
    "equipment_failure": "status",
    "over_temperature": "temperature_c",
    "temperature_rise": "temperature_c",
    "overcurrent": "current_a",
}
"""Rules that judge a field which a file may lack."""
NOT_IN_VOLTS = {*NEEDS_FIELDS, "meter_silent", "feeder_undervoltage", "feeder_overvoltage", "feeder_outage"}


def quiet(meter: int) -> list[Sample]:
    """An ordinary meter: 230.0 to 230.4 V, never the same for long."""
    return [Sample(float(i), 230.0 + (i * 3 + meter) % 5 / 10) for i in range(MINUTES)]


def faulty(rule: str, samples: list[Sample]) -> list[Sample]:
    """The readings with the fault of a rule in them."""
    change, minutes = FAULTS[rule]
    found = []
    for sample in samples:
        passed = int(sample.minute) - FAULT
        changed = change(sample, passed) if 0 <= passed < minutes else sample
        if changed is not None:
            found.append(changed)
    return found


def feeder(rule: str | None, name: str, unit_v: float = 230.0) -> dict[str, list[Sample]]:
    """Readings by meter of the feeder `name`: subject and peers; all are subjects of a feeder's rule."""
    meters = {f"{name}/m{i}": quiet(i) for i in range(PEERS + 1)}
    everyone = rule is not None and rule.startswith("feeder_")
    for i, meter in enumerate(meters):
        if rule is not None and (everyone or i == 0):
            meters[meter] = faulty(rule, meters[meter])
    scale = unit_v / 230.0
    return {m: [replace(s, voltage_v=s.voltage_v * scale) for s in some] for m, some in meters.items()}


def subject(name: str) -> str:
    """The meter that has the fault."""
    return f"{name}/m0"


def rows(meters: dict[str, list[Sample]]) -> Iterator[dict[str, Any]]:
    """Rows as a file of readings has them."""
    for meter, samples in meters.items():
        for sample in samples:
            yield {
                "meter_id": meter, "ts": START + timedelta(minutes=sample.minute), "voltage_v": sample.voltage_v,
                "current_a": sample.current_a, "temperature_c": sample.temperature_c, "status": sample.status,
            }  # fmt: skip


def fleet(meters: dict[str, list[Sample]], unit_v: float = 230.0) -> list[dict[str, Any]]:
    """Rows of the table meters: everything before the stroke is the feeder."""
    return [
        {"meter_id": m, "feeder_id": m.split("/")[0], "nominal_voltage_v": unit_v, "rated_current_a": 40.0}
        for m in meters
    ]
