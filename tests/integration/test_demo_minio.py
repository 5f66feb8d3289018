"""The demo over a real MinIO: everything accounted for, nothing left running, no secret told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.local.minio_build import why_no_minio
from pipelines.settings_load import load_settings
from tests.integration.minio_demo import MinioDemo

NO_MINIO = why_no_minio()
pytestmark = [pytest.mark.minio, pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO))]


def test_the_demo_over_minio_accounts_for_everything(minio_demo: MinioDemo) -> None:
    report = minio_demo.report
    assert report["ok"] is True
    assert report["store"] == "minio"
    assert (report["unaccounted"], report["duplicates"]) == (0, 0)
    labels = report["labels"]
    assert report["rejected_by_reason"] == labels["rejected"]
    assert report["rejected"] == sum(labels["rejected"].values())
    assert report["resent"] == labels["resent"]


def test_the_demo_leaves_no_process_behind(minio_demo: MinioDemo) -> None:
    assert minio_demo.left == {}


def test_the_stores_key_is_in_no_command_line_and_no_file(minio_demo: MinioDemo) -> None:
    """Any user of the machine sees command lines; the store's own data are its business."""
    (secret,) = minio_demo.secrets
    assert not [command for command in minio_demo.command_lines if secret in command]
    assert not files_that_tell(secret, minio_demo.place.folder, apart_from=minio_demo.store_dir / "data")


def test_the_settings_of_the_demo_are_kept_with_its_tables(minio_demo: MinioDemo) -> None:
    kept = load_settings(minio_demo.run_dir / "gridwatch.toml", environment={}).settings
    assert (kept.lake.root, kept.detection.cadence_s, kept.detection.watermark) == ("s3a://gridwatch/lake", 10, 200)


def files_that_tell(secret: str, folder: Path, *, apart_from: Path) -> list[Path]:
    """Logs, configuration and reports with the secret in them."""
    files = (path for path in folder.rglob("*") if path.is_file() and apart_from not in path.parents)
    return [path for path in files if secret.encode() in path.read_bytes()]
