"""The daily profiles job: one row a meter and full day, from meter_windows; the only writer of the table profiles."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from pipelines.lake.frames import as_declared, schema_of
from pipelines.offline.detection import DayProfiles
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.settings import Detection, Settings
from pipelines.small_tables import (
    Say,
    arrow_schema,
    moment,
    read_rows,
    replace_rows,
    rows_by_date,
)
from pipelines.tables import METER_WINDOWS, METERS, PROFILES
from pipelines.windows.judge import no_history, remembered
from pipelines.windows.look_around import look_around
from pipelines.windows.look_back import REMEMBERED, look_back, span_needed_s
from pipelines.windows.profiles import profile_rows, profiles_of

if TYPE_CHECKING:
    from pipelines.offline.on_spark import Cluster

KEPT_DAYS = 31
SPAN_ROWS = 500_000
"""Windows that are in memory at once, about; a single window end may have more."""
_DAY = timedelta(days=1)


def update_profiles(settings: Settings, day: date | None, say: Say, cluster: Cluster | None = None) -> int:
    """Compute the profiles of a day (default: the last full day of meter_windows) and write them; returns how many.

    Rows of that day are replaced, those of other days kept for a month: running it again gives the same table. A
    window needs what lies half an hour before it, so the rows of the evening before are read too. The windows
    of a large fleet are read in spans of the day, or by groups of feeders on a cluster.
    """
    rows = rows_by_date(settings, METER_WINDOWS)
    wanted = day or _last_full_day(max(rows, default=None))
    if wanted is None:
        say("meter_windows is empty: no profile")
        return 0
    if cluster is None:
        made = _profiles_of(settings, wanted, 1 + rows.get(wanted, 0) // SPAN_ROWS, say)
    else:
        made = _profiles_on(cluster, settings, wanted)
    fresh = made.to_arrow().cast(arrow_schema(PROFILES))
    kept = read_rows(settings, PROFILES, where=_others(wanted))
    replace_rows(pa.concat_tables([kept, fresh]), settings, PROFILES)
    say(f"{fresh.num_rows:,} profiles of {wanted}")
    return int(fresh.num_rows)


def _profiles_of(settings: Settings, day: date, spans: int, say: Say) -> pl.DataFrame:
    d = settings.detection
    placed = placed_meters(pl.DataFrame(read_rows(settings, METERS)), detection=d)
    midnight = datetime.combine(day, time(), UTC)
    evening = _windows(settings, midnight - timedelta(seconds=span_needed_s(d)), midnight)
    history = pl.concat([no_history(), evening.select(REMEMBERED)])
    with TemporaryDirectory() as scratch:
        made = DayProfiles(settings, Path(scratch))
        try:
            for number in range(spans):
                rows = _windows(settings, midnight + _DAY * number / spans, midnight + _DAY * (number + 1) / spans)
                if not rows.height:
                    continue
                compared = attach_meters(rows, placed, detection=d)
                made.add(look_around(look_back(compared, history, detection=d), detection=d))
                history = remembered(pl.concat([history, compared.select(REMEMBERED)]), detection=d)
                if spans > 1:
                    say(f"part {number + 1} of {spans}: {rows.height:,} windows")
            return made.made()
        finally:
            made.close()


def _profiles_on(cluster: Cluster, settings: Settings, day: date) -> pl.DataFrame:
    d, midnight = settings.detection, datetime.combine(day, time(), UTC)
    placed = placed_meters(cluster.meters, detection=d)
    since = midnight - timedelta(seconds=span_needed_s(d))
    rows = cluster.rows(METER_WINDOWS, _between(since, midnight + _DAY), METER_WINDOWS.column_names)
    return cluster.by_group(rows, _profiles_of_group, (d, placed, midnight), schema_of(PROFILES))


def _profiles_of_group(shared: tuple[Detection, pl.DataFrame, datetime], rows: pl.DataFrame) -> pl.DataFrame:
    d, placed, midnight = shared
    windows = as_declared(rows, METER_WINDOWS).sort("window_end", "meter_id")
    of_day = attach_meters(windows.filter(pl.col("window_end") >= midnight), placed, detection=d)
    history = windows.filter(pl.col("window_end") < midnight).select(REMEMBERED)
    measured = look_around(look_back(of_day, history, detection=d), detection=d)
    return profiles_of(profile_rows(measured, detection=d), detection=d)


def _windows(settings: Settings, since: datetime, until: datetime) -> pl.DataFrame:
    """Rows of meter_windows with a window_end in [since, until), by it."""
    where = _between(since, until)
    return pl.DataFrame(read_rows(settings, METER_WINDOWS, where=where)).sort("window_end", "meter_id")


def _between(since: datetime, until: datetime) -> str:
    days = f"window_date >= '{since.date()}' AND window_date <= '{until.date()}'"
    return f"{days} AND window_end >= {moment(since)} AND window_end < {moment(until)}"


def _last_full_day(latest: date | None) -> date | None:
    return latest - timedelta(days=1) if latest else None


def _others(day: date) -> str:
    oldest = day - timedelta(days=KEPT_DAYS)
    return f"profile_date <> '{day}' AND profile_date > '{oldest}'"
