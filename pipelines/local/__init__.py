"""A real Kafka broker, a real MinIO and a real Spark cluster as child processes of one machine.

Nothing here prints: functions that take long accept `say`, which is called with one short line of progress.
"""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]


def quiet(line: str) -> None:
    """The `say` of callers that show no progress."""
