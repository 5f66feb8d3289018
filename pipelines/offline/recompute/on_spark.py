"""A span of a recompute by groups of feeders: the same comparison, on a cluster."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from pipelines.lake.frames import as_declared, empty
from pipelines.offline.groups import COUNTS, Group, fleet_awake, window_ends
from pipelines.offline.recompute.answer import Answer
from pipelines.offline.recompute.archive import Archive, between
from pipelines.offline.recompute.compared import Compared
from pipelines.offline.recompute.corrections import settle_readings
from pipelines.offline.recompute.spans import Span
from pipelines.offline.recompute.window_changes import window_changes
from pipelines.settings import Detection, Settings
from pipelines.tables import METER_WINDOWS, PROFILES, READINGS, Table
from pipelines.windows.fill import Span as Stretch
from pipelines.windows.judge import WindowsJudge
from pipelines.windows.look_back import is_awake
from pipelines.windows.profiles import DAYS

if TYPE_CHECKING:
    from pipelines.offline.on_spark import Cluster

_WAS = {"window_end": COUNTS["window_end"], "was_followed": pl.Int64(), "was_awake": pl.Int64()}
_PICKLED = {"made": pl.Binary()}


@dataclass(frozen=True)
class GroupArchive(Archive):
    """What the tables hold of a group of feeders, in memory."""

    rows: Mapping[str, pl.DataFrame]
    """By the name of the table."""

    @property
    def meters(self) -> pl.DataFrame:
        """The table meters, of the whole fleet."""
        return self.rows["meters"]

    def stretches(self, since: datetime, until: datetime) -> list[Stretch]:
        """All at once."""
        return [Stretch(*(round(edge.timestamp() * 1000) for edge in (since, until)))]

    def profiles(self, since: datetime) -> pl.DataFrame:
        """Profiles of the days from `since` on."""
        return self.rows[PROFILES.name].filter(pl.col("profile_date") >= since.date())

    def read(
        self, table: Table, column: str, since: datetime, until: datetime, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Rows of a table with a time in [since, until)."""
        found = self.rows[table.name].filter(pl.col(column).is_between(since, until, closed="left"))
        return found if columns is None else found.select(columns)


@dataclass(frozen=True)
class _Shared:
    """What all groups know. No setting with a secret is in it."""

    group: Group
    span: Span
    ends: list[datetime]
    fleet: pl.DataFrame

    @property
    def settings(self) -> Settings:
        return Settings.model_validate({"detection": self.group.detection, "incidents": self.group.incidents})


def compared_on(cluster: Cluster, answer: Answer) -> tuple[pl.DataFrame, Iterable[Compared]]:
    """`Answer.corrected` and the comparison of all groups. One pass counts who is awake, one judges."""
    archive, settings = answer.archive, answer.archive.settings
    d, (since, until) = settings.detection, answer.readings
    readings = cluster.rows(READINGS, between(READINGS, "event_ts", since, until), READINGS.column_names)
    earliest = answer.earliest or since
    stored = between(METER_WINDOWS, "window_end", earliest, answer.span.last + timedelta(microseconds=1))
    windows = cluster.rows(METER_WINDOWS, stored, METER_WINDOWS.column_names)
    profiles = archive.profiles(since - timedelta(days=DAYS + 1))
    group = Group(d, settings.incidents, archive.meters, profiles)
    asked = window_ends(cluster.slides(readings, d.slide_s), detection=d).filter(answer.is_asked)
    shared = _Shared(group, answer.span, list(answer.ends), asked)
    counts = cluster.by_groups(readings, windows, _count, shared, COUNTS | _WAS)
    fleet = fleet_awake(asked, counts.filter(pl.col("followed").is_not_null()))
    shared = _Shared(group, answer.span, list(answer.ends), fleet)
    made = cluster.by_groups(readings, windows, _compare, shared, _PICKLED)
    parts = [pickle.loads(one) for one in made["made"]]  # our own workers wrote it
    corrected = pl.concat([_no_corrected(), *(part[0] for part in parts)]).unique()
    inside = fleet.filter(pl.col("window_end").is_between(answer.span.first, answer.span.last))
    of_fleet = _was(counts, d), _is_heard(inside, d)
    differing = pl.concat([_no_changes(), *(part[1] for part in parts)])
    found, of_feeders = [one for part in parts for one in part[2]], [one for part in parts for one in part[3]]
    return corrected, [Compared(differing, *of_fleet, found, of_feeders)]


def _count(shared: _Shared, readings: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """COUNTS of a group as a batch has it, and the same of its stored rows of the span."""
    stored, d = as_declared(windows, METER_WINDOWS), shared.group.detection
    first = shared.fleet["window_end"].min()
    before = stored.filter(pl.col("window_end") < first)
    latest = before.filter(pl.col("window_end") == max((e for e in shared.ends if e < first), default=None))  # type: ignore[operator]
    now = shared.group.awake(settle_readings(as_declared(readings, READINGS)), shared.fleet, earlier=latest)
    inside = stored.filter(pl.col("window_end").is_between(shared.span.first, shared.span.last))
    was = inside.group_by("window_end").agg(was_followed=pl.len(), was_awake=is_awake(d).sum())
    return pl.concat([now, was], how="diagonal_relaxed").select(
        (pl.col(name) if name in {*now.columns, *was.columns} else pl.lit(None)).cast(kind).alias(name)
        for name, kind in (COUNTS | _WAS).items()
    )


def _compare(shared: _Shared, readings: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """One row: what `compared_on` takes of a group, pickled."""
    group, settings = shared.group, shared.settings
    rows = {
        READINGS.name: as_declared(readings, READINGS), METER_WINDOWS.name: as_declared(windows, METER_WINDOWS),
        PROFILES.name: empty(PROFILES) if group.profiles is None else group.profiles, "meters": group.meters,
    }  # fmt: skip
    judge = WindowsJudge(group.detection, group.incidents, group.meters)
    answer = Answer(GroupArchive(settings, rows), judge, shared.span, shared.ends, shared.fleet)
    pieces = list(answer.pieces())
    made = (
        answer.corrected(),
        pl.concat([_no_changes(), *(window_changes(piece.before, piece.after) for piece in pieces)]),
        [one for piece in pieces for one in piece.found],
        [one for piece in pieces for one in piece.of_feeders],
    )
    return pl.DataFrame({"made": [pickle.dumps(made)]}, schema=_PICKLED)


def _no_corrected() -> pl.DataFrame:
    return pl.DataFrame(schema={"meter_id": pl.String(), "correction": pl.String()})


def _no_changes() -> pl.DataFrame:
    return window_changes(empty(METER_WINDOWS), empty(METER_WINDOWS))


def _was(counts: pl.DataFrame, d: Detection) -> pl.DataFrame:
    stored = counts.filter(pl.col("was_followed").is_not_null())
    named = stored.select("window_end", followed="was_followed", awake="was_awake")
    return _is_heard(fleet_awake(named.select("window_end").unique(), named), d)


def _is_heard(fleet: pl.DataFrame, d: Detection) -> pl.DataFrame:
    return fleet.select("window_end", is_heard=pl.col("fleet_awake") >= d.min_reporting)
