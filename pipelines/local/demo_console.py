"""The operator's console beside a demo, with a token of its own."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from pipelines.console.serve import READY
from pipelines.local.ports import free_port, is_free
from pipelines.local.processes import Child, LocalParts, log_text, wait_until
from pipelines.settings import Console
from pipelines.settings_load import environment_name

_READY_LIMIT_S = 30.0


def start_console(parts: LocalParts, environment: Mapping[str, str], log: Path) -> str | None:
    """Start the console and return the address of its page, with the token behind the #; None when it does not come up.

    It takes its usual port when that is free. A demo goes on without it.
    """
    token = secrets.token_urlsafe(24)
    usual = Console().port
    own = {
        environment_name("console.token"): token,
        environment_name("console.port"): str(usual if is_free(usual) else free_port()),
    }
    argv = [sys.executable, "-m", "pipelines", "console"]
    child = parts.start("console", argv, log=log, env={**environment, **own})
    wait_until(lambda: READY in log_text(log) or not child.is_running(), _READY_LIMIT_S)
    return _address(child, log, token)


def _address(child: Child, log: Path, token: str) -> str | None:
    lines = [line for line in log_text(log).splitlines() if READY in line]
    return f"{lines[-1].rpartition(' ')[2]}#token={token}" if lines and child.is_running() else None
