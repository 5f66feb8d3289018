"""Every Delta table as a value: columns with type, unit and meaning, partitioning and the query that owns it."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import types as T

from pipelines.contract import Message, message

_STRING, _LONG, _INT = T.StringType(), T.LongType(), T.IntegerType()
_DOUBLE, _FLAG, _TIME, _DATE = T.DoubleType(), T.BooleanType(), T.TimestampType(), T.DateType()
_BY_HOUR = T.ArrayType(_DOUBLE)


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: T.DataType
    unit: str | None
    description: str


@dataclass(frozen=True)
class Table:
    """One Delta table: `<lake.root>/<name>`."""

    name: str
    grain: str
    owner: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ()
    skip_by: tuple[str, ...] = ()
    """Columns with statistics that let a reader skip files; fewer make a write cheaper."""

    @property
    def schema(self) -> T.StructType:
        """Spark schema; every column may be null for Delta, the contract says which never is."""
        return T.StructType([T.StructField(c.name, c.type) for c in self.columns])

    @property
    def column_names(self) -> list[str]:
        """Column names in order."""
        return [c.name for c in self.columns]


def _from_message(source: Message) -> tuple[Column, ...]:
    return tuple(Column(f.column, f.column_type, f.unit, f.description) for f in source.fields)


_COORDINATES = (
    Column("kafka_topic", _STRING, None, "Topic the record came from."),
    Column("kafka_partition", _INT, None, "Partition of the record."),
    Column(
        "kafka_offset",
        _LONG,
        None,
        "Offset of the record; (topic, partition, offset, item) is unique in readings + rejected.",
    ),
    Column("kafka_ts", _TIME, "UTC", "Broker time at which the record was appended."),
)

_ITEM = Column(
    "kafka_item", _INT, None, "Place of the reading among those of its record, counted from 0; null means 0."
)

_PHASE = Column("phase", _STRING, None, "Phase of the readings; null when they are of the whole meter.")

READINGS = Table(
    "readings",
    "one accepted reading",
    "archive",
    (
        *_from_message(message("sensor_reading")),
        Column(
            "is_plausible",
            _FLAG,
            None,
            "All measurements are physically possible for the meter (rule implausible_value).",
        ),
        Column(
            "is_in_band",
            _FLAG,
            None,
            "The voltage is physically possible, and within the under- and overvoltage limits.",
        ),
        Column(
            "is_late",
            _FLAG,
            None,
            "Older than the aligned time after the batch before, minus the watermark.",
        ),
        Column("is_resent", _FLAG, None, "Same meter and event time as a record with a lower offset."),
        Column(
            "extra",
            _STRING,
            "JSON",
            "Fields that the contract does not know, and an impossible current or temperature as it came; or null.",
        ),
        *_COORDINATES,
        _ITEM,
        Column("event_date", _DATE, "UTC", "Date of event_ts."),
    ),
    ("event_date",),
    ("event_ts", "kafka_partition", "kafka_offset"),
)

REJECTED = Table(
    "rejected",
    "one rejected record, or one rejected reading of a record with several",
    "archive",
    (
        Column("reason", _STRING, None, "Why: a name of conf/contracts/rejections.json."),
        Column("rule_version", _STRING, None, "Version of the rejection rules."),
        Column("key", T.BinaryType(), "bytes", "Key of the record, as it came; with the value."),
        Column(
            "value",
            T.BinaryType(),
            "bytes",
            "Value of the record, as it came, in full; of several rejected readings of one record the first has it.",
        ),
        *_COORDINATES,
        _ITEM,
        Column("kafka_date", _DATE, "UTC", "Date of kafka_ts."),
    ),
    ("kafka_date",),
    ("kafka_ts", "kafka_partition", "kafka_offset"),
)

AUDIT = Table(
    "audit",
    "one archive batch and Kafka partition",
    "archive",
    (
        Column("generation", _STRING, None, "Checkpoint generation that wrote the batch."),
        Column("batch_id", _LONG, None, "Batch of the archive query."),
        Column("kafka_topic", _STRING, None, "Topic read."),
        Column("kafka_partition", _INT, None, "Partition read."),
        Column("first_offset", _LONG, None, "First offset of the batch in the partition."),
        Column("last_offset", _LONG, None, "Last offset of the batch in the partition."),
        Column("records_in", _LONG, "count", "Records read: the offsets of the range less the gaps."),
        Column("accepted", _LONG, "count", "Rows the batch added to readings."),
        Column("rejected", _LONG, "count", "Rows the batch added to rejected."),
        Column("rejected_by_reason", T.MapType(_STRING, _LONG), "count", "Rows added to rejected, by reason."),
        Column("late", _LONG, "count", "Accepted readings flagged is_late."),
        Column("resent", _LONG, "count", "Accepted readings flagged is_resent."),
        Column("max_event_ts", _TIME, "UTC", "Largest accepted event time of the batch in the partition."),
        Column("max_kafka_ts", _TIME, "UTC", "Largest broker time of the batch in the partition."),
        Column(
            "skipped_because",
            _STRING,
            None,
            "Null for a batch. Else these offsets were given up (batch_id -1), and this is why.",
        ),
        Column("gaps", _LONG, "count", "Offsets of the range without a record: markers, aborted or compacted records."),
        Column("aligned_ts", _TIME, "UTC", "Aligned time after the batch: what is late in the next one follows it."),
        Column(
            "judged_until",
            _LONG,
            None,
            "Offset that the alerts had committed in the partition before the batch, or null.",
        ),
    ),
)

PANES = Table(
    "panes",
    "the countable readings of one meter in one slide of the windows, of one batch",
    "archive",
    (
        Column("generation", _STRING, None, "Checkpoint generation whose windows are made of it."),
        Column("batch_id", _LONG, None, "Batch of the archive query that released it; -1 for the fill at a start."),
        Column("meter_id", _STRING, None, "Identifier of the meter."),
        _PHASE,
        Column("pane_start", _TIME, "UTC", "Inclusive start of the slide."),
        Column("n", _LONG, "count", "Readings that are neither late nor re-sent."),
        Column("in_band_n", _LONG, "count", "In-band voltages."),
        Column("in_band_sum", _DOUBLE, "V", "Sum of the in-band voltages less 230 V."),
        Column("in_band_squares", _DOUBLE, "V^2", "Sum of the squares of the same differences."),
        Column("in_band_current_n", _LONG, "count", "Currents of the in-band readings."),
        Column("in_band_current_sum", _DOUBLE, "A", "Sum of these currents."),
        Column("plausible_n", _LONG, "count", "Plausible voltages."),
        Column("plausible_sum", _DOUBLE, "V", "Sum of the plausible voltages less 230 V."),
        Column("plausible_squares", _DOUBLE, "V^2", "Sum of the squares of the same differences."),
        Column("least_v", _DOUBLE, "V", "Least plausible voltage."),
        Column("most_v", _DOUBLE, "V", "Largest plausible voltage."),
        Column("out_ts", _TIME, "UTC", "Earliest plausible out-of-band reading."),
        Column("least_a", _DOUBLE, "A", "Least plausible current."),
        Column("most_a", _DOUBLE, "A", "Largest plausible current."),
        Column("least_c", _DOUBLE, "°C", "Least plausible temperature."),
        Column("most_c", _DOUBLE, "°C", "Largest plausible temperature."),
        Column("last_ts", _TIME, "UTC", "Latest event time: the event time of the row."),
    ),
    (),
    ("generation", "batch_id", "last_ts"),
)

METER_WINDOWS = Table(
    "meter_windows",
    "one meter and window end",
    "windows",
    (
        Column("meter_id", _STRING, None, "Identifier of the meter."),
        Column("window_start", _TIME, "UTC", "Inclusive start of the window."),
        Column("window_end", _TIME, "UTC", "Exclusive end of the window."),
        Column("n", _LONG, "count", "Readings in the window; 0 for a silent meter that is still followed."),
        Column("base_n", _LONG, "count", "In-band readings before the last slide: the baseline part."),
        Column("base_mean_v", _DOUBLE, "V", "Mean of the baseline part."),
        Column("base_std_v", _DOUBLE, "V", "Sample standard deviation of the baseline part."),
        Column("tested_n", _LONG, "count", "In-band readings in the last slide: the tested part."),
        Column("tested_mean_v", _DOUBLE, "V", "Mean of the in-band readings of the tested part."),
        Column(
            "tested_std_v",
            _DOUBLE,
            "V",
            "Sample standard deviation of the in-band readings of the tested part.",
        ),
        Column("tested_min_v", _DOUBLE, "V", "Least plausible voltage of the tested part."),
        Column("tested_max_v", _DOUBLE, "V", "Largest plausible voltage of the tested part."),
        Column("tested_out_ts", _TIME, "UTC", "Earliest plausible out-of-band reading of the tested part."),
        Column("base_mean_current_a", _DOUBLE, "A", "Mean current of the in-band readings of the baseline part."),
        Column("tested_min_current_a", _DOUBLE, "A", "Least plausible current of the tested part."),
        Column("tested_max_current_a", _DOUBLE, "A", "Largest plausible current of the tested part."),
        Column("tested_max_temperature_c", _DOUBLE, "°C", "Largest plausible temperature of the tested part."),
        Column("plausible_n", _LONG, "count", "Plausible readings in the window."),
        Column("mean_v", _DOUBLE, "V", "Mean of the plausible voltages of the window."),
        Column("std_v", _DOUBLE, "V", "Sample standard deviation of the plausible voltages of the window."),
        Column("min_v", _DOUBLE, "V", "Least plausible voltage of the window."),
        Column("max_v", _DOUBLE, "V", "Largest plausible voltage of the window."),
        Column("max_current_a", _DOUBLE, "A", "Largest plausible current of the window."),
        Column("min_temperature_c", _DOUBLE, "°C", "Least plausible temperature of the window."),
        Column("max_temperature_c", _DOUBLE, "°C", "Largest plausible temperature of the window."),
        Column(
            "last_event_ts",
            _TIME,
            "UTC",
            "Event time of the meter's latest reading up to the end of the window.",
        ),
        Column(
            "residual_v",
            _DOUBLE,
            "V",
            "tested_mean_v minus the median of the feeder's meters (of one phase where three are known), less what the"
            " meter's own current explains; null without three such meters.",
        ),
        Column("feeder_std_v", _DOUBLE, "V", "Median of tested_std_v of the same meters."),
        Column("window_date", _DATE, "UTC", "Date of window_end."),
        _PHASE,
    ),
    ("window_date",),
    ("window_end",),
)

BASELINES = Table(
    "baselines",
    "one meter: its latest baseline",
    "windows",
    (
        Column("meter_id", _STRING, None, "Identifier of the meter."),
        Column("window_start", _TIME, "UTC", "Inclusive start of the window."),
        Column(
            "window_end",
            _TIME,
            "UTC",
            "Exclusive end of the window: a reading is compared only when it is not earlier.",
        ),
        Column("n", _LONG, "count", "In-band readings of the window."),
        Column("mean_v", _DOUBLE, "V", "Mean of the in-band readings of the window."),
        Column("std_v", _DOUBLE, "V", "Sample standard deviation of the in-band readings of the window."),
        Column(
            "p99_deviation_v",
            _DOUBLE,
            "V",
            "The meter's own p99 deviation from its profile; null before there is one.",
        ),
        _PHASE,
    ),
)

ANOMALIES = Table(
    "anomalies",
    "one anomaly_id",
    "incidents",
    (
        *_from_message(message("anomaly_event")),
        Column("kafka_partition", _INT, None, "Partition of the topic anomalies."),
        Column("kafka_offset", _LONG, None, "Offset in the topic anomalies of its first occurrence."),
        Column("kafka_ts", _TIME, "UTC", "Broker time of that record."),
        Column("event_date", _DATE, "UTC", "Date of event_ts."),
    ),
    ("event_date",),
    ("event_ts",),
)

INCIDENTS = Table("incidents", "one incident", "incidents", _from_message(message("incident")))

METERS = Table(
    "meters",
    "one meter",
    "pipeline start",
    (
        Column("meter_id", _STRING, None, "Identifier of the meter."),
        Column("feeder_id", _STRING, None, "Low-voltage feeder that supplies it."),
        Column("transformer_id", _STRING, None, "Transformer of the feeder."),
        Column("phase", _STRING, None, "Phase A, B or C; null when not known."),
        Column("nominal_voltage_v", _DOUBLE, "V", "Nominal voltage Un."),
        Column("rated_current_a", _DOUBLE, "A", "Rated current of the connection."),
        Column("region", _STRING, None, "Region, site or tenant the meter belongs to; null when not given."),
        Column("meter_class", _STRING, None, "Class whose limits apply (detection.classes); null for the common ones."),
    ),
)

_ALONE = "by hour of the day (UTC), where too few neighbours were there; null for an hour hardly reported."
PROFILES = Table(
    "profiles",
    "one meter and day",
    "profiles",
    (
        Column("meter_id", _STRING, None, "Identifier of the meter."),
        Column("profile_date", _DATE, "UTC", "The day described; rules use it from the next day on."),
        Column("windows", _LONG, "count", "Window ends of the day that the figures rest on."),
        Column("p99_deviation_v", _DOUBLE, "V", "p99 of the deviation of the tested part, unexplained by the feeder."),
        Column("p99_noise_v", _DOUBLE, "V", "p99 of the spread that noisy_sensor judges."),
        Column("residual_offset_v", _DOUBLE, "V", "Median of residual_v: where the meter lies against its feeder."),
        Column("cadence_s", _DOUBLE, "s", "Seconds between two readings: window length by median readings a window."),
        Column("hour_low_v", _BY_HOUR, "V", f"p5 of the tested parts' means {_ALONE}"),
        Column("hour_high_v", _BY_HOUR, "V", f"p95 of the tested parts' means {_ALONE}"),
        Column("hour_deviation_v", _BY_HOUR, "V", f"p99 of the deviation of the tested part {_ALONE}"),
        Column("hour_noise_v", _BY_HOUR, "V", f"p99 of the spread that noisy_sensor judges {_ALONE}"),
    ),
    ("profile_date",),
)

LABELS = Table(
    "labels",
    "one labelled fault of the generator",
    "pipeline start",
    (
        Column("fault_id", _STRING, None, "Identifier of the fault."),
        Column("kind", _STRING, None, "Kind of fault."),
        Column("scope", _STRING, None, "meter or feeder."),
        Column("meter_id", _STRING, None, "Meter concerned."),
        Column("feeder_id", _STRING, None, "Feeder concerned."),
        Column("phase", _STRING, None, "Phase concerned."),
        Column("start", _TIME, "UTC", "Event time at which the fault begins."),
        Column("end", _TIME, "UTC", "Event time at which it ends."),
        Column("magnitude", _DOUBLE, None, "Size of the fault in the unit its kind has."),
        Column("expected_types", _STRING, None, "Anomaly types that should find it, separated by |."),
    ),
)

REPLAYS = Table(
    "replays",
    "one step of one replayed record",
    "the command dlq replay",
    (
        Column("replay_id", _STRING, None, "The call of the command."),
        Column("step", _STRING, None, "claimed before it is sent, sent once acknowledged, released if never sent."),
        Column("at", _TIME, "UTC", "When."),
        Column("reason", _STRING, None, "Why the record was rejected."),
        Column("digest", _STRING, None, "SHA-256 of its key and value: the same bytes are never replayed twice."),
        *_COORDINATES[:3],
    ),
)

OPERATOR_ACTIONS = Table(
    "operator_actions",
    "one action_id",
    "incidents",
    (
        *_from_message(message("operator_action")),
        Column("kafka_offset", _LONG, None, "Offset in the topic operator-actions of its first occurrence."),
        Column("kafka_ts", _TIME, "UTC", "Broker time of that record."),
    ),
)

RECOMPUTATIONS = Table(
    "recomputations",
    "one row that one run of recompute changed, and one for the run",
    "the command recompute",
    (
        Column("run_id", _STRING, None, "The run of the command."),
        Column("at", _TIME, "UTC", "When it wrote; the row stands here before the table is changed."),
        Column("since", _TIME, "UTC", "--from of the run: inclusive start of the event times."),
        Column("until", _TIME, "UTC", "--to of the run: exclusive end of the event times."),
        Column(
            "table_name",
            _STRING,
            None,
            "The table: meter_windows, anomalies or incidents; run: the last row of a run that came to its end.",
        ),
        Column("key", _STRING, None, "meter_id|window_end (epoch ms), anomaly_id, incident_id, or run_id."),
        Column(
            "change",
            _STRING,
            None,
            "new, changed or gone; null of the run. An anomaly that is gone is never stored from Kafka again.",
        ),
        Column("meter_id", _STRING, None, "Meter concerned; null for a feeder."),
        Column("feeder_id", _STRING, None, "Feeder concerned; null where the row names none."),
        Column("event_ts", _TIME, "UTC", "Window end, event time, or opening of the incident; since of the run."),
        Column("before", _STRING, "JSON", "The row before, times as epoch ms, without nulls; null when it is new."),
        Column("after", _STRING, "JSON", "The row after; null when it is gone; figures of the run, and what it sent."),
    ),
    (),
    ("event_ts",),
)

QUALITY_RESULTS = Table(
    "quality_results",
    "one expectation of one run of the quality gate",
    "the command quality",
    (
        Column("run_id", _STRING, None, "The run of the command."),
        Column("run_at", _TIME, "UTC", "When it began."),
        Column("day", _DATE, "UTC", "The day of event time that was judged."),
        Column("suite", _STRING, None, "Table and frame of facts, such as readings.by_meter."),
        Column("expectation", _STRING, None, "Name of the expectation, unique in its suite: docs/quality.md."),
        Column("severity", _STRING, None, "fail: the day is refused when it does not hold. warn: it is only said."),
        Column("success", _FLAG, None, "Whether it holds."),
        Column("rows", _LONG, "count", "Rows of the frame that were judged."),
        Column("unexpected", _LONG, "count", "Rows that break it; null where the expectation is of the whole frame."),
        Column("observed", _STRING, "JSON", "What was observed; null where rows are judged."),
        Column("examples", _STRING, "JSON", "Up to ten rows that break it: their key and value."),
        Column("meaning", _STRING, None, "What holds on a good day."),
        Column("error", _STRING, None, "Why it could not be judged, which counts as broken; else null."),
    ),
)

TABLES = {
    table.name: table
    for table in (
        READINGS, REJECTED, AUDIT, PANES, METER_WINDOWS, BASELINES, ANOMALIES, INCIDENTS, METERS, PROFILES, LABELS,
        REPLAYS, OPERATOR_ACTIONS, QUALITY_RESULTS, RECOMPUTATIONS,
    )
}  # fmt: skip


def table_path(root: str, name: str) -> str:
    """Location of a table.

    >>> table_path("s3a://grid/lake/", "readings")
    's3a://grid/lake/readings'
    """
    return f"{root.rstrip('/')}/{name}"
