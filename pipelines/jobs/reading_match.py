"""Whether readings and fleet are of the same meters."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.errors import SettingsError
from pipelines.jobs.reading_files import Written


def mismatches(written: Written, known: set[str] | None) -> Iterator[str]:
    """Lines about meters without a usable reading, or unknown to the fleet (None: there is no fleet).

    Raises SettingsError when the fleet knows none of them.
    """
    if known is None:
        yield "no --fleet: feeder rules, voltage_step, voltage_drift and overcurrent are silent"
    else:
        unknown = written.meters - known
        if unknown == written.meters:
            raise SettingsError(
                f"--fleet knows no meter of the readings ({_some(unknown)}); name the fleet of these readings"
            )
        if unknown:
            yield f"{len(unknown):,} of {len(written.meters):,} meters are unknown to the fleet: {_some(unknown)}"
    if useless := written.meters - written.usable:
        yield f"{len(useless):,} of {len(written.meters):,} meters have no valid reading: {_some(useless)}"


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (" ..." if len(names) > 5 else "")
