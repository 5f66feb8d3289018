"""The query incidents as a thread of the driver, for a supervisor that looks after it as after Spark's queries."""

from __future__ import annotations

import threading
from collections.abc import Callable

from confluent_kafka import KafkaException

from pipelines.client_errors import as_ours
from pipelines.errors import GridwatchError, InfrastructureUnavailable
from pipelines.incidents.positions import QUERY
from pipelines.incidents.query import IncidentsQuery
from pipelines.settings import Settings


class IncidentsThread:
    """Runs one life of the query, from the making on, and `on_end` after it; `problem` says that it has failed."""

    name = QUERY

    def __init__(self, settings: Settings, query: IncidentsQuery, *, on_end: Callable[[], None]) -> None:
        self.problem: GridwatchError | None = None
        self._settings = settings
        self._query = query
        self._on_end = on_end
        self._thread = threading.Thread(target=self._run, name="gridwatch-incidents", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether an update runs now."""
        return self._query.is_busy

    @property
    def updates(self) -> int:
        """Updates that have ended."""
        return self._query.updates

    def ask_to_end(self) -> None:
        """After the running update, and one of what is read already."""
        self._query.ending.set()

    def has_ended(self, within_s: float) -> bool:
        """Whether it has, waiting so long at most."""
        self._thread.join(max(within_s, 0.0))
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with as_ours(self._settings):
                self._query.run()
        except GridwatchError as problem:
            self.problem = problem
        except KafkaException as error:
            self.problem = InfrastructureUnavailable(f"query {QUERY} stopped: {error.args[0].str()}")
        except Exception as error:  # of whatever kind: the supervisor must hear of it
            self.problem = GridwatchError(f"query {QUERY} stopped: {type(error).__name__}: {error}")
        finally:
            self._on_end()
