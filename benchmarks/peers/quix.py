"""The same windows in Quix Streams. Runs in the peer's own Python; imports nothing of ours.

`python quix.py JOB.json`. One process, as the library runs; windows close by the event time of their partition.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found]

State = dict[str, Any]
_FAR = 1e300
"""Beyond any value; the state is JSON, which knows no infinity."""
_NOTHING = [0, 0.0, 0.0, _FAR, -_FAR]
"""A part of a window: count, mean, sum of squared distances, least and largest value (Welford, Chan)."""


def main(job_file: str) -> None:
    """Read the topic until ended."""
    logging.getLogger("quixstreams").setLevel(logging.WARNING)
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    app = Application(
        broker_address=job["bootstrap"],
        consumer_group=job["out"],
        auto_offset_reset="earliest",
        state_dir=f"{job['folder']}/state",
        auto_create_topics=True,
    )
    readings = app.topic(
        job["topic"], value_deserializer="json", timestamp_extractor=lambda value, *_: value["timestamp"]
    )
    flagged = app.topic(job["out"], value_serializer="json")
    slide_ms = job["slide_s"] * 1000
    windows = app.dataframe(readings).hopping_window(
        duration_ms=job["window_s"] * 1000, step_ms=slide_ms, grace_ms=job["watermark_s"] * 1000
    )
    closed = windows.reduce(
        reducer=lambda state, reading: add(state, reading, slide_ms),
        initializer=lambda reading: first(reading, slide_ms),
    ).final(closing_strategy="partition")
    closed = closed.apply(lambda window, key, *_: judge(window, key, slide_ms), metadata=True)
    closed.filter(lambda found: found is not None).to_topic(flagged)
    sys.stdout.write("BENCH READY\n")
    sys.stdout.flush()
    app.run()


def first(reading: State, slide_ms: int) -> State:
    """State of a window after its first reading."""
    nothing: State = {
        "n": 0, "slide": 0, "last_event_ms": 0, "base": list(_NOTHING), "in_band": list(_NOTHING),
        "tested": list(_NOTHING), "plausible": list(_NOTHING), "max_current_a": -_FAR,
        "min_temperature_c": _FAR, "max_temperature_c": -_FAR,
    }  # fmt: skip
    return add(nothing, reading, slide_ms)


def add(state: State, reading: State, slide_ms: int) -> State:
    """Take in a reading. A reducer is not told its window, so the last slide seen is kept apart."""
    event_ms, voltage = reading["timestamp"], reading["voltage"]
    slide = event_ms // slide_ms
    if slide > state["slide"]:
        merge(state["base"], state["in_band"])
        state["in_band"], state["tested"], state["slide"] = list(_NOTHING), list(_NOTHING), slide
    is_last = slide == state["slide"]
    state["n"] += 1
    state["last_event_ms"] = max(state["last_event_ms"], event_ms)
    if 0 <= voltage <= 345 and reading["current"] >= 0:
        put(state["plausible"], voltage)
        if is_last:
            put(state["tested"], voltage)
        if 207 <= voltage <= 253:
            put(state["in_band"] if is_last else state["base"], voltage)
        state["max_current_a"] = max(state["max_current_a"], reading["current"])
        state["min_temperature_c"] = min(state["min_temperature_c"], reading["temperature"])
        state["max_temperature_c"] = max(state["max_temperature_c"], reading["temperature"])
    return state


def put(part: list[Any], value: float) -> None:
    """Add a value to a part."""
    off = value - part[1]
    part[0] += 1
    part[1] += off / part[0]
    part[2] += off * (value - part[1])
    part[3], part[4] = min(part[3], value), max(part[4], value)


def merge(part: list[Any], other: list[Any]) -> None:
    """Add another part to a part."""
    if other[0]:
        off, total = other[1] - part[1], part[0] + other[0]
        part[2] += other[2] + off * off * part[0] * other[0] / total
        part[1] += off * other[0] / total
        part[0], part[3], part[4] = total, min(part[3], other[3]), max(part[4], other[4])


def judge(window: State, key: Any, slide_ms: int) -> State | None:
    """The features of a closed window whose last slide leaves the baseline before it, else None."""
    state, nothing = window["value"], list(_NOTHING)
    base, tested, in_band = state["base"], state["tested"], state["in_band"]
    if (state["slide"] + 1) * slide_ms != window["end"]:
        merge(base, in_band)
        tested = in_band = nothing
    allowed = max(2.5 * max(_std(base), 1.15), 6.9)
    if base[0] < 8 or not tested[0] or max(abs(tested[4] - base[1]), abs(tested[3] - base[1])) <= allowed:
        return None
    return {
        "meter_id": key.decode() if isinstance(key, bytes) else key, "window_end_ms": window["end"], "n": state["n"],
        "base_n": base[0], "base_mean_v": base[1], "base_std_v": _std(base), "tested_n": in_band[0],
        "tested_mean_v": in_band[1], "tested_std_v": _std(in_band), "tested_min_v": tested[3],
        "tested_max_v": tested[4], "plausible_n": state["plausible"][0], "mean_v": state["plausible"][1],
        "std_v": _std(state["plausible"]), "min_v": state["plausible"][3], "max_v": state["plausible"][4],
        "max_current_a": state["max_current_a"], "min_temperature_c": state["min_temperature_c"],
        "max_temperature_c": state["max_temperature_c"], "last_event_ms": state["last_event_ms"],
    }  # fmt: skip


def _std(part: list[Any]) -> float:
    return math.sqrt(part[2] / (part[0] - 1)) if part[0] > 1 else 0.0


if __name__ == "__main__":
    main(sys.argv[1])
