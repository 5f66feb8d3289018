"""Files of readings: any of the documented shapes becomes one uniform table; anything else is one clear error."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import SettingsError
from pipelines.offline.files import SCHEMA, blocks, open_readings
from pipelines.offline.match import Pace, mismatches, slower
from pipelines.offline.survey import Survey, cadence_of, survey

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def uniform(path: Path) -> list[dict[str, object]]:
    """The rows that the detection sees."""
    readings = open_readings(path)
    survey(readings, path)
    table = pa.concat_tables(blocks(readings))
    assert table.schema.equals(SCHEMA)
    return table.to_pylist()


def test_nanoseconds_without_a_zone_and_single_precision(tmp_path: Path) -> None:
    frame = pd.DataFrame({"meter_id": ["m"], "ts": [pd.Timestamp("2026-03-02 12:00")], "voltage_v": [230.5]})
    frame = frame.astype({"voltage_v": "float32", "meter_id": "category"})
    frame.to_parquet(tmp_path / "in.parquet")
    (row,) = uniform(tmp_path / "in.parquet")
    assert (row["meter_id"], row["ts"], row["voltage_v"], row["current_a"]) == ("m", NOON, 230.5, None)


def test_csv_with_more_columns_than_needed(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("ts,meter_id,voltage_v,status,owner\n2026-03-02T12:00:00Z,m,230,OK,x\n2026-03-02T12:00:01Z,m,,,y\n")
    rows = uniform(path)
    assert [(r["ts"], r["voltage_v"], r["status"], r["row_number"]) for r in rows] == [
        (NOON, 230.0, "OK", 0),
        (NOON.replace(second=1), None, "", 1),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("meter_id,ts\nm,2026-03-02T12:00:00Z\n", "no column voltage_v"),
        ("meter_id,ts,voltage_v\nm,yesterday,230\n", "column ts"),
        ("meter_id,ts,voltage_v\nm,2026-03-02T12:00:00Z,high\n", "column voltage_v"),
    ],
)
def test_what_is_no_reading_is_one_clear_error(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(content)
    with pytest.raises(SettingsError, match=said):
        uniform(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "name a parquet or csv"),
        ("meter_id,ts,voltage_v\n", "holds no reading"),
        ("meter_id;ts;voltage_v\nm;2026-03-02;230,1\n", "semicolons"),
        ("meter_id,ts,voltage_v\nm,1778479201792,230\n", "ts holds numbers"),
        (
            "meter_id,ts,voltage_v\nm,2026-03-02T12:00:00Z,1\nm,2026-03-02T12:01:00Z,bad\n",
            "line 3, column voltage_v: 'bad'",
        ),
        ("meter_id,ts,voltage_v\nm,11.05.2026 18:01:04,230\n", "line 2, column ts: '11.05.2026 18:01:04'"),
        ("meter_id,ts,voltage\nm,2026-03-02T12:00:00Z,230\n", "did you mean 'voltage' as 'voltage_v'"),
    ],
)
def test_every_ordinary_mistake_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "in.CSV"
    path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        uniform(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_foreign_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        open_readings(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(SettingsError, match="name a parquet or csv file"):
        open_readings(tmp_path / "text.parquet")


def test_cadence_is_the_median_gap_of_a_meter(tmp_path: Path) -> None:
    seconds = [0, 60, 121, 180, 540, 600]
    times = pa.array([NOON.replace(minute=s // 60, second=s % 60) for s in seconds], pa.timestamp("us", tz="UTC"))
    table = pa.table({"meter_id": ["m"] * 6, "ts": times, "voltage_v": [230.0] * 6})
    pq.write_table(table, tmp_path / "in.parquet")
    assert cadence_of(survey(open_readings(tmp_path / "in.parquet"), tmp_path), tmp_path) == 60.0
    pq.write_table(table.slice(0, 1), tmp_path / "one.parquet")
    one = survey(open_readings(tmp_path / "one.parquet"), tmp_path)
    with pytest.raises(SettingsError, match="no meter has two readings"):
        cadence_of(one, tmp_path)


def test_what_fits_no_fleet_is_refused_and_what_fits_in_part_is_told() -> None:
    found = Survey(3, {"m1", "m2", "m3"}, {"m1", "m2"})
    assert list(mismatches(found, {"m1", "m3"})) == [
        "1 of 3 meters are unknown to the fleet: m2",
        "1 of 3 meters have no valid reading: m3",
    ]
    with pytest.raises(SettingsError, match="knows no meter of the readings"):
        list(mismatches(found, {"M1"}))


def test_meters_that_report_more_slowly_than_the_cadence_are_named() -> None:
    day = 86_400.0
    paces = [Pace("even", 1441, 0, day), Pace("slow", 145, 0, day), Pace("once", 1, 0, 0.0)]
    (line,) = slower(paces, 60.0)
    assert "1 of 3 meters" in line
    assert "slow one in 600 s" in line
    assert "even" not in line


def test_repeats_do_not_hide_a_slow_meter() -> None:
    assert list(slower([Pace("m", 1441, 0, 86_400.0)], 60.0)) == []
    assert list(slower([Pace("m", 1441, 1296, 86_400.0)], 60.0))


def test_files_of_a_folder_with_other_columns_are_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"meter_id": ["m"], "ts": [pd.Timestamp("2026-03-02 12:00")], "voltage_v": [230.5]})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.assign(current_a=1.0).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(SettingsError, match=r"b\.parquet: column current_a is there, unlike in .*a\.parquet"):
        open_readings(tmp_path)


def test_a_truncated_archive_is_one_clear_error(tmp_path: Path) -> None:
    whole = gzip.compress(b"meter_id,ts,voltage_v\n" + b"m,2026-03-02T12:00:00Z,230\n" * 99)
    (tmp_path / "in.csv.gz").write_bytes(whole[:20])
    with pytest.raises(SettingsError, match=r"in\.csv\.gz"):
        open_readings(tmp_path / "in.csv.gz")


def test_a_time_that_is_none_is_named_with_its_own_line(tmp_path: Path) -> None:
    lines = ["m,2026-03-02T12:00:00Z,230", "m,yesterday,230", "m,2026-03-02T12:02:00Z,230"]
    (tmp_path / "in.csv").write_text("meter_id,ts,voltage_v\n" + "\n".join(lines) + "\n")
    with pytest.raises(SettingsError, match="line 3, column ts: 'yesterday'"):
        uniform(tmp_path / "in.csv")
