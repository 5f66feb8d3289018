"""Priority of this process against others on the machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def lower_priority(niceness: int) -> None:
    """Lower the priority of this process, and of those it will start, to `niceness` (1 to 19); 0 leaves it.

    Linux with autogroups weighs whole sessions against one another and `nice` only inside one, so the session's group
    is told too.
    """
    if niceness <= 0:
        return
    os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")
