"""The notebooks run from top to bottom over a small archive of a real run, on a folder and on MinIO."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem, S3FileSystem, copy_files

from pipelines.local.objectstore import start_objectstore
from pipelines.local.processes import run_logged
from tests.integration.support import KEPT, ROOT

pytestmark = [pytest.mark.notebooks, pytest.mark.timeout(900)]

NOTEBOOKS = ROOT / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
BUCKET = "grid"
BACKTEST = "03-tune-thresholds"
"""It starts Spark."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of a demo of half a minute: generator, Kafka and pipeline, with faults."""
    folder = tmp_path_factory.mktemp("notebooks") / "demo"
    options = ["--seconds", "30", "--rate", "1000", "--meters", "100", "--no-console", "--dir", str(folder)]
    log = folder.parent / "demo.log"
    command = [sys.executable, "-m", "pipelines", "demo", *options]
    assert run_logged(command, log=log, on_line=lambda line: None, cwd=ROOT) == 0, log.read_text()[-3000:]
    return folder / "lake"


@pytest.fixture(scope="module")
def on_minio(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The same tables in a real MinIO, as environment."""
    with start_objectstore(tmp_path_factory.mktemp("store")) as store:
        store.create_bucket(BUCKET)
        files = S3FileSystem(
            endpoint_override=store.endpoint.removeprefix("http://"),
            scheme="http",
            access_key=store.access_key,
            secret_key=store.secret_key,
        )
        copy_files(str(archive), f"{BUCKET}/lake", source_filesystem=LocalFileSystem(), destination_filesystem=files)
        yield {
            "GRIDWATCH_LAKE__ROOT": f"s3a://{BUCKET}/lake",
            "GRIDWATCH_STORE__ENDPOINT": store.endpoint,
            "GRIDWATCH_STORE__ACCESS_KEY": store.access_key,
            "GRIDWATCH_STORE__SECRET_KEY": store.secret_key,
        }


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


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_over_a_folder_and_draws(archive: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run_notebook(name, {"GRIDWATCH_LAKE__ROOT": str(archive)}, monkeypatch)
    assert "image/png" in said
    assert "undervoltage" in said or name.startswith("01")
    assert "kafka_offset" in said or not name.startswith("02"), "no anomaly was followed to its readings"


@pytest.mark.minio
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == BACKTEST else ()) for n in NAMES])
def test_a_notebook_runs_over_an_object_store(
    on_minio: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "image/png" in run_notebook(name, on_minio, monkeypatch)
