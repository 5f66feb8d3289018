"""Settings of what the jobs show of themselves: metrics, and notifications of incidents."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from pipelines.detection_settings import Section
from pipelines.durations import Seconds


class Metrics(Section):
    host: str = Field("127.0.0.1", min_length=1, description="Address the metrics are served at; loopback by default.")
    port: int = Field(9464, ge=0, le=65535, description="Port of the pipeline's metrics; 0 serves none.")
    alerts_port: int = Field(
        9465, ge=0, le=65535, description="Port of a member of the alerts' metrics; 0 serves none."
    )
    notify_port: int = Field(9466, ge=0, le=65535, description="Port of the notifier's metrics; 0 serves none.")
    sample_every: Seconds = Field(
        15, ge=1, le=3600, description="How often JVM, disk, checkpoint and grid are looked at."
    )
    feeders: int = Field(
        20, ge=0, le=200, description="So many feeders have series of their own, worst first; the rest are `other`."
    )
    worst_meters: int = Field(10, ge=0, le=100, description="So many ranks of meters farthest from Un are shown.")
    consumer_group: str | None = Field(
        None,
        min_length=1,
        description="Prefix of consumer groups to which the jobs commit what they have read, for standard lag tools;"
        " nothing is read back. null commits none.",
    )


class Notify(Section):
    alertmanager: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        examples=["http://127.0.0.1:9093"],
        description="Alertmanager that gets the incidents, such as http://127.0.0.1:9093.",
    )
    webhook_warning: SecretStr | None = Field(
        None, description="URL that incidents of severity WARNING are posted to; from the environment or a file only."
    )
    webhook_error: SecretStr | None = Field(None, description="The same for ERROR.")
    webhook_critical: SecretStr | None = Field(None, description="The same for CRITICAL.")
    timeout: Seconds = Field(5, gt=0, le=60, description="How long an endpoint may take to answer.")
    retry_most: Seconds = Field(
        60, ge=1, description="Longest pause between two tries of an endpoint that does not take notifications."
    )
    repeat: Seconds = Field(14400, ge=1, description="A webhook is reminded of an open incident this often.")
    max_repeats: int = Field(3, ge=0, le=1000, description="So many reminders an incident and severity, then silence.")
    refresh: Seconds = Field(
        60,
        ge=1,
        le=240,
        description="How often open incidents are posted again to Alertmanager, which else resolves them after 5 min.",
    )
    group: str = Field(
        "gridwatch-notify",
        min_length=1,
        description="Consumer group that remembers which notifications were delivered.",
    )

    @property
    def webhooks(self) -> dict[Literal["WARNING", "ERROR", "CRITICAL"], str]:
        """URL by severity."""
        by_severity: dict[Literal["WARNING", "ERROR", "CRITICAL"], SecretStr | None] = {
            "WARNING": self.webhook_warning,
            "ERROR": self.webhook_error,
            "CRITICAL": self.webhook_critical,
        }
        return {severity: url.get_secret_value() for severity, url in by_severity.items() if url}

    @model_validator(mode="after")
    def _webhooks_are_urls(self) -> Self:
        for severity, url in self.webhooks.items():
            if not re.fullmatch(r"https?://\S+", url):
                raise ValueError(
                    f"notify.webhook_{severity.lower()}: a URL begins with http:// or https:// and has no white space"
                )
        return self
