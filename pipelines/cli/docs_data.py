"""The page docs/data-dictionary.md: messages, tables and rejection reasons from the contracts."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pipelines.cli.markdown import code, table
from pipelines.conf_files import conf_text
from pipelines.contract import Field, Message, message
from pipelines.tables import TABLES, Table

MESSAGES = ("sensor_reading", "anomaly_event", "window_tick", "incident", "dead_letter", "operator_action")

_INTRO = """# Data dictionary

What is in Kafka and in the tables, from `conf/contracts/*.json` and `pipelines/tables.py`. Times on the wire
are milliseconds since 1970-01-01 UTC; in the tables they are UTC timestamps. `window_start` is inclusive,
`window_end` is exclusive."""


def data_dictionary_page() -> str:
    """The page as Markdown."""
    return "\n\n".join(
        (_INTRO, "## Messages", *_messages(), "## Rejection reasons", *_reasons(), "## Tables", *_tables())
    )


def _messages() -> Iterator[str]:
    for name in MESSAGES:
        kind = message(name)
        document = json.loads(conf_text(f"contracts/{name}.json"))
        headers = f", headers {', '.join(code(h) for h in document['headers'])}" if "headers" in document else ""
        key = code(document["key"]) if document["key"] else "none"
        yield f"### {kind.name}\n\n{kind.description}\n\nTopic {code(kind.topic)}, key {key}{headers}."
        if kind.fields:
            yield _fields(kind)


def _fields(kind: Message) -> str:
    names = ["field", "type", "unit", "required", "legal", "column", "meaning"]
    return table(names, [_field(f) for f in kind.fields])


def _field(f: Field) -> list[str]:
    required = "yes" if f.required else "no"
    return [code(f.name), f.type, f.unit or "", required, _legal(f), code(f.column), f.description]


def _legal(f: Field) -> str:
    parts = []
    if f.values:
        parts.append(", ".join(map(code, f.values)))
    if f.minimum is not None or f.maximum is not None:
        parts.append(f"{_number(f.minimum)} to {_number(f.maximum)}")
    if f.pattern:
        parts.append(code(f.pattern))
    if f.max_length:
        parts.append(f"at most {f.max_length} characters")
    return "; ".join(parts)


def _number(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:.15g}"


def _reasons() -> Iterator[str]:
    document = json.loads(conf_text("contracts/rejections.json"))
    yield f"{document['description']} Version {document['rule_version']}."
    yield table(["reason", "meaning"], [[code(r["name"]), r["description"]] for r in document["reasons"]])


def _tables() -> Iterator[str]:
    yield "Delta tables under `lake.root`, each written by one query only."
    for kind in TABLES.values():
        yield f"### {kind.name}\n\n{_facts(kind)}"
        rows = [[code(c.name), code(c.type.simpleString()), c.unit or "", c.description] for c in kind.columns]
        yield table(["column", "type", "unit", "meaning"], rows)


def _facts(kind: Table) -> str:
    partitions = ", ".join(map(code, kind.partition_by)) or "none"
    return f"One row: {kind.grain}. Written by: {kind.owner}. Partitioned by: {partitions}."
