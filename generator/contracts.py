"""Read the wire contract (`conf/contracts/*.json`), installed or from a checkout, also inside a zip."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast


@dataclass(frozen=True)
class Field:
    """One field of a wire record: its JSON name, its column name and its type in the contract."""

    name: str
    column: str
    type: str
    required: bool


@lru_cache(maxsize=8)
def load_contract(name: str) -> dict[str, Any]:
    """Return one contract file as a dictionary.

    Looks first at the resources `generator/_contracts/` that a wheel carries, then at `conf/contracts/`
    beside the package. Raises FileNotFoundError naming both when neither holds `<name>.json`.
    """
    package = cast("Path", files("generator"))  # or a zipfile.Path, which has the same methods
    folders = (package / "_contracts", package.parent / "conf" / "contracts")
    for folder in folders:
        file = folder / f"{name}.json"
        if file.is_file():
            return cast("dict[str, Any]", json.loads(file.read_text(encoding="utf-8")))
    raise FileNotFoundError(f"contract {name}.json is in neither {folders[0]} nor {folders[1]}")


def reading_fields() -> tuple[Field, ...]:
    """Return the fields of SensorReading in the order of the contract."""
    return tuple(
        Field(f["name"], f["column"], f["type"], f["required"]) for f in load_contract("sensor_reading")["fields"]
    )


def rejection_reasons() -> tuple[str, ...]:
    """Return the names of the rejection reasons in the order the checks run."""
    return tuple(reason["name"] for reason in load_contract("rejections")["reasons"])
