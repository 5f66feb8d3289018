"""Random inputs: no crash, one outcome each, and accepted exactly when the validator accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import NOON_MS, READING
from tests.fuzz.judge import ACCEPTED, judge
from tests.fuzz.mutate import Fuzzer

LEAVES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.text(max_size=6) | st.floats() | st.integers(-(2**70), 2**70)
    | st.integers(NOON_MS - 10_000, NOON_MS + 10_000)
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
NAMES = st.sampled_from([*READING, "Voltage", "x", "", "meterId ", "\u00b0", 'a"b'])
SENSIBLE = st.fixed_dictionaries(
    {
        "meterId": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,66}", fullmatch=True),
        "timestamp": st.integers(NOON_MS - 20_000, NOON_MS + 6000),
        "voltage": st.floats(-1.1e6, 1.1e6),
        "current": st.floats(-1.1e6, 1.1e6) | st.integers(-5, 5),
        "temperature": st.floats(-280, 1010),
        "status": st.none() | st.text(max_size=260),
    }
)
CHANGED = st.builds(lambda document, more: {**document, **more}, SENSIBLE, st.dictionaries(NAMES, ANYTHING, max_size=2))
TEXTS = st.builds(
    lambda value, spaced, ascii_only: json.dumps(
        value, ensure_ascii=ascii_only, separators=(", ", ": ") if spaced else (",", ":")
    ).encode("utf-8", "surrogatepass"),
    SENSIBLE | CHANGED | ANYTHING,
    st.booleans(),
    st.booleans(),
)
INPUTS = st.lists(TEXTS | st.binary(max_size=40) | st.none(), min_size=1, max_size=300)


@settings(
    max_examples=40, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)  # fmt: skip
@given(values=INPUTS)
def test_any_json_and_any_bytes_get_the_outcome_of_a_the_validator(values: list[bytes | None]) -> None:
    verdict = judge(values)
    assert verdict.crashes == []
    assert verdict.disagreements == []
    assert sum(verdict.outcomes.values()) == len(values)


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_documents_get_the_outcome_of_a_the_validator(seed: int) -> None:
    fuzzer, seen = Fuzzer(seed), set[object]()
    for _ in range(2):
        values = fuzzer.batch(4000)
        verdict = judge(values, seen)
        assert verdict.crashes == []
        assert verdict.disagreements == []
        assert 0.02 < verdict.outcomes[ACCEPTED] / len(values) < 0.9
        for value in verdict.novel:
            fuzzer.keep(value)


def test_a_validator_that_errs_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison bites: a validator that takes everything disagrees on the first truncated document."""
    monkeypatch.setattr("tests.fuzz.judge.read", lambda *_, **__: {})
    assert judge([b'{"meterId":']).disagreements == [(b'{"meterId":', "malformed_json", "valid")]
