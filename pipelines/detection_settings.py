"""Settings of the rules and of the incidents, with what is derived from them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.fields import FieldInfo

from pipelines.durations import Seconds, format_seconds

REFERENCE_VOLTAGE_V = 230.0
"""Nominal voltage at which `detection.fixed_voltage_v` is stated (IEC 60038)."""

AUTO: Literal["auto"] = "auto"

_CLASS_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Limits(Section):
    """Limits that a class of meters may have of its own."""

    fixed_voltage_v: float = Field(
        250.0, ge=1, le=1000, description="voltage_spike above this, at Un 230 V; scaled with Un elsewhere."
    )
    nominal_voltage_v: float = Field(230.0, ge=50, le=1000, description="Un of meters that `meters` does not know.")
    min_deviation_pu: float = Field(0.03, gt=0, le=0.5, description="Least voltage deviation, in units of Un.")
    alone_deviation_pu: float = Field(
        0.05,
        gt=0,
        le=0.5,
        description="The same without two neighbours to compare with (EN 50160: rapid changes up to 5 % are normal).",
    )
    own_load_ohm: float = Field(
        0.4,
        ge=0,
        le=2,
        description="Line resistance, ohm, by which a meter's own current explains a drop (IEC 60725: 0.24 + 0.16).",
    )
    interruption_pu: float = Field(0.10, gt=0, lt=0.5, description="Below: interruption (EN 50160 uses 5 %).")
    undervoltage_pu: tuple[float, float, float] = Field(
        (0.90, 0.85, 0.70), description="undervoltage below: WARNING, ERROR, CRITICAL, in units of Un."
    )
    overvoltage_pu: tuple[float, float, float] = Field(
        (1.10, 1.15, 1.20), description="overvoltage above: WARNING, ERROR, CRITICAL, in units of Un."
    )
    implausible_pu: float = Field(1.50, gt=1.2, le=10, description="A voltage above this times Un is implausible.")
    plausible_temperature_c: tuple[float, float] = Field((-40.0, 150.0), description="Plausible temperatures, °C.")
    over_temperature_c: tuple[float, float, float] = Field(
        (75.0, 90.0, 110.0), description="over_temperature above: WARNING, ERROR, CRITICAL, °C."
    )
    overcurrent_pu: tuple[float, float, float] = Field(
        (1.0, 1.2, 1.5),
        description="overcurrent above: WARNING, ERROR, CRITICAL, in units of the rated current.",
    )
    sustained_critical_pu: float = Field(0.85, gt=0.1, lt=0.9, description="sustained_undervoltage is CRITICAL below.")
    noise_pu: float = Field(0.01, gt=0, le=0.2, description="noisy_sensor above this spread, in units of Un.")
    step_pu: float = Field(0.035, gt=0, le=0.5, description="voltage_step: distance to the feeder, in units of Un.")
    drift_pu: float = Field(
        0.025, gt=0, le=0.5, description="voltage_drift: change of the distance to the feeder, in units of Un."
    )
    rise_c: float = Field(20.0, gt=0, le=200, description="temperature_rise from this many °C on.")

    @property
    def spike_pu(self) -> float:
        """`fixed_voltage_v` in units of Un."""
        return self.fixed_voltage_v / REFERENCE_VOLTAGE_V

    def require_order(self, section: str) -> None:
        """Raises ValueError, about the settings of a section, unless the limits rise as their severities do."""
        rising = {
            "overvoltage_pu": self.overvoltage_pu,
            "over_temperature_c": self.over_temperature_c,
            "overcurrent_pu": self.overcurrent_pu,
            "plausible_temperature_c": self.plausible_temperature_c,
            "undervoltage_pu (reversed)": self.undervoltage_pu[::-1],
        }
        for name, limits in rising.items():
            if list(limits) != sorted(set(limits)):
                raise ValueError(
                    f"{section}.{name} = {limits}: limits must become more extreme from WARNING to CRITICAL"
                )
        if not self.interruption_pu < self.undervoltage_pu[2] < 1 < self.overvoltage_pu[0]:
            raise ValueError(f"{section}.*_pu: interruption < undervoltage < 1 < overvoltage must hold")
        if self.overvoltage_pu[2] >= self.implausible_pu:
            raise ValueError(f"{section}.implausible_pu must lie above {section}.overvoltage_pu")


def _own(name: str) -> Any:
    """A field of `Limits` that is not set unless the class has a value of its own."""
    return FieldInfo.merge_field_infos(Limits.model_fields[name], default=None)


Three = tuple[float, float, float]


class MeterClass(Section):
    """What one class of meters has of its own; what is not set is as in `detection`."""

    nominal_voltage_v: float | None = Field(
        None, ge=50, le=1000, description="Un of the class's meters for which the fleet gives none."
    )
    rated_current_a: float | None = Field(
        None, ge=0.1, le=100_000, description="Rated current of the class's meters for which the fleet gives none."
    )
    fixed_voltage_v: float | None = _own("fixed_voltage_v")
    min_deviation_pu: float | None = _own("min_deviation_pu")
    alone_deviation_pu: float | None = _own("alone_deviation_pu")
    own_load_ohm: float | None = _own("own_load_ohm")
    interruption_pu: float | None = _own("interruption_pu")
    undervoltage_pu: Three | None = _own("undervoltage_pu")
    overvoltage_pu: Three | None = _own("overvoltage_pu")
    implausible_pu: float | None = _own("implausible_pu")
    plausible_temperature_c: tuple[float, float] | None = _own("plausible_temperature_c")
    over_temperature_c: Three | None = _own("over_temperature_c")
    overcurrent_pu: Three | None = _own("overcurrent_pu")
    sustained_critical_pu: float | None = _own("sustained_critical_pu")
    noise_pu: float | None = _own("noise_pu")
    step_pu: float | None = _own("step_pu")
    drift_pu: float | None = _own("drift_pu")
    rise_c: float | None = _own("rise_c")

    @property
    def limits(self) -> dict[str, Any]:
        """What replaces the values of `detection`, by name."""
        return self.model_dump(exclude_none=True, exclude={"rated_current_a"})


class Detection(Limits):
    sigma: float = Field(2.5, ge=1.5, le=4.0, description="Standard deviations that make a voltage deviation.")
    cadence_s: float = Field(10.0, ge=1, le=3600, description="Seconds between two readings of a meter.")
    window: Seconds | Literal["auto"] = Field(
        AUTO, description="Length of the sliding window; auto = max(5 min, 15 x cadence)."
    )
    slide: Seconds | Literal["auto"] = Field(AUTO, description="Distance of two window ends; auto = window / 5.")
    watermark: Seconds = Field(10, ge=0, description="How late in event time a reading still counts.")
    baseline_max_age: Seconds | Literal["auto"] = Field(
        AUTO, description="Oldest baseline a reading is compared with; auto = max(10 min, 2 x window)."
    )
    min_history: int = Field(8, ge=3, le=1000, description="Readings a baseline needs before it is used.")
    std_floor_pu: float = Field(0.005, gt=0, le=0.1, description="Least standard deviation, in units of Un.")
    profile_factor: float = Field(
        2.2, ge=1, le=10, description="voltage_deviation needs this times the meter's own p99 deviation of 7 days."
    )
    peers: int = Field(
        3, ge=1, description="So many feeder peers deviating alike make it the feeder's, not the meter's."
    )
    peer_share: float = Field(
        0.33, gt=0, le=1, description="A peer deviates alike from this part of the meter's own deviation on."
    )
    zero_tolerance_pu: float = Field(
        0.004, ge=0, le=0.05, description="A dead line reads 0 V give or take this, in units of Un; lower: implausible."
    )
    sustained_s: Seconds = Field(600, ge=60, description="Mean over this long decides sustained_* (EN 50160: 10 min).")
    stuck_s: Seconds = Field(900, ge=60, description="A voltage without any change for this long is stuck.")
    stuck_readings: int = Field(10, ge=3, description="Readings that stuck_sensor needs.")
    noise_factor: float = Field(
        2.0, ge=1, le=10, description="noisy_sensor needs this times the meter's own p99 noise of 7 days."
    )
    own_factor: float = Field(
        1.5, ge=1, le=10, description="Without two neighbours, both need this times the meter's own p99 at that hour."
    )
    step_s: Seconds = Field(300, ge=60, description="voltage_step: it must last this long.")
    drift_s: Seconds = Field(1800, ge=300, description="voltage_drift: median over this long.")
    rise_s: Seconds = Field(900, ge=60, description="temperature_rise: within this long.")
    hysteresis_pu: float = Field(
        0.02, ge=0, le=0.1, description="A band incident stays open until the voltage is this far inside, in Un."
    )
    feeder_meters: int = Field(3, ge=2, description="Feeder rules need at least this many meters.")
    feeder_share: float = Field(0.20, gt=0, le=1, description="And this part of the reporting meters.")
    min_reporting: float = Field(
        0.1, ge=0, le=1, description="When less of the fleet than this is awake, silence says nothing of a meter."
    )
    silent_s: Seconds = Field(300, ge=10, description="No reading for max(this, silent_cadences x cadence): silent.")
    silent_cadences: int = Field(5, ge=2, description="See detection.silent_s.")
    silent_error_s: Seconds = Field(1800, ge=60, description="meter_silent is ERROR after this long.")
    classes: dict[str, MeterClass] = Field(
        {}, description="Limits of a class of meters, by its name: column meter_class of the fleet."
    )

    @property
    def window_s(self) -> float:
        """Window length in seconds, with auto resolved."""
        return max(300.0, 15 * self.cadence_s) if self.window == AUTO else float(self.window)

    @property
    def slide_s(self) -> float:
        """Distance of two window ends in seconds, with auto resolved."""
        return self.window_s / 5 if self.slide == AUTO else float(self.slide)

    @property
    def baseline_max_age_s(self) -> float:
        """Oldest usable baseline in seconds, with auto resolved."""
        return max(600.0, 2 * self.window_s) if self.baseline_max_age == AUTO else float(self.baseline_max_age)

    @property
    def silent_after_s(self) -> float:
        """Silence in seconds after which a meter is silent."""
        return max(self.silent_s, self.silent_cadences * self.cadence_s)

    @property
    def steps_s(self) -> tuple[float, float]:
        """Seconds between two evaluations of a rule: of stage reading, and of the other stages."""
        return self.cadence_s, self.slide_s

    @property
    def silent_error_after_s(self) -> float:
        """Silence in seconds after which it is an ERROR; never before twice the first limit."""
        return max(self.silent_error_s, 2 * self.silent_after_s)

    @property
    def by_class(self) -> dict[str, Detection]:
        """These settings as they are for each class."""
        return {name: self.model_copy(update=one.limits) for name, one in self.classes.items()}

    def of_class(self, name: str | None) -> Detection:
        """These settings as they are for a meter of a class; the common ones for an unknown class and for none."""
        return self.by_class.get(name or "", self)

    @model_validator(mode="after")
    def _classes_fit(self) -> Self:
        for name in self.classes:
            if not _CLASS_NAME.fullmatch(name):
                raise ValueError(
                    f"detection.classes.{name}: a class is named by up to 40 small letters, digits, _ and -, a letter"
                    " first, such as residential-120"
                )
        for name, limits in self.by_class.items():
            limits.require_order(f"detection.classes.{name}")
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        window, slide = self.window_s, self.slide_s
        if slide <= 0 or abs(window / slide - round(window / slide)) > 1e-9 or window / slide < 2:
            raise ValueError(
                f"detection.slide = {format_seconds(slide)} must divide detection.window = {format_seconds(window)}"
                " two times or more"
            )
        baseline_readings = int((window - slide) / self.cadence_s)
        if baseline_readings < self.min_history:
            raise ValueError(
                f"detection.window = {format_seconds(window)} less one slide holds {baseline_readings} readings at"
                f" detection.cadence_s = {self.cadence_s:g}, detection.min_history = {self.min_history} are needed:"
                " make the window longer"
            )
        return self

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> Self:
        self.require_order("detection")
        return self


class MuteWindow(NamedTuple):
    """Who is muted (a meter, a feeder or *), from (inclusive) and until (exclusive) when, and why."""

    who: str
    start: datetime
    end: datetime
    reason: str


@lru_cache(maxsize=4096)
def parse_mute(text: str) -> MuteWindow:
    """A mute window of its text. Raises ValueError.

    >>> parse_mute("f-001 2026-03-02T10:00/2026-03-02T12:00 tap changer").reason
    'tap changer'
    """
    try:
        who, span, reason = text.split(maxsplit=2)
        start, end = (datetime.fromisoformat(part) for part in span.split("/"))
    except ValueError:
        raise ValueError(
            f"incidents.mute = {text!r}: write ID FROM/TO REASON, for example"
            " 'f-001 2026-03-02T10:00/2026-03-02T12:00 planned work'"
        ) from None
    start, end = (moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in (start, end))
    if start >= end:
        raise ValueError(f"incidents.mute = {text!r}: the end must lie after the start")
    return MuteWindow(who, start, end, reason)


class Incidents(Section):
    off_delay: Seconds = Field(300, ge=10, description="An incident closes this long after its last anomaly.")
    silence_heartbeat: Seconds = Field(
        1800, ge=60, description="A silent meter is reported again this often until it is back."
    )
    warning_k: int = Field(
        1, ge=1, le=100, description="An incident opens on the k-th WARNING of one rule among warning_n evaluations."
    )
    warning_n: int = Field(1, ge=1, le=100, description="See incidents.warning_k; n readings or n slides.")
    renotify: Seconds = Field(
        1800, ge=0, description="The same scope and family notifies again at most this often, unless it got worse."
    )
    mute: tuple[str, ...] = Field(
        (),
        description="Mute windows, each 'ID FROM/TO REASON': ID is a meter, a feeder or *; times are ISO, UTC."
        " Muted incidents are recorded, not notified.",
    )

    _more_mutes: tuple[MuteWindow, ...] = PrivateAttr(())

    @property
    def mute_windows(self) -> tuple[MuteWindow, ...]:
        """`mute`, parsed, and those of `muting`."""
        return (*(parse_mute(text) for text in self.mute), *self._more_mutes)

    def muting(self, windows: Iterable[MuteWindow]) -> Self:
        """The same with further windows. As texts they would not do: a feeder's name may have blanks."""
        muted = self.model_copy()
        muted._more_mutes = (*self._more_mutes, *windows)
        return muted

    @model_validator(mode="after")
    def _k_within_n(self) -> Self:
        if self.warning_k > self.warning_n:
            raise ValueError(
                f"incidents.warning_k = {self.warning_k} must not exceed incidents.warning_n = {self.warning_n}"
            )
        for text in self.mute:
            parse_mute(text)
        return self
