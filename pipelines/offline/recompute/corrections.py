"""Late readings and corrections: what holds of a meter at an event time, once everything of it has come."""

from __future__ import annotations

import polars as pl

from pipelines.settings import Detection
from pipelines.windows.look_back import span_needed_s

KEY = ("meter_id", "event_ts")
MEASURED = ("voltage_v", "current_a", "temperature_c", "status")
"""What a correction may correct."""
ARRIVAL = ("came_ts", "kafka_partition", "kafka_offset", "place")
"""The order in which readings came: in a record that of the items, in a partition that of the offsets, over partitions
that of the broker's clock."""
LATE, CORRECTED = "late", "corrected"


def settle_readings(readings: pl.DataFrame) -> pl.DataFrame:
    """One row per meter and event time: what was measured then, as far as the archive knows today.

    In: rows of the table readings, all of each meter and event time. Of several records of one meter and event time
    the one that came last counts; it stands with the coordinates of the first record that says the same, so a record
    that was sent again as it was changes nothing. Out: the same columns, is_late and is_resent false, and
    `correction`: null where the windows of the stream have counted exactly this; "late" where they have counted
    nothing; "corrected" where other values were sent too, so that they may have counted those.
    """
    is_counted = ~pl.col("is_late") & ~pl.col("is_resent")
    flagged = readings.filter(~is_counted).select(KEY).unique()
    alone = readings.filter(is_counted).join(flagged, on=KEY, how="anti")
    contested = readings.join(flagged, on=KEY, how="semi").with_columns(is_counted=is_counted)
    none = pl.lit(None, pl.String).alias("correction")
    return pl.concat([alone.with_columns(none), _settled(contested).select(*readings.columns, "correction")])


def _settled(contested: pl.DataFrame) -> pl.DataFrame:
    # The clock of a partition may go back, with a new leader or where the sender sets it; its offsets do not.
    of_partition = [*KEY, "kafka_topic", "kafka_partition"]
    came = (
        contested.with_columns(place=pl.col("kafka_item").fill_null(0))
        .sort("kafka_offset", "place")
        .with_columns(came_ts=pl.col("kafka_ts").cum_max().forward_fill().over(of_partition))
        .sort(*ARRIVAL)
    )
    agrees = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).last().over(KEY)) for name in MEASURED)
    judged = came.with_columns(agrees=agrees)
    is_late, is_corrected = ~pl.col("is_counted").any().over(KEY), ~pl.col("agrees").all().over(KEY)
    labelled = judged.with_columns(
        correction=pl.when(is_late).then(pl.lit(LATE)).when(is_corrected).then(pl.lit(CORRECTED)),
        is_late=pl.lit(False),
        is_resent=pl.lit(False),
    )
    return labelled.filter("agrees").unique(KEY, keep="first", maintain_order=True)


def last_end_ms(at_ms: pl.Expr, *, detection: Detection) -> pl.Expr:
    """The last window end (epoch ms) whose window holds a reading of this event time (epoch ms)."""
    slide_ms = int(detection.slide_s * 1000)
    return at_ms // slide_ms * slide_ms + int(detection.window_s * 1000)


def affected_ends(
    corrections: pl.DataFrame, windows: pl.DataFrame, *, detection: Detection
) -> list[tuple[int, int | None]]:
    """Which window ends a late or corrected reading may change: per slide the first and the last (epoch ms, both
    included; None: no end is known).

    In: rows of `settle_readings` with a correction; rows of meter_windows (meter_id, window_end, last_event_ts) with
    n > 0 from the first of them on. A reading changes the windows that hold it, and through the rules' history the
    findings of all that follow within `span_needed_s`. A late one is also the meter's latest reading until the first
    row that knows a later one, so it changes every row of its silence and what is said at its end.
    """
    # By the latest reading, not by the end: a window that ends later may hold nothing but what was before the late one.
    heard = (
        windows.select("meter_id", at_ms=_ms("last_event_ts"), heard_ms=_ms("window_end"))
        .sort("at_ms", descending=True)
        .with_columns(pl.col("heard_ms").cum_min().over("meter_id"))
        .sort("at_ms")
    )
    asked = corrections.select("meter_id", at_ms=_ms("event_ts"), is_late=pl.col("correction") == LATE).sort("at_ms")
    followed = asked.join_asof(
        heard, on="at_ms", by="meter_id", strategy="forward", allow_exact_matches=False, check_sortedness=False
    )
    holds = last_end_ms(pl.col("at_ms"), detection=detection)
    until = (
        pl.when(~pl.col("is_late"))
        .then(holds)
        .when(pl.col("heard_ms").is_not_null())
        .then(pl.max_horizontal(holds, "heard_ms"))
    )
    slides = followed.select(
        first=holds - int((detection.window_s - detection.slide_s) * 1000),
        last=until + int(span_needed_s(detection) * 1000),
    )
    is_known = pl.col("last").null_count() == 0
    reaches = slides.group_by("first").agg(pl.when(is_known).then(pl.col("last").max()))
    return [(first, last) for first, last in reaches.sort("first").rows()]


def _ms(name: str) -> pl.Expr:
    return pl.col(name).dt.epoch("ms")
