"""Whether the queries move: the age of the last progress, which no progress event of a blocked batch can tell."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Liveness:
    """For each query the moment (monotonic seconds) at which it was last seen to move.

    A query moves when it stands between two batches, or when its last finished batch is another one than before.
    """

    moved: dict[str, float] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)
    progressed: dict[str, float] = field(default_factory=dict)
    """The moment at which the last batch with records was seen to be finished."""

    def observe(self, query: str, now: float, *, is_busy: bool, batch: int | None) -> None:
        """Take in what Spark says: whether a batch runs, and the number of the last finished one.

        >>> seen = Liveness()
        >>> seen.observe("archive", 0.0, is_busy=True, batch=7)
        >>> seen.observe("archive", 50.0, is_busy=True, batch=7)
        >>> seen.age_s("archive", 60.0)
        60.0
        >>> seen.observe("archive", 61.0, is_busy=True, batch=8)
        >>> seen.age_s("archive", 61.0)
        0.0
        """
        is_new = batch is not None and batch != self.batches.get(query)
        if is_new and batch is not None:
            self.batches[query] = batch
            self.progressed[query] = now
        if is_new or not is_busy or query not in self.moved:
            self.moved[query] = now
        self.progressed.setdefault(query, now)

    def age_s(self, query: str, now: float) -> float:
        """Seconds since the query last moved: how long its running batch has lasted at least."""
        return now - self.moved.get(query, now)

    def slowest(self, now: float) -> tuple[str, float] | None:
        """The query that has not moved for longest, and for how long."""
        return max(((query, self.age_s(query, now)) for query in self.moved), key=lambda one: one[1], default=None)
