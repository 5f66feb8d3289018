"""Records to anomalies: decode, ask the bounds, and judge by the reading rules only what lies outside of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from pipelines.alerts.outbox import Event
from pipelines.errors import GridwatchError
from pipelines.readings.decode import Decoded, Decoder
from pipelines.readings.frames import readings_frame
from pipelines.readings.judge import ReadingJudge
from pipelines.settings import Settings

_MISTAKES = (PolarsError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a mistake of ours in decoder or rules raises."""


class JudgingFailed(GridwatchError):
    """Decoder or rules cannot cope with a record; nothing is committed behind it."""


class Judging:
    """Judges records of the topic of readings. Rejected ones are the archive's and count for nothing here."""

    def __init__(self, settings: Settings) -> None:
        self._decoder = Decoder(settings.input)
        self._topic = settings.kafka.topics.readings

    def events(self, records: Sequence[Any], judge: ReadingJudge) -> list[Event]:
        """The anomalies of records (messages of confluent-kafka), in the order of the readings.

        Raises JudgingFailed, naming the records.
        """
        try:
            return self._events(records, judge)
        except _MISTAKES as error:
            first, last = records[0], records[-1]
            raise JudgingFailed(
                f"records from {first.partition()}:{first.offset()} to {last.partition()}:{last.offset()}"
                f" (partition:offset) cannot be judged: {type(error).__name__}: {str(error).splitlines()[:1]}"
            ) from error

    def _events(self, records: Sequence[Any], judge: ReadingJudge) -> list[Event]:
        decoded = self._decoder.decode([r.value() for r in records], [r.timestamp()[1] for r in records])
        odd = outside(decoded, judge)
        if not odd:
            return []
        frame = readings_frame(_only(decoded, odd))
        origins = [records[row] for row in frame["row"]]
        return judge.events(
            frame.drop("row").with_columns(
                pl.lit(self._topic).alias("kafka_topic"),
                pl.Series("kafka_partition", [origin.partition() for origin in origins], pl.Int32),
                pl.Series("kafka_offset", [origin.offset() for origin in origins], pl.Int64),
                pl.Series("kafka_ms", [origin.timestamp()[1] for origin in origins], pl.Int64),
            )
        )


def outside(decoded: Decoded, judge: ReadingJudge) -> list[int]:
    """Places in the lists of the readings of which a rule may say something."""
    inside = judge.bounds.inside
    measured = zip(
        decoded.meter_id, decoded.event_ms, decoded.voltage_v, decoded.current_a, decoded.temperature_c,
        decoded.status, strict=True,
    )  # fmt: skip
    return [place for place, reading in enumerate(measured) if not inside(*reading)]


def _only(decoded: Decoded, places: Sequence[int]) -> Decoded:
    names = (
        "rows", "items", "meter_id", "event_ms", "voltage_v", "current_a", "temperature_c", "status", "extra",
    )  # fmt: skip
    picked = {name: [getattr(decoded, name)[place] for place in places] for name in names}
    return replace(decoded, **picked, rejections=[])
