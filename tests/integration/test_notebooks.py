"""The notebooks run from top to bottom over the archive of a real run, on MinIO and on a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem, copy_files

from pipelines.local.minio_build import why_no_minio
from pipelines.local.objectstore import RunningObjectStore, start_objectstore
from tests.integration.minio_demo import BUCKET, MinioDemo
from tests.integration.support import KEPT, ROOT

NO_MINIO = why_no_minio()
pytestmark = [
    pytest.mark.notebooks,
    pytest.mark.minio,
    pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO)),
    pytest.mark.timeout(900),
]

NOTEBOOKS = ROOT / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
BACKTEST = "03-tune-thresholds"
"""It starts Spark: a minute."""


@pytest.fixture(scope="module")
def store(minio_demo: MinioDemo) -> Iterator[RunningObjectStore]:
    """The object store of the demo, started again, with other keys."""
    with start_objectstore(minio_demo.store_dir) as running:
        yield running


@pytest.fixture
def on_minio(store: RunningObjectStore) -> dict[str, str]:
    """Where the tables are, as environment."""
    return {
        "GRIDWATCH_LAKE__ROOT": f"s3a://{BUCKET}/lake",
        "GRIDWATCH_STORE__ENDPOINT": store.endpoint,
        "GRIDWATCH_STORE__ACCESS_KEY": store.access_key,
        "GRIDWATCH_STORE__SECRET_KEY": store.secret_key,
    }


@pytest.fixture
def on_folder(store: RunningObjectStore, tmp_path: Path) -> dict[str, str]:
    """The same tables in a folder."""
    lake = tmp_path / "lake"
    copy_files(
        f"{BUCKET}/lake", str(lake), source_filesystem=store.filesystem(), destination_filesystem=LocalFileSystem()
    )
    return {"GRIDWATCH_LAKE__ROOT": str(lake)}


def run_notebook(name: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Execute a notebook in a kernel of its own; returns all its output as text. Fails with the cell that failed."""
    import nbformat
    from nbclient import NotebookClient

    for variable in [v for v in os.environ if (v.startswith("GRIDWATCH_") and v not in KEPT) or v == "MPLBACKEND"]:
        monkeypatch.delenv(variable)
    for variable, value in {**environment, "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(variable, value)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}})
    client.execute()
    return json.dumps([cell.get("outputs", []) for cell in notebook.cells])


def assert_complete(name: str, said: str) -> None:
    assert "image/png" in said
    assert "undervoltage" in said or name.startswith("01")
    assert "kafka_offset" in said or not name.startswith("02"), "no anomaly was followed to its readings"


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == BACKTEST else ()) for n in NAMES])
def test_a_notebook_runs_over_an_object_store_and_draws(
    on_minio: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_complete(name, run_notebook(name, on_minio, monkeypatch))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_over_a_folder_and_draws(
    on_folder: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_complete(name, run_notebook(name, on_folder, monkeypatch))
