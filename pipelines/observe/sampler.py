"""A thread that takes samples now and then, so that a scrape never waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Self

Say = Callable[[str], None]


class Sampler:
    """Calls its samples every so often until the block ends.

    A sample that fails, with whatever error, is said once and tried again the next time; one that hangs (a JVM that
    does not answer) stops the sampling, not the scrape.
    """

    def __init__(self, samples: Sequence[Callable[[], None]], every_s: float, say: Say) -> None:
        self._samples = samples
        self._every_s = every_s
        self._say = say
        self._told: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gridwatch-sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while True:
            for sample in self._samples:
                self._take(sample)
            if self._stopped.wait(self._every_s):
                return

    def _take(self, sample: Callable[[], None]) -> None:
        try:
            sample()
        except Exception as problem:  # the thread must outlive it: nobody would start another one
            if self._stopped.is_set():
                return
            line = f"no sample for the metrics: {type(problem).__name__}: {str(problem).splitlines()[:1]}"
            if line not in self._told:
                self._told.add(line)
                self._say(line)
