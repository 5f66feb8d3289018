"""Where retention has removed what a recompute is made of, it is refused: less would be taken for the truth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.errors import DataRefused
from pipelines.jobs.recompute.spans import Span, neighbours
from pipelines.settings import Detection, Settings
from pipelines.transforms.window_rules import span_needed_s

_DAY = timedelta(days=1)


def kept_since(settings: Settings, today: date) -> date | None:
    """The first day whose readings and anomalies are surely kept; None: all are.

    What is older may be there in part: a late reading makes the partition of its day anew.
    """
    days = settings.lake.retention_days
    return None if days is None else today - timedelta(days=days)


def usable_since(first_end: datetime, detection: Detection) -> datetime:
    """The first event time whose windows can be computed again, by the earliest stored window end.

    Retention cuts by days, so the rows of a lake that was cut begin with its day. Rules then look back on nothing, and
    would withdraw what they have found with the windows that are gone; a lake that began there never had them.
    """
    midnight = first_end.replace(hour=0, minute=0, second=0, microsecond=0)
    if first_end - midnight >= timedelta(seconds=detection.slide_s):
        return midnight
    return midnight + timedelta(seconds=span_needed_s(detection) + detection.window_s)


def refuse_expired(settings: Settings, spans: Sequence[Span], ends: Sequence[datetime], *, today: date) -> None:
    """Raises DataRefused when the windows of a span, or those beside it, may be made of readings that are gone."""
    kept = kept_since(settings, today)
    for span in spans if kept else ():
        needed = neighbours(ends, span)[0] - timedelta(seconds=settings.detection.window_s)
        if kept and needed.date() < kept:
            raise DataRefused(
                f"window ends from {span.first} on need readings of {needed.date()}, and lake.retention_days ="
                f" {settings.lake.retention_days} keeps those from {kept} on: give a --from of {kept + _DAY} or later"
            )


def refuse_fewer_readings(settings: Settings, changes: DataFrame) -> None:
    """Raises DataRefused when a window would have fewer readings than it was counted with. Rows of `window_changes`.

    Late and corrected readings never take one away, so the archive has lost some, whatever removed them.
    """
    was, now = (F.coalesce(F.get_json_object(side, "$.n").cast("long"), F.lit(0)) for side in ("was", "now"))
    fewer = changes.where(now < was)
    latest = F.max_by(F.struct("meter_id", was.alias("was"), now.alias("now")), "window_end")
    count, end, window = fewer.agg(F.count(F.lit(1)), F.max("window_end"), latest).head()  # type: ignore[misc]
    if not count:
        return
    end = end.replace(tzinfo=UTC)
    raise DataRefused(
        f"{count:,} windows would lose readings, the last of them that of meter {window['meter_id']} to {end}: readings"
        f" has {window['now']} of the {window['was']} it was made of. Retention (lake.retention_days ="
        f" {settings.lake.retention_days}) or a deletion has removed them: give a --from of {end.date() + _DAY} or"
        " later"
    )
