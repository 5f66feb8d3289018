"""How the pipeline job ends on a signal: at the end of the batches that run, within a limit, without stack traces."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException, StreamingQueryException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

JVM_ENDS = (Py4JError, PySparkException, OSError)
"""What a call into a JVM that is shutting down raises."""

_POLL_S = 0.05


class Ending:
    """Whether a signal asked for the end.

    While `in_order` is set the first signal is only noted, for whoever runs the queries to see; a second one, or one at
    any other time, raises KeyboardInterrupt in the main thread.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.in_order = False

    def listen(self) -> None:
        """Take over SIGTERM and Ctrl-C; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self.in_order or self.asked.is_set():
            raise KeyboardInterrupt
        self.asked.set()


class BatchNotBegun(Exception):
    """Raised at the beginning of a batch when the end was asked for: nothing of it is written."""


def end_in_order(spark: SparkSession, queries: Sequence[StreamingQuery], limit_s: float) -> bool:
    """Let running batches finish and no other begin (`Run.ending` sees to that); what is left after the limit is
    interrupted. Returns whether all ended between two batches."""
    quieten(spark)
    deadline = time.monotonic() + limit_s
    left = [query for query in queries if query.isActive]
    while left and time.monotonic() < deadline:
        for query in left:
            if not query.status["isTriggerActive"]:
                stop_quietly(query)
        left = [query for query in left if query.isActive]
        time.sleep(_POLL_S)
    for query in left:
        stop_quietly(query)
    return not left


def quieten(spark: SparkSession) -> None:
    """Interrupted tasks and unfinished batches would each print where they were."""
    logging.getLogger("py4j").setLevel(logging.CRITICAL + 1)
    with suppress(*JVM_ENDS):
        spark.sparkContext.setLogLevel("OFF")


def stop_quietly(query: StreamingQuery) -> None:
    """Stop a query, whatever state it is in."""
    with suppress(StreamingQueryException, *JVM_ENDS):
        query.stop()


def stop_queries(spark: SparkSession) -> None:
    """Stop all that still run."""
    for query in spark.streams.active:
        stop_quietly(query)


class SparedJvm:
    """Within this block a process that PySpark starts is deaf to SIGTERM, as PySpark makes it deaf to Ctrl-C.

    A signal to the whole process group would otherwise end Java in the middle of a batch. Java still ends with us: its
    standard input closes. Python calls the hook in a child only when Popen has a `preexec_fn`, and PySpark's has.
    """

    _is_open = False
    _is_hooked = False

    def __enter__(self) -> None:
        if not SparedJvm._is_hooked:
            os.register_at_fork(after_in_child=_in_child)
            SparedJvm._is_hooked = True
        SparedJvm._is_open = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        SparedJvm._is_open = False


def _in_child() -> None:
    if SparedJvm._is_open:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
