"""The watchdog speaks when a heartbeat is due and does not come, and only then."""

from __future__ import annotations

import pytest

from pipelines.errors import DataRefused
from pipelines.jobs.alerts_offsets import first_offsets, published_until
from pipelines.jobs.alerts_slots import outgrown, too_few_slots
from pipelines.jobs.alerts_watch import COLD_S, Watchdog, heartbeat_of


def warm(**positions: int) -> Watchdog:
    """A dog that has seen a heartbeat of partition 9, of which no more is asked."""
    dog = Watchdog({int(name[1:]): at for name, at in positions.items()}, every=100, limit_s=12, started_s=0)
    dog.take(9, 0, 0)
    return dog


def test_nothing_waits_nothing_is_said() -> None:
    dog = warm(p0=0)
    dog.take(0, 100, 1)
    assert not any(dog.look({0: 150}, now) for now in (2, 60, 6000))


def test_a_due_heartbeat_that_does_not_come_is_stuck_after_the_limit() -> None:
    dog = warm(p0=0, p1=0)
    dog.take(0, 0, 0)
    dog.take(1, 100, 0)
    ends = {0: 101, 1: 150}
    assert dog.look(ends, 1) == {}
    assert dog.look(ends, 13) == {}
    assert dog.look(ends, 13.5) == {0: 12.5}


def test_a_job_that_catches_up_is_not_stuck_however_far_behind_it_is() -> None:
    dog = warm(p0=0)
    for now in range(1, 60, 10):
        dog.take(0, now * 100, now)
        assert dog.look({0: 1_000_000}, now + 9) == {}


def test_records_before_the_start_owe_no_heartbeat() -> None:
    """Offset 200 was read by an earlier life; the next that speaks is 300."""
    dog = warm(p0=201)
    assert not any(dog.look({0: 300}, now) for now in (1, 100))
    assert not dog.look({0: 301}, 200)
    assert dog.look({0: 301}, 213)


def test_before_the_first_heartbeat_a_cold_start_has_its_time() -> None:
    dog = Watchdog({0: 0}, every=100, limit_s=12, started_s=0)
    assert not any(dog.look({0: 1}, now) for now in (1, 13, COLD_S - 1))
    assert dog.look({0: 1}, COLD_S + 1)


def test_an_outage_of_the_broker_is_not_the_jobs_fault() -> None:
    dog = warm(p0=0)
    dog.look({0: 500}, 1)
    dog.forget_waiting()
    assert not dog.look({0: 500}, 60)
    assert dog.look({0: 500}, 73)


def test_lag_counts_from_the_last_heartbeat() -> None:
    dog = warm(p0=10, p1=0)
    dog.take(1, 100, 1)
    assert dog.lag({0: 30, 1: 150, 2: 7}) == 20 + 49 + 7


@pytest.mark.parametrize(("slots", "partitions", "refused"), [(4, 4, True), (3, 4, True), (5, 4, False)])
def test_one_slot_more_than_partitions_is_needed(slots: int, partitions: int, refused: bool) -> None:
    problem = too_few_slots(slots, partitions, "sensor-readings")
    assert (problem is not None) == refused
    assert problem is None or (problem.exit_code == 2 and "local[6]" in str(problem))


@pytest.mark.parametrize(("slots", "ends"), [(6, True), (12, True), (13, False)])
def test_a_topic_that_outgrew_the_slots_ends_the_process_so_that_a_supervisor_starts_a_wider_one(
    slots: int, ends: bool
) -> None:
    problem = outgrown(slots, 12, "sensor-readings")
    assert (problem is not None) == ends
    assert problem is None or (problem.exit_code == 4 and "12 partitions now" in str(problem))


def row(batch: int, partition: int, first: int, last: int) -> dict[str, int]:
    return {"batch_id": batch, "kafka_partition": partition, "first_offset": first, "last_offset": last}


def test_the_newest_batch_may_not_have_been_published() -> None:
    audit = [row(0, 0, 0, 9), row(0, 1, 0, 4), row(1, 0, 10, 19), row(1, 1, 5, 7), row(2, 0, 20, 29)]
    assert published_until(audit) == {0: 20, 1: 8}
    assert published_until([]) == {}


def test_the_first_start_begins_behind_what_was_published() -> None:
    there = {0: (0, 50), 1: (3, 9), 2: (0, 0)}
    assert first_offsets({0: 20, 1: 8}, there, "latest") == {0: 20, 1: 8, 2: -2}
    assert first_offsets({}, there, "latest") == "latest"


def test_records_that_are_gone_unjudged_are_named_with_the_way_out() -> None:
    with pytest.raises(DataRefused, match=r"partition 1: readings 2 to 2 .* alerts.mode = microbatch"):
        first_offsets({0: 20, 1: 2}, {0: (0, 50), 1: (3, 9)}, "earliest")


def test_where_the_job_stands_is_what_heartbeats_say_or_else_where_it_began() -> None:
    dog = Watchdog({0: 50, 1: 7}, every=100, limit_s=12, started_s=0)
    dog.take(0, 300, 1)
    assert dog.reached({0: 400, 1: 90, 2: 5}) == {0: 301, 1: 7, 2: 0}


@pytest.mark.parametrize(
    "value", [None, b"", b"null", b"[1]", b"no json", b"\xff", b'{"partition": null, "offset": 1}']
)
def test_a_foreign_record_on_the_topic_of_heartbeats_is_none(value: bytes | None) -> None:
    """It once ended the thread that watches, silently."""
    assert heartbeat_of(value) is None
