"""`detect` in parts: what fits in memory and what does not, sorted or not, give the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from generator.faults import STATUSES
from generator.plan import make_plan
from generator.scenario import build_scenario, readings_between
from pipelines.errors import SettingsError
from pipelines.offline import detect as module
from pipelines.offline import detection
from pipelines.offline.files import open_readings
from pipelines.offline.survey import survey
from tests.factories import settings

START_MS = 1_772_409_600_000
CADENCE_S = 300.0
HOURS = 60
KEYS = {"windows": ["window_end", "meter_id"], "anomalies": ["anomaly_id"], "incidents": ["incident_id"]}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two feeders for two days and a half, with faults; every twentieth reading twice, the copy a volt higher."""
    folder = tmp_path_factory.mktemp("fleet")
    end_ms = START_MS + HOURS * 3_600_000
    shape: dict[str, Any] = {"meters": 12, "meters_per_feeder": 6, "cadence_s": CADENCE_S, "seed": 4, "faults": "all"}
    made = build_scenario(make_plan(0, paced=False, start_ms=START_MS, end_ms=end_ms, **shape))
    block = readings_between(made, START_MS, end_ms)
    rows = pl.DataFrame(
        {
            "meter_id": [made.network.meter_id[meter] for meter in block.meter],
            "ts": pl.Series(block.ts).cast(pl.Datetime("ms", "UTC")),
            "voltage_v": block.voltage_v,
            "current_a": block.current_a,
            "temperature_c": block.temperature_c,
            "status": [STATUSES[status] for status in block.status],
        }
    )
    copies = rows.gather_every(20).with_columns(pl.col("voltage_v") + 1.0)
    pl.concat([rows, copies]).sort("ts", maintain_order=True).write_parquet(folder / "readings.parquet")
    made.fleet.to_csv(folder / "fleet.csv", index=False)
    return folder


def detected(fleet: Path, readings: Path, out: Path) -> dict[str, pl.DataFrame]:
    opened = open_readings(readings)
    chosen = settings(detection={"cadence_s": CADENCE_S})
    found = survey(opened, readings)
    module.detect(chosen, readings=opened, found=found, fleet=fleet / "fleet.csv", out=out, say=lambda line: None)
    assert sorted(path.name for path in out.iterdir()) == [f"{name}.parquet" for name in sorted(KEYS)]
    return {name: pl.read_parquet(out / f"{name}.parquet").sort(keys) for name, keys in KEYS.items()}


@pytest.fixture(scope="module")
def whole(fleet: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    return detected(fleet, fleet / "readings.parquet", tmp_path_factory.mktemp("out"))


def require_same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> None:
    """But for the number of the row, which is another in a file of another order."""
    for name, rows in one.items():
        assert_frame_equal(rows.drop("source", strict=False), other[name].drop("source", strict=False), abs_tol=1e-5)


def test_the_results_hold_something_of_every_stage(whole: dict[str, pl.DataFrame]) -> None:
    assert set(whole["anomalies"]["stage"]) == {"reading", "window", "feeder"}
    assert whole["windows"]["window_end"].dt.date().n_unique() == 3
    assert whole["incidents"].height > 10
    assert whole["anomalies"].filter(pl.col("anomaly_type") == "voltage_drift").height, "profiles of the days spoke"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few hundred readings, spans of a few windows, profiles of a few meters."""
    monkeypatch.setattr(module, "PART_ROWS", 500)
    monkeypatch.setattr(detection, "SPAN_ROWS", 100)
    monkeypatch.setattr(detection, "PROFILE_METERS", 5)


@pytest.mark.usefixtures("small")
def test_what_does_not_fit_in_memory_is_judged_in_parts(
    fleet: Path, whole: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    require_same(detected(fleet, fleet / "readings.parquet", tmp_path / "out"), whole)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("part_rows", [1_000_000, 2_000])
def test_groups_of_feeders_give_what_the_whole_fleet_gives(
    fleet: Path, whole: dict[str, pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_rows: int
) -> None:
    monkeypatch.setattr(module, "FLEET_METERS", 1)
    monkeypatch.setattr(module, "PART_ROWS", part_rows)
    require_same(detected(fleet, fleet / "readings.parquet", tmp_path), whole)


def test_the_order_of_the_file_does_not_matter(fleet: Path, whole: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    """By meter, latest first; of two readings of one time the first of the file counts, so those keep their order."""
    rows = pl.read_parquet(fleet / "readings.parquet").sort("meter_id", "ts", descending=True, maintain_order=True)
    rows.write_parquet(tmp_path / "in.parquet", row_group_size=1000)
    require_same(detected(fleet, tmp_path / "in.parquet", tmp_path / "out"), whole)


@pytest.mark.usefixtures("small")
def test_an_error_half_way_leaves_no_file(fleet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> pl.DataFrame:
        raise SettingsError("half way")

    monkeypatch.setattr(module, "_pace_figures", broken)
    with pytest.raises(SettingsError, match="half way"):
        detected(fleet, fleet / "readings.parquet", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
