"""A member judges each record of its partitions once, in order, and none of a partition that it has given up."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.alerts.owned import Owned


@dataclass(frozen=True)
class Sent:
    """A record as the client returns it."""

    at: int
    number: int

    def partition(self) -> int:
        return self.at

    def offset(self) -> int:
        return self.number


def records(partition: int, *offsets: int) -> list[Sent]:
    return [Sent(partition, offset) for offset in offsets]


def holding(**positions: int) -> Owned:
    """A member that has held partitions for a while: p0=5 is partition 0 at offset 5."""
    owned = Owned()
    at = {int(name[1:]): position for name, position in positions.items()}
    owned.take_up(at, at)
    owned.admit([])
    return owned


def test_records_from_the_position_on_are_judged() -> None:
    assert holding(p0=5).admit(records(0, 3, 4, 5, 6)) == (records(0, 5, 6), set())


def test_records_of_a_revoked_partition_are_not_judged() -> None:
    owned = holding(p0=0, p1=0)
    owned.give_up([0])
    assert owned.admit([*records(0, 0, 1), *records(1, 0)]) == (records(1, 0), set())
    assert owned.admit(records(0, 2)) == ([], set()), "nor later"


def test_a_partition_that_comes_back_is_read_again_from_its_position() -> None:
    """One call to the client: it is revoked, another member judges up to 7 and gives it back, and the call returns
    records of before."""
    owned = holding(p0=3, p1=0)
    owned.give_up([0])
    owned.take_up({0: 7}, [0])
    kept, again = owned.admit([*records(0, 3, 4, 9), *records(1, 0)])
    assert kept == records(1, 0)
    assert again == {owned.held[0]}
    assert owned.admit(records(0, 7)) == (records(0, 7), set())


def test_a_partition_without_a_position_waits() -> None:
    owned = Owned()
    owned.take_up({0: 4}, [0, 1])
    assert [held.is_live for held in owned.held.values()] == [True, False]
    owned.admit([])
    assert owned.admit([*records(0, 4), *records(1, 0)]) == (records(0, 4), set())


def test_a_mark_of_an_earlier_assignment_is_not_committed() -> None:
    owned = holding(p0=0, p1=0)
    owned.advance(0, 10)
    owned.advance(1, 20)
    mark = owned.mark()
    stood = owned.give_up([0])
    assert [at for _, at in stood] == [10]
    owned.take_up({0: 10}, [0])
    assert owned.to_commit(mark) == [(owned.held[1], 20)]


def test_a_position_never_goes_back_and_is_committed_once() -> None:
    owned = holding(p0=8)
    owned.advance(0, 6)
    assert owned.to_commit(owned.mark()) == []
    owned.advance(0, 9)
    assert owned.to_commit(owned.mark()) == [(owned.held[0], 9)]
