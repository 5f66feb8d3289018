"""One real broker for all integration tests, and a place of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.local.broker import RunningBroker, start_broker
from pipelines.package import write_package
from tests.integration.minio_demo import MinioDemo, run_minio_demo
from tests.integration.support import Place, end_leftovers


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """A running broker; tests keep apart by the names of their topics."""
    with start_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def place(kafka: RunningBroker, tmp_path: Path) -> Iterator[Place]:
    """The test's folder and topics at the broker; whatever still runs in it at the end is killed by id."""
    here = Place(tmp_path, kafka.bootstrap_servers)
    yield here
    end_leftovers(here.mark)


@pytest.fixture
def nowhere(tmp_path: Path) -> Iterator[Place]:
    """A place whose broker is not there: for programs that bring their own, or shall miss it."""
    here = Place(tmp_path, "127.0.0.1:1")
    yield here
    end_leftovers(here.mark)


@pytest.fixture(scope="session")
def minio_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioDemo]:
    """A demo over a real MinIO that has ended, and its folder."""
    here = Place(tmp_path_factory.mktemp("minio-demo"), "127.0.0.1:1")
    try:
        yield run_minio_demo(here)
    finally:
        end_leftovers(here.mark)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip for spark-submit."""
    target = tmp_path_factory.mktemp("dist") / "gridwatch.zip"
    write_package(target)
    return target
