"""When an incident is told: once a rise of its `alerts`, once at its end, and a limited number of reminders."""

from __future__ import annotations

from typing import Any

from pipelines.notify import ledger as ledger_module
from pipelines.notify.ledger import Ledger


def incident(alerts: int = 1, *, name: str = "i1", status: str = "open", severity: str = "WARNING") -> dict[str, Any]:
    return {"incidentId": name, "alerts": alerts, "status": status, "severity": severity, "lastAnomalyAt": 5}


def kinds(*documents: dict[str, Any], ledger: Ledger | None = None) -> list[str | None]:
    book = ledger or Ledger()
    notices = [book.take(document, number, 0.0) for number, document in enumerate(documents)]
    return [notice.kind if notice else None for notice in notices]


def test_an_opening_a_rise_and_the_end_are_told_and_what_lies_between_is_not() -> None:
    life = [incident(), incident(), incident(2, severity="ERROR"), incident(2, severity="ERROR")]
    life += [incident(2, severity="ERROR", status="closed")] * 2
    assert kinds(*life) == ["opened", None, "escalated", None, "closed", None]


def test_an_incident_that_the_pipeline_keeps_quiet_about_is_never_told() -> None:
    assert kinds(incident(0), incident(0, status="closed")) == [None, None]


def test_an_incident_that_opened_and_closed_in_one_batch_is_told_once() -> None:
    assert kinds(incident(1, status="closed")) == ["closed"]


def test_an_incident_that_is_open_again_is_not_told_again_until_its_alerts_rise() -> None:
    """A late anomaly may reopen what was closed."""
    assert kinds(incident(), incident(status="closed"), incident(), incident(2)) == [
        "opened",
        "closed",
        None,
        "escalated",
    ]


def test_what_was_told_in_an_earlier_life_is_not_told_again_but_its_end_is() -> None:
    book = Ledger()
    kinds(incident(), ledger=book)
    assert kinds(incident(), incident(status="closed"), ledger=book) == [None, "closed"]


def test_who_was_told_of_an_incident_hears_that_it_was_withdrawn() -> None:
    book = Ledger()
    assert kinds(incident(), ledger=book) == ["opened"]
    notice = book.remove("i1", 9)
    assert notice is not None
    assert (notice.kind, notice.document["status"], notice.document["closedAt"]) == ("closed", "closed", 5)
    assert book.remove("i1", 10) is None


def test_an_incident_that_is_explained_after_it_was_told_is_told_to_be_over() -> None:
    """Its feeder's incident came in a later batch and took its alerts back."""
    book = Ledger()
    assert kinds(incident(), incident(0), ledger=book) == ["opened", None]
    assert [document["alerts"] for document in book.open()] == [0]
    assert not list(book.reminders(999.0, every_s=10, most=2))
    assert kinds(*[incident(0, status="closed")] * 2, ledger=book) == ["closed", None]
    assert book.open() == []


def test_alerts_that_were_taken_back_and_come_again_are_no_rise() -> None:
    assert kinds(incident(2), incident(0), incident(1), incident(2), incident(3)) == [
        "opened",
        None,
        None,
        None,
        "escalated",
    ]


def test_reminders_come_at_most_so_often_and_so_many_and_begin_again_with_a_rise() -> None:
    book = Ledger()
    book.take(incident(), 0, 0.0)

    def reminded(now_s: float) -> int:
        return len(list(book.reminders(now_s, every_s=10, most=2)))

    assert [reminded(s) for s in (9.9, 10.0, 19.9, 20.0, 30.0, 99.0)] == [0, 1, 0, 1, 0, 0]
    book.take(incident(2), 1, 100.0)
    assert [reminded(s) for s in (109.0, 110.0)] == [0, 1]
    book.take(incident(2, status="closed"), 2, 111.0)
    assert reminded(999.0) == 0


def test_the_oldest_closed_incidents_are_forgotten_never_an_open_one(monkeypatch: Any) -> None:
    monkeypatch.setattr(ledger_module, "CLOSED_KEPT", 3)
    book = Ledger()
    book.take(incident(name="open"), 0, 0.0)
    for name in "abcde":
        book.take(incident(name=name, status="closed"), 0, 0.0)
    assert [document["incidentId"] for document in book.open()] == ["open"]
    assert kinds(incident(name="e", status="closed"), incident(name="a", status="closed"), ledger=book) == [
        None,
        "closed",
    ]
