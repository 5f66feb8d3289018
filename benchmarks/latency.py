"""Latencies of anomalies, from broker times alone, and whether all of them came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.answers import PacedAnswer
from benchmarks.live import Live
from benchmarks.measure import WrongAnswer

Record = tuple[dict[str, Any], int]
Quantiles = dict[str, float | int | None]
_MODELLED = {"undervoltage": "readings_low", "overvoltage": "readings_high", "voltage_spike": "readings_high"}


def first_of_each(records: Iterable[Record]) -> list[Record]:
    """One record an anomaly id: the one that was appended first."""
    first: dict[str, Record] = {}
    for event, at_ms in records:
        known = first.get(event["anomalyId"])
        if known is None or at_ms < known[1]:
            first[event["anomalyId"]] = event, at_ms
    return list(first.values())


def reading_latencies(records: Iterable[Record], since_ms: int, until_ms: int) -> Quantiles:
    """Broker time of the anomaly minus broker time of its reading, for readings appended in [since, until)."""
    return quantiles(
        at_ms - event["source"]["timestamp"]
        for event, at_ms in records
        if event["stage"] == "reading" and since_ms <= event["source"]["timestamp"] < until_ms
    )


def sent_latencies(records: Iterable[Record], since_ms: int, until_ms: int) -> Quantiles:
    """Broker time of the anomaly minus the moment at which its reading was due (its event time)."""
    return quantiles(
        at_ms - event["eventTime"]
        for event, at_ms in records
        if event["stage"] == "reading" and since_ms <= event["eventTime"] < until_ms
    )


def window_latencies(live: Live, records: Iterable[Record], since_ms: int) -> Quantiles:
    """Broker time of a window anomaly minus the broker time of the first reading at or after window end + watermark."""
    watermark_ms = int(live.settings.detection.watermark * 1000)
    found = [
        (event["eventTime"], at_ms)
        for event, at_ms in records
        if event["stage"] == "window" and event["anomalyType"] == "voltage_deviation" and event["eventTime"] >= since_ms
    ]
    could = {
        end: live.ask(f"SELECT epoch_ms(min(kafka_ts)) FROM readings WHERE epoch_ms(event_ts) >= {end + watermark_ms}")
        for end in {end for end, _ in found}
    }
    return quantiles(at_ms - could[end][0][0] for end, at_ms in found)


def quantiles(latencies_ms: Iterable[float]) -> Quantiles:
    """p50, p99, p999 and max in ms, and how many.

    >>> quantiles([1, 2, 3])["p50"]
    2.0
    """
    values = np.array(list(latencies_ms), dtype=float)
    if not len(values):
        return {"p50": None, "p99": None, "p999": None, "max": None, "n": 0}
    p50, p99, p999 = (round(float(np.quantile(values, q)), 1) for q in (0.5, 0.99, 0.999))
    return {"p50": p50, "p99": p99, "p999": p999, "max": float(values.max()), "n": len(values)}


def check_readings(unique: list[Record], expected: PacedAnswer) -> None:
    """Raises WrongAnswer unless every reading out of band has its anomalies, and no more."""
    counts = dict.fromkeys(_MODELLED, 0)
    for event, _ in unique:
        if event["stage"] == "reading" and event["anomalyType"] in counts:
            counts[event["anomalyType"]] += 1
    right = {name: getattr(expected, field) for name, field in _MODELLED.items()}
    if counts != right:
        raise WrongAnswer(f"anomalies of readings {counts}, expected {right}")


def check_anomalies(live: Live, unique: list[Record], expected: PacedAnswer) -> None:
    """Raises WrongAnswer unless every reading out of band and every deviating window has its anomaly, and no more."""
    check_readings(unique, expected)
    calm_ms, closed_ms = live.traffic.due_ms(live.start_ms, live.traffic.storm_from), live.closable_ms()
    found = {
        (int(event["meterId"].removeprefix("m")), event["eventTime"])
        for event, _ in unique
        if event["stage"] == "window" and event["anomalyType"] == "voltage_deviation"
    }
    found = {key for key in found if key[1] <= calm_ms}
    wanted = {key for key in expected.alone if key[1] <= closed_ms}
    if found != wanted:
        raise WrongAnswer(
            f"{len(found)} deviating windows, expected {len(wanted)}; missing {sorted(wanted - found)[:3]},"
            f" too many {sorted(found - wanted)[:3]}"
        )
