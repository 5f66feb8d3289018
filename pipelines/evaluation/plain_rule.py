"""The rule gridwatch is measured against: 2.5 sigma of the 5-minute moving average, and 250 V."""

from __future__ import annotations

import numpy as np
import pandas as pd

SIGMA, FIXED_V = 2.5, 250.0
SPAN = "300s"


def plain_alarms(readings: pd.DataFrame) -> pd.DataFrame:
    """Alarms of the plain rule, in the columns of `alarms_of`.

    In: meter_id, ts, voltage_v, feeder_id. A reading is an alarm above 250 V, or when it lies more than 2.5 sample
    standard deviations off the mean of the readings of the five minutes before it, without itself (with itself the
    distance could never reach 2.5 below eight readings); two readings are needed.
    """
    ordered = readings.sort_values(["meter_id", "ts"], kind="stable").reset_index(drop=True)
    voltage = ordered.set_index("ts").groupby("meter_id", sort=False)["voltage_v"]
    before = voltage.rolling(SPAN, closed="left")
    n, mean, std = (getattr(before, name)().to_numpy() for name in ("count", "mean", "std"))
    value = ordered["voltage_v"].to_numpy()
    with np.errstate(invalid="ignore"):
        odd = (n >= 2) & (np.abs(value - mean) > SIGMA * std)
    found = ordered[odd | (value > FIXED_V)]
    return pd.DataFrame(
        {
            "meter_id": found["meter_id"],
            "feeder_id": found["feeder_id"],
            "ts": found["ts"],
            "known_at": found["ts"],
            "severity": "WARNING",
            "anomaly_type": np.where(found["voltage_v"] > FIXED_V, "above 250 V", "2.5 sigma"),
            "stage": "reading",
        }
    ).sort_values("ts")
