"""Tables of a few rows a time, written without Spark: creating them all, the reference tables, the audit.

A Spark job costs half a second however small it is; the Delta library for Python commits in milliseconds. Each
table has one writer: what is written here is never written by a Spark query.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyspark.sql.pandas.types import to_arrow_schema

from pipelines.addresses import is_store
from pipelines.errors import InfrastructureUnavailable
from pipelines.lake.store import storage_options, store_uri
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.store_tls import trust_in_this_process
from pipelines.tables import AUDIT, TABLES, Table, table_path
from pipelines.write_times import timed

Say = Callable[[str], None]

STORE_ERRORS = (OSError, DeltaError)
"""What a read raises when the store does not answer."""
_QUICK = {"max_retries": "1", "connect_timeout": "3s", "timeout": "5s"}
"""One question to the store ends within seconds; who asks repeats it."""
_REFUSALS = (
    "403 Forbidden",
    "404 Not Found",
    "400 Bad Request",
    "301 Moved",
    "InvalidAccessKeyId",
    "privileges",
    "UnknownIssuer",
    "invalid peer certificate",
)
"""Answers of a store that waiting does not change: wrong keys, no such bucket, another region or authority."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_S3_CODE = re.compile(r"<Code>(\w+)</Code>")


def wait_for_lake(settings: Settings, say: Say) -> None:
    """Return when the object store of `lake.root` answers; retries with growing pauses for `kafka.connect_timeout`.

    A folder needs no waiting. Raises InfrastructureUnavailable after that time, and at once when the store refuses.
    """
    limit_s = settings.kafka.connect_timeout
    deadline, pause = time.monotonic() + limit_s, 0.5
    while (problem := _store_problem(settings)) is not None:
        left = deadline - time.monotonic()
        where = f"lake.root = {settings.lake.root} at {settings.store.endpoint or 'Amazon S3'}"
        if any(sign in problem for sign in _REFUSALS):
            raise InfrastructureUnavailable(
                f"{where}: the store refuses ({_cause(problem)}); look at the keys, the region, the bucket's"
                " name and store.ca_file"
            )
        if left <= 0:
            raise InfrastructureUnavailable(
                f"{where}: the store does not answer within {limit_s:g} s ({_cause(problem)}); start it, or set"
                " GRIDWATCH_STORE__ENDPOINT"
            )
        say(f"waiting for the store at {settings.store.endpoint or 'Amazon S3'} ({left:.0f} s left)")
        time.sleep(min(pause, max(left, 0)))
        pause = min(pause * 2, 8)


def _store_problem(settings: Settings) -> str | None:
    """What the store says when it is asked for a table; None when it answers, also that there is none."""
    options = _options(settings)
    if options is None:
        return None
    try:
        DeltaTable(_uri(settings, AUDIT), storage_options=options | _QUICK)
    except TableNotFoundError:
        return None
    except STORE_ERRORS as error:
        return str(error)
    return None


def create_tables(settings: Settings, tables: Iterable[Table] = TABLES.values()) -> list[str]:
    """Create those of the tables that are not there yet, empty; returns their names.

    Raises InfrastructureUnavailable when the folder or the bucket cannot be written.
    """
    missing = [table for table in tables if not table_is_there(settings, table)]
    for table in missing:
        _create(settings, table)
    return [table.name for table in missing]


def create_table(settings: Settings, table: Table) -> None:
    """Create one table unless it is there; for a command that owns it. Raises as `create_tables` does."""
    if not table_is_there(settings, table):
        _create(settings, table)


def append_rows(rows: pa.Table, settings: Settings, table: Table) -> None:
    """Append rows, each time it is called."""
    with timed("delta", table.name):
        write_deltalake(open_table(settings, table), rows.select(table.column_names), mode="append")


def append_rows_once(rows: pa.Table, settings: Settings, table: Table, batch: BatchId) -> bool:
    """Append the rows of a batch; returns False for a batch that the table has already, which is skipped."""
    return _write_once(rows, settings, table, batch, mode="append")


def replace_rows_once(rows: pa.Table, settings: Settings, table: Table, batch: BatchId) -> None:
    """Replace all rows by those of a batch; a batch that the table has already is skipped."""
    _write_once(rows, settings, table, batch, mode="overwrite")


def _write_once(
    rows: pa.Table, settings: Settings, table: Table, batch: BatchId, *, mode: Literal["append", "overwrite"]
) -> bool:
    app_id = batch.app_id(table)
    target = open_table(settings, table)
    done = target.transaction_version(app_id)
    if done is not None and done >= batch.number:
        return False
    commit = CommitProperties(app_transactions=[Transaction(app_id, batch.number)])
    try:
        with timed("delta", table.name):
            write_deltalake(target, rows.select(table.column_names), mode=mode, commit_properties=commit)
    except CommitFailedError:
        # When the reply to a commit is lost the library sends it again, and meets its own commit.
        stored = open_table(settings, table).transaction_version(app_id)
        if stored is None or stored < batch.number:
            raise
    return True


def replace_rows(rows: pa.Table, settings: Settings, table: Table) -> None:
    """Replace all rows of a table."""
    _whatever_was_done(lambda: write_deltalake(open_table(settings, table), rows, mode="overwrite"))


def merge_rows(
    rows: pa.Table, gone: Sequence[str], settings: Settings, table: Table, *, key: str, among: str | None = None,
    batch: BatchId | None = None,
) -> None:  # fmt: skip
    """Insert or update rows by a text key, and delete the keys in `gone`; repeating it changes nothing.

    `among`: predicate that all stored rows of these keys meet, so that files without one are not read; columns `old.`.
    `batch` is noted with the commit; unlike in an append, one that the table has already is written again.
    """
    names = table.column_names
    changes = rows.select(names).append_column("is_gone", pa.array([False] * rows.num_rows, pa.bool_()))
    if gone:
        removed = as_arrow([tuple(k if n == key else None for n in names) for k in gone], table)
        flags = pa.array([True] * len(gone), pa.bool_())
        changes = pa.concat_tables([changes.cast(_with_flag(table)), removed.append_column("is_gone", flags)])
    merge_changes(changes, settings, table, keys=(key,), among=among, batch=batch)


def merge_changes(
    changes: pa.Table, settings: Settings, table: Table, *, keys: Sequence[str], among: str | None = None,
    batch: BatchId | None = None,
) -> None:  # fmt: skip
    """Insert, update or delete (`is_gone`) rows by the columns `keys`, as `merge_rows` does."""
    values = {name: f"new.{name}" for name in table.column_names}
    alike = " AND ".join([*(f"old.{key} = new.{key}" for key in keys), *([among] if among else [])])

    def merge() -> None:
        target = open_table(settings, table)
        noted = [Transaction(batch.app_id(table), batch.number)] if batch else []
        commit = CommitProperties(app_transactions=noted)
        merger = target.merge(changes, alike, source_alias="new", target_alias="old", commit_properties=commit)
        merger = merger.when_matched_delete("new.is_gone").when_matched_update(values)
        merger.when_not_matched_insert(values, "not new.is_gone").execute()

    with timed("delta", table.name):
        _whatever_was_done(merge)


def _whatever_was_done(write: Callable[[], object]) -> None:
    """Write; once more after a conflict, which without other writers is our own commit whose reply was lost.

    For writes that change nothing when they are repeated.
    """
    try:
        write()
    except CommitFailedError:
        write()


def read_rows(
    settings: Settings, table: Table, *, columns: Sequence[str] | None = None, where: str | None = None
) -> pa.Table:
    """Rows of a table, in Arrow. `where` is an SQL predicate of numbers, times (`moment`) and names of ours.

    Text that came with the data never goes into a predicate. A column that an older table has not yet got is null.
    """
    wanted = _schema_of(table, columns)
    return _as_declared(_scan(settings, table, wanted, where).read_all(), wanted)


def scan_rows(
    settings: Settings, table: Table, *, columns: Sequence[str] | None = None, where: str | None = None
) -> Iterator[pa.Table]:
    """The same in pieces of some thousand rows: what the caller drops of a piece is gone before the next is read."""
    wanted = _schema_of(table, columns)
    for batch in _scan(settings, table, wanted, where):
        yield _as_declared(pa.Table.from_batches([batch]), wanted)


def _schema_of(table: Table, columns: Sequence[str] | None) -> pa.Schema:
    schema = arrow_schema(table)
    return pa.schema([schema.field(name) for name in columns or table.column_names])


def _scan(settings: Settings, table: Table, wanted: pa.Schema, where: str | None) -> pa.RecordBatchReader:
    """The wanted columns that the table has got."""
    target = open_table(settings, table)
    stored = {field.name for field in target.schema().fields}
    found = target.scan(columns=[name for name in wanted.names if name in stored], predicate=where)
    return pa.RecordBatchReader.from_stream(found)


def _as_declared(found: pa.Table, wanted: pa.Schema) -> pa.Table:
    for field in (field for field in wanted if field.name not in found.column_names):
        found = found.append_column(field, pa.nulls(found.num_rows, field.type))
    return found.select(wanted.names).cast(wanted)


def moment(at: datetime) -> str:
    """An aware time as the predicates of `read_rows` want it.

    >>> from datetime import UTC
    >>> moment(datetime(2026, 3, 1, 12, tzinfo=UTC))
    "'2026-03-01T12:00:00+00:00'"
    """
    return f"'{at.isoformat()}'"


def highest_value(settings: Settings, table: Table, column: str) -> Any:
    """Largest value of a column, from the statistics of the table's files (`Table.skip_by`); None without rows."""
    files = pa.table(open_table(settings, table).get_add_actions(flatten=True))
    return pc.max(files[f"max.{column}"]).as_py() if files.num_rows else None


def lowest_value(settings: Settings, table: Table, column: str) -> Any:
    """The same of the smallest value."""
    files = pa.table(open_table(settings, table).get_add_actions(flatten=True))
    return pc.min(files[f"min.{column}"]).as_py() if files.num_rows else None


def rows_by_date(settings: Settings, table: Table) -> dict[date, int]:
    """Rows of a table that is partitioned by a date, from the statistics of its files; by date, ascending."""
    files = pa.table(open_table(settings, table).get_add_actions(flatten=True))
    if not files.num_rows:
        return {}
    column = f"partition.{table.partition_by[0]}"
    counted = files.select([column, "num_records"]).group_by(column).aggregate([("num_records", "sum")])
    dates = counted[column].cast(pa.date32()).to_pylist()
    return dict(sorted(zip(dates, pc.fill_null(counted["num_records_sum"], 0).to_pylist(), strict=True)))


def count_rows(settings: Settings, table: Table) -> int:
    """Rows of a table, from the statistics of its files."""
    return int(open_table(settings, table).count())


def table_version(settings: Settings, table: Table) -> int:
    """Newest version of a table."""
    return int(open_table(settings, table).version())


def as_arrow(rows: Sequence[tuple[Any, ...]], table: Table) -> pa.Table:
    """Rows in the table's column order as Arrow; times are aware or UTC."""
    names = table.column_names
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=arrow_schema(table))


def arrow_schema(table: Table) -> pa.Schema:
    """Arrow schema of a table; timestamps in UTC microseconds."""
    return to_arrow_schema(table.schema, timezone="UTC")


def _with_flag(table: Table) -> pa.Schema:
    return arrow_schema(table).append(pa.field("is_gone", pa.bool_()))


def _uri(settings: Settings, table: Table) -> str:
    return table_path(store_uri(settings.lake.root), table.name)


def _options(settings: Settings) -> dict[str, str] | None:
    trust_in_this_process(settings.store)
    return storage_options(settings.store) if is_store(settings.lake.root) else None


def open_table(settings: Settings, table: Table) -> DeltaTable:
    """The newest version of a table, as the Delta library knows it."""
    return DeltaTable(_uri(settings, table), storage_options=_options(settings))


def table_is_there(settings: Settings, table: Table) -> bool:
    """Whether the table exists. Raises InfrastructureUnavailable when nobody can say."""
    try:
        open_table(settings, table)
    except TableNotFoundError:
        return False
    except STORE_ERRORS as error:
        raise _unreachable(settings, error) from None
    return True


def _create(settings: Settings, table: Table) -> None:
    try:
        DeltaTable.create(
            _uri(settings, table),
            schema=Schema.from_json(json.dumps(_documented(table))),
            mode="ignore",
            partition_by=list(table.partition_by) or None,
            description=table.grain,
            configuration={"delta.dataSkippingStatsColumns": ",".join(table.skip_by)} if table.skip_by else None,
            storage_options=_options(settings),
        )
    except STORE_ERRORS as error:
        raise _unreachable(settings, error) from None


def _documented(table: Table) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(table.schema.json())
    for field, column in zip(schema["fields"], table.columns, strict=True):
        unit = f" [{column.unit}]" if column.unit else ""
        field["metadata"] = {"comment": column.description + unit}
    return schema


def _unreachable(settings: Settings, error: Exception) -> InfrastructureUnavailable:
    return InfrastructureUnavailable(f"lake.root = {settings.lake.root} cannot be written: {_cause(str(error))}")


def _cause(text: str) -> str:
    """The innermost cause in an error of the Delta library, which draws a tree of them, in colour.

    >>> _cause("Kernel error\\n   \\x1b[31m\\u21b3\\x1b[0m error\\n \\u21b3 Connection refused (os error 111)\\n")
    'Connection refused (os error 111)'
    >>> _cause("Kernel error\\n  \\u21b3 404 Not Found\\n  <Error><Code>NoSuchBucket</Code></Error>")
    'NoSuchBucket'
    """
    if code := _S3_CODE.search(text):
        return code[1]
    lines = [line.strip(" \t\u21b3") for line in _COLOURS.sub("", text).splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")[:300]
