"""Task slots of the alerts job: in real-time mode every partition of the topic holds one for a whole batch."""

from __future__ import annotations

import time

from pyspark.sql import SparkSession

from pipelines.errors import InfrastructureUnavailable, SettingsError
from pipelines.jobs.context import Say
from pipelines.settings import AUTO, Settings

_EXECUTORS_LIMIT_S = 180.0


def require_slots(spark: SparkSession, settings: Settings, partitions: int, say: Say) -> int:
    """Task slots of the session. Raises SettingsError when they are too few, or when Spark would retry a task.

    A retried task begins again at the batch's start, minutes back; a failure has to end the batch instead. Executors of
    a cluster join one by one after the session has started, and are waited for.
    """
    context = spark.sparkContext
    if not str(context.master).startswith("local"):
        failures = context.getConf().get("spark.task.maxFailures", "4")
        if failures != "1":
            raise SettingsError(f"spark.task.maxFailures = {failures}: start the alerts job with 1")
        _wait_for_executors(spark, partitions, say)
    problem = too_few_slots(context.defaultParallelism, partitions, settings.kafka.topics.readings)
    if problem:
        raise problem
    return context.defaultParallelism


def _wait_for_executors(spark: SparkSession, partitions: int, say: Say) -> None:
    deadline, told = time.monotonic() + _EXECUTORS_LIMIT_S, False
    while spark.sparkContext.defaultParallelism <= partitions and time.monotonic() < deadline:
        if not told:
            say(f"waiting for executors with more than {partitions} task slots")
            told = True
        time.sleep(0.5)


def too_few_slots(slots: int, partitions: int, topic: str) -> SettingsError | None:
    """Every partition holds a slot for the whole batch, and Spark leaves a partition without one unread, silently."""
    if slots > partitions:
        return None
    return SettingsError(
        f"{slots} task slots for the {partitions} partitions of {topic}: real-time mode needs {partitions + 1} or"
        f" more; set alerts.master = local[{partitions + 2}], or give spark-submit more cores"
    )


def outgrown(slots: int, partitions: int, topic: str) -> InfrastructureUnavailable | None:
    """Of a job that runs: a new process may have enough slots where this one has not, so a supervisor shall try."""
    if slots > partitions:
        return None
    return InfrastructureUnavailable(
        f"{topic} has {partitions} partitions now, and this process {slots} task slots: start it again;"
        f" alerts.master = {AUTO} takes {partitions + 2} by itself, under spark-submit give it so many cores"
    )
