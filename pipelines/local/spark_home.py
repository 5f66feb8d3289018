"""Where the installed pyspark is, without importing it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pipelines.errors import InfrastructureUnavailable


def spark_home() -> Path:
    """Folder of the installed pyspark. Raises InfrastructureUnavailable when there is none."""
    found = importlib.util.find_spec("pyspark")
    if found is None or not found.submodule_search_locations:
        raise InfrastructureUnavailable("pyspark is not installed: run `make install`")
    return Path(found.submodule_search_locations[0])
