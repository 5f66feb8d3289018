"""What one notifying rate is: notifications per meter-day, per 1,000 meters and hour, and per feeder event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipelines.evaluation.labels import GRACE, Label


def load(sent: pd.DataFrame, labels: Sequence[Label], *, meters: int, days: float) -> dict[str, Any]:
    """Figures of notifications (ts, meter_id, feeder_id).

    per_meter_day, per_1000_meters_hour (mean over the run), worst_10_min_per_1000 (outside real feeder events), and
    per_feeder_event: notifications from any meter of the feeder, or from it, from its start to 5 min after its end.
    """
    events = [label for label in labels if label.is_feeder]
    of_events = [_in_event(sent, event) for event in events]
    outside = sent[~pd.concat(of_events, axis=1).any(axis=1)] if events else sent
    starts = outside["ts"].sort_values().reset_index(drop=True)
    worst = 0
    if len(starts):
        worst = int(pd.Series(1, index=pd.DatetimeIndex(starts)).rolling("10min").sum().max())
    return {
        "notifications": len(sent),
        "per_meter_day": len(sent) / (meters * days),
        "per_1000_meters_hour": len(sent) / (days * 24) * 1000 / meters,
        "worst_10_min": worst,
        "per_feeder_event": None if not events else sum(int(rows.sum()) for rows in of_events) / len(events),
        "most_per_feeder_event": None if not events else max(int(rows.sum()) for rows in of_events),
    }


def _in_event(sent: pd.DataFrame, event: Label) -> pd.Series[bool]:
    concerned = (sent["feeder_id"] == event.feeder_id) & (sent["meter_id"].isna() | sent["meter_id"].isin(event.meters))
    own = sent["ts"].between(event.start, event.end + GRACE)
    return concerned & own
