"""Something slow that is done beside the judging, one at a time: a store that hangs holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Errand(Generic[Result]):
    """Runs a call in a daemon thread. Its result, or what it raised, is taken by the thread that asked for it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._results: list[Result] = []
        self._problems: list[BaseException] = []

    @property
    def is_out(self) -> bool:
        """Whether a call was started and its result not taken yet."""
        return self._thread is not None

    def start(self, call: Callable[[], Result]) -> None:
        """Begin a call; only while none is out."""

        def run() -> None:
            try:
                self._results.append(call())
            except BaseException as problem:  # raised again by `take`, in the thread that asked
                self._problems.append(problem)

        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._thread.start()

    def take(self) -> list[Result]:
        """The result in a list, an empty one while there is none. Raises what the call raised."""
        if self._thread is None or self._thread.is_alive():
            return []
        self._thread.join()
        self._thread = None
        problems, self._problems = self._problems, []
        results, self._results = self._results, []
        if problems:
            raise problems[0]
        return results
