"""Late readings and corrections: what holds of a meter at an event time, once everything of it has come."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.transforms.window_rules.measures import span_needed_s
from pipelines.transforms.windows import countable

KEY = ("meter_id", "event_ts")
MEASURED = ("voltage_v", "current_a", "temperature_c", "status")
"""What a correction may correct."""
ARRIVAL = ("came_ts", "kafka_partition", "kafka_offset", "kafka_item")
"""The order in which readings came: in a record that of the items, in a partition that of the offsets, over partitions
that of the broker's clock."""
LATE, CORRECTED = "late", "corrected"


def settle_readings(readings: DataFrame) -> DataFrame:
    """One row a meter and event time: what was measured then, as far as the archive knows today.

    In: rows of the table readings, all of each meter and event time. Of several records of one meter and event time
    the one that came last counts; it stands with the coordinates of the first record that says the same, so a record
    that was sent again as it was changes nothing. Out: the same columns, is_late and is_resent false, and
    `correction`: null where the windows of the stream have counted exactly this; "late" where they have counted
    nothing; "corrected" where other values were sent too, so that they may have counted those.
    """
    flagged = readings.where(F.col("is_late") | F.col("is_resent")).select(*KEY).distinct()
    alone = countable(readings).join(flagged, list(KEY), "left_anti")
    none = F.lit(None).cast("string")
    return alone.withColumn("correction", none).unionByName(_settled(readings.join(flagged, list(KEY), "left_semi")))


def _settled(contested: DataFrame) -> DataFrame:
    of_key = Window.partitionBy(*KEY)
    # The clock of a partition may go back, with a new leader or where the sender sets it; its offsets do not.
    before = Window.partitionBy(*KEY, "kafka_topic", "kafka_partition").orderBy("kafka_offset", "kafka_item")
    came_ts = F.max("kafka_ts").over(before.rowsBetween(Window.unboundedPreceding, 0))
    contested = contested.withColumn("came_ts", came_ts)
    whole = of_key.orderBy(*ARRIVAL).rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    agrees = reduce(Column.__and__, [F.col(name).eqNullSafe(F.last(name).over(whole)) for name in MEASURED])
    judged = contested.withColumns({"agrees": agrees, "is_counted": ~F.col("is_late") & ~F.col("is_resent")})
    first = of_key.orderBy(F.col("agrees").desc(), *ARRIVAL)
    is_late, is_corrected = ~F.max("is_counted").over(of_key), ~F.min("agrees").over(of_key)
    settled = judged.withColumns(
        {"correction": F.when(is_late, LATE).when(is_corrected, CORRECTED), "row": F.row_number().over(first)}
    ).where(F.col("row") == 1)
    flags = {"is_late": F.lit(False), "is_resent": F.lit(False)}
    return settled.withColumns(flags).drop("came_ts", "agrees", "is_counted", "row")


def last_end_ms(at_ms: Column, *, detection: Detection) -> Column:
    """The last window end (epoch ms) whose window holds a reading of this event time (epoch ms)."""
    return at_ms - F.pmod(at_ms, F.lit(int(detection.slide_s * 1000))) + int(detection.window_s * 1000)


def affected_ends(corrections: DataFrame, windows: DataFrame, *, detection: Detection) -> DataFrame:
    """Which window ends a late or corrected reading may change: one row a slide with first_ms and last_ms (epoch ms,
    both included; last_ms null: no end is known).

    In: rows of `settle_readings` with a correction; rows of meter_windows (meter_id, window_end, n, last_event_ts)
    from the first of them on. A reading changes the windows that hold it, and through the rules' history the findings
    of all that follow within `span_needed_s`. A late one is also the meter's latest reading until the first row that
    knows a later one, so it changes every row of its silence and what is said at its end.
    """
    at_ms = F.unix_millis("event_ts")
    asked = corrections.select("meter_id", at_ms.alias("at_ms"), (F.col("correction") == LATE).alias("is_late"))
    heard = windows.where("n > 0").join(asked.select("meter_id").distinct(), "meter_id", "left_semi")
    # By the latest reading, not by the end: a window that ends later may hold nothing but what was before the late one.
    heard = heard.select(
        "meter_id", F.unix_millis("last_event_ts").alias("at_ms"), F.unix_millis("window_end").alias("end_ms")
    )
    later = Window.partitionBy("meter_id").orderBy("at_ms").rangeBetween(1, Window.unboundedFollowing)
    both = asked.unionByName(heard, allowMissingColumns=True).withColumn("heard_ms", F.min("end_ms").over(later))
    followed = both.where(F.col("is_late").isNotNull())
    reach_ms = int(span_needed_s(detection) * 1000)
    holds = last_end_ms(F.col("at_ms"), detection=detection)
    first = holds - int((detection.window_s - detection.slide_s) * 1000)
    last = F.when(~F.col("is_late"), holds).when(F.col("heard_ms").isNotNull(), F.greatest(holds, "heard_ms"))
    slides = followed.select(first.alias("first_ms"), (last + reach_ms).alias("last_ms"))
    unknown = F.count_if(F.col("last_ms").isNull()) > 0
    return slides.groupBy("first_ms").agg(F.when(~unknown, F.max("last_ms")).alias("last_ms"))
