"""Detection again over the archive with other settings, against what was found live: same, new, gone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from pipelines.offline.detection import READING, Detector
from pipelines.offline.groups import COUNTS, Group, fleet_awake, window_ends
from pipelines.settings import Settings
from pipelines.small_tables import Say, moment, open_table, read_rows, scan_rows
from pipelines.tables import ANOMALIES, METERS, PROFILES, READINGS

if TYPE_CHECKING:
    from pipelines.offline.on_spark import Cluster

PART_ROWS = 1_000_000
"""Readings of the archive that are in memory at once, about; a single slide may have more."""
_PIECES = 10
_IDS = ("anomaly_id", "anomaly_type", "stage")


@dataclass(frozen=True)
class Difference:
    """Anomalies of one type: found both times, only now, only then."""

    anomaly_type: str
    same: int
    new: int
    gone: int


def backtest(settings: Settings, since: datetime, until: datetime, say: Say) -> list[Difference]:
    """Compare by anomaly_id, for event times in [since, until), aware (UTC).

    Readings from `run_up` before are read, so that the first windows are whole. The early flags are left out: they
    depend on when the stream closed its windows. The archive is read in parts by time.
    """
    meters, profiles = (pl.DataFrame(read_rows(settings, table)) for table in (METERS, PROFILES))
    begin, end = since - run_up(settings), until
    edges = [at for at in _edges(settings, begin, end) if begin < at < end]
    now = [_no_ids()]
    with TemporaryDirectory() as scratch, Detector(meters, profiles, settings=settings, scratch=Path(scratch)) as again:
        for first, last in zip([begin, *edges], [*edges, end], strict=True):
            before_ms = None if last == end else round(last.timestamp() * 1000)
            rows = _readings(settings, first, last)
            for part in again.take(rows, before_ms=before_ms):
                now.append(_ids_of(part.anomalies, since, until))
            if edges:
                say(f"judged {rows.height:,} readings up to {last.astimezone(UTC):%Y-%m-%d %H:%M}")
    live = pl.DataFrame(read_rows(settings, ANOMALIES, columns=_IDS, where=_between(since, until)))
    return differences(pl.concat(now), live)


def backtest_on(cluster: Cluster, settings: Settings, since: datetime, until: datetime, say: Say) -> list[Difference]:
    """The same by groups of feeders on a cluster: one pass for the window ends of the fleet, one for how much of it is
    awake at each, one for the findings."""
    d, begin = settings.detection, since - run_up(settings)
    rows = cluster.rows(READINGS, _between(begin, until), list(READING))
    ends = window_ends(cluster.slides(rows, d.slide_s), detection=d)
    say(f"{ends.height:,} window ends")
    group = Group(d, settings.incidents, cluster.meters, pl.DataFrame(read_rows(settings, PROFILES)))
    counts = cluster.by_group(rows, _count, (group, ends), COUNTS)
    say("counted who is awake")
    fleet = fleet_awake(ends, counts)
    now = cluster.by_group(rows, _find, (group, fleet, since, until), _no_ids().schema)
    live = pl.DataFrame(read_rows(settings, ANOMALIES, columns=_IDS, where=_between(since, until)))
    return differences(now, live)


def _count(shared: tuple[Group, pl.DataFrame], rows: pl.DataFrame) -> pl.DataFrame:
    group, ends = shared
    return group.awake(_as_reading(rows), ends)


def _find(shared: tuple[Group, pl.DataFrame, datetime, datetime], rows: pl.DataFrame) -> pl.DataFrame:
    group, fleet, since, until = shared
    found = group.detected(_as_reading(rows), fleet)
    return _ids_of((event for part in found for event in part.anomalies), since, until)


def _as_reading(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.col(name).cast(kind) for name, kind in READING.items())


def run_up(settings: Settings) -> timedelta:
    """How much earlier than the first event time readings matter."""
    detection = settings.detection
    return timedelta(seconds=detection.drift_s + 2 * detection.window_s)


def differences(now: pl.DataFrame, live: pl.DataFrame) -> list[Difference]:
    """Counts by type over two sets of anomalies, each with anomaly_id, anomaly_type and stage."""
    both = _ids(now, "is_now").join(_ids(live, "is_live"), on=["anomaly_id", "anomaly_type"], how="full", coalesce=True)
    is_now, is_live = (pl.col(name).fill_null(value=False) for name in ("is_now", "is_live"))
    counted = both.group_by("anomaly_type").agg(
        same=(is_now & is_live).sum(), new=(is_now & ~is_live).sum(), gone=(~is_now & is_live).sum()
    )
    return [Difference(*row) for row in counted.sort("anomaly_type").iter_rows()]


def _ids(anomalies: pl.DataFrame, name: str) -> pl.DataFrame:
    is_flag = (pl.col("anomaly_type") == "voltage_deviation") & (pl.col("stage") == "reading")
    return anomalies.filter(~is_flag).select("anomaly_id", "anomaly_type", pl.lit(value=True).alias(name))


def _ids_of(events: Iterable[dict[str, object]], since: datetime, until: datetime) -> pl.DataFrame:
    first_ms, end_ms = since.timestamp() * 1000, until.timestamp() * 1000
    names = ("anomalyId", "anomalyType", "stage")
    ids = [
        tuple(event[name] for name in names)
        for event in events
        if first_ms <= event["eventTime"] < end_ms  # type: ignore[operator]
    ]
    return pl.DataFrame(ids, schema=_no_ids().schema, orient="row")


def _no_ids() -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(_IDS, pl.String()))


def _readings(settings: Settings, first: datetime, last: datetime) -> pl.DataFrame:
    """READING of the archive's rows in [first, last), by time."""
    pieces = scan_rows(settings, READINGS, columns=tuple(READING), where=_between(first, last))
    rows = pl.concat([pl.DataFrame(schema=READING), *(_as_reading(pl.DataFrame(piece)) for piece in pieces)])
    return rows.sort("event_ts", "kafka_partition", "kafka_offset", "kafka_item")


def _edges(settings: Settings, begin: datetime, end: datetime) -> list[datetime]:
    """Multiples of the slide that cut the readings into parts of about PART_ROWS, by what the table knows of its files:
    each file's readings are taken to be spread evenly over its times."""
    files = pl.DataFrame(pa.table(open_table(settings, READINGS).get_add_actions(flatten=True)))
    if not {"min.event_ts", "max.event_ts", "num_records"} <= set(files.columns):
        return []
    counts = list[tuple[float, float]]()
    for first, last, rows in files.select("min.event_ts", "max.event_ts", "num_records").drop_nulls().iter_rows():
        if last >= begin and first < end:
            pieces = 1 + rows * _PIECES // PART_ROWS
            step = (last - first) / pieces
            counts += [((first + number * step).timestamp(), rows / pieces) for number in range(pieces)]
    slide_s, total, edges = settings.detection.slide_s, 0.0, set[float]()
    for at, rows in sorted(counts):
        total += rows
        if total > PART_ROWS:
            edges.add(at // slide_s * slide_s)
            total = 0.0
    return [datetime.fromtimestamp(edge, UTC) for edge in sorted(edges)]


def _between(since: datetime, until: datetime) -> str:
    days = f"event_date >= '{since.astimezone(UTC).date()}' AND event_date <= '{until.astimezone(UTC).date()}'"
    return f"{days} AND event_ts >= {moment(since)} AND event_ts < {moment(until)}"
