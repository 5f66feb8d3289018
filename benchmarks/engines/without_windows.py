"""`gridwatch run` without its query of windows: what archive and incidents cost alone.

`python -m benchmarks.engines.without_windows`; the settings come from the environment.
"""

from __future__ import annotations

import sys

from pipelines.cli.main import main
from pipelines.jobs import queries


def run_without_windows() -> int:
    """The exit code of the pipeline."""
    del queries._STARTS["windows"]
    return main(["run"])


if __name__ == "__main__":
    sys.exit(run_without_windows())
