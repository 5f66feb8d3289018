"""Which features of Delta a table of the lake may have: those that Spark, DuckDB, deltalake and Polars all know.

A feature is in a table's protocol because a program turned it on, or because one wrote with newer defaults. Nobody
sees it before the first reader fails: so no command begins to write such a table, and `gridwatch doctor` names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.errors import DataRefused
from pipelines.settings import Settings
from pipelines.small_tables import open_table
from pipelines.tables import TABLES, Table

ALLOWED = frozenset({"appendOnly", "invariants"})
"""Every feature that a table may have: what a new table of ours has, reader version 1 and writer version 2.

Off stay above all deletionVectors, v2Checkpoint, columnMapping and changeDataFeed: docs/downstream.md says why.
"""
_OF_WRITER_VERSION = {
    2: ("appendOnly", "invariants"),
    3: ("checkConstraints",),
    4: ("changeDataFeed", "generatedColumns"),
    5: ("columnMapping",),
    6: ("identityColumns",),
}
"""What a writer version adds, by Delta's protocol; from version 7 on a table lists its features itself."""
_LISTED = 7
_UNKNOWN = "not supported"
"""Part of the Delta library's refusal to open a table with a feature that it does not know itself."""


def features_of(settings: Settings, table: Table) -> set[str]:
    """Names of the features in the protocol of the newest version of a table, those of readers and of writers.

    Raises what `open_table` raises.
    """
    protocol = open_table(settings, table).protocol()
    if protocol.min_writer_version >= _LISTED:
        return {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    versions = range(protocol.min_writer_version + 1)
    return {name for version in versions for name in _OF_WRITER_VERSION.get(version, ())}


def foreign_features(settings: Settings, tables: Iterable[Table] = TABLES.values()) -> Iterator[str]:
    """One line for each table that is there and has a feature beyond `ALLOWED`.

    Raises what `open_table` raises when the store does not answer.
    """
    for table in tables:
        try:
            beyond = sorted(features_of(settings, table) - ALLOWED)
        except TableNotFoundError:
            continue
        except DeltaError as error:
            if _UNKNOWN not in str(error):
                raise
            beyond = [str(error).strip().split("\n")[0]]
        if beyond:
            yield (
                f"table {table.name} of {settings.lake.root} has {', '.join(beyond)}, which not every reader of the"
                f" lake knows; allowed are {', '.join(sorted(ALLOWED))}: take the table back to the version before it"
                " (docs/downstream.md, table features)"
            )


def require_known_features(settings: Settings, tables: Iterable[Table] = TABLES.values()) -> None:
    """For a command that is going to write these tables. Raises DataRefused, one line, for the first one with a feature
    beyond `ALLOWED`, and what `open_table` raises when the store does not answer."""
    for problem in foreign_features(settings, tables):
        raise DataRefused(problem)
