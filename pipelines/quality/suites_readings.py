"""What is expected of the readings of a day."""

from __future__ import annotations

from pipelines.contract import message
from pipelines.quality.checks import Check, Suite, columns_suite, known, none_of, within
from pipelines.settings import Settings

NEVER_NULL = (
    "event_ts", "voltage_v", "is_plausible", "is_in_band", "is_late", "is_resent",
    "kafka_topic", "kafka_partition", "kafka_offset", "kafka_ts",
)  # fmt: skip
"""Columns of readings that the archive always fills; meter_id is the key of the frame."""
_FEW = "; quality.odd_meters of them may be odd."
MEASURED = ("voltage_v", "current_a", "temperature_c")


def readings_suites(settings: Settings) -> tuple[Suite, ...]:
    """Suites of the table readings."""
    return (columns_suite("readings"), _by_meter(settings), _by_hour(settings), _by_slot(), _day(settings))


def _by_meter(settings: Settings) -> Suite:
    quality, meter_id = settings.quality, message("sensor_reading").field("meter_id")
    most = 1 - quality.odd_meters
    return Suite("readings", "by_meter", "a meter", ("meter_id",), (
        known("meter_id_known", "meter_id", "fail", "Every reading names its meter."),
        Check("meter_id_legal", "fail", "Meter ids have the contract's form.",
              "ExpectColumnValuesToMatchRegex", {"column": "meter_id", "regex": meter_id.pattern}),
        Check("meter_id_length", "fail", "Meter ids are not longer than the contract allows.",
              "ExpectColumnValueLengthsToBeBetween",
              {"column": "meter_id", "min_value": 1, "max_value": meter_id.max_length}),
        *(none_of(f"{name}_known", f"null_{name}", "fail", f"{name} is never null.") for name in NEVER_NULL),
        *(none_of(f"{name}_in_contract", f"illegal_{name}", "fail",
                  f"{name} is finite and within the legal range of the contract.") for name in MEASURED),
        none_of("event_date_agrees", "wrong_date", "fail", "event_date is the UTC date of event_ts."),
        none_of("event_not_from_the_future", "from_future", "fail",
                "No event time is later than the broker's time plus input.max_skew."),
        none_of("flags_agree", "flags_disagree", "fail", "A reading in band has a voltage."),
        none_of("reading_stored_once", "repeated", "fail",
                "A meter has one reading an event time, but for those flagged is_resent."),
        within("meter_in_fleet", "is_unknown", "warn", "Every meter stands in the table meters, when that has rows.",
               high=0),
        within("meter_complete", "completeness", "warn",
               f"A meter sends the readings that are due at detection.cadence_s{_FEW}",
               low=quality.min_completeness, mostly=most),
        within("meter_not_doubled", "completeness", "fail", f"A meter sends no more than is due{_FEW}",
               high=1 + quality.max_surplus, mostly=most),
        within("meter_still_heard", "silent_at_end_s", "warn",
               f"At the end of the day a meter has been heard within detection.silent_error_s{_FEW}",
               high=settings.detection.silent_error_after_s, mostly=most),
        within("meter_voltage_unit", "median_pu", "fail",
               f"The median voltage of a meter is 0.5 to 1.5 Un, else it has another unit or nominal voltage{_FEW}",
               low=0.5, high=1.5, mostly=most),
        within("meter_current_unit", "median_rated", "fail",
               f"The median current of a meter is at most 1.5 times its rated current, else it has another unit{_FEW}",
               high=1.5, mostly=most),
        within("meter_clock", "clock_offset_s", "fail",
               f"A meter's readings arrive with the fleet's delay: its clock is in the same time zone{_FEW}",
               low=-quality.max_clock_shift, high=quality.max_clock_shift, mostly=most),
    ))  # fmt: skip


def _by_hour(settings: Settings) -> Suite:
    quality = settings.quality
    low_c, high_c = settings.detection.plausible_temperature_c
    return Suite("readings", "by_hour", "an hour of event time", ("hour",), (
        within("hour_complete", "completeness", "fail",
               "In every hour that the archive covers the fleet sends what is due at detection.cadence_s.",
               low=quality.min_completeness),
        within("hour_not_doubled", "completeness", "fail", "In no hour the fleet sends more than is due.",
               high=1 + quality.max_surplus),
        within("voltage_moves", "frozen_share", "fail",
               "The voltage of the meters moves within an hour: not all of them are frozen.",
               high=quality.max_frozen_share),
        within("voltage_near_nominal", "median_pu", "fail",
               "The fleet's median voltage is 0.9 to 1.1 Un (EN 50160).", low=0.9, high=1.1),
        within("no_current_without_voltage", "dead_with_current_share", "fail",
               "No current flows where no voltage is: else voltages are in another unit.", high=0.01),
        within("temperature_unit", "median_c", "fail",
               "The fleet's median temperature is -30 to 60 °C: else it is in Fahrenheit or Kelvin.",
               low=max(low_c, -30.0), high=min(high_c, 60.0)),
        within("current_flows", "no_current_share", "warn", "Some of the meters measure a current.", high=0.95),
        within("plausible", "implausible_share", "warn", "Nearly all readings are physically possible.", high=0.05),
    ))  # fmt: skip


def _by_slot() -> Suite:
    return Suite("readings", "by_slot", "a slide of event time", ("slot",), (
        within("fleet_never_silent", "share_of_usual", "fail",
               "In every slide that the archive covers readings come: at least a tenth of what is usual.", low=0.1),
    ))  # fmt: skip


def _day(settings: Settings) -> Suite:
    quality = settings.quality
    return Suite("readings", "day", "the day", ("day",), (
        within("late_share", "late_share", "fail", "Few readings are late.", high=quality.max_late_share),
        within("resent_share", "resent_share", "fail", "Few readings are sent again.",
               high=quality.max_resent_share),
        within("fleet_heard", "heard_share", "warn", "Nearly every meter of the table meters is heard.",
               low=quality.min_completeness),
        within("fleet_clock", "constant_delay_s", "fail",
               "The fleet does not arrive with one constant delay all day: its time zone is UTC.",
               low=-quality.max_clock_shift, high=quality.max_clock_shift),
        within("volume_as_before", "volume_ratio", "warn",
               "There are half to twice as many readings as on the day before, when both days are whole.",
               low=0.5, high=2.0),
    ))  # fmt: skip
