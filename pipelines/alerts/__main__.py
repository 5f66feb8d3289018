"""The alerts as the child of a pipeline: settings come through standard input, whose end is the parent's end."""

from __future__ import annotations

import os
import pickle
import sys
import threading

from pipelines.errors import GridwatchError, InfrastructureUnavailable

_END_WITHIN_S = 5.0


def main() -> int:
    """One life of a pipeline's member; the parent decides on another one. Returns the exit code."""
    ending = threading.Event()
    settings, name = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, args=(ending,), daemon=True).start()
    from pipelines.alerts.run import run_alerts

    try:
        run_alerts(settings, say, ending, name=name, max_restarts=0)
    except GridwatchError as error:
        say(str(error))
        return error.exit_code
    return 0


def say(line: str) -> None:
    """One line on the pipeline's standard error."""
    print(f"alerts: {line}", file=sys.stderr, flush=True)


def _end_with_parent(ending: threading.Event) -> None:
    """Nobody writes to standard input any more: it ends when the parent does, however that dies.

    Read past Python's buffer: its lock, held by this thread at the end of the program, would make that fatal.
    """
    while os.read(sys.stdin.fileno(), 1):
        pass
    ending.set()
    limit = threading.Timer(_END_WITHIN_S, os._exit, (InfrastructureUnavailable.exit_code,))
    limit.daemon = True
    limit.start()


if __name__ == "__main__":
    sys.exit(main())
