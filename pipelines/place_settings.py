"""Settings of the places: brokers and topics, the object store, the tables and their upkeep."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from pipelines.addresses import require_brokers, require_endpoint, require_place, require_topic_name
from pipelines.credentials import default_secret_problem
from pipelines.detection_settings import Section
from pipelines.durations import Seconds

_WEEK_S = 7 * 86400

TopicName = Annotated[str, AfterValidator(require_topic_name)]
"""A name that Kafka accepts."""


class Topics(Section):
    readings: TopicName = Field("sensor-readings", description="Topic of the incoming readings.")
    anomalies: TopicName = Field("anomalies", description="Topic of the anomaly events.")
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
    min_insync_replicas: int = Field(
        1, ge=1, le=9, description="Replicas that must have a record before it counts as written; 2 of 3 is usual."
    )
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
    def _enough_replicas(self) -> Self:
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError(
                f"kafka.min_insync_replicas = {self.min_insync_replicas} is more than kafka.replication_factor ="
                f" {self.replication_factor}: nothing could be written"
            )
        return self

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
        " phase, nominal_voltage_v, rated_current_a, region, meter_class); null keeps the table as it is.",
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
    panes_retention_days: int = Field(
        2, ge=1, description="Days that panes are kept after they were written; the windows read them within seconds."
    )
    labels: str | None = Field(
        None, description="CSV of the generator's fault labels loaded at start; null loads none."
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
