"""Where retention has removed what a recompute is made of, it is refused: less would be taken for the truth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import polars as pl

from pipelines.errors import DataRefused
from pipelines.offline.recompute.spans import Span, neighbours
from pipelines.settings import Detection, Settings
from pipelines.windows.look_back import span_needed_s

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


def refuse_fewer_readings(settings: Settings, changes: pl.DataFrame) -> None:
    """Raises DataRefused when a window would have fewer readings than it was counted with. Rows of `window_changes`.

    Late and corrected readings never take one away, so the archive has lost some, whatever removed them.
    """
    was, now = (pl.col(side).str.json_path_match("$.n").cast(pl.Int64).fill_null(0) for side in ("was", "now"))
    fewer = changes.with_columns(was_n=was, now_n=now).filter(pl.col("now_n") < pl.col("was_n"))
    if not fewer.height:
        return
    last = fewer.sort("window_end").row(-1, named=True)
    end = last["window_end"]
    raise DataRefused(
        f"{fewer.height:,} windows would lose readings, the last of them that of meter {last['meter_id']} to {end}:"
        f" readings has {last['now_n']} of the {last['was_n']} it was made of. Retention (lake.retention_days ="
        f" {settings.lake.retention_days}) or a deletion has removed them: give a --from of {end.date() + _DAY} or"
        " later"
    )
