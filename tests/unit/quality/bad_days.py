"""Bad days, each one change to a good one, and the expectations that it must break, no more and no fewer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pandas as pd

from tests.unit.quality.archive import FOUND_AT, HOUR, START, Tables, World, of_day

BadWorld = Callable[[World], None]
BadArchive = Callable[[Tables], None]
BREAKS: dict[str, set[str]] = {}
IN_THE_WORLD: list[BadWorld] = []
IN_THE_ARCHIVE: list[BadArchive] = []


def world(*names: str) -> Callable[[BadWorld], BadWorld]:
    """Register a bad day of the world with the expectations it breaks."""

    def add(bad: BadWorld) -> BadWorld:
        BREAKS[bad.__name__] = set(names)
        IN_THE_WORLD.append(bad)
        return bad

    return add


def archive(*names: str) -> Callable[[BadArchive], BadArchive]:
    """Register a bad day of the archive with the expectations it breaks."""

    def add(bad: BadArchive) -> BadArchive:
        BREAKS[bad.__name__] = set(names)
        IN_THE_ARCHIVE.append(bad)
        return bad

    return add


def third(world: World) -> pd.Series[bool]:
    """The readings of every third meter."""
    return world.sent["meter_id"].str[-2:].astype(int) % 3 == 0


def between(rows: pd.DataFrame, first: int, until: int, column: str = "event_ts") -> pd.Series[bool]:
    """Rows of the day's hours [first, until)."""
    return (rows[column] >= START + first * HOUR) & (rows[column] < START + until * HOUR)


@world("readings.by_hour.voltage_moves")
def all_meters_frozen(w: World) -> None:
    w.sent.loc[between(w.sent, 9, 12), "voltage_v"] = 230.0


@world("readings.by_meter.meter_voltage_unit", "readings.by_hour.no_current_without_voltage")
def a_third_of_the_meters_in_kilovolt(w: World) -> None:
    w.sent.loc[third(w), "voltage_v"] /= 1000


@world("readings.by_hour.voltage_near_nominal", "readings.by_hour.no_current_without_voltage")
def all_meters_in_kilovolt_for_three_hours(w: World) -> None:
    w.sent.loc[between(w.sent, 9, 12), "voltage_v"] /= 1000


@world("readings.by_meter.meter_current_unit")
def a_third_of_the_meters_in_milliampere(w: World) -> None:
    w.sent.loc[third(w), "current_a"] *= 1000


@world("readings.by_hour.temperature_unit")
def temperatures_in_kelvin(w: World) -> None:
    w.sent["temperature_c"] += 273.1


@world(
    "readings.by_hour.hour_complete",
    "readings.by_slot.fleet_never_silent",
    "meter_windows.by_end.fleet_reporting",
)
def one_hour_missing(w: World) -> None:
    w.sent = w.sent[~between(w.sent, 13, 14)]


@world("readings.by_meter.meter_complete")
def a_tenth_of_the_meters_at_half_the_cadence(w: World) -> None:
    few = w.sent["meter_id"].isin(["m-00003", "m-00006"])
    w.sent = w.sent[~(few & (w.sent.groupby("meter_id").cumcount() % 2 == 0))]


@world("readings.day.resent_share")
def every_reading_sent_twice(w: World) -> None:
    again = w.sent[~w.sent["rejected"]]
    w.sent = pd.concat([w.sent, again.assign(is_resent=True, kafka_ts=again["kafka_ts"] + timedelta(seconds=1))])


@world("readings.by_meter.meter_not_doubled", "readings.by_hour.hour_not_doubled")
def every_reading_doubled_a_second_later(w: World) -> None:
    w.sent = pd.concat([w.sent, w.sent.assign(event_ts=w.sent["event_ts"] + timedelta(seconds=1))])


@world("readings.by_meter.meter_clock", "readings.day.late_share")
def a_third_of_the_meters_in_another_time_zone(w: World) -> None:
    w.sent.loc[third(w), "event_ts"] -= HOUR
    w.sent.loc[third(w), "is_late"] = True


@world("readings.day.fleet_clock")
def the_fleet_in_another_time_zone(w: World) -> None:
    w.sent["kafka_ts"] += HOUR


@world("audit.day.rejected_share", "readings.by_hour.hour_complete")
def two_hours_half_rejected(w: World) -> None:
    every_other = w.sent.groupby("meter_id").cumcount() % 2 == 0
    w.sent.loc[between(w.sent, 3, 5) & every_other, "rejected"] = True


@world("readings.by_meter.meter_in_fleet")
def a_meter_that_is_not_in_the_fleet(w: World) -> None:
    w.fleet = w.fleet.iloc[1:]


def first_of_day(rows: pd.DataFrame) -> int:
    """Index of a reading in the middle of the day."""
    return int(rows.index[of_day(rows)][3000])


@archive("readings.by_meter.voltage_v_known")
def a_voltage_lost(t: Tables) -> None:
    t["readings"].loc[first_of_day(t["readings"]), "voltage_v"] = None


@archive("audit.batches.readings_as_audited", "meter_windows.by_end.counts_equal_readings")
def a_reading_lost(t: Tables) -> None:
    t["readings"] = t["readings"].drop(first_of_day(t["readings"]))


@archive("audit.batches.rejected_as_audited")
def a_rejected_record_lost(t: Tables) -> None:
    t["rejected"] = t["rejected"].drop(t["rejected"].index[10])


@archive(
    "readings.by_meter.reading_stored_once",
    "audit.batches.readings_as_audited",
    "audit.batches.record_stored_once",
    "meter_windows.by_end.counts_equal_readings",
)
def a_reading_stored_twice(t: Tables) -> None:
    t["readings"] = pd.concat([t["readings"], t["readings"].loc[[first_of_day(t["readings"])]]])


@archive("audit.batches.offsets_without_gap", "audit.day.readings_accounted")
def a_batch_missing_in_audit(t: Tables) -> None:
    t["audit"] = t["audit"].drop(t["audit"].index[40])


@archive(
    "audit.batches.offsets_without_overlap",
    "audit.batches.offsets_counted",
    "audit.batches.readings_as_audited",
)
def two_batches_that_overlap(t: Tables) -> None:
    t["audit"].loc[t["audit"].index[40], "first_offset"] -= 10


@archive("audit.batches.parts_add_up", "audit.batches.readings_as_audited")
def audit_that_does_not_add_up(t: Tables) -> None:
    t["audit"].loc[t["audit"].index[40], "accepted"] -= 1


@archive("anomalies.by_type.anomaly_stored_once")
def an_anomaly_stored_twice(t: Tables) -> None:
    t["anomalies"] = pd.concat([t["anomalies"], t["anomalies"].iloc[[0]]])


@archive("anomalies.by_type.type_known", "anomalies.by_type.severity_legal")
def an_anomaly_of_no_rule(t: Tables) -> None:
    t["anomalies"].loc[0, ["anomaly_type", "severity"]] = ["moonquake", "BAD"]


@archive("meter_windows.by_end.ends_without_gap", "anomalies.by_type.window_there")
def windows_missing(t: Tables) -> None:
    windows = t["meter_windows"]
    t["meter_windows"] = windows[windows["window_end"] != FOUND_AT]


@archive("meter_windows.by_end.window_stored_once", "meter_windows.by_end.counts_equal_readings")
def a_window_stored_twice(t: Tables) -> None:
    windows = t["meter_windows"]
    one = windows[windows["window_end"] == FOUND_AT].iloc[[0]]
    t["meter_windows"] = pd.concat([windows, one])


@archive(
    "meter_windows.by_end.windows_there",
    "anomalies.by_type.window_there",
)
def no_windows_at_all(t: Tables) -> None:
    t["meter_windows"] = t["meter_windows"].iloc[:0]
