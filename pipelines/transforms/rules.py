"""The catalogue of rules: to which family of incidents each anomaly type belongs, and at which stage it looks."""

from __future__ import annotations

from dataclasses import dataclass

RULE_VERSION = "1"
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
    Rule("meter_silent", "silence", "window"),
)

FAMILIES = {rule.anomaly_type: rule.family for rule in RULES}
NEVER_OPEN = frozenset(rule.anomaly_type for rule in RULES if not rule.opens)
