"""Settings of the data quality gate."""

from __future__ import annotations

from pydantic import Field

from pipelines.detection_settings import Section
from pipelines.durations import Seconds


class Quality(Section):
    min_completeness: float = Field(
        0.9, gt=0, le=1, description="Least part of the readings due at detection.cadence_s, by hour and by meter."
    )
    max_surplus: float = Field(
        0.1, ge=0, le=10, description="So much more than what is due may come, as a part of it, by hour and by meter."
    )
    odd_meters: float = Field(
        0.05, ge=0, lt=1, description="This part of the meters may break what is expected of each meter."
    )
    max_rejected_share: float = Field(0.02, ge=0, le=1, description="Largest part of the records that is rejected.")
    max_late_share: float = Field(0.05, ge=0, le=1, description="Largest part of the readings that is late.")
    max_resent_share: float = Field(0.05, ge=0, le=1, description="Largest part of the readings that is sent again.")
    max_frozen_share: float = Field(
        0.05, ge=0, le=1, description="Largest part of the meters whose voltage does not move within an hour."
    )
    max_clock_shift: Seconds = Field(
        900, ge=60, le=3600, description="So far a meter's clock may differ from the fleet's, and the fleet's from now."
    )
