"""A store that does what it is told and whose answer is lost: the client asks again, and nothing is written twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipelines.local.minio_build import why_no_minio
from pipelines.local.objectstore import start_objectstore
from pipelines.local.ports import free_port
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, as_arrow, create_tables, merge_rows, read_rows, replace_rows
from pipelines.tables import AUDIT, INCIDENTS, METERS, Table
from tests.faults.rows_outage import once_a_table
from tests.faults.store_proxy import StoreProxy

NO_MINIO = why_no_minio()
pytestmark = [pytest.mark.minio, pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO))]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StoreProxy, Settings]]:
    """A proxy before a real MinIO, and settings of a lake behind it."""
    with start_objectstore(tmp_path_factory.mktemp("store")) as store:
        store.create_bucket("gridwatch")
        with StoreProxy(free_port(), store.port, lambda: 0.5) as proxy:
            environment = {
                "GRIDWATCH_LAKE__ROOT": "s3a://gridwatch/lake",
                "GRIDWATCH_STORE__ENDPOINT": proxy.endpoint,
                "GRIDWATCH_STORE__ACCESS_KEY": store.access_key,
                "GRIDWATCH_STORE__SECRET_KEY": store.secret_key,
            }
            settings = load_settings(environment=environment).settings
            create_tables(settings)
            yield proxy, settings


def lose_the_next_reply(proxy: StoreProxy) -> set[str]:
    """Of one commit of each table; returns the tables met so far."""
    lost: set[str] = set()
    proxy.faults.lose_reply_to = lambda method, path: once_a_table(lost, method, path)
    return lost


def one_row(table: Table, **values: object) -> object:
    return as_arrow([tuple(values.get(name) for name in table.column_names)], table)


def test_a_batch_is_appended_once(proxy: tuple[StoreProxy, Settings]) -> None:
    faulty, settings = proxy
    for number in range(3):
        lost = lose_the_next_reply(faulty)
        append_rows_once(one_row(AUDIT, batch_id=number), settings, AUDIT, BatchId("g", "archive", number))
        assert lost == {"audit"}
    assert sorted(read_rows(settings, AUDIT, columns=["batch_id"])["batch_id"].to_pylist()) == [0, 1, 2]


def test_rows_are_replaced_and_merged_once(proxy: tuple[StoreProxy, Settings]) -> None:
    faulty, settings = proxy
    lost = lose_the_next_reply(faulty)
    replace_rows(one_row(METERS, meter_id="m"), settings, METERS)
    merge_rows(one_row(INCIDENTS, incident_id="i"), [], settings, INCIDENTS, key="incident_id")
    assert lost == {"meters", "incidents"}
    assert read_rows(settings, METERS).num_rows == 1
    assert read_rows(settings, INCIDENTS).num_rows == 1
