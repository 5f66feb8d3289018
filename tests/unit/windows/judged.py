"""What the window rules say of rows of meter_windows that a test writes out."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from pipelines.settings import Settings
from pipelines.windows.judge import Found, WindowsJudge
from pipelines.windows.look_around import look_around
from pipelines.windows.look_back import look_back
from tests import frames
from tests.factories import Values


def findings_in(rows: pl.DataFrame, before: Iterable[Values], settings: Settings) -> list[Found]:
    """Findings of rows with topology and profile, as `attach_meters` and `attach_profiles` make them; `before`: rows of
    earlier window ends."""
    detection = settings.detection
    history = frames.windows([{**row} for row in before], placed=False)
    measured = look_around(look_back(rows, history, detection=detection), detection=detection)
    judge = WindowsJudge(detection, settings.incidents, frames.meters([]))
    return judge.findings_of(measured)
