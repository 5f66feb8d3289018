"""`--engine spark` on a real standalone cluster: backtest, profiles and recompute say what one process says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from benchmarks.recompute import DAY, build_lake
from pipelines.local.cluster import RunningCluster, start_cluster
from pipelines.settings import Settings
from pipelines.small_tables import read_rows
from pipelines.tables import PROFILES

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
METERS = 40
UNTIL = "2026-03-03"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    with start_cluster(tmp_path_factory.mktemp("cluster"), workers=2, cores=2, memory="2g") as running:
        yield running


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A day of meters of which some were late and corrected."""
    folder = tmp_path_factory.mktemp("lake")
    settings = Settings.model_validate(
        {
            "lake": {"root": str(folder / "lake")},
            "pipeline": {"checkpoint": str(folder / "checkpoint")},
            "detection": {"cadence_s": 60},
        }
    )
    build_lake(settings, METERS, all_day=False)
    return settings


def said(lake: Settings, *words: str, cluster: RunningCluster | None = None) -> str:
    """What a command prints, of this process or of the cluster."""
    values = {"lake.root": lake.lake.root, "pipeline.checkpoint": lake.pipeline.checkpoint, "detection.cadence_s": 60}
    engine = ["--engine", "spark"] if cluster else []
    if cluster:
        values["pipeline.master"] = cluster.master_url
    sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    argv = [sys.executable, "-m", "pipelines", *words, *engine, *sets]
    done = subprocess.run(argv, capture_output=True, check=False, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    "words",
    [("backtest", "--from", DAY, "--to", UNTIL), ("recompute", "--from", DAY, "--to", UNTIL, "--dry-run", "--json")],
    ids=lambda words: str(words[0]),
)
def test_a_cluster_says_what_one_process_says(lake: Settings, cluster: RunningCluster, words: tuple[str, ...]) -> None:
    alone = said(lake, *words)
    assert said(lake, *words, cluster=cluster) == alone
    if words[0] == "recompute":
        assert json.loads(alone)["meter_windows"]["changed"]


def test_a_cluster_makes_the_profiles_of_one_process(lake: Settings, cluster: RunningCluster) -> None:
    def made(on: RunningCluster | None) -> pl.DataFrame:
        said(lake, "profiles", "--day", DAY, cluster=on)
        return pl.DataFrame(read_rows(lake, PROFILES)).sort("meter_id")

    alone = made(None)
    assert alone.height == METERS
    assert alone["hour_low_v"].null_count() == 0, "no meter has a feeder"
    assert_frame_equal(made(cluster), alone, rel_tol=1e-12)
