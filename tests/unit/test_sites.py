"""The settings files of several pipelines, one a cadence, share nothing; the classes of the docs are legal."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from generator.fleet import SITES, TRANSFORMER_CLASS
from pipelines.settings import Settings
from pipelines.settings_load import load_settings

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "conf/sites").glob("*.toml"))
PAGE = ROOT / "docs/detection.md"


def owned(settings: Settings) -> dict[str, object]:
    """What two pipelines on one machine and one Kafka must not share."""
    topics = {f"kafka.topics.{name}": value for name, value in settings.kafka.topics.model_dump().items()}
    metrics, notify = settings.metrics, settings.notify
    return topics | {
        "lake.root": settings.lake.root, "lake.fleet": settings.lake.fleet,
        "pipeline.checkpoint": settings.pipeline.checkpoint, "metrics.port": metrics.port,
        "metrics.alerts_port": metrics.alerts_port, "metrics.notify_port": metrics.notify_port,
        "notify.group": notify.group, "console.port": settings.console.port,
    }  # fmt: skip


def test_pipelines_of_two_cadences_share_nothing_but_the_brokers() -> None:
    loaded = [load_settings(path, (), {}).settings for path in FILES]
    assert len({one.detection.cadence_s for one in loaded}) == len(loaded) == 2
    for one, other in pairwise(loaded):
        assert not {name for name, value in owned(one).items() if owned(other)[name] == value}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_their_classes_are_those_that_the_generator_makes(path: Path) -> None:
    classes = load_settings(path, (), {}).settings.detection.classes
    volts = {name: volts for _, name, volts in SITES} | {TRANSFORMER_CLASS: 400.0}
    assert set(classes) <= set(volts)
    for name, own in classes.items():
        assert own.nominal_voltage_v in (None, volts[name])


def test_the_classes_of_the_docs_are_those_of_the_file(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "docs.toml").write_text(block)
    from_docs = load_settings(tmp_path / "docs.toml", (), {}).settings.detection.classes
    assert from_docs == load_settings(ROOT / "conf/sites/every-10-s.toml", (), {}).settings.detection.classes
