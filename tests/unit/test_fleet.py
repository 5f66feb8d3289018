"""The meters' CSV is read into typed rows, or refused with file, line and value."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines import small_tables
from pipelines.errors import SettingsError
from pipelines.fleet import load_reference_tables, read_csv, read_fleet, require_known_classes
from pipelines.identity.tables import add_columns
from pipelines.lake_sql import open_lake
from pipelines.settings import Detection, MeterClass, Settings
from pipelines.small_tables import as_arrow, create_tables, read_rows
from pipelines.tables import LABELS, METERS


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "fleet.csv"


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        list(read_csv(path, METERS))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_columns_may_stand_in_any_order_and_be_missing(csv: Path) -> None:
    csv.write_text("nominal_voltage_v,note,meter_id,phase\n230,x,m-1,A\n,y,m-2,\n")
    assert list(read_csv(csv, METERS)) == [
        ("m-1", None, None, "A", 230.0, None, None, None),
        ("m-2", None, None, None, None, None, None, None),
    ]


def test_times_without_a_zone_are_utc(csv: Path) -> None:
    csv.write_text("fault_id,start,end\nf,2026-01-02T03:04:05,2026-01-02T04:04:05+01:00\n")
    row = next(iter(read_csv(csv, LABELS)))
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert row[6:8] == (at, at)


def test_a_file_that_is_not_there_names_the_setting(csv: Path) -> None:
    assert "set lake.fleet" in refusal(csv)


@pytest.mark.parametrize("text", ["", "id,phase\nm-1,A\n"])
def test_a_file_without_the_meter_column_names_what_it_needs(csv: Path, text: str) -> None:
    csv.write_text(text)
    said = refusal(csv)
    assert "no column meter_id" in said or "is empty" in said
    assert "set lake.fleet to the CSV of your meters: meter_id, feeder_id" in said


def test_a_meter_that_stands_twice_is_named_with_its_line(csv: Path) -> None:
    csv.write_text("meter_id\nm-1\nm-2\nm-1\n")
    assert "line 4: meter_id m-1 stands twice" in refusal(csv)


def test_a_value_of_the_wrong_type_is_named_with_its_line(csv: Path) -> None:
    csv.write_text("meter_id,nominal_voltage_v\nm-1,230\nm-2,230 V\n")
    assert "line 3: nominal_voltage_v = '230 V' is no number" in refusal(csv)


def test_loading_twice_replaces_the_meters(csv: Path, tmp_path: Path) -> None:
    settings = Settings.model_validate({"lake": {"root": str(tmp_path / "lake"), "fleet": str(csv)}})
    create_tables(settings)
    for meters in ("m-1\nm-2\n", "m-3\n"):
        csv.write_text(f"meter_id\n{meters}")
        load_reference_tables(settings)
    with open_lake(settings) as lake:
        assert lake.execute("SELECT meter_id FROM meters").fetchall() == [("m-3",)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"meter_id,nominal_voltage_v\nm,0\n", "line 2: nominal_voltage_v = 0 is outside 50 to"),
        (b"meter_id,nominal_voltage_v\nm,nan\n", "nominal_voltage_v = 'nan' is no number"),
        (b"meter_id,rated_current_a\nm,-1\n", "rated_current_a = -1 is outside"),
        (b"meter_id;phase\nm;A\n", "parted by semicolons"),
        (b"meter_id,feeder_id\nm,Z\xfcrich\n", "0xfc is not UTF-8"),
        (b"PAR1\x00", "is a parquet file"),
        (b"meter_id,phase\nm,A,B\n", "line 2: 3 fields"),
        (b"meter_id,phase\n,A\n", "line 2: meter_id is empty"),
        (b"meter_id\n", "names no meter"),
    ],
)
def test_every_ordinary_mistake_is_one_line(csv: Path, content: bytes, said: str) -> None:
    csv.write_bytes(content)
    assert said in refusal(csv)


def test_a_byte_order_mark_is_read_over(csv: Path) -> None:
    csv.write_bytes(b"\xef\xbb\xbfmeter_id\nm-1\n")
    assert [row[0] for row in read_csv(csv, METERS)] == ["m-1"]


CLASSES = {"transformer": {"nominal_voltage_v": 400, "rated_current_a": 630}, "residential": {}}


def with_classes(tmp_path: Path, fleet: Path | None, classes: dict[str, dict[str, float]] = CLASSES) -> Settings:
    lake = {"root": str(tmp_path / "lake"), "fleet": str(fleet) if fleet else None}
    return Settings.model_validate({"lake": lake, "detection": {"classes": classes}})


def test_region_and_class_are_carried_and_the_class_fills_what_the_file_leaves_empty(csv: Path, tmp_path: Path) -> None:
    csv.write_text(
        "meter_id,region,meter_class,nominal_voltage_v,rated_current_a\n"
        "m-1,north,transformer,,\nm-2,south,transformer,410,400\nm-3,,residential,,\nm-4,,,,\n"
    )
    settings = with_classes(tmp_path, csv)
    create_tables(settings)
    load_reference_tables(settings)
    names = ["meter_id", "region", "meter_class", "nominal_voltage_v", "rated_current_a"]
    rows = [tuple(row[name] for name in names) for row in read_rows(settings, METERS).to_pylist()]
    assert rows == [
        ("m-1", "north", "transformer", 400.0, 630.0),
        ("m-2", "south", "transformer", 410.0, 400.0),
        ("m-3", None, "residential", None, None),
        ("m-4", None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("classes", "allowed"),
    [(CLASSES, "must be one of transformer, residential"), ({}, "must be empty, as there are no classes")],
)
def test_a_class_that_the_settings_do_not_know_is_refused_with_those_they_know(
    csv: Path, tmp_path: Path, classes: dict[str, dict[str, float]], allowed: str
) -> None:
    csv.write_text("meter_id,meter_class\nm-1,\nm-2,transfomer\n")
    with pytest.raises(SettingsError) as caught:
        read_fleet(csv, with_classes(tmp_path, csv, classes).detection)
    assert "meter m-2: meter_class = 'transfomer' " + allowed in str(caught.value)
    assert str(caught.value).endswith("correct it, or set detection.classes.transfomer")


def test_a_class_of_the_stored_meters_that_the_settings_have_lost_is_refused(csv: Path, tmp_path: Path) -> None:
    csv.write_text("meter_id,meter_class\nm-1,transformer\n")
    settings = with_classes(tmp_path, csv)
    create_tables(settings)
    load_reference_tables(settings)
    load_reference_tables(with_classes(tmp_path, None))
    with pytest.raises(SettingsError, match=r"table meters of .*'transformer' must be one of residential"):
        load_reference_tables(with_classes(tmp_path, None, {"residential": {}}))


class TestMetersOfAnEarlierVersion:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        settings = with_classes(tmp_path, None, {})
        names = {"region", "meter_class"}
        older = replace(METERS, columns=tuple(column for column in METERS.columns if column.name not in names))
        small_tables._create(settings, older)
        row = ("m-1", "f-1", "t-1", "A", 230.0, 63.0)
        small_tables.replace_rows(as_arrow([row], older), settings, older)
        return settings

    def test_they_open_with_the_new_columns_null(self, settings: Settings) -> None:
        load_reference_tables(settings)
        (row,) = read_rows(settings, METERS).to_pylist()
        assert (row["rated_current_a"], row["region"], row["meter_class"]) == (63.0, None, None)
        assert add_columns(settings) == ["meters.region", "meters.meter_class"]
        assert read_rows(settings, METERS).to_pylist() == [row]

    def test_classes_want_the_columns_first(self, settings: Settings) -> None:
        with pytest.raises(SettingsError, match="start `gridwatch run` of this version once"):
            require_known_classes(settings.model_copy(update={"detection": Detection(classes={"a": MeterClass()})}))
