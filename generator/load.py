"""What a healthy meter shows: load steps, the drop they cause, temperature, status."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from generator.draws import Bools, Floats, Ints, normal, quarters, stream_key, uniform, words
from generator.feeder import DAY_MS, LONG, SHORT, feeder_voltage
from generator.fleet import TRANSFORMER_CLASS
from generator.plan import RunPlan

IMPEDANCE_OHM = {"strong": (0.1, 0.4), "mixed": (0.1, 0.9), "weak": (0.4, 0.9), "rural": (0.8, 1.2)}
TRANSFORMER_OHM = 0.004
"""Between a transformer and its own meter there is a bar."""
TRANSFORMER_C = 20.0
"""So much warmer (°C) is a transformer's cabinet."""
MOST_HEAT_A = 100.0
"""Beyond, the current goes through transducers and not through the meter."""
DROP_SCALE = {"strong": 0.8, "mixed": 1.0, "weak": 1.5, "rural": 1.7}
"""How far one appliance may pull the voltage, against its limit in the table of appliances."""


@dataclass(frozen=True)
class Appliance:
    """A load that is on at most once in each slot of time, and wholly inside the slot."""

    name: str
    slot_s: int
    chance: float
    on_s: tuple[int, int]
    amps: tuple[float, float]
    drop_limit_v: float


APPLIANCES = (
    Appliance("fridge", 1500, 1.0, (500, 800), (0.5, 1.5), 0.6),
    Appliance("kettle", 2400, 0.6, (120, 540), (5.0, 10.0), 2.2),
    Appliance("oven", 7200, 0.7, (1200, 4200), (6.0, 13.0), 2.4),
    Appliance("car", 28800, 0.3, (7200, 18000), (10.0, 16.0), 2.6),
)


@dataclass(frozen=True)
class Network:
    """The fleet as arrays by meter index.

    `feeder` indexes `feeder_id`; `talks` is 1 where a healthy meter's status is OK, 0 where it is null.
    """

    meter_id: tuple[str, ...]
    feeder_id: tuple[str, ...]
    feeder: Ints
    phase: tuple[str, ...]
    impedance_ohm: Floats
    rated_current_a: Floats
    nominal_v: Floats
    is_transformer: Bools
    temperature_c: Floats
    talks: Ints

    @property
    def feeders(self) -> int:
        """Number of feeders."""
        return len(self.feeder_id)


def build_network(plan: RunPlan, fleet: pd.DataFrame) -> Network:
    """Return the electrical view of a fleet with the columns of `fleet_of`, in its order."""
    index = np.arange(len(fleet))
    feeder, feeder_id = pd.factorize(fleet["feeder_id"])
    low, high = IMPEDANCE_OHM[plan.grid]
    is_transformer = (fleet.get("meter_class", fleet["phase"]) == TRANSFORMER_CLASS).to_numpy()
    impedance = low + (high - low) * uniform(stream_key(plan.seed, "impedance"), index)
    place = normal(stream_key(plan.seed, "meter-temperature"), index)
    hall = normal(stream_key(plan.seed, "feeder-temperature"), feeder)
    talks = uniform(stream_key(plan.seed, "meter-talks"), index) < 0.8
    return Network(
        meter_id=tuple(fleet["meter_id"]),
        feeder_id=tuple(feeder_id),
        feeder=feeder.astype(np.int64),
        phase=tuple(fleet["phase"]),
        impedance_ohm=np.where(is_transformer, TRANSFORMER_OHM, impedance),
        rated_current_a=fleet["rated_current_a"].to_numpy(np.float64),
        nominal_v=fleet["nominal_voltage_v"].to_numpy(np.float64),
        is_transformer=is_transformer,
        temperature_c=22.0 + 1.5 * place + 1.5 * hall,
        talks=talks.astype(np.int64),
    )


def load_current(plan: RunPlan, network: Network, meter: Ints, ts: Ints) -> Floats:
    """Return the current (A) each meter index draws at `ts` (epoch ms): a base and its appliances.

    An appliance of a customer behind a long line is small enough that its step stays below its
    `drop_limit_v`, so that a normal step hardly ever reaches 3 % of the nominal voltage.
    """
    since = ts - plan.start_ms
    amps = 0.3 + 0.9 * uniform(stream_key(plan.seed, "base-load"), meter)
    impedance = network.impedance_ohm[meter]
    for appliance in APPLIANCES:
        amps = amps + _appliance_current(plan, appliance, meter, since, impedance)
    return np.where(network.is_transformer[meter], _through_transformer(plan, network, meter, ts), amps)


def _through_transformer(plan: RunPlan, network: Network, meter: Ints, ts: Ints) -> Floats:
    """Many customers together: no steps, 0.12 to 0.5 of the rated current by the hour, with a slow sway."""
    phase = 2 * np.pi * uniform(stream_key(plan.seed, "transformer-sway"), meter)
    sway = 0.03 * np.sin(phase + 2 * np.pi * (ts % DAY_MS) / (40 * 60_000))
    return network.rated_current_a[meter] * (0.02 + 0.45 * _activity(ts) + sway)


def normal_voltage(plan: RunPlan, network: Network, meter: Ints, ts: Ints, amps: Floats) -> Floats:
    """Return the voltage (V) before noise and rounding: feeder voltage minus the drop of `amps` (A)."""
    line = LONG if plan.grid == "rural" else SHORT
    at_head = feeder_voltage(plan.seed, network.feeder[meter], ts, plan.start_ms, network.feeders, line)
    return (at_head - amps * network.impedance_ohm[meter]) * (network.nominal_v[meter] / 230.0)


def temperature(plan: RunPlan, network: Network, meter: Ints, ts: Ints, amps: Floats) -> Floats:
    """Return the temperature inside the meter (°C): the place, the hour, the heat of the current."""
    daily = 6.0 * np.cos(2 * np.pi * ((ts % DAY_MS) / DAY_MS - 0.6))
    warmth = np.where(network.is_transformer[meter], TRANSFORMER_C, 0.0)
    return network.temperature_c[meter] + daily + warmth + 0.05 * np.minimum(amps, MOST_HEAT_A)


def measurement_noise(plan: RunPlan, meter: Ints, poll: Ints) -> tuple[Floats, Floats, Floats]:
    """Return the noise of one poll: voltage (V), current (as a part of it), temperature (°C)."""
    one, two, three, four = quarters(words(stream_key(plan.seed, "noise"), meter, poll))
    return (one + two - 1.0) * 0.4, (three - 0.5) * 0.04, (four - 0.5) * 0.4


def _activity(ts: Ints) -> Floats:
    """Part of the day's appliances in use by the hour: little at night, most in the evening (UTC)."""
    day = (ts % DAY_MS) / DAY_MS
    return 0.65 + 0.35 * np.cos(2 * np.pi * (day - 0.79))


def _appliance_current(plan: RunPlan, appliance: Appliance, meter: Ints, since_ms: Ints, impedance: Floats) -> Floats:
    key = stream_key(plan.seed, f"appliance-{appliance.name}")
    slot_ms = appliance.slot_s * 1000
    shift = (uniform(key, meter, -1) * slot_ms).astype(np.int64)
    slot, at = np.divmod(since_ms + shift, slot_ms)
    used, begin, length, size = quarters(words(key, meter, slot))
    on_ms = 1000 * (appliance.on_s[0] + length * (appliance.on_s[1] - appliance.on_s[0]))
    begin_ms = begin * (slot_ms - on_ms)
    low, high = appliance.amps
    limit = appliance.drop_limit_v * DROP_SCALE[plan.grid] / impedance
    wanted = used < appliance.chance * _activity(plan.start_ms + since_ms - at)
    running = wanted & (at >= begin_ms) & (at < begin_ms + on_ms)
    return np.where(running, np.minimum(low + size * (high - low), limit), 0.0)
