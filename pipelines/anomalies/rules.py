"""The catalogue of rules: to which family of incidents each anomaly type belongs, and at which stage it looks."""

from __future__ import annotations

from dataclasses import dataclass

RANKS = {"WARNING": 1, "ERROR": 2, "CRITICAL": 3}
"""Severities that can open an incident, the worst highest."""

RULE_VERSION = "4"
"""Sent with every anomaly; raise it when a rule's condition, not its limit, changes."""


@dataclass(frozen=True)
class Rule:
    """One anomaly type. `opens` is false for rules that never open an incident of their own."""

    anomaly_type: str
    family: str
    stage: str
    opens: bool = True


RULES = (
    Rule("voltage_spike", "voltage-high", "reading", opens=False),
    Rule("overvoltage", "voltage-high", "reading"),
    Rule("undervoltage", "voltage-low", "reading"),
    Rule("interruption", "voltage-low", "reading"),
    Rule("equipment_failure", "equipment", "reading"),
    Rule("over_temperature", "thermal", "reading"),
    Rule("overcurrent", "current", "reading"),
    Rule("implausible_value", "health", "reading"),
    Rule("voltage_deviation", "deviation", "reading"),
    Rule("sustained_overvoltage", "voltage-high", "window"),
    Rule("sustained_undervoltage", "voltage-low", "window"),
    Rule("stuck_sensor", "health", "window"),
    Rule("noisy_sensor", "health", "window"),
    Rule("voltage_step", "deviation", "window"),
    Rule("voltage_drift", "deviation", "window"),
    Rule("temperature_rise", "thermal", "window"),
    Rule("meter_silent", "silence", "window"),
    Rule("feeder_undervoltage", "feeder-supply", "feeder"),
    Rule("feeder_overvoltage", "feeder-supply", "feeder"),
    Rule("feeder_outage", "feeder-supply", "feeder"),
)
"""voltage_deviation, undervoltage and overvoltage also speak at stage window: the first as a WARNING, the others to
keep an incident open (hysteresis)."""

EXPLAINED_BY_FEEDER = frozenset({"voltage-low", "voltage-high", "deviation", "silence"})
"""Families of meter incidents that an incident of the meter's feeder explains."""

FAMILIES = {rule.anomaly_type: rule.family for rule in RULES}
NEVER_OPEN = frozenset(rule.anomaly_type for rule in RULES if not rule.opens)
