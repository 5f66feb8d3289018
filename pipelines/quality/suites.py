"""Everything that is expected of a day of the archive."""

from __future__ import annotations

from pipelines.anomalies.rules import RULES
from pipelines.contract import message
from pipelines.quality.checks import Suite, columns_suite, none_of, one_of, some_rows, within
from pipelines.quality.suites_readings import readings_suites
from pipelines.settings import Settings

ANOMALY_NEVER_NULL = ("anomaly_id", "event_ts", "detected_at", "rule_version", "message")


def all_suites(settings: Settings) -> tuple[Suite, ...]:
    """Every suite, in the order in which it is judged and shown."""
    return (*readings_suites(settings), *_windows(settings), *_anomalies(), *_audit(settings))


def _windows(settings: Settings) -> tuple[Suite, ...]:
    quality = settings.quality
    by_end = Suite("meter_windows", "by_end", "a window end", ("window_end",), (
        some_rows("windows_there", "fail", "The day has windows."),
        none_of("meter_id_known", "null_meter_id", "fail", "Every window names its meter."),
        none_of("n_known", "null_n", "fail", "Every window counts its readings."),
        none_of("window_stored_once", "repeated", "fail", "A meter has one window an end."),
        none_of("window_length", "wrong_length", "fail",
                "A window is detection.window long and its date is that of its end."),
        none_of("counts_agree", "counts_disagree", "fail",
                "No part of a window holds more readings than the window, none less than 0."),
        none_of("order_agrees", "order_disagrees", "fail",
                "The least voltage is at most the mean, the mean at most the largest, and spreads are not negative."),
        none_of("mean_plausible", "implausible", "fail",
                "Mean voltages lie within the limits that make a reading plausible."),
        none_of("last_reading_inside", "last_after_end", "fail", "The latest reading lies before the window's end."),
        within("ends_without_gap", "since_previous_s", "fail", "Window ends follow one another by detection.slide.",
               high=settings.detection.slide_s),
        none_of("counts_equal_readings", "readings_off", "fail",
                "The windows of an end hold as many readings as the archive: those neither late nor sent again."
                " Ends that `gridwatch recompute` has changed are not judged."),
        within("fleet_reporting", "reporting_share", "warn", "Most meters report in every window.",
               low=quality.min_completeness),
    ))  # fmt: skip
    return columns_suite("meter_windows"), by_end


def _anomalies() -> tuple[Suite, ...]:
    event = message("anomaly_event")
    rules = tuple(dict.fromkeys(rule.anomaly_type for rule in RULES))
    by_type = Suite("anomalies", "by_type", "a type, stage and severity", ("anomaly_type", "stage", "severity"), (
        one_of("type_known", "anomaly_type", rules, "fail", "Every anomaly is of a rule of the catalogue."),
        one_of("severity_legal", "severity", event.field("severity").values, "fail",
               "Severities are those of the contract."),
        one_of("stage_legal", "stage", event.field("stage").values, "fail", "Stages are those of the contract."),
        *(none_of(f"{name}_known", f"null_{name}", "fail", f"{name} is never null.") for name in ANOMALY_NEVER_NULL),
        none_of("scope_known", "without_scope", "fail", "Every anomaly names a meter or a feeder."),
        none_of("anomaly_stored_once", "repeated", "fail", "An anomaly_id stands once."),
        none_of("score_not_negative", "negative_score", "fail", "Scores are null or not negative."),
        none_of("meter_in_fleet", "unknown_meter", "warn",
                "The meter of an anomaly stands in the table meters, when that has rows."),
        none_of("reading_there", "orphan_reading", "fail",
                "The reading that an anomaly of stage reading names is in the table readings."),
        none_of("window_there", "orphan_window", "fail",
                "The window that an anomaly of stage window or feeder judged is in the table meter_windows."),
    ))  # fmt: skip
    day = Suite("anomalies", "day", "the day", ("day",), (
        within("anomalies_few", "reading_share", "warn", "At most a twentieth of the readings is abnormal.", high=0.05),
        within("meters_abnormal_few", "meter_share", "warn", "At most half of the meters had an anomaly.", high=0.5),
    ))  # fmt: skip
    return columns_suite("anomalies"), by_type, day


def _audit(settings: Settings) -> tuple[Suite, ...]:
    quality = settings.quality
    batches = Suite("audit", "batches", "a batch and partition", ("kafka_partition", "batch_id", "first_offset"), (
        some_rows("batches_there", "fail", "Audit accounts for the readings of the day."),
        none_of("offsets_without_gap", "gap", "fail", "A batch begins where the one before it ended."),
        none_of("offsets_without_overlap", "overlap", "fail", "No batch begins before the end of another: no overlap."),
        none_of("offsets_counted", "span_off", "fail",
                "A batch holds as many records as its offsets say, less its gaps."),
        none_of("parts_add_up", "parts_off", "fail",
                "Accepted + rejected readings are at least as many as the records in."),
        none_of("reasons_add_up", "reasons_off", "fail", "The rejected rows by reason add up to the rejected ones."),
        none_of("readings_as_audited", "readings_off", "fail",
                "The table readings holds as many readings of the batch as it accepted."),
        none_of("rejected_as_audited", "rejected_off", "fail",
                "The table rejected holds as many rows of the batch as it rejected."),
        none_of("record_stored_once", "doubled", "fail",
                "An item of a Kafka record is in readings and rejected once."),
        none_of("nothing_given_up", "given_up", "warn", "No offsets were given up by skip-range or a new generation."),
    ))  # fmt: skip
    day = Suite("audit", "day", "the day", ("day",), (
        within("rejected_share", "rejected_share", "fail", "Few records are rejected.",
               high=quality.max_rejected_share),
        none_of("readings_accounted", "unaccounted", "fail",
                "Every reading up to the last audited offset of its partition lies within a batch of audit."),
    ))  # fmt: skip
    return columns_suite("audit"), batches, day
