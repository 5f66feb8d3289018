"""Our own queries over a topic that is already full, with the product's functions and defaults.

`python -m benchmarks.engines.gridwatch windows|archive`; the settings come from the environment.
"""

from __future__ import annotations

import signal
import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks.measure import READY
from pipelines.fleet import load_reference_tables
from pipelines.jobs import archive, windows
from pipelines.jobs.context import Run, identify_run
from pipelines.session import build_session
from pipelines.settings_load import load_settings
from pipelines.small_tables import create_tables
from pipelines.sources import kafka_stream
from pipelines.transforms.readings import accepted

_BATCH = 5_000_000
"""Readings a batch of the windows without an archive: they keep no row of them, so only the state bounds it."""


def main(mode: str) -> None:
    """Start what `mode` says, then wait to be ended; whoever measures sees in Kafka when it is done."""
    settings = load_settings().settings
    create_tables(settings)
    load_reference_tables(settings)
    spark = build_session(settings)
    run = Run(spark, settings, identify_run(spark, settings), _say)
    _say(READY)
    if mode == "archive":
        archive.start_archive(run)
        windows.start_windows(run)
    else:
        _start_windows_from_kafka(run)
    spark.streams.awaitAnyTermination()
    failed = [query.exception() for query in spark.streams.active if query.exception()]
    if failed:
        sys.exit(str(failed[0]))
    signal.pause()


def parsed(run: Run, *, max_offsets: int) -> DataFrame:
    """The product's plan from Kafka up to the decision, as the table readings would hold it; in a load of ours no
    reading is late or sent twice."""
    settings = run.settings
    records = kafka_stream(
        run.spark,
        settings,
        [settings.kafka.topics.readings],
        starting="earliest",
        max_offsets=max_offsets,
    )
    flagged = archive.build(records, meters=run.meters, settings=settings)
    return accepted(flagged).withColumns({"is_late": F.lit(False), "is_resent": F.lit(False)})


def _start_windows_from_kafka(run: Run) -> None:
    closed = windows.build(parsed(run, max_offsets=_BATCH), run.settings)
    writer = closed.writeStream.queryName(windows.QUERY).outputMode("append")
    writer = writer.foreachBatch(windows.WindowsBatch(run).write)
    writer = writer.option("checkpointLocation", run.checkpoint(windows.QUERY))
    writer.trigger(availableNow=True).start()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
