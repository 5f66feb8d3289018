"""The state of the windows over a loaded topic: what Spark says of it after every batch, as one JSON line a batch.

`python -m benchmarks.engines.state`; settings from the environment.
"""

from __future__ import annotations

import json
import signal
import sys

from benchmarks.engines.gridwatch import parsed
from benchmarks.measure import READY
from pipelines.jobs import windows
from pipelines.jobs.context import Run, identify_run
from pipelines.session import build_session
from pipelines.settings_load import load_settings
from pipelines.small_tables import create_tables

PROGRESS, DONE = "PROGRESS ", "BENCH DONE"


def main() -> None:
    """Drain the topic into windows that go nowhere, tell of each batch, then wait to be ended."""
    settings = load_settings().settings
    create_tables(settings)
    spark = build_session(settings)
    spark.conf.set("spark.sql.streaming.numRecentProgressUpdates", "1000")
    run = Run(spark, settings, identify_run(spark, settings), print)
    _say(READY)
    readings = parsed(run, max_offsets=settings.pipeline.max_offsets_per_trigger)
    writer = windows.build(readings, settings).writeStream.outputMode("append").format("noop")
    writer = writer.option("checkpointLocation", run.checkpoint(windows.QUERY))
    query = writer.trigger(availableNow=True).start()
    query.awaitTermination()
    for progress in query.recentProgress:
        _say(PROGRESS + json.dumps(json.loads(progress.json)))
    _say(DONE)
    signal.pause()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
