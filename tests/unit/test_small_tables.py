"""Tables written without Spark: a batch is written once, and whoever counts learns of it once."""

from __future__ import annotations

from pathlib import Path

from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, as_arrow, create_tables, read_rows
from pipelines.tables import AUDIT
from pipelines.write_times import listening
from tests.unit.identity.lakes import audit, settings_in


def test_a_batch_that_is_done_again_is_not_written_and_says_so(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    create_tables(settings)
    batch = BatchId("g", "archive", 0)
    row = audit(batch)
    rows = as_arrow([tuple(row.get(name) for name in AUDIT.column_names)], AUDIT)
    written: list[tuple[str, str]] = []
    with listening(lambda kind, name, seconds: written.append((kind, name))):
        assert append_rows_once(rows, settings, AUDIT, batch)
        assert not append_rows_once(rows, settings, AUDIT, batch)
        assert not append_rows_once(rows, settings, AUDIT, BatchId("g", "archive", -1))
    assert written == [("delta", "audit")]
    assert read_rows(settings, AUDIT).num_rows == 1
