"""The stored columns of a table beside the documented ones."""

from __future__ import annotations

import json

import pandas as pd

from pipelines.settings import Settings
from pipelines.small_tables import open_table
from pipelines.tables import Table

_ABSENT = "none"


def stored_columns(settings: Settings, table: Table) -> pd.DataFrame:
    """One row a column of either side: column, stored and documented type, `none` where it is not there."""
    stored = _types(open_table(settings, table).schema().to_json())
    documented = _types(table.schema.json())
    names = [*documented, *(name for name in stored if name not in documented)]
    rows = [(name, stored.get(name, _ABSENT), documented.get(name, _ABSENT)) for name in names]
    return pd.DataFrame(rows, columns=["column", "stored", "documented"])


def _types(schema: str) -> dict[str, str]:
    return {field["name"]: _plain(field["type"]) for field in json.loads(schema)["fields"]}


def _plain(kind: object) -> str:
    """A type as text. What is nested keeps its names and types; metadata and nullability do not count.

    >>> _plain({"type": "struct", "fields": [{"name": "n", "type": "long", "nullable": True, "metadata": {}}]})
    'struct<n:long>'
    """
    if not isinstance(kind, dict):
        return str(kind)
    if kind["type"] == "struct":
        fields = (f"{field['name']}:{_plain(field['type'])}" for field in kind["fields"])
        return f"struct<{','.join(fields)}>"
    if kind["type"] == "map":
        return f"map<{_plain(kind['keyType'])},{_plain(kind['valueType'])}>"
    return f"array<{_plain(kind['elementType'])}>"
