"""The session of a command that reads or writes the archive once and ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyspark.sql import SparkSession

from pipelines.client_errors import as_ours
from pipelines.jobs.ending import JVM_ENDS
from pipelines.jobs.jvm import spark_errors
from pipelines.session import build_session
from pipelines.settings import Settings


@contextmanager
def batch_session(settings: Settings, command: str, *, jvm_options: str = "") -> Iterator[SparkSession]:
    """A session that is stopped behind the block; `command` is that of `gridwatch`.

    What fails inside Spark, and what the store's client raises, leaves the block as the error of ours that fits.
    """
    with as_ours(settings):
        spark = build_session(settings, app_name=f"gridwatch-{command}", jvm_options=jvm_options)
        try:
            with spark_errors(spark, f"gridwatch {command}"):
                yield spark
        finally:
            with suppress(*JVM_ENDS):
                spark.stop()
