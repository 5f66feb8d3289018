"""kill -9 of the pipeline under traffic: after a restart all is stored once, and every window is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.local.broker import RunningBroker
from pipelines.local.processes import Child
from tests.integration.rest import wait_for_rest
from tests.integration.support import (
    Place,
    end_leftovers,
    explain,
    records_of,
    stopped,
    text_of,
    wait_for,
    wait_for_end,
    wait_for_text,
    wait_until_reading,
    words,
)
from tests.timelines import assert_same_windows, without_feeder
from tests.window_model import Reading, model_windows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a loaded machine is slow, never wrong

WATERMARK_S = 80
TRAFFIC = words(
    {
        "--meters": 250, "--rate": 1000, "--seconds": 40, "--cadence": 10, "--seed": 11, "--faults": "demo",
        "--watermark": WATERMARK_S, "--late-by": 400,
    }
)  # fmt: skip
"""40 s of the wall clock are 27 min of the data's."""
FEW_A_BATCH, MOST_A_BATCH = 1500, 6000
"""Of 40,000: the lives that are killed are slower than the traffic, so work is left however slow the machine is."""


@pytest.fixture(scope="module")
def killed(kafka: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The place after the whole story:

    traffic            |===================================|
    pipeline     start ------x   start ----x   start ------------- SIGTERM
    """
    folder = tmp_path_factory.mktemp("killed")
    here = Place(folder, kafka.bootstrap_servers).with_settings(
        detection__watermark=WATERMARK_S, pipeline__max_offsets_per_trigger=MOST_A_BATCH
    )
    try:
        here.create_topics()
        with stopped(here.generator(*TRAFFIC, "--plan-only")) as planner:
            wait_for_end(planner, 60, code=0)
        here = here.with_settings(lake__fleet=here.run_dir / "fleet.csv")
        tell_the_story(here)
        yield here
    finally:
        end_leftovers(here.mark)


def tell_the_story(place: Place) -> None:
    slow = place.with_settings(pipeline__max_offsets_per_trigger=FEW_A_BATCH)
    with stopped(start_pipeline(slow)) as first:
        wait_until_reading(first)
        with stopped(place.generator("--plan", str(place.run_dir / "plan.json"))) as generator:
            kill_at_the_end_of_a_batch(first)
            with stopped(start_pipeline(slow)) as second:
                kill_in_the_middle(second)
            assert generator.is_running() or not place.archived(), "the kill came after all work was done"
            with stopped(start_pipeline(place)) as third:
                catch_up(place, generator, third)


def kill_at_the_end_of_a_batch(pipeline: Child) -> None:
    """The archive speaks after its writes and before Spark notes the batch as done: Spark will replay it."""
    wait_for_text(pipeline, "windows batch", 200)
    wait_for_text(pipeline, "archive batch", 100, after=len(text_of(pipeline.log)))
    pipeline.kill()


def start_pipeline(place: Place) -> Child:
    """Each life has a log of its own."""
    life = len(list(place.folder.glob("pipeline-*.log"))) + 1
    return place.gridwatch(f"pipeline-{life}", "run")


def kill_in_the_middle(pipeline: Child) -> None:
    """Kill it a moment after the first archive batch of its life: amid a batch of windows or incidents."""
    wait_until_reading(pipeline)
    wait_for_text(pipeline, "archive batch", 100)
    pipeline.wait(1.3)
    pipeline.kill()


def catch_up(place: Place, generator: Child, pipeline: Child) -> None:
    """Wait until everything sent has gone all the way, then end the pipeline in order."""
    wait_for(pipeline, "the generator's end", lambda: not generator.is_running(), 90)
    assert generator.kill() == 0, explain(generator, "failed")
    wait_for(pipeline, "the archive at the broker's end", place.archived, 240)
    data_end_ms = place.summary()["data_end"]
    wait_for(pipeline, "the last window", lambda: newest_window_ms(place) >= data_end_ms, 120)
    wait_for_rest(place, pipeline)
    assert pipeline.stop(60) == 130, explain(pipeline, "did not end in order")


def newest_window_ms(place: Place) -> int:
    return int(place.ask("SELECT coalesce(epoch_ms(max(window_end)), 0) FROM meter_windows")[0][0])


def sent_ids(place: Place) -> list[str]:
    records = records_of(place.settings, place.settings.kafka.topics.anomalies)
    return [json.loads(record.value)["anomalyId"] for record in records]


def stored_ids(place: Place) -> set[str]:
    return {row[0] for row in place.ask("SELECT anomaly_id FROM anomalies")}


def test_every_reading_is_stored_exactly_once_and_classified_as_labelled(killed: Place) -> None:
    report, summary = killed.verify(), killed.summary()
    assert report.ok, report.verdict
    assert (report.lost, report.duplicates, report.unaccounted, report.lag) == (0, 0, 0, 0)
    assert report.archived + report.rejected == summary["produced"]
    assert dict(report.rejected_by_reason) == summary["rejected"]
    assert report.resent == summary["resent"]


def test_every_rejected_record_is_in_the_dead_letter_queue(killed: Place) -> None:
    """At least once: a replay sends it again."""
    settings = killed.settings
    letters = [dict(record.headers) for record in records_of(settings, settings.kafka.topics.dead_letters)]
    origins = {(int(letter["origin-partition"]), int(letter["origin-offset"])) for letter in letters}
    assert origins == set(killed.ask("SELECT kafka_partition, kafka_offset FROM rejected"))


def test_a_repeated_anomaly_keeps_its_id_and_stands_once_in_the_table(killed: Place) -> None:
    rows, different = killed.ask("SELECT count(*), count(DISTINCT anomaly_id) FROM anomalies")[0]
    assert rows == different > 0
    assert set(sent_ids(killed)) == stored_ids(killed)
    again = killed.ask(
        "SELECT stage, anomaly_type, meter_id, event_ts FROM anomalies GROUP BY ALL HAVING count(*) > 1 LIMIT 3"
    )
    assert not again, f"a rule spoke twice of one moment, under two ids: {again}"


def test_every_closed_window_stands_once_and_equals_the_plain_model(killed: Place) -> None:
    found = table_windows(killed)
    last_end = max(end for _, end in found)
    detection = killed.settings.detection
    readings = countable_readings(killed)
    expected = model_windows(readings, window_s=int(detection.window_s), slide_s=int(detection.slide_s))
    assert_same_windows(without_feeder(found), {key: row for key, row in expected.items() if key[1] <= last_end})


def table_windows(place: Place) -> dict[tuple[str, int], dict[str, Any]]:
    """Rows of meter_windows as the model writes them, without those of silent meters."""
    times = ", ".join(
        f"epoch_ms({name}) AS {name}" for name in ("window_start", "window_end", "tested_out_ts", "last_event_ts")
    )
    days = "window_date - DATE '1970-01-01' AS window_date"
    with_names = f"SELECT * REPLACE ({times}, {days}) FROM meter_windows WHERE n > 0"
    doubled = place.ask("SELECT meter_id, window_end FROM meter_windows GROUP BY ALL HAVING count(*) > 1 LIMIT 3")
    assert not doubled, f"windows that stand twice: {doubled}"
    names = [row[0] for row in place.ask(f"DESCRIBE {with_names}")]
    rows = [dict(zip(names, row, strict=True)) for row in place.ask(with_names)]
    return {(row["meter_id"], row["window_end"]): row for row in rows}


def countable_readings(place: Place) -> list[Reading]:
    rows = place.ask(
        "SELECT meter_id, epoch_ms(event_ts), voltage_v, current_a, temperature_c, is_plausible, is_in_band"
        " FROM readings WHERE NOT is_late AND NOT is_resent"
    )
    return [Reading(*row) for row in rows]
