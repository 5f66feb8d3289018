"""Every setting: its default, unit, legal range and meaning. Loading and its sources are in `settings_load`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from pipelines.addresses import require_brokers, require_endpoint, require_place, require_topic_name
from pipelines.console_settings import Console as Console
from pipelines.credentials import default_secret_problem
from pipelines.detection_settings import AUTO as AUTO
from pipelines.detection_settings import REFERENCE_VOLTAGE_V as REFERENCE_VOLTAGE_V
from pipelines.detection_settings import Detection as Detection
from pipelines.detection_settings import Incidents as Incidents
from pipelines.detection_settings import Section as Section
from pipelines.durations import Seconds, format_seconds
from pipelines.quality_settings import Quality as Quality
from pipelines.watch_settings import Metrics as Metrics
from pipelines.watch_settings import Notify as Notify

_WEEK_S = 7 * 86400

TopicName = Annotated[str, AfterValidator(require_topic_name)]
"""A name that Kafka accepts."""


class Topics(Section):
    readings: TopicName = Field("sensor-readings", description="Topic of the incoming readings.")
    anomalies: TopicName = Field("anomalies", description="Topic of the anomaly events.")
    heartbeats: TopicName = Field("alert-heartbeats", description="Topic on which the alerts job says how far it is.")
    ticks: TopicName = Field("window-ticks", description="Topic of the closed window ends, the clock of the incidents.")
    incidents: TopicName = Field("incidents", description="Compacted topic of the incidents.")
    dead_letters: TopicName = Field("dead-letter-queue", description="Topic of the rejected records.")
    actions: TopicName = Field("operator-actions", description="Compacted topic of what operators say on the console.")

    @property
    def of_incidents(self) -> list[str]:
        """What the query incidents reads: anomalies, window ends, and what operators say."""
        return [self.anomalies, self.ticks, self.actions]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        by_name: dict[str, str] = {}
        for kind, name in self.model_dump().items():
            if name in by_name:
                raise ValueError(
                    f"kafka.topics: {by_name[name]} and {kind} are both {name!r}: every topic needs a name of its own"
                )
            by_name[name] = kind
        return self


class Kafka(Section):
    bootstrap_servers: Annotated[str, AfterValidator(require_brokers)] = Field(
        "127.0.0.1:9092", description="Brokers, host:port, separated by commas."
    )
    topics: Topics = Topics()
    partitions: int = Field(4, ge=1, le=1024, description="Partitions of sensor-readings and anomalies when created.")
    replication_factor: int = Field(1, ge=1, le=9, description="Replicas of every topic when created.")
    retention: Seconds = Field(
        604800, ge=60, description="Retention of created topics; longer than the longest downtime."
    )
    connect_timeout: Seconds = Field(
        60, ge=1, description="How long a start waits for Kafka or the store before exit code 4."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism when the protocol is SASL_*."
    )
    sasl_username: str | None = Field(None, description="SASL user name.")
    sasl_password: SecretStr | None = Field(None, description="SASL password; from the environment or a file only.")
    ssl_cafile: str | None = Field(None, description="PEM file with the certificate authority of the brokers.")

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Self:
        missing = [] if self.sasl_username else ["kafka.sasl_username"]
        if not self.sasl_password:
            missing.append(
                "the environment variable GRIDWATCH_KAFKA__SASL_PASSWORD, or GRIDWATCH_KAFKA__SASL_PASSWORD_FILE with"
                " the name of a file that holds it"
            )
        if missing and self.security_protocol.startswith("SASL"):
            raise ValueError(f"kafka.security_protocol = {self.security_protocol} needs {' and '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _password_is_no_default(self) -> Self:
        hosts = self.bootstrap_servers.split(",")
        secret = self.sasl_password.get_secret_value() if self.sasl_password else ""
        if secret and (problem := default_secret_problem(self.sasl_username, secret, hosts)):
            raise ValueError(f"kafka.sasl_password is {problem}: give {self.sasl_username} a password of its own")
        return self


class Store(Section):
    endpoint: Annotated[str, AfterValidator(require_endpoint)] | None = Field(
        None, description="S3 endpoint such as http://127.0.0.1:9000; null is Amazon's own."
    )
    region: str = Field("us-east-1", description="S3 region.")
    path_style: bool = Field(True, description="Bucket in the path instead of in the host name (MinIO).")
    access_key: SecretStr | None = Field(None, description="S3 access key; from the environment or a file only.")
    secret_key: SecretStr | None = Field(None, description="S3 secret key; from the environment or a file only.")
    ca_file: str | None = Field(
        None, description="PEM file with the certificate authority of an https endpoint; null trusts the machine's."
    )
    uploads_after: Seconds = Field(
        _WEEK_S,
        ge=3600,
        description="At each start of a job, uploads in the bucket that were begun so long ago and never finished are"
        " given up.",
    )

    @model_validator(mode="after")
    def _keys_are_no_default(self) -> Self:
        user, secret = (key.get_secret_value() if key else "" for key in (self.access_key, self.secret_key))
        if secret and (problem := default_secret_problem(user, secret, [self.endpoint or "amazonaws.com"])):
            raise ValueError(f"store.secret_key is {problem}: make keys of its own for gridwatch")
        return self


class Lake(Section):
    root: Annotated[str, AfterValidator(require_place)] = Field(
        "lake", min_length=1, description="Folder, or s3a://bucket/prefix, that holds the tables."
    )
    fleet: str | None = Field(
        None,
        description="CSV of the meters loaded into the table meters at start (meter_id, feeder_id, transformer_id,"
        " phase, nominal_voltage_v, rated_current_a); null keeps the table as it is.",
    )
    retention_days: int | None = Field(
        None,
        ge=1,
        description="Days of readings, rejected and anomalies that are kept; null keeps all. Must be longer than"
        " kafka.retention.",
    )
    windows_retention_days: int | None = Field(
        90, ge=1, description="Days of meter_windows that are kept; null keeps all."
    )
    labels: str | None = Field(
        None, description="CSV of the generator's fault labels loaded at start; null loads none."
    )


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
    checkpoint: str = Field("checkpoint", min_length=1, description="Folder of the checkpoints, on a durable volume.")
    starting: str = Field(
        "earliest",
        description="Where the first start reads from: earliest, latest or an ISO time; part of the run's identity.",
    )
    archive_trigger: Seconds = Field(5, ge=0, description="Least time between two batches of the archive.")
    windows_trigger: Seconds = Field(10, ge=0, description="Least time between two batches of the windows.")
    incidents_trigger: Seconds = Field(5, ge=0, description="Least time between two batches of the incidents.")
    max_offsets_per_trigger: int = Field(
        1_000_000, ge=100, description="Most records one archive batch takes; bounds memory after a downtime."
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
        description="Lower the pipeline's priority by this when plain python starts it: an alerts job on the same"
        " machine then goes first.",
    )
    driver_memory: str = Field(
        "2g",
        pattern=r"^\d+[mg]$",
        examples=["512m", "2g"],
        description="Heap of the driver when plain python starts it.",
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


REALTIME, MICROBATCH = "realtime", "microbatch"
"""Values of alerts.mode."""


class Alerts(Section):
    mode: Literal["realtime", "microbatch"] = Field(
        "microbatch",
        description="Who publishes anomalies of stage reading: realtime = the alerts job, microbatch = the archive"
        " query. Change it for both jobs and restart the pipeline first.",
    )
    trigger: Seconds = Field(
        300,
        ge=5,
        description="Length of a real-time batch. The hand-over to the next one holds readings up for about a second,"
        " so a long batch means a low p99; but after a crash up to one batch is sent again (same ids), and baselines"
        " are as old as the batch.",
    )
    master: str = Field(
        AUTO,
        description="Spark master when plain python starts the alerts job; it needs more slots than sensor-readings has"
        " partitions. auto = local[partitions + 2].",
    )
    jvm_options: str = Field("", description="Further options of its driver's JVM when plain python starts it.")
    driver_memory: str = Field(
        "1g",
        pattern=r"^\d+[mg]$",
        examples=["512m", "2g"],
        description="Heap of its driver when plain python starts it.",
    )
    heartbeat_every: int = Field(
        100, ge=1, le=100_000, description="Every so many offsets of a partition one heartbeat says how far the job is."
    )
    stuck_after: Seconds = Field(
        12, ge=1, description="A heartbeat that is due and so late means stuck: the job ends with exit code 4."
    )
    baselines_every: Seconds = Field(
        5, ge=1, description="How often the table baselines is looked at; a new version serves from the next batch on."
    )
    max_restarts: int = Field(
        5, ge=0, description="Restarts after a failure, with growing pauses, before the job gives up."
    )


class Upkeep(Section):
    every: Seconds = Field(
        3600, ge=0, description="How often a query looks after its tables, after a batch's commits; 0 = never."
    )
    target_mb: int = Field(128, ge=1, le=4096, description="Size of the files that OPTIMIZE makes, MB.")
    vacuum_after: Seconds = Field(
        _WEEK_S, ge=_WEEK_S, description="Files that no version of this age needs are removed; at least 7 d."
    )
    log_retention: Seconds = Field(
        30 * 86400,
        ge=_WEEK_S,
        description="Age of the log of a table that is kept; longer than the longest downtime of the windows.",
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
