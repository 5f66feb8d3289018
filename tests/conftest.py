"""What every test may use: one Spark session for the whole run."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from pipelines.session import build_session
from pipelines.settings import Settings

pytest_plugins = ["tests.skips"]

# A check started in the background of a shell ignores Ctrl-C, and would hand that on to the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A session as the jobs build it, with a small heap."""
    settings = Settings.model_validate({"pipeline": {"master": "local[2]", "driver_memory": "1g"}})
    session = build_session(settings, app_name="gridwatch-tests")
    yield session
    session.stop()
