"""Plans and frames the tests of the generator share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from generator.faults import STATUSES, Block
from generator.plan import RunPlan, make_plan
from generator.scenario import Scenario, build_scenario, readings_between

NOW_MS = 1_772_366_400_000  # 2026-03-01 12:00 UTC


@pytest.fixture
def make() -> Callable[..., RunPlan]:
    """A plan for a start at noon UTC; keywords are those of make_plan."""

    def build(**options: Any) -> RunPlan:
        return make_plan(NOW_MS, **{"paced": True, **options})

    return build


@pytest.fixture
def frame() -> Callable[..., pd.DataFrame]:
    """All readings of a scenario as a frame with the column names of the contract."""

    def build(scenario: Scenario, block: Block | None = None) -> pd.DataFrame:
        plan = scenario.plan
        block = block or readings_between(scenario, plan.start_ms, plan.closing_end_ms)
        return pd.DataFrame(
            {
                "meter": block.meter,
                "poll": block.poll,
                "ts": block.ts,
                "voltage_v": block.voltage_v,
                "current_a": block.current_a,
                "temperature_c": block.temperature_c,
                "status": [STATUSES[index] for index in block.status],
            }
        )

    return build


@pytest.fixture(scope="session")
def demo() -> Scenario:
    """The demo: 500 meters, 10 s cadence, 40 minutes of data in one minute."""
    return build_scenario(make_plan(NOW_MS, paced=True, rate=2000.0, watermark_s=80.0, late_by_s=700.0))
