"""Whether readings, fleet and the declared cadence belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipelines.csv_files import some
from pipelines.errors import SettingsError
from pipelines.offline.survey import Survey


class Pace(NamedTuple):
    """How often a meter reports: usable readings, those among them that repeat a time, seconds from first to last."""

    meter_id: str
    readings: int
    repeated: int
    span_s: float

    @property
    def gap_s(self) -> float:
        """Mean seconds between two readings; 0 for fewer than two."""
        return self.span_s / max(self.readings - self.repeated - 1, 1)


def slower(paces: Iterable[Pace], cadence_s: float) -> Iterator[str]:
    """A line when meters have fewer than half the readings that the cadence (s) gives, with the usual gap of each."""
    paces = list(paces)
    slow = sorted((pace for pace in paces if pace.gap_s > 2 * cadence_s), key=lambda pace: -pace.gap_s)
    if slow:
        named = some([f"{pace.meter_id} one in {pace.gap_s:,.0f} s" for pace in slow])
        yield (
            f"{len(slow):,} of {len(paces):,} meters have fewer than half the readings that one every {cadence_s:g} s"
            f" gives: {named}; a file for each cadence finds more"
        )


def mismatches(survey: Survey, known: set[str] | None) -> Iterator[str]:
    """Lines about meters of the readings without a usable one, or unknown to the fleet (None: there is no fleet).

    Raises SettingsError when the fleet knows none of them.
    """
    if known is None:
        yield "no --fleet: feeder rules, voltage_step, voltage_drift and overcurrent are silent"
    else:
        unknown = sorted(survey.meters - known)
        if len(unknown) == len(survey.meters):
            raise SettingsError(
                f"--fleet knows no meter of the readings ({some(unknown)}); name the fleet of these readings"
            )
        if unknown:
            yield f"{len(unknown):,} of {len(survey.meters):,} meters are unknown to the fleet: {some(unknown)}"
    if useless := sorted(survey.meters - survey.usable):
        yield f"{len(useless):,} of {len(survey.meters):,} meters have no valid reading: {some(useless)}"
