"""The daily profiles job: one row a meter and full day, from meter_windows; the only writer of the table profiles."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipelines.jobs.context import Say
from pipelines.settings import Settings
from pipelines.small_tables import arrow_schema, read_rows, replace_rows
from pipelines.sources import table
from pipelines.tables import PROFILES
from pipelines.transforms.daily_profiles import daily_profiles
from pipelines.transforms.readings import attach_meters
from pipelines.transforms.window_rules.measures import measure

KEPT_DAYS = 31


def update_profiles(spark: SparkSession, settings: Settings, day: date | None, say: Say) -> int:
    """Compute the profiles of a day (default: the last full day of meter_windows) and write them; returns how many.

    Rows of that day are replaced, those of other days kept for a month: running it again gives the same table. A
    window needs what lies half an hour before it, so the rows of the evening before are read too.
    """
    windows = table(spark, settings, "meter_windows")
    wanted = day or _last_full_day(windows.agg(F.max("window_date")).collect()[0][0])
    if wanted is None:
        say("meter_windows is empty: no profile")
        return 0
    meters = table(spark, settings, "meters")
    dates = [wanted - timedelta(days=1), wanted]
    around = windows.where(F.col("window_date").isin(dates))
    measured = measure(
        attach_meters(around, meters, detection=settings.detection), around.limit(0), detection=settings.detection
    )
    of_day = measured.where(F.col("window_date") == F.lit(wanted))
    fresh = daily_profiles(of_day, detection=settings.detection).toArrow().cast(arrow_schema(PROFILES))
    kept = read_rows(settings, PROFILES, where=_others(wanted))
    replace_rows(pa.concat_tables([kept, fresh]), settings, PROFILES)
    say(f"{fresh.num_rows:,} profiles of {wanted}")
    return int(fresh.num_rows)


def _last_full_day(latest: date | None) -> date | None:
    return latest - timedelta(days=1) if latest else None


def _others(day: date) -> str:
    oldest = day - timedelta(days=KEPT_DAYS)
    return f"profile_date <> '{day}' AND profile_date > '{oldest}'"
