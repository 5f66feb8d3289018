"""What a row expects, and how it says that it was disappointed."""

from __future__ import annotations

from pathlib import Path

from pipelines.local.processes import Child, tail


class NotHeld(AssertionError):
    """The row's expectation is not met; the text is the reason in the report."""


class NotTried(AssertionError):
    """The fault could not be brought about in time, so nothing is known of the row: it is tried again."""


class Ended(NotHeld):
    """The pipeline ended by itself, and no supervisor would start it again."""


def require(holds: bool, reason: str) -> None:
    """Raises NotHeld with the reason unless it holds."""
    if not holds:
        raise NotHeld(reason)


def bring_about(came: bool, what_failed: str) -> None:
    """Raises NotTried unless the fault, or what it needs, came about. Never for what the row is to show."""
    if not came:
        raise NotTried(what_failed)


def newest(folder: Path) -> int:
    """Highest batch number of a log folder of a checkpoint."""
    return max((int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()), default=-1)


def last_words(child: Child) -> str:
    """The last line of a program's log."""
    lines = [line for line in tail(child.log, 5).splitlines() if line.strip()]
    return lines[-1][:600] if lines else "no output"
