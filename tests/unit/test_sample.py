"""The report of `gridwatch check --sample`: what is accepted, what is not and why, and what will not be judged."""

from __future__ import annotations

from pipelines.readings.absent import SILENT_RULES
from pipelines.sample import Record, SampleReport, judge_records
from pipelines.settings import Settings
from tests.factories import NOON_MS, document


def judged(*values: bytes | None) -> SampleReport:
    """The report of records of one partition, which came 2 s after noon."""
    return judge_records([Record(0, n, NOON_MS + 2000, value) for n, value in enumerate(values)], Settings().input)


def test_readings_meters_and_delays_are_counted() -> None:
    report = judged(document(), document(meterId="m2", timestamp=NOON_MS - 1000), document(timestamp=NOON_MS + 1000))
    assert (report.records, report.readings, report.meters, report.rejected) == (3, 3, 2, 0)
    assert report.delay_s == (1.0, 2.0, 3.0)


def test_each_reason_is_counted_and_its_first_record_shown_whatever_the_order_of_reading() -> None:
    records = [Record(1, 7, NOON_MS, b"later"), Record(0, 9, NOON_MS, b"first"), Record(0, 8, NOON_MS, None)]
    report = judge_records(records, Settings().input)
    assert report.reasons == {"malformed_json": 2, "empty_value": 1}
    assert report.examples == {"malformed_json": "at 0/9: 'first'", "empty_value": "at 0/8: ''"}
    assert report.delay_s is None


def test_fleet_without_currents_is_told_which_rules_are_silent() -> None:
    report = judged(document(current=None), document(current=5e6))
    assert report.absent == ("current",)
    assert SILENT_RULES["current"][0] in report.verdict
    assert SILENT_RULES["temperature"][0] not in report.verdict


def test_fleet_without_temperatures_is_told_which_rules_are_silent() -> None:
    report = judged(document(temperature=None))
    assert report.absent == ("temperature",)
    assert all(rule in report.verdict for rule in SILENT_RULES["temperature"])


def test_nothing_is_called_absent_when_one_reading_has_it_or_none_is_accepted() -> None:
    assert judged(document(current=None), document(temperature=None)).absent == ()
    assert judged(b"", None).absent == ()
