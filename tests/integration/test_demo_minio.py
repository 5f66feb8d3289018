"""The demo over a real MinIO: everything accounted for, nothing left running, no secret told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipelines.local.minio_build import why_no_minio
from pipelines.local.processes import wait_until
from pipelines.settings_load import load_settings
from tests.integration.support import Place, explain, marked_processes, none_left, stopped, text_of, words

NO_MINIO = why_no_minio()
pytestmark = [pytest.mark.minio, pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO))]

SHAPE = words({"--store": "minio", "--seconds": 20, "--rate": 1000, "--meters": 250})
_KEYS = re.compile(rb"(?:MINIO_ROOT_PASSWORD|GRIDWATCH_STORE__SECRET_KEY)=([^\0]+)")


def secrets_of(mark: str) -> set[str]:
    """The store's secret keys in the environments of the demo's processes: nobody else is told them."""
    found: set[str] = set()
    for pid in marked_processes(mark):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        found |= {key.decode() for key in _KEYS.findall(environment)}
    return found


def files_that_tell(secret: str, folder: Path) -> list[Path]:
    """Logs, configuration and reports with the secret in them; the store's own data are its business."""
    own = folder / "run" / "objectstore" / "data"
    files = (path for path in folder.rglob("*") if path.is_file() and own not in path.parents)
    return [path for path in files if secret.encode() in path.read_bytes()]


def test_the_demo_over_minio_accounts_for_everything_and_leaves_nothing_behind(nowhere: Place) -> None:
    report, run_dir = nowhere.folder / "report.json", nowhere.folder / "run"
    arguments = ("demo", *SHAPE, "--report", str(report), "--dir", str(run_dir))
    with stopped(nowhere.gridwatch("demo", *arguments), grace_s=60) as demo:
        assert wait_until(lambda: "sending traffic" in text_of(demo.log) or not demo.is_running(), 150)
        secrets, commands = secrets_of(nowhere.mark), list(marked_processes(nowhere.mark).values())
        assert demo.wait(240), explain(demo, "did not end")
        assert demo.kill() == 0, explain(demo, f"failed: {text_of(run_dir / 'pipeline.log')[-3000:]}")
    assert none_left(nowhere.mark), marked_processes(nowhere.mark)
    check_report(json.loads(report.read_text(encoding="utf-8")))
    assert len(secrets) == 1
    (secret,) = secrets
    assert not [command for command in commands if secret in command], "any user of the machine sees command lines"
    assert not files_that_tell(secret, nowhere.folder)
    kept = load_settings(run_dir / "gridwatch.toml", environment={}).settings
    assert (kept.lake.root, kept.detection.cadence_s, kept.detection.watermark) == ("s3a://gridwatch/lake", 10, 80)


def check_report(report: dict[str, object]) -> None:
    assert report["ok"] is True
    assert report["store"] == "minio"
    assert (report["unaccounted"], report["duplicates"]) == (0, 0)
    labels = report["labels"]
    assert isinstance(labels, dict)
    assert report["rejected_by_reason"] == labels["rejected"]
    assert report["rejected"] == sum(labels["rejected"].values())
    assert report["resent"] == labels["resent"]
