"""What differs between stored and recomputed windows, of a piece of a span or of a group of feeders."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pipelines.anomalies.events import Event
from pipelines.offline.recompute.answer import Piece
from pipelines.offline.recompute.concern import heard
from pipelines.offline.recompute.window_changes import window_changes
from pipelines.settings import Detection
from pipelines.windows.judge import Found


@dataclass(frozen=True)
class Compared:
    """Rows of `window_changes`; `heard` of the whole fleet as stored and as a batch has it; what is found."""

    differing: pl.DataFrame
    was: pl.DataFrame
    now: pl.DataFrame
    found: list[Found]
    of_feeders: list[Event]


def compared(piece: Piece, detection: Detection) -> Compared:
    """A piece of the whole fleet."""
    differing = window_changes(piece.before, piece.after)
    was, now = (heard(rows, detection) for rows in (piece.before, piece.after))
    return Compared(differing, was, now, piece.found, piece.of_feeders)
