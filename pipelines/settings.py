"""Every setting: its default, unit, legal range and meaning. Loading and its sources are in `settings_load`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from pipelines.console_settings import Console as Console
from pipelines.detection_settings import AUTO as AUTO
from pipelines.detection_settings import REFERENCE_VOLTAGE_V as REFERENCE_VOLTAGE_V
from pipelines.detection_settings import Detection as Detection
from pipelines.detection_settings import Incidents as Incidents
from pipelines.detection_settings import Limits as Limits
from pipelines.detection_settings import MeterClass as MeterClass
from pipelines.detection_settings import Section as Section
from pipelines.durations import Seconds, format_seconds
from pipelines.heap import Heap
from pipelines.place_settings import Kafka as Kafka
from pipelines.place_settings import Lake as Lake
from pipelines.place_settings import Store as Store
from pipelines.place_settings import Upkeep as Upkeep
from pipelines.quality_settings import Quality as Quality
from pipelines.watch_settings import Metrics as Metrics
from pipelines.watch_settings import Notify as Notify


class InputFields(Section):
    meter_id: str = Field("meterId", min_length=1, description="JSON field with the meter's identifier.")
    timestamp: str = Field("timestamp", min_length=1, description="JSON field with the event time.")
    timestamp_unit: Literal["ms", "s"] = Field("ms", description="Unit of the event time: epoch ms or epoch seconds.")
    voltage: str = Field("voltage", min_length=1, description="JSON field with the voltage.")
    voltage_scale: float = Field(1.0, gt=0, description="Factor to volts, for example 1000 for kV.")
    current: str = Field("current", min_length=1, description="JSON field with the current.")
    current_scale: float = Field(1.0, gt=0, description="Factor to ampere, for example 0.001 for mA.")
    temperature: str = Field("temperature", min_length=1, description="JSON field with the temperature.")
    temperature_unit: Literal["C", "F", "K"] = Field("C", description="Unit of the temperature.")
    status: str = Field("status", min_length=1, description="JSON field with the status text.")

    @property
    def names(self) -> tuple[str, ...]:
        """JSON names in the order of the contract."""
        return (self.meter_id, self.timestamp, self.voltage, self.current, self.temperature, self.status)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"input.fields = {', '.join(self.names)}: every field needs a name of its own")
        return self


class Input(Section):
    fields: InputFields = InputFields()
    max_skew: Seconds = Field(
        5,
        ge=0,
        description="A reading's clock may be this far ahead of the broker's; beyond: future_timestamp.",
    )
    max_age: Seconds = Field(
        3650 * 86400, gt=0, description="A reading may be this old by the broker's clock; beyond: too_old."
    )
    resent_horizon: Seconds | Literal["auto"] = Field(
        AUTO,
        description="How far back in event time a re-sent reading is recognised; auto = max(10 min, 10 x watermark).",
    )
    trust_create_time: bool = Field(
        False,
        description="Accept a topic with message.timestamp.type = CreateTime; the clock guard is then void.",
    )


class Pipeline(Section):
    checkpoint: str = Field(
        "checkpoint",
        min_length=1,
        description="Folder of the checkpoints, on a durable volume; s3a://bucket/prefix after docs/adr/0013.",
    )
    starting: str = Field(
        "earliest",
        description="Where the first start reads from: earliest, latest or an ISO time; part of the run's identity.",
    )
    archive_trigger: Seconds = Field(3, ge=0, description="Least time between two batches of the archive.")
    quiet_trigger: Seconds = Field(
        10,
        ge=0,
        le=20,
        description="Longest time between two batches of the archive: when few readings come it waits for up to this"
        " long, which saves CPU. At or below pipeline.archive_trigger it never waits.",
    )
    windows_trigger: Seconds = Field(2, ge=0, description="Least time between two batches of the windows.")
    max_offsets_per_trigger: int = Field(
        1_000_000, ge=100, description="Most records one archive batch takes; bounds memory after a downtime."
    )
    max_held_panes: int = Field(
        2_000_000,
        ge=1000,
        description="Limit of the panes that wait for partitions further behind in a catch-up; beyond it the one"
        " furthest behind is not waited for, and its readings may be late.",
    )
    max_restarts: int = Field(
        5, ge=0, description="Restarts of failed queries in a row, with growing pauses, before the job gives up."
    )
    max_outage: Seconds = Field(
        3600, ge=1, description="How long a running job waits for Kafka or the store to come back before exit code 4."
    )
    stuck_after: Seconds = Field(
        900,
        ge=30,
        description="A batch that lasts longer is stuck: the job ends with exit code 4, to be started again.",
    )
    stop_within: Seconds = Field(
        30, ge=0, description="After SIGTERM running batches may finish for this long; then they are interrupted."
    )
    master: str = Field(
        "local[*]", description="Spark master when plain python starts the job; spark-submit sets its own."
    )
    jvm_options: str = Field("", description="Further options of the driver's JVM when plain python starts it.")
    niceness: int = Field(
        0,
        ge=0,
        le=19,
        description="Lower the pipeline's priority by this when plain python starts it: the alerts on the same"
        " machine then go first.",
    )
    driver_memory: Heap = Field(
        "2g",
        pattern=r"^\d+[mg]$",
        examples=["512m", "2g"],
        description="Heap of the driver when plain python starts it; 512m or more.",
    )

    @model_validator(mode="after")
    def _start_is_a_place(self) -> Self:
        if self.starting not in ("earliest", "latest"):
            try:
                datetime.fromisoformat(self.starting)
            except ValueError:
                raise ValueError(
                    f"pipeline.starting = {self.starting}: earliest, latest or an ISO time such as 2026-03-01T00:00:00Z"
                ) from None
        return self


class Alerts(Section):
    with_pipeline: bool = Field(
        True,
        description="The pipeline starts one member of the alerts as its child. Set it to false where `gridwatch"
        " alerts` runs on its own; any mix is safe, all are members of one group.",
    )
    group: str = Field(
        AUTO,
        min_length=1,
        description="Consumer group of the alerts; its committed offsets are the record of what was judged. auto ="
        " gridwatch-alerts- and the id of the lake.",
    )
    deliver_within: Seconds = Field(
        120,
        ge=2,
        description="Time in which Kafka must acknowledge an anomaly; after it the member starts again at what it has"
        " committed.",
    )
    max_restarts: int = Field(
        5, ge=0, description="Restarts after a failure, with growing pauses, before the alerts give up."
    )


class Settings(Section):
    """All settings of one pipeline."""

    kafka: Kafka = Kafka()
    store: Store = Store()
    lake: Lake = Lake()
    input: Input = Input()
    detection: Detection = Detection()
    incidents: Incidents = Incidents()
    pipeline: Pipeline = Pipeline()
    alerts: Alerts = Alerts()
    upkeep: Upkeep = Upkeep()
    metrics: Metrics = Metrics()
    notify: Notify = Notify()
    console: Console = Console()
    quality: Quality = Quality()

    @property
    def resent_horizon_s(self) -> float:
        """How far back a re-sent reading is recognised, in seconds, with auto resolved."""
        if self.input.resent_horizon == AUTO:
            return max(600.0, 10 * self.detection.watermark)
        return float(self.input.resent_horizon)

    @property
    def session_rules(self) -> Incidents:
        """`incidents` as it works at the cadence: an off delay of at least one and a half slides.

        With readings every 15 min a rule speaks every 45 min; 300 s would close every incident in between.
        """
        off_delay = max(self.incidents.off_delay, 1.5 * self.detection.slide_s)
        return self.incidents.model_copy(update={"off_delay": off_delay})

    @model_validator(mode="after")
    def _lake_outlives_kafka(self) -> Self:
        days = self.lake.retention_days
        if days is not None and days * 86400 <= self.kafka.retention:
            raise ValueError(
                f"lake.retention_days = {days} must be longer than kafka.retention ="
                f" {format_seconds(self.kafka.retention)}:"
                " `gridwatch verify` would call what was deleted lost"
            )
        return self

    @model_validator(mode="after")
    def _skew_below_watermark(self) -> Self:
        if self.input.max_skew >= self.detection.watermark:
            raise ValueError(
                f"input.max_skew = {format_seconds(self.input.max_skew)} must be below detection.watermark ="
                f" {format_seconds(self.detection.watermark)}: one fast clock would make every other reading late"
            )
        return self
