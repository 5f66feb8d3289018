"""What is not judged when the meters do not measure everything, in words for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.readings.decode import Decoded

SILENT_RULES = {"current": ("overcurrent",), "temperature": ("over_temperature", "temperature_rise")}
"""By optional quantity, the anomaly types that never arise without it."""


def absent_quantities(decoded: Sequence[Decoded]) -> list[str]:
    """The optional quantities that no reading of these batches has; none when there are no readings."""
    if not any(batch.rows for batch in decoded):
        return []
    has = {
        "current": any(value is not None for batch in decoded for value in batch.current_a),
        "temperature": any(value is not None for batch in decoded for value in batch.temperature_c),
    }
    return [quantity for quantity, is_there in has.items() if not is_there]


def silent_rules(absent: Sequence[str]) -> Iterator[str]:
    """One sentence per absent quantity."""
    for quantity in absent:
        yield f"no reading has a possible {quantity}: {' and '.join(SILENT_RULES[quantity])} will not be judged"
