"""Every engine that needs no download of its own, on a tiny load: is the answer right? Says nothing about speed."""

from __future__ import annotations

from typing import Any

from benchmarks.candidates import Place, run_alerts, run_gridwatch, run_peer, run_plain
from benchmarks.load import Load
from benchmarks.peers import engines

TINY = Load(120_000, meters=200)


def smoke(place: Place) -> dict[str, Any]:
    """gridwatch as it runs, its alerts, the plain build and Kafka Streams over 120,000 readings.

    Raises WrongAnswer when one finds something else than the model.
    """
    place.fill(TINY)
    # Too short for the optimising compiler, as the demo is (docs/adr/0005).
    brief = {"GRIDWATCH_PIPELINE__JVM_OPTIONS": "-XX:TieredStopAtLevel=1"}
    timings = [run_gridwatch(place, TINY, more=brief), run_alerts(place, TINY), run_plain(place, TINY)]
    timings.append(run_peer(place, "kafka_streams", TINY, engines.kafka_streams(place.say)))
    return {timing.engine: timing.as_json() for timing in timings}
