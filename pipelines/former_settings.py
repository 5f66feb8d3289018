"""Settings of earlier versions: what somebody who still has one must do."""

from __future__ import annotations

_ONE_WAY = "take it out: the alerts judge every reading in one way, and `gridwatch run` starts them as its child"
_NO_JVM = "take it out: the alerts need no Spark and no Java any more"

FORMER = {
    "alerts.mode": f"{_ONE_WAY} (alerts.with_pipeline)",
    "alerts.trigger": "take it out: the alerts have no batches any more and commit what they judged every second",
    "alerts.master": _NO_JVM,
    "alerts.jvm_options": _NO_JVM,
    "alerts.driver_memory": _NO_JVM,
    "alerts.heartbeat_every": "take it out: the offsets of the group alerts.group say how far the alerts are",
    "alerts.stuck_after": "take it out: alerts.deliver_within says how long Kafka may take to acknowledge",
    "alerts.baselines_every": "take it out: baselines and meters are looked at every 5 s",
    "pipeline.incidents_trigger": "take it out: incidents have no batches any more and act when anomalies come",
    "kafka.topics.heartbeats": "take it out: the alerts send no heartbeats any more; the topic may be deleted",
}
"""Dotted name and what to do, in one line."""
