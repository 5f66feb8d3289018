"""What readings are judged by: the meters and their baselines, read again when their table has a new version."""

from __future__ import annotations

import time
from collections.abc import Callable

import polars as pl
from deltalake import DeltaTable

from pipelines.alerts.errand import Errand
from pipelines.errors import SettingsError
from pipelines.fleet import require_known_classes
from pipelines.observe.metrics import AlertsMetrics
from pipelines.readings.judge import ReadingJudge
from pipelines.settings import Settings
from pipelines.small_tables import STORE_ERRORS, open_table, read_rows
from pipelines.tables import BASELINES, METERS, Table

Say = Callable[[str], None]

_EVERY_S = 5.0


class Reference:
    """`judge` goes by the newest versions that were read. A store that is away costs age, never an alert."""

    def __init__(self, settings: Settings, metrics: AlertsMetrics, say: Say) -> None:
        """Reads both tables. Raises what the store's client raises, and SettingsError for a class nobody knows."""
        require_known_classes(settings)
        self._settings, self._metrics, self._say = settings, metrics, say
        self._tables = {table: _Followed(settings, table) for table in (METERS, BASELINES)}
        self._errand: Errand[ReadingJudge | None] = Errand("gridwatch-reference")
        self._looked = self._asked = time.monotonic()
        self._trouble: str | None = None
        self.judge = self._made()
        metrics.bounds_age.set_function(lambda: time.monotonic() - self._looked)

    def step(self) -> None:
        """Called between two polls: takes over what was read, and looks again when it is time. Never waits."""
        if not self._errand.is_out:
            if time.monotonic() - self._asked >= _EVERY_S:
                self._asked = time.monotonic()
                self._errand.start(self._look)
            return
        try:
            for judge in self._errand.take():
                self._looked = self._asked
                self.judge = judge or self.judge
                self._tell(None)
        except SettingsError as problem:
            self._tell(f"{problem}; until then its meters have the common limits")
        except STORE_ERRORS as problem:
            self._tell(f"baselines and meters are not read again: {str(problem).splitlines()[0]}; alerts go on")

    def _look(self) -> ReadingJudge | None:
        changed = [table for table, followed in self._tables.items() if followed.refresh()]
        if not changed:
            return None
        judge = self._made()
        if METERS in changed:
            self.judge = judge
            require_known_classes(self._settings)
        return judge

    def _made(self) -> ReadingJudge:
        meters, baselines = (self._tables[table] for table in (METERS, BASELINES))
        for table, followed in self._tables.items():
            self._metrics.bounds_version.labels(table.name).set(followed.version)
        return ReadingJudge(self._settings.detection, meters.rows, baselines.rows)

    def _tell(self, trouble: str | None) -> None:
        """Each trouble once."""
        if trouble is not None and trouble != self._trouble:
            self._say(trouble)
        self._trouble = trouble


class _Followed:
    """One table: its rows at the newest version that was seen."""

    def __init__(self, settings: Settings, table: Table) -> None:
        self._settings, self._table = settings, table
        self._handle: DeltaTable = open_table(settings, table)
        self.version = self._handle.version()
        self.rows = self._read()

    def refresh(self) -> bool:
        """Read the table again if it has a new version; whether it had."""
        self._handle.update_incremental()
        if self._handle.version() == self.version:
            return False
        rows, self.version = self._read(), self._handle.version()
        self.rows = rows
        return True

    def _read(self) -> pl.DataFrame:
        return pl.DataFrame(read_rows(self._settings, self._table))
