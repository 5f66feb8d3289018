"""The topology: meters on phases of feeders behind transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from generator.draws import stream_key, uniform

FLEET_COLUMNS = ("meter_id", "feeder_id", "transformer_id", "phase", "nominal_voltage_v", "rated_current_a")
METERS_PER_TRANSFORMER = 25
PHASES = np.array(["A", "B", "C"])
RATED_CURRENTS_A = np.array([60.0, 63.0, 80.0, 100.0])


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


def write_fleet(fleet: pd.DataFrame, path: str | Path) -> None:
    """Write the fleet as CSV with a header, replacing the file."""
    fleet.to_csv(path, index=False, lineterminator="\n")
