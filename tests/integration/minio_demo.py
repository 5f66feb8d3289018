"""One demo over a real MinIO for all tests that want what a whole run leaves behind."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.local.minio_build import build_minio
from pipelines.local.processes import wait_until
from tests.integration.support import Place, explain, marked_processes, none_left, stopped, text_of, words

BUCKET = "gridwatch"
_SHAPE = words({"--store": "minio", "--seconds": 30, "--rate": 1000, "--meters": 100})
_KEYS = re.compile(rb"(?:MINIO_ROOT_PASSWORD|GRIDWATCH_STORE__SECRET_KEY)=([^\0]+)")


@dataclass(frozen=True)
class MinioDemo:
    """What the demo said of itself, and what could be seen from outside while it ran and after it."""

    place: Place
    report: dict[str, Any]
    secrets: set[str]
    """The store's secret keys in the environments of the demo's processes: only they are given any."""
    command_lines: list[str]
    left: dict[int, str]
    """Processes that still ran when the demo had ended."""

    @property
    def run_dir(self) -> Path:
        """The folder of the run."""
        return self.place.folder / "run"

    @property
    def store_dir(self) -> Path:
        """The folder of the run's object store; its data stay when it is stopped."""
        return self.run_dir / "objectstore"


def run_minio_demo(place: Place) -> MinioDemo:
    """Run the demo to its end. Fails with its log when it does not end with 0."""
    build_minio(lambda line: None)  # on a new machine: minutes, and none of the demo's
    report, run_dir = place.folder / "report.json", place.folder / "run"
    arguments = ("demo", *_SHAPE, "--report", str(report), "--dir", str(run_dir))
    with stopped(place.gridwatch("demo", *arguments), grace_s=60) as demo:
        assert wait_until(lambda: "sending traffic" in text_of(demo.log) or not demo.is_running(), 150)
        secrets, command_lines = _secrets_of(place.mark), list(marked_processes(place.mark).values())
        assert demo.wait(240), explain(demo, "did not end")
        assert demo.kill() == 0, explain(demo, f"failed: {text_of(run_dir / 'pipeline.log')[-3000:]}")
    left = {} if none_left(place.mark) else marked_processes(place.mark)
    return MinioDemo(place, json.loads(report.read_text(encoding="utf-8")), secrets, command_lines, left)


def _secrets_of(mark: str) -> set[str]:
    found: set[str] = set()
    for pid in marked_processes(mark):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        found |= {key.decode() for key in _KEYS.findall(environment)}
    return found
