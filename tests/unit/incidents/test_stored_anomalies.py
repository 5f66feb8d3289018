"""The anomalies of touched incidents: all of the keys, and of weeks of others' next to nothing in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pipelines.incidents.relations import Key
from pipelines.incidents.sessions import NEEDED, incident_key
from pipelines.incidents.tables import stored_anomalies
from pipelines.settings import Settings
from pipelines.small_tables import append_rows, arrow_schema, create_tables
from pipelines.tables import ANOMALIES
from tests.factories import anomaly_row, utc

DAY_S = 86400.0
FAR = -20 * DAY_S
Rows = list[dict[str, Any]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(found, [ANOMALIES])
    return found


def silence(t: float, meter_id: str = "dead", severity: str = "ERROR") -> dict[str, Any]:
    return anomaly_row({"t": t, "anomaly_type": "meter_silent", "severity": severity, "meter_id": meter_id})


def low(t: float, meter_id: str = "m1", severity: str = "ERROR") -> dict[str, Any]:
    return anomaly_row({"t": t, "anomaly_type": "undervoltage", "severity": severity, "meter_id": meter_id})


def outage(t: float, feeder_id: str = "f1", severity: str = "ERROR") -> dict[str, Any]:
    more = {"stage": "feeder", "meter_id": None, "feeder_id": feeder_id, "severity": severity}
    return anomaly_row({"t": t, "anomaly_type": "feeder_outage", **more})


def in_arrow(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=arrow_schema(ANOMALIES))


def history(ends: float) -> Rows:
    """From `FAR` on, each day: a silence of two meters, a low voltage of two others and of the dead one, outages."""
    starts = [FAR + day * DAY_S for day in range(20)] + [ends - 600, ends]
    return [
        row
        for t in starts
        for row in (
            silence(t), silence(t, "dead too"), silence(t + 60, severity="INFO"), low(t), low(t, "m2"),
            low(t + 1, "dead"), low(t + 2, severity="INFO"), outage(t), outage(t, "f2"), outage(t + 1, severity="INFO"),
        )
    ]  # fmt: skip


SINCE: list[dict[Key, datetime]] = [
    {("meter", "dead", "silence"): utc(FAR), ("meter", "m1", "voltage-low"): utc(-600)},
    {("meter", "dead", "silence"): utc(-DAY_S), ("meter", "dead too", "silence"): utc(FAR + 1)},
    {("feeder", "f1", "feeder-supply"): utc(FAR), ("meter", "m1", "voltage-low"): utc(0)},
    {("meter", "m2", "voltage-low"): utc(FAR), ("meter", "dead", "voltage-low"): utc(FAR + 2)},
    {("meter", "dead", "thermal"): utc(FAR), ("meter", "f1", "feeder-supply"): utc(FAR)},
    {},
]
NEVER_SEEN = SINCE[4].keys()


def in_order(row: Mapping[str, Any]) -> tuple[datetime, str]:
    return row["event_ts"], row["anomaly_id"]


@pytest.mark.parametrize("since", SINCE)
def test_each_key_has_its_anomalies_from_its_moment_on_and_nothing_else(
    settings: Settings, since: dict[Key, datetime]
) -> None:
    rows = history(0)
    append_rows(in_arrow(rows), settings, ANOMALIES)
    found = stored_anomalies(settings, since)
    expected = [
        {name: row[name] for name in NEEDED}
        for row in rows
        if (key := incident_key(row)) is not None and key in since and row["event_ts"] >= since[key]
    ]
    assert sorted(found, key=in_order) == sorted(expected, key=in_order)
    assert {incident_key(row) for row in found} == since.keys() - NEVER_SEEN


def test_a_key_of_weeks_ago_brings_no_other_family_of_those_weeks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_rows(in_arrow(history(0)), settings, ANOMALIES)
    scanned: list[pa.Table] = []
    scan = DeltaTable.scan

    def overheard(self: DeltaTable, **options: Any) -> pa.Table:
        scanned.append(pa.table(scan(self, **options)))
        return scanned[-1]

    monkeypatch.setattr(DeltaTable, "scan", overheard)
    stored_anomalies(settings, SINCE[0])
    (read,) = (table.to_pylist() for table in scanned)
    assert {row["anomaly_type"] for row in read if row["event_ts"] < utc(-600)} == {"meter_silent"}
    assert {row["anomaly_type"] for row in read if row["event_ts"] >= utc(-600)} == {"meter_silent", "undervoltage"}


def test_what_other_meters_of_the_family_had_is_let_go_while_reading(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = in_arrow([silence(t, f"m{t}") for t in range(1000)]).combine_chunks().to_batches()[0]
    held: list[int] = []

    def pieces() -> Iterator[pa.RecordBatch]:
        before = pa.total_allocated_bytes()
        for _ in range(50):
            copied = [pa.concat_arrays([column]) for column in piece.columns]
            yield pa.RecordBatch.from_arrays(copied, schema=piece.schema)
            held.append(pa.total_allocated_bytes() - before)

    monkeypatch.setattr(DeltaTable, "scan", lambda *_, **__: pa.RecordBatchReader.from_batches(piece.schema, pieces()))
    found = stored_anomalies(settings, {("meter", "m7", "silence"): utc(FAR)})
    assert [row["meter_id"] for row in found] == ["m7"] * 50
    assert max(held) < 5 * piece.nbytes
