"""The topology: meters on phases of feeders behind transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from generator.draws import stream_key, uniform

FLEET_COLUMNS = ("meter_id", "feeder_id", "transformer_id", "phase", "nominal_voltage_v", "rated_current_a")
SITE_COLUMNS = ("region", "meter_class")
"""Columns of a mixed fleet beside them."""
METERS_PER_TRANSFORMER = 25
PHASES = np.array(["A", "B", "C"])
RATED_CURRENTS_A = np.array([60.0, 63.0, 80.0, 100.0])
TRANSFORMER_CLASS = "transformer"
SITES = (("europe", "residential-230", 230.0), ("america", "residential-120", 120.0))
"""Region, class and nominal voltage (V) of a mixed fleet's feeders, one after the other."""
TRANSFORMER_V = 400.0
"""Between two phases."""
TRANSFORMER_CURRENTS_A = np.array([400.0, 630.0])


def build_fleet(
    meters: int, seed: int, *, nominal_voltage_v: float = 230.0, meters_per_feeder: int = 50
) -> pd.DataFrame:
    """Return one row a meter, in the order of its id.

    Columns: meter_id (`m-00001`), feeder_id (`f-001`), transformer_id (`t-001-1`, at most 25 meters each),
    phase (A, B or C), nominal_voltage_v (V, phase to neutral), rated_current_a (A, 60 to 100).
    Feeders are equally large, as near to `meters_per_feeder` as the number of meters allows.
    """
    index = np.arange(meters)
    feeders = max(1, round(meters / meters_per_feeder))
    feeder = index * feeders // meters
    position = index - (feeder * meters + feeders - 1) // feeders
    transformer = position // METERS_PER_TRANSFORMER
    rated = uniform(stream_key(seed, "fleet-rated"), index) * len(RATED_CURRENTS_A)
    offset = (uniform(stream_key(seed, "fleet-phase"), feeder) * 3).astype(np.int64)
    return pd.DataFrame(
        {
            "meter_id": [f"m-{i:05d}" for i in index + 1],
            "feeder_id": [f"f-{f:03d}" for f in feeder + 1],
            "transformer_id": [f"t-{f:03d}-{t}" for f, t in zip(feeder + 1, transformer + 1, strict=True)],
            "phase": PHASES[(position + offset) % 3],
            "nominal_voltage_v": float(nominal_voltage_v),
            "rated_current_a": RATED_CURRENTS_A[rated.astype(np.int64)],
        },
        columns=list(FLEET_COLUMNS),
    )


def mixed_fleet(meters: int, seed: int, *, meters_per_feeder: int = 50) -> pd.DataFrame:
    """Return a fleet of `build_fleet` with three classes of meters, and the columns region and meter_class.

    Its feeders are in turn of 230 V in europe and of 120 V in america. The first meter of each transformer in europe
    is that of the transformer itself: three-phase (phase is empty), 400 V, 400 or 630 A.
    """
    fleet = build_fleet(meters, seed, meters_per_feeder=meters_per_feeder)
    site = fleet["feeder_id"].str[2:].astype(np.int64).to_numpy() % len(SITES) - 1
    fleet["nominal_voltage_v"] = np.array([volts for _, _, volts in SITES])[site]
    fleet["region"] = np.array([region for region, _, _ in SITES])[site]
    fleet["meter_class"] = np.array([name for _, name, _ in SITES])[site]
    is_transformer = ~fleet["transformer_id"].duplicated() & (fleet["region"] == SITES[0][0])
    rated = uniform(stream_key(seed, "fleet-transformer"), np.arange(meters)) * len(TRANSFORMER_CURRENTS_A)
    own: dict[str, Any] = {
        "phase": "",
        "nominal_voltage_v": TRANSFORMER_V,
        "rated_current_a": TRANSFORMER_CURRENTS_A[rated.astype(np.int64)],
        "meter_class": TRANSFORMER_CLASS,
    }
    return fleet.assign(**{name: np.where(is_transformer, value, fleet[name]) for name, value in own.items()})


def without_topology(fleet: pd.DataFrame) -> pd.DataFrame:
    """Return the fleet as the head end of a pilot knows it: what stands on the meters, and not where they are."""
    known = {"meter_id", "nominal_voltage_v", "rated_current_a"}
    return fleet.assign(**{name: "" for name in fleet.columns if name not in known})


def write_fleet(fleet: pd.DataFrame, path: str | Path) -> None:
    """Write the fleet as CSV with a header, replacing the file."""
    fleet.to_csv(path, index=False, lineterminator="\n")
