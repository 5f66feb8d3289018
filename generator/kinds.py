"""The fault kinds: what each does, how long it lasts and which rules should find it."""

from __future__ import annotations

from dataclasses import dataclass

DEVIATION = "voltage_deviation"
SUSTAINED = "sustained_undervoltage"
LOW = ("undervoltage", SUSTAINED, DEVIATION)
HIGH = ("overvoltage", "sustained_overvoltage", "voltage_spike", DEVIATION)


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    minutes: shortest and longest duration; (0, 0) is a single reading. magnitude: range, in the unit of the
    docstring of `generator.faults`. before: minutes of normal data the rule needs first. crowd: faults of
    one crowd look alike to the feeder rules, so few of them may run at once on one feeder ("" = never).
    stretched: minutes are for cadences up to 20 s and grow with slower ones.
    """

    name: str
    scope: str
    minutes: tuple[float, float]
    magnitude: tuple[float, float]
    expected: tuple[str, ...]
    crowd: str = ""
    before: float = 7.0
    stretched: bool = True
    in_all: bool = True
    """Drawn by `--faults all`; the others by their name or by `pilot`."""

    @property
    def single(self) -> bool:
        """True for a fault of one reading."""
        return self.minutes[1] == 0


_KINDS = (
    Kind("sag", "meter", (2, 15), (0.60, 0.88), LOW, "low"),
    Kind("swell", "meter", (2, 15), (1.12, 1.25), HIGH, "high"),
    Kind("spike", "meter", (0, 0), (1.11, 1.195), ("voltage_spike", "overvoltage", DEVIATION), "high"),
    Kind("interruption", "meter", (2, 10), (0, 0), ("interruption", SUSTAINED, DEVIATION), "low"),
    Kind("glitch", "meter", (0, 0), (0, 1), ("implausible_value",)),
    Kind("step", "meter", (10, 40), (0.042, 0.05), ("voltage_step", "voltage_drift", DEVIATION), "shift"),
    Kind("drift", "meter", (240, 480), (0.036, 0.04), ("voltage_drift", "voltage_step"), "", 1440, False),
    Kind("stuck", "meter", (20, 90), (0, 0), ("stuck_sensor",), "", 16),
    Kind("noisy", "meter", (20, 60), (0.015, 0.018), ("noisy_sensor", DEVIATION), "shift"),
    Kind("silent", "meter", (7, 60), (0, 0), ("meter_silent",), "low", 1.5),
    Kind("unit_x10", "meter", (4, 30), (10, 10), ("implausible_value",)),
    Kind("gap", "meter", (60, 360), (0, 0), ("meter_silent",), "low", 1.5, False, in_all=False),
    Kind("unit_days", "meter", (1440, 3600), (10, 10), ("implausible_value",), "", 7.0, False, in_all=False),
    Kind("failure_status", "meter", (2, 10), (0, 0), ("equipment_failure",)),
    Kind("over_temperature", "meter", (4, 30), (80, 118), ("over_temperature", "temperature_rise")),
    Kind("overcurrent", "meter", (3, 20), (1.08, 1.65), ("overcurrent",)),
    # It rises over two thirds of its length: 20 °C within 15 min whatever the cadence.
    Kind("temperature_rise", "meter", (14, 22), (25, 30), ("temperature_rise",), "", 7.0, False),
    Kind("feeder_sag", "feeder", (3, 10), (0.75, 0.87), ("feeder_undervoltage", *LOW)),
    Kind("feeder_swell", "feeder", (3, 10), (1.125, 1.18), ("feeder_overvoltage", *HIGH)),
    Kind(
        "feeder_outage", "feeder", (3, 15), (0, 0),
        ("feeder_outage", "feeder_undervoltage", "interruption", SUSTAINED, DEVIATION),
    ),
)  # fmt: skip

KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}
ALL = tuple(kind.name for kind in _KINDS if kind.in_all)
PILOT = tuple(kind.name for kind in _KINDS if kind.scope == "meter")
"""What a meter shows that nobody compares with its neighbours."""


@dataclass(frozen=True)
class Request:
    """A wish for one fault: minutes of the data's clock, before the stretch of slow cadences.

    levels: the magnitude in equal consecutive parts of the fault (a staircase), else one value is drawn.
    """

    kind: str
    minutes: tuple[float, float]
    start: tuple[float, float]
    levels: tuple[float, ...] = ()


def _demo(kind: str, minutes: tuple[float, float] = (0, 0), *levels: float) -> Request:
    return Request(kind, minutes, (7.0, 60.0), levels)


DEMO: tuple[Request, ...] = (
    Request("silent", (34.0, 34.6), (1.7, 2.95)),
    Request("feeder_sag", (4.0, 6.0), (7.2, 8.5), (0.82,)),
    Request("feeder_outage", (3.0, 4.5), (20.0, 21.5)),
    Request("feeder_swell", (4.0, 5.5), (31.0, 32.0), (1.14,)),
    *2 * (Request("stuck", (18.3, 19.2), (17.0, 18.5)),),
    *2 * (Request("noisy", (20.0, 22.0), (7.1, 15.0)),),
    Request("silent", (11.5, 12.5), (7.0, 25.0)),
    _demo("sag", (12.2, 14.0), 0.865),
    _demo("sag", (8.0, 11.0), 0.87, 0.80, 0.65),
    _demo("swell", (8.0, 11.0), 1.125, 1.17, 1.22),
    *2 * (_demo("temperature_rise", (14.0, 16.0)),),
    *2 * (_demo("step", (10.0, 12.0)),),
    _demo("sag", (6.0, 9.0), 0.84, 0.68),
    _demo("sag", (4.0, 7.0), 0.87),
    _demo("swell", (4.0, 7.0), 1.13),
    _demo("swell", (4.0, 7.0), 1.175),
    *2 * (_demo("interruption", (3.0, 5.0)),),
    *2 * (_demo("unit_x10", (4.0, 6.0)),),
    *2 * (_demo("over_temperature", (4.0, 7.0)),),
    *2 * (_demo("overcurrent", (4.0, 7.0)),),
    *2 * (_demo("failure_status", (3.0, 5.0)),),
    *3 * (_demo("spike"),),
    *2 * (_demo("glitch"),),
)
"""The demo of about 40 minutes: the hard ones to place come first, drift needs days and is left out."""
