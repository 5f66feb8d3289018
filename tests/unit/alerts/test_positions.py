"""Where a partition begins that the group does not know: too early perhaps, never too late."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.alerts.owned import Held
from pipelines.alerts.positions import Recorded, Settling
from pipelines.errors import DataRefused


def batch(partition: int, first: int, last: int, judged: int | None) -> dict[str, Any]:
    return {"kafka_partition": partition, "first_offset": first, "last_offset": last, "judged_until": judged}


@pytest.mark.parametrize(
    ("case", "recorded", "begins"),
    [
        ("as the newest batch noted it", Recorded.of([batch(0, 0, 9, 3), batch(0, 10, 19, 12)], {0: 0}), 12),
        ("a batch without a note says nothing", Recorded.of([batch(0, 0, 9, 3), batch(0, 10, 19, None)], {0: 0}), 3),
        ("nothing was noted: at the noted start", Recorded.of([batch(0, 5, 9, None)], {0: 5}), 5),
        ("added after the start, archived: at its first record", Recorded.of([batch(0, 2, 9, None)], {1: 7}), 2),
        ("added after the start: at what Kafka has", Recorded.of([batch(1, 0, 9, 4)], {1: 0}), 40),
    ],
)
def test_a_partition_begins(case: str, recorded: Recorded, begins: int) -> None:
    assert recorded.begin(0, 40) == begins, case


class Scene:
    """One partition that waits, a topic that holds `first` to `end`, and what is judged from the table."""

    def __init__(self, recorded: Recorded, first: int, end: int) -> None:
        self.held = Held(0, None, None, False)
        self.told: list[str] = []
        self.published: list[tuple[int, int]] = []
        self.settling = Settling(lambda: recorded, lambda _: (first, end), self._publish, self.told.append)

    def _publish(self, _held: Held, since: int, until: int) -> int:
        self.published.append((since, until))
        return 1

    def step(self, position: int | None = None) -> int | None:
        return self.settling.step({self.held: position}).get(self.held)


def test_it_goes_on_where_the_archive_noted_the_group() -> None:
    scene = Scene(Recorded.of([batch(0, 0, 99, 42)], {0: 0}), 10, 200)
    assert (scene.step(), scene.published) == (42, [])


def test_what_kafka_no_longer_has_is_judged_from_the_table() -> None:
    scene = Scene(Recorded.of([batch(0, 0, 99, 42)], {0: 0}), 60, 200)
    assert scene.step() == 60
    assert scene.published == [(42, 60)]


def test_a_known_position_that_retention_overtook_too() -> None:
    scene = Scene(Recorded.of([batch(0, 0, 99, 42)], {0: 0}), 60, 200)
    assert scene.step(50) == 60
    assert scene.published == [(50, 60)]


def test_it_waits_until_audit_accounts_for_all_that_is_gone_and_says_so_once() -> None:
    scene = Scene(Recorded.of([batch(0, 0, 54, 42)], {0: 0}), 60, 200)
    assert (scene.step(), scene.step()) == (None, None)
    assert scene.published == []
    assert len(scene.told) == 1
    assert "skip-range" in scene.told[0]


def test_without_a_noted_start_it_waits_for_the_pipeline() -> None:
    scene = Scene(Recorded.of([], None), 0, 200)
    assert scene.step() is None
    assert "pipeline" in scene.told[0]


def test_a_position_behind_the_end_is_refused() -> None:
    scene = Scene(Recorded.of([batch(0, 0, 99, 42)], {0: 0}), 0, 20)
    with pytest.raises(DataRefused, match="deleted and made again"):
        scene.step()
