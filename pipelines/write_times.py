"""How long writes take, told to whoever wants to know: the sinks need not know who that is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, str, float], None]
"""Kind of sink (`delta` or `kafka`), name of the table or topic, seconds."""

_LISTENERS: list[Listener] = []


@contextmanager
def timed(kind: str, name: str) -> Iterator[None]:
    """Time a write; a failed one is told too, since waiting is what it cost."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - started
        for listener in tuple(_LISTENERS):
            listener(kind, name, seconds)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell a listener of every write of this process while the block lasts."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)
