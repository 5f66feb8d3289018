"""Sizes of a JVM's heap in settings: "512m" or "2g"."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

LEAST = "512m"
"""Spark refuses to start a driver with less than 450 MiB."""

_UNITS = {"m": 1 << 20, "g": 1 << 30}


def heap_bytes(text: str) -> int:
    """Bytes of a heap.

    >>> heap_bytes("2g")
    2147483648
    """
    return int(text[:-1]) * _UNITS[text[-1]]


def _enough(text: str) -> str:
    if heap_bytes(text) < heap_bytes(LEAST):
        raise ValueError(f"Spark does not start with less than {LEAST}")
    return text


Heap = Annotated[str, AfterValidator(_enough)]
