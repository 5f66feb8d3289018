"""The pipeline job: one driver, three queries. `gridwatch run` and spark-submit start it here."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException, StreamingQueryException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable
from pipelines.fleet import load_reference_tables
from pipelines.jobs.alerts_mode import settle_mode
from pipelines.jobs.archive import start_archive
from pipelines.jobs.context import Run, Say, identify_run
from pipelines.jobs.incidents import start_incidents
from pipelines.jobs.metering import metered_pipeline
from pipelines.jobs.windows import start_windows
from pipelines.local.priority import lower_priority
from pipelines.observe.metrics import PipelineMetrics
from pipelines.session import build_session
from pipelines.settings import Settings
from pipelines.small_tables import create_tables, wait_for_lake
from pipelines.topics import check_topics, wait_for_kafka

READY = "gridwatch is reading"
"""Said once all queries run; whoever started the job waits for it."""

_LOSS = ("OffsetOutOfRange", "KAFKA_DATA_LOSS", "data loss", "data may be lost", "STREAMING_CHECKPOINT")
_UNREACHABLE = (
    "TimeoutException",
    "Connection refused",
    "ConnectException",
    "SdkClientException",
    "UnknownHost",
)

_JVM_ENDS = (Py4JError, PySparkException, OSError)
"""What a call into a JVM that is shutting down raises."""


def run_pipeline(settings: Settings, say: Say) -> None:
    """Run the three queries until one fails; the caller's interrupt ends them.

    Raises InfrastructureUnavailable, DataRefused or GridwatchError with one line that says what happened.
    """
    lower_priority(settings.pipeline.niceness)
    wait_for_kafka(settings.kafka, say)
    check_topics(settings)
    wait_for_lake(settings, say)
    create_tables(settings)
    load_reference_tables(settings)
    say("starting Spark")
    spark = build_session(settings)
    try:
        with metered_pipeline(spark, settings, say) as metrics:
            queries = _start_or_explain(spark, settings, say, metrics)
            metrics.up.set(1)
            topic = f"{settings.kafka.topics.readings} at {settings.kafka.bootstrap_servers}"
            say(f"{READY} {topic} into {settings.lake.root}")
            _await_failure(queries, say)
    finally:
        stop_session(spark)


def _start_or_explain(
    spark: SparkSession, settings: Settings, say: Say, metrics: PipelineMetrics
) -> list[StreamingQuery]:
    try:
        return start_queries(spark, settings, say, metrics)
    except (PySparkException, Py4JJavaError) as error:
        say(str(error))
        raise explain_failure(str(error), "the start of the queries") from None


def start_queries(
    spark: SparkSession, settings: Settings, say: Say, metrics: PipelineMetrics | None = None
) -> list[StreamingQuery]:
    """Check whose checkpoint this is, then start archive, windows and incidents. The tables must be there."""
    run = Run(spark, settings, identify_run(spark, settings), say, metrics or PipelineMetrics())
    settle_mode(run)
    queries = []
    for pool, start in (
        ("archive", start_archive),
        ("windows", start_windows),
        ("incidents", start_incidents),
    ):
        spark.sparkContext.setLocalProperty("spark.scheduler.pool", pool)
        queries.append(start(run))
    return queries


def _await_failure(queries: Sequence[StreamingQuery], say: Say) -> None:
    while True:
        for query in queries:
            if not query.isActive:
                failure = query.exception() or RuntimeError(f"query {query.name} ended")
                say(str(failure))
                raise explain_failure(str(failure), f"query {query.name}")
        time.sleep(0.5)


def explain_failure(text: str, what: str) -> GridwatchError:
    """The error class, and so the exit code, that fits a failure inside Spark."""
    line = _root_cause(text)
    if any(sign in text for sign in _LOSS):
        return DataRefused(f"{what} stopped, records it needs are gone or do not fit: {line}")
    if any(sign in text for sign in _UNREACHABLE):
        return InfrastructureUnavailable(f"{what} stopped, Kafka or the store does not answer: {line}")
    return GridwatchError(f"{what} stopped: {line}")


def _root_cause(text: str) -> str:
    causes = [line for line in text.splitlines() if line.startswith("Caused by: ")]
    return (causes[-1] if causes else text.strip().split("\n")[0]).removeprefix("Caused by: ")[:400]


def stop_session(spark: SparkSession) -> None:
    """End queries and session; a signal to the whole process group has reached the JVM too, which then ends itself."""
    with suppress(*_JVM_ENDS):
        for query in spark.streams.active:
            with suppress(StreamingQueryException):
                query.stop()
    with suppress(*_JVM_ENDS):
        spark.stop()


def main() -> int:
    """Entry for spark-submit: the arguments of `gridwatch run`."""
    from pipelines.cli.main import main as command

    return command(["run", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
