"""The tables through DuckDB: one view a table, no JVM, nothing written."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection, StatementType

from pipelines.addresses import is_store
from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable, SettingsError
from pipelines.lake_views import ITEM_COLUMNS, VIEWS, View, tables_in, views_in
from pipelines.settings import Settings, Store
from pipelines.store_tls import trust_in_this_process
from pipelines.tables import TABLES, table_path

_ALLOWED = (StatementType.SELECT, StatementType.EXPLAIN, StatementType.SET, StatementType.CREATE)
"""Statements that cannot reach a file of the lake; CREATE fills DuckDB's own memory, and PIVOT needs it."""
_EXPLAIN = re.compile(r"\s*explain\b\s*(analyze\b|\([^)]*\))?", re.IGNORECASE)
_ABSENT = (
    "does not exist",
    "InvalidTableLocation",
    "MissingVersion",
    "No files in log segment",
    "FileNotFound",
)
_KNOWN_TABLE = re.compile(r"Table with name (\S+) does not exist")
_S3_ATTEMPTS = 2


def open_lake(settings: Settings, needed: Collection[str] = TABLES) -> DuckDBPyConnection:
    """A connection in UTC with one view for every table that exists under `lake.root`; the caller closes it.

    A table that cannot be read is left out unless it is `needed`. Raises DataRefused or InfrastructureUnavailable for
    one that is, or when none can be read, SettingsError when there is no table.
    """
    lake = duckdb.connect(
        ":memory:", config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    )
    try:
        _prepare(lake, settings)
        _add_tables(lake, settings.lake.root, needed)
    except BaseException:
        lake.close()
        raise
    return lake


def ask_lake(settings: Settings, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a query, in the way of `run_sql`; tables that it does not name may be broken.

    Raises as `open_lake` and `run_sql` do, and when a file of a table is gone.
    """
    with open_lake(settings, tables_in(sql, TABLES)) as lake:
        try:
            answer = run_sql(lake, sql, settings.lake.root)
            return [column[0] for column in answer.description or ()], answer.fetchall()
        except duckdb.Error as error:
            raise _explain(lake, error, settings.lake.root) from None


def run_sql(lake: DuckDBPyConnection, sql: str, root: str | None = None) -> DuckDBPyConnection:
    """Run reading statements and return the connection with the last result.

    Raises SettingsError, one line, for a statement that writes or that DuckDB refuses. With `root`, where the tables
    are, a file of a table that cannot be read is told from that: DataRefused, InfrastructureUnavailable on a store.
    """
    try:
        _refuse_writes(lake, sql)
        _add_views_for(lake, sql)
        return lake.execute(sql)
    except duckdb.Error as error:
        raise _explain(lake, error, root) from None


def readable_tables(settings: Settings) -> dict[str, list[str]]:
    """Columns of the tables that exist and can be read, in the order of `TABLES`. Raises as `open_lake` does."""
    with open_lake(settings, needed=()) as lake:
        there = view_names(lake)
        return {name: _columns(lake, f"FROM {name}") for name in TABLES if name in there}


def view_script(settings: Settings) -> str:
    """Statements for the program `duckdb`: the extensions' names, the tables and the views; without secrets.

    Raises as `open_lake` does: what is not there is left out, with a comment.
    """
    root = absolute(settings.lake.root)
    there = readable_tables(settings)
    extensions = ["delta", *(["httpfs"] if is_store(root) else [])]
    lines = [f"INSTALL {name}; LOAD {name};" for name in extensions]
    lines += left_out(there)
    lines += [f"CREATE OR REPLACE VIEW {name} AS {_selected(root, name, columns)};" for name, columns in there.items()]
    return "\n".join([*lines, "SET TimeZone = 'UTC';", *(view_statement(view) for view in views_over(there))])


def left_out(there: Collection[str]) -> list[str]:
    """Comment of a script about the tables and views that it does not make; empty when it makes all."""
    absent = [name for name in TABLES if name not in there]
    views = [view.name for view in VIEWS if view not in views_over(there)]
    return [f"-- left out, because not there or not readable: {', '.join([*absent, *views])}"] if absent else []


def views_over(there: Collection[str]) -> list[View]:
    """The views whose tables are all there."""
    return [view for view in VIEWS if tables_in(view.name, TABLES) <= set(there)]


def absolute(root: str) -> str:
    """The root as it is found from another folder too."""
    return root if is_store(root) else str(Path(root).absolute())


def view_statement(view: View) -> str:
    """What makes one of `VIEWS`, in DuckDB."""
    return f"CREATE OR REPLACE VIEW {view.name} AS {dedent(view.sql).strip()};"


def view_names(lake: DuckDBPyConnection) -> list[str]:
    """Tables that the lake holds."""
    rows = lake.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1").fetchall()
    return [str(row[0]) for row in rows]


def no_tables(root: str) -> SettingsError:
    """The error of a lake without any table."""
    return SettingsError(
        f"lake.root = {root!r} holds no tables: `gridwatch demo` or `gridwatch run` makes them; another place"
        " is given with --set lake.root=PLACE"
    )


def duckdb_path(root: str, name: str) -> str:
    """Location of a table as DuckDB spells it.

    >>> duckdb_path("s3a://grid/lake", "readings")
    's3://grid/lake/readings'
    """
    return re.sub("^s3a?://", "s3://", table_path(root, name))


def secret_statement(store: Store) -> str:
    """DuckDB statement that tells it about the object store; holds the secrets in clear."""
    options = {"REGION": store.region, "URL_STYLE": "path" if store.path_style else "vhost"}
    if store.endpoint:
        scheme, _, address = store.endpoint.rpartition("://")
        options |= {"ENDPOINT": address.rstrip("/"), "USE_SSL": str(scheme == "https").lower()}
    if store.access_key and store.secret_key:
        keys = {"KEY_ID": store.access_key, "SECRET": store.secret_key}
        options |= {name: key.get_secret_value() for name, key in keys.items()}
    return f"CREATE SECRET (TYPE s3, {', '.join(f'{name} {_quoted(value)}' for name, value in options.items())})"


def _prepare(lake: DuckDBPyConnection, settings: Settings) -> None:
    lake.execute("SET TimeZone = 'UTC'")
    _load_extension(lake, "delta")
    if is_store(settings.lake.root):
        _load_extension(lake, "httpfs")
        lake.execute(f"SET http_retries = {_S3_ATTEMPTS}")
        if settings.store.ca_file:
            lake.execute(f"SET ca_cert_file = {_quoted(settings.store.ca_file)}")
            trust_in_this_process(settings.store)
        lake.execute(secret_statement(settings.store))


def _load_extension(lake: DuckDBPyConnection, name: str) -> None:
    """Load an extension from its wheel's own file: by name DuckDB would download it, and fail offline."""
    package = find_spec(f"duckdb_extension_{name}")
    file = (
        Path(package.origin or "").parent / f"extensions/v{duckdb.__version__}/{name}.duckdb_extension"
        if package
        else None
    )
    if file is None or not file.is_file():
        raise GridwatchError(
            f"DuckDB {duckdb.__version__} has no extension {name}: install"
            f" duckdb-extension-{name}=={duckdb.__version__}"
        )
    lake.execute(f"LOAD {_quoted(str(file))}")


def _add_tables(lake: DuckDBPyConnection, root: str, needed: Collection[str]) -> None:
    there: list[str] = []
    broken: list[GridwatchError] = []
    # What is needed first: a store that is down is then found out with one table.
    for name in sorted(TABLES, key=lambda name: name not in needed):
        try:
            there += [name] if _add_view(lake, root, name) else []
        except GridwatchError as error:
            broken.append(error)
            if name in needed:
                raise
    if not there:
        raise broken[0] if broken else no_tables(root)


def _add_views_for(lake: DuckDBPyConnection, sql: str) -> None:
    """Make the views that a query names: each one reads the tables' logs, so that making all would take its time."""
    for view in views_in(sql):
        try:
            lake.execute(view_statement(view))
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            raise SettingsError(
                f"view {view.name}: {_first_line(error)}; an older version wrote this lake: run `gridwatch upgrade`"
            ) from None


def _selected(root: str, name: str, columns: Collection[str]) -> str:
    """Query of a stored table that has these columns: the number of an item is never null."""
    source = f"delta_scan({_quoted(duckdb_path(root, name))})"
    item = ITEM_COLUMNS.get(name)
    replaced = f" REPLACE (coalesce({item}, 0) AS {item})" if item in columns else ""
    return f"SELECT *{replaced} FROM {source}"


def _columns(lake: DuckDBPyConnection, query: str) -> list[str]:
    return [str(row[0]) for row in lake.execute(f"DESCRIBE {query}").fetchall()]


def _add_view(lake: DuckDBPyConnection, root: str, name: str) -> bool:
    """Make the view of a table; False when the table does not exist."""
    if not is_store(root) and not (Path(root) / name / "_delta_log").is_dir():
        return False
    try:
        plain = _selected(root, name, ())
        columns = _columns(lake, plain) if name in ITEM_COLUMNS else ()
        lake.execute(f"CREATE VIEW {name} AS {_selected(root, name, columns)}")
    except duckdb.Error as error:
        if any(sign in str(error) for sign in _ABSENT) and is_store(root):
            return False
        raise _unreadable(root, name, error) from None
    return True


def _unreadable(root: str, name: str, error: duckdb.Error) -> GridwatchError:
    if is_store(root):
        return InfrastructureUnavailable(
            f"{table_path(root, name)} cannot be read: {_first_line(error)}; look at"
            " GRIDWATCH_STORE__ENDPOINT and the keys, `gridwatch check` tests them"
        )
    return DataRefused(f"{table_path(root, name)} is no readable Delta table: {_first_line(error)}")


def _refuse_writes(lake: DuckDBPyConnection, sql: str) -> None:
    for statement in lake.extract_statements(sql):
        inner = _EXPLAIN.match(statement.query)
        if statement.type not in _ALLOWED or (statement.type == StatementType.EXPLAIN and not inner):
            raise SettingsError(
                f"{statement.type.name} is refused: `gridwatch sql` only reads; use --format csv to keep rows"
            )
        if inner:
            _refuse_writes(lake, statement.query[inner.end() :])


def _explain(lake: DuckDBPyConnection, error: duckdb.Error, root: str | None) -> GridwatchError:
    if unknown := _KNOWN_TABLE.search(str(error)):
        return SettingsError(f"no table {unknown[1]}; the lake holds {', '.join(view_names(lake))}")
    if root is not None and isinstance(error, duckdb.IOException) and _is_about(root, error):
        what = f"lake.root = {root!r}: {_first_line(error)}"
        if is_store(root):
            return InfrastructureUnavailable(f"{what}; `gridwatch check` tests the store")
        return DataRefused(f"{what}; a file of a table is gone: restore the folder together with the checkpoint")
    return SettingsError(_first_line(error))


def _is_about(root: str, error: duckdb.Error) -> bool:
    """Whether the error names a file below the root, and not one that the query itself names."""
    if is_store(root):
        place = root.partition("://")[2].rstrip("/")
        return isinstance(error, duckdb.HTTPException) or place in str(error)
    return any(f"{folder}/" in str(error) for folder in (Path(root).absolute(), Path(root).resolve()))


def _first_line(error: duckdb.Error) -> str:
    return str(error).strip().split("\n")[0]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
