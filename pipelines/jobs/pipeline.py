"""The pipeline job: one driver with two queries of Spark and the incidents, and the alerts as its child.

`gridwatch run` and spark-submit start it here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from pyspark.sql import SparkSession

from pipelines.alerts.child import AlertsChild
from pipelines.alerts.client import pipeline_member
from pipelines.client_errors import as_ours
from pipelines.fleet import load_reference_tables
from pipelines.identity.check import refuse_older_edition, refuse_vanished, settle_identity
from pipelines.identity.lock import CheckpointLock
from pipelines.identity.record import RunRecord
from pipelines.identity.starting import settle_start
from pipelines.identity.tables import add_columns, lake_id
from pipelines.jobs.context import Say
from pipelines.jobs.ending import JVM_ENDS, Ending, SparedJvm, quieten, stop_queries
from pipelines.jobs.jvm import jvm_pid
from pipelines.jobs.metering import metered_pipeline
from pipelines.jobs.queries import StartQueries
from pipelines.jobs.supervisor import Supervisor
from pipelines.local.priority import lower_priority
from pipelines.session import build_session
from pipelines.settings import Settings
from pipelines.small_tables import create_tables, wait_for_lake
from pipelines.table_features import require_known_features
from pipelines.topics import check_topics, wait_for_kafka

READY = "gridwatch is reading"
"""Said once all queries run; whoever started the job waits for it."""


def run_pipeline(settings: Settings, say: Say, ending: Ending | None = None) -> None:
    """Run the queries, the incidents and the alerts until a signal ends them or one of them fails for good.

    Raises KeyboardInterrupt after an end in order; InfrastructureUnavailable, DataRefused or GridwatchError with one
    line that says what happened. What is restarted and what is not: `Supervisor.run`.
    """
    with CheckpointLock(settings, "gridwatch run") as lock:
        record = prepare(settings, say)
        with started_alerts(settings, say) as alerts:
            lower_priority(settings.pipeline.niceness)  # the alerts keep theirs
            _run_queries(settings, say, lock, record, ending or Ending(), alerts)


def _run_queries(
    settings: Settings, say: Say, lock: CheckpointLock, record: RunRecord, ending: Ending, alerts: AlertsChild | None
) -> NoReturn:
    """Run until the end; it is always an exception."""
    say("starting Spark")
    with SparedJvm():
        spark = build_session(settings)
    ready = f"{READY} {settings.kafka.topics.readings} at {settings.kafka.bootstrap_servers} into {settings.lake.root}"
    try:
        lock.note_jvm(jvm_pid(spark))
        with metered_pipeline(spark, settings, record, say) as metrics:
            start = StartQueries(spark, settings, record, say, ready, ending, metrics)
            Supervisor(spark, settings, start, say, ending, metrics, alerts).run()
        raise KeyboardInterrupt
    finally:
        quieten(spark)
        stop_session(spark)


def prepare(settings: Settings, say: Say) -> RunRecord:
    """Wait for Kafka and the store, make what is missing of the tables, and check that all belongs together."""
    wait_for_kafka(settings.kafka, say)
    with as_ours(settings):
        check_topics(settings)
        wait_for_lake(settings, say)
        require_known_features(settings)
        refuse_vanished(settings)
        refuse_older_edition(settings)
        create_tables(settings)
        if added := add_columns(settings):
            say(f"columns of this version added to older tables: {', '.join(added)}")
        record = settle_identity(settings, say)
        settle_start(settings, say)
        load_reference_tables(settings)
    return record


@contextmanager
def started_alerts(settings: Settings, say: Say) -> Iterator[AlertsChild | None]:
    """The member of the alerts that belongs to a pipeline, for the block; none without `alerts.with_pipeline`."""
    if not settings.alerts.with_pipeline:
        say("alerts.with_pipeline = false: readings are judged by `gridwatch alerts`, wherever that runs")
        yield None
        return
    with AlertsChild(settings, pipeline_member(lake_id(settings)), say) as child:
        yield child


def stop_session(spark: SparkSession) -> None:
    """End queries and session; a signal to the whole process group may have reached the JVM too, which then ends."""
    with suppress(*JVM_ENDS):
        stop_queries(spark)
    with suppress(*JVM_ENDS):
        spark.stop()


def main() -> int:
    """Entry for spark-submit: the arguments of `gridwatch run`."""
    from pipelines.cli.main import main as command

    return command(["run", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
