"""Which readings need no rule: the bounds of every meter, within which nothing can fire.

Nearly all readings lie within them, and asking costs a fraction of a microsecond. A reading outside is not odd yet: the
rules decide. The numbers are those of the rules' own expressions, so that both round alike.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.readings.flags import lowest_plausible_v
from pipelines.readings.rules import allowed_deviation_v, has_history, max_age_ms
from pipelines.settings import Detection

Inside = Callable[[str, int, float, float | None, float | None, str | None], bool]

_SLACK = 1e-12
"""Part by which bounds of a baseline are narrower than mean +- allowed: more than all rounding there is."""
_STATUSES_KEPT = 10_000


class Bounds:
    """Bounds of all meters by settings, meters and baselines; none of them changes later.

    `known` comes from `known_meters`. `inside(meter_id, event_ms, voltage_v, current_a, temperature_c, status)` is true
    only for a reading of which no rule says anything.
    """

    def __init__(self, known: pl.DataFrame, *, detection: Detection) -> None:
        self.unknown = known.height - 1
        """Row of `known` for a meter that is not in it."""
        meters = known["meter_id"].head(self.unknown).to_list()
        self.rows: dict[str, int] = dict(zip(meters, range(self.unknown), strict=True))
        """Row of `known` by meter."""
        self.inside: Inside = _inside(self.rows, self.unknown, known.select(**_bounds(detection)))


def _bounds(d: Detection) -> dict[str, pl.Expr]:
    """Exclusive bounds by meter. Those with a baseline hold from since_ms to until_ms, the wide ones always."""
    limits, un = limits_of(d), pl.col("nominal_voltage_v")
    low = pl.max_horizontal(
        lowest_plausible_v(d), un * limits.interruption_pu, *(un * pu for pu in limits.undervoltage_pu)
    )
    high = pl.min_horizontal(
        un * limits.spike_pu, un * limits.implausible_pu, *(un * pu for pu in limits.overvoltage_pu)
    )
    coldest, hottest = limits.plausible_temperature_c
    mean, allowed, end_ms = pl.col("baseline_mean_v"), allowed_deviation_v(d), pl.col("baseline_end_ms")
    reach = allowed - (mean.abs() + allowed) * _SLACK
    is_usable = has_history(d) & mean.is_not_null() & end_ms.is_not_null()
    never = pl.lit(-1, pl.Int64())
    return {
        "low_v": low,
        "high_v": high,
        "least_v": pl.when(is_usable).then(pl.max_horizontal(low, mean - reach)).otherwise(low),
        "most_v": pl.when(is_usable).then(pl.min_horizontal(high, mean + reach)).otherwise(high),
        "since_ms": pl.when(is_usable).then(end_ms).otherwise(never + 1),
        "until_ms": pl.when(is_usable).then(end_ms + max_age_ms(d)).otherwise(never),
        "high_a": pl.min_horizontal(
            pl.lit(float("inf")), *(pl.col("rated_current_a") * pu for pu in limits.overcurrent_pu)
        ),
        "low_c": pl.lit(coldest, pl.Float64()) if isinstance(coldest, float) else coldest,
        "high_c": pl.min_horizontal(hottest, *limits.over_temperature_c),
    }


def _inside(rows: dict[str, int], unknown: int, bounds: pl.DataFrame) -> Inside:
    """The question as one function over local names: it is asked for every reading there is."""
    low_v, high_v, least_v, most_v = (_numbers(bounds[name]) for name in ("low_v", "high_v", "least_v", "most_v"))
    high_a, low_c, high_c = (_numbers(bounds[name]) for name in ("high_a", "low_c", "high_c"))
    since_ms, until_ms = (array("q", bounds[name].to_numpy().tobytes()) for name in ("since_ms", "until_ms"))
    harmless: set[str] = set()
    row_of = rows.get

    def inside(
        meter_id: str,
        event_ms: int,
        voltage_v: float,
        current_a: float | None,
        temperature_c: float | None,
        status: str | None,
    ) -> bool:
        row = row_of(meter_id, unknown)
        if not least_v[row] < voltage_v < most_v[row] and (
            not low_v[row] < voltage_v < high_v[row] or since_ms[row] <= event_ms <= until_ms[row]
        ):
            return False
        if current_a is not None and not 0.0 <= current_a < high_a[row]:
            return False
        if temperature_c is not None and not low_c[row] < temperature_c < high_c[row]:
            return False
        return status is None or status in harmless or _is_harmless(status, harmless)

    return inside


def _is_harmless(status: str, harmless: set[str]) -> bool:
    """Whether a status text does not say FAILURE; remembered in `harmless`, up to a maximum number of texts."""
    if "FAILURE" in status.upper():
        return False
    if len(harmless) < _STATUSES_KEPT:
        harmless.add(status)
    return True


def _numbers(column: pl.Series) -> array[float]:
    return array("d", column.to_numpy().tobytes())
