"""Documents that the tests of the console share."""

from __future__ import annotations

from typing import Any


def incident_document(name: str, **changes: Any) -> dict[str, Any]:
    """An open incident of meter m-1 as the topic has it."""
    return {
        "incidentId": name, "scope": "meter", "meterId": "m-1", "feederId": "f-1", "family": "voltage-low",
        "anomalyType": "undervoltage", "status": "open", "severity": "WARNING", "openedAt": 1000,
        "lastAnomalyAt": 2000, "closedAt": None, "durationS": 1.0, "anomalies": 2, "alerts": 1, "worstValue": 200.0,
        "severityHistory": [{"at": 1000, "severity": "WARNING", "anomalyType": "undervoltage"}], "parentId": None,
        "muted": None, "message": "Meter m-1: 200.0 V is below the band.",
    } | changes  # fmt: skip
