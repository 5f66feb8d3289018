"""The session of a command that reads or writes the archive once and ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyspark.sql import SparkSession

from pipelines.client_errors import as_ours
from pipelines.jobs.ending import JVM_ENDS
from pipelines.jobs.failures import explain_failure
from pipelines.jobs.jvm import answers, why_gone
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
            yield spark
        except JVM_ENDS as error:
            if not answers(spark):
                raise why_gone(spark, error) from None
            if isinstance(error, OSError):
                raise
            raise explain_failure(str(error), f"gridwatch {command}") from None
        finally:
            with suppress(*JVM_ENDS):
                spark.stop()
