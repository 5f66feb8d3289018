"""A day of the archive as frames of facts, one for each suite; each is as large as the fleet or the day's clock."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping

import pandas as pd

from pipelines.lake_sql import open_lake
from pipelines.quality import facts_anomalies, facts_audit, facts_readings, facts_windows
from pipelines.quality.columns import stored_columns
from pipelines.quality.day import JUDGED, Day, Say, make_sources
from pipelines.settings import Settings

Frames = Mapping[str, pd.DataFrame]
"""Facts by the name of their suite."""


def measure(settings: Settings, day: Day, say: Say) -> Frames:
    """All facts of a day. Nothing is sampled; DuckDB spills to a temporary folder what does not fit into memory."""
    topic = settings.kafka.topics.readings
    frames = {f"{table.name}.columns": stored_columns(settings, table) for table in JUDGED}
    with tempfile.TemporaryDirectory(prefix="gridwatch-quality-") as spill, open_lake(settings) as lake:
        lake.execute(f"SET temp_directory = '{spill}'; SET preserve_insertion_order = false")
        make_sources(lake, day)
        batches = facts_audit.take_batches(lake, day, topic)
        facts_readings.count_slots(lake, day, settings)
        span = facts_readings.covered_span(lake, day, settings)
        say(f"{day.date}: {day.readings} readings from {span.clock()}")
        facts_readings.count_meter_hours(lake, day, span, settings, say)
        frames["readings.by_meter"] = facts_readings.by_meter(lake, span, settings)
        frames["readings.by_hour"] = facts_readings.by_hour(lake, span, settings)
        frames["readings.by_slot"] = facts_readings.by_slot(lake, span, settings)
        frames["readings.day"] = facts_readings.of_day(lake, day)
        frames["meter_windows.by_end"] = facts_windows.by_end(lake, span, settings)
        say(f"meter_windows: {len(frames['meter_windows.by_end'])} window ends counted")
        frames["anomalies.by_type"] = facts_anomalies.by_type(lake, day, settings)
        frames["anomalies.day"] = facts_anomalies.of_day(lake, day)
        say(f"anomalies: {int(frames['anomalies.day']['anomalies'].iloc[0])} counted")
        frames["audit.batches"] = facts_audit.count_rows(lake, batches, topic, say)
        frames["audit.day"] = facts_audit.of_day(lake, batches, day, topic)
    return frames
