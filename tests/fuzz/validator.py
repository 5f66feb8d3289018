"""What the decoder must accept and read, by a validator of its own: Python's json and `conf/contracts`.

It shares no code with `pipelines.readings`. It gives no reasons: it only tells what is valid from what is not.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from tests.factories import NOON_MS

CONTRACTS = Path(__file__).resolve().parents[2] / "conf" / "contracts"
FIELDS: list[dict[str, Any]] = json.loads((CONTRACTS / "sensor_reading.json").read_text(encoding="utf-8"))["fields"]
REASONS = [r["name"] for r in json.loads((CONTRACTS / "rejections.json").read_text(encoding="utf-8"))["reasons"]]

_MOST_NESTED = 256
_NOT_FINITE = {"NaN", "INF", "+INF", "-INF", "Infinity", "+Infinity", "-Infinity"}


class _Bare(str):
    """NaN or Infinity without quotes."""


class _Huge(str):
    """A number that is infinite as a double."""


def read(
    value: bytes | None, *, max_skew_s: float, max_age_s: float, broker_ms: int = NOON_MS
) -> dict[str, Any] | None:
    """The values of a valid record by JSON name, and under "extra" what else must be kept; None for an invalid one."""
    try:
        document = _strict(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or _depth(document) > _MOST_NESTED:
        return None
    values = {field["name"]: document.get(field["name"]) for field in FIELDS}
    extra = {name: kept for name, kept in document.items() if name not in values}
    for field in FIELDS:
        name, given = field["name"], values[field["name"]]
        if field["type"] == "double" and not field["required"] and _is_impossible(field, given):
            extra[name], values[name] = given, None
        elif not _fits(field, given):
            return None
    rest = [kept for name, kept in extra.items() if name not in values]
    if _any_bare(rest) or not -max_age_s * 1000 <= values["timestamp"] - broker_ms <= max_skew_s * 1000:
        return None
    return {**values, "extra": extra}


def is_valid(value: bytes | None, *, max_skew_s: float, max_age_s: float, broker_ms: int = NOON_MS) -> bool:
    """Whether a strict reader of the contract accepts the record."""
    return read(value, max_skew_s=max_skew_s, max_age_s=max_age_s, broker_ms=broker_ms) is not None


def _strict(value: bytes | None) -> Any:
    if value is None:
        raise ValueError("tombstone")
    document = json.loads(
        value.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_Bare, parse_float=_float, parse_int=_int
    )
    json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is no character
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("repeated field")
    return dict(pairs)


def _float(digits: str) -> Any:
    return _Huge(digits) if math.isinf(float(digits)) else float(digits)


def _int(digits: str) -> Any:
    return _Huge(digits) if math.isinf(float(digits)) else int(digits)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _any_bare(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_any_bare, value))
    return any(map(_any_bare, value.values())) if isinstance(value, dict) else isinstance(value, _Bare)


def _is_impossible(field: dict[str, Any], value: Any) -> bool:
    """A number, but one that the contract's range does not allow."""
    if isinstance(value, str):
        return isinstance(value, (_Bare, _Huge)) or value in _NOT_FINITE
    return type(value) in (int, float) and not field["minimum"] <= value <= field["maximum"]


def _fits(field: dict[str, Any], value: Any) -> bool:
    if value is None:
        return not field["required"]
    match field["type"]:
        case "string":
            return type(value) is str and _fits_text(field, value)
        case "epoch_ms":
            return type(value) is int and field["minimum"] <= value <= field["maximum"]
        case _:
            return type(value) in (int, float) and field["minimum"] <= value <= field["maximum"]


def _fits_text(field: dict[str, Any], value: str) -> bool:
    short_enough = len(value) <= field["max_length"]
    return short_enough and ("pattern" not in field or re.fullmatch(field["pattern"], value) is not None)
