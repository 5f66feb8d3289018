"""Every record gets exactly one outcome: the typed reading, or the first reason that fits."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from typing import Any

import pytest

from generator.malformed import FUTURE, VARIANTS, expected_reason, make_malformed
from pipelines.contract import rejection_reasons
from pipelines.readings.checks import Checks
from pipelines.readings.decode import Decoder, Rejection
from pipelines.readings.frames import READING_COLUMNS, readings_frame
from pipelines.settings import Settings
from tests.factories import NOON_MS, READING, document, settings
from tests.fuzz.documents import make_documents
from tests.fuzz.examples import ACCEPTED, EDGES, GOOD, REJECTED, VALUES
from tests.fuzz.judge import Outcome, judge, outcomes
from tests.fuzz.validator import REASONS


def decided(*values: bytes | None, configured: Settings | None = None) -> list[Outcome | None]:
    """The outcomes of records, decoded together; `extra` is parsed."""
    decoder = Decoder((configured or Settings()).input)
    found = outcomes(decoder.decode(values, [NOON_MS] * len(values)), len(values))
    return [parsed(outcome) for outcome in found]


def parsed(outcome: Any) -> Any:
    """An outcome with its `extra` parsed."""
    return (
        outcome if isinstance(outcome, str) else {**outcome, "extra": outcome["extra"] and json.loads(outcome["extra"])}
    )


@pytest.mark.parametrize(("name", "value", "reason"), REJECTED, ids=[name for name, *_ in REJECTED])
def test_record_is_rejected(name: str, value: bytes | None, reason: str) -> None:
    assert decided(value) == [reason]


@pytest.mark.parametrize(("name", "value", "changed"), ACCEPTED, ids=[name for name, *_ in ACCEPTED])
def test_record_is_accepted(name: str, value: bytes, changed: dict[str, Any]) -> None:
    assert decided(value) == [{**VALUES, **changed}]


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != FUTURE])
def test_malformed_kind_of_the_generator_gets_its_reason(variant: str) -> None:
    assert decided(make_malformed(variant, GOOD)) == [expected_reason(variant)]


def test_every_reason_is_reached_and_named_in_the_contract() -> None:
    assert {reason for _, _, reason in REJECTED} == set(REASONS) == set(rejection_reasons())


def test_records_that_are_decoded_together_do_not_change_one_another() -> None:
    bad, good = [value for _, value, _ in REJECTED], [value for _, value, _ in ACCEPTED]
    values = [value for n in range(len(bad)) for value in (bad[n], good[n % len(good)])]
    assert decided(*values) == [one for value in values for one in decided(value)]


def test_what_a_decoder_has_learned_changes_no_outcome() -> None:
    values = [value for _, value, *_ in (*ACCEPTED, *REJECTED)]
    values += [document(site="x", **{f"field{n}": n}) for n in range(40)]
    decoder = Decoder(Settings().input)
    first, *later = (outcomes(decoder.decode(values, [NOON_MS] * len(values)), len(values)) for _ in range(4))
    assert all(one == first for one in later)


def test_the_columns_have_one_entry_per_reading_and_name_their_record() -> None:
    found = Decoder(Settings().input).decode([None, GOOD, b"{", document(current=None)], [NOON_MS] * 4)
    assert found.rows == [1, 3]
    assert found.items == [0, 0]
    assert found.current_a == [5.0, None]
    assert found.rejections == [Rejection(0, 0, "empty_value"), Rejection(2, 0, "malformed_json")]


def test_no_records_are_no_readings() -> None:
    found = Decoder(Settings().input).decode([], [])
    assert (found.rows, found.rejections, readings_frame(found).height) == ([], [], 0)


def test_the_fast_path_and_the_close_look_agree_on_any_document() -> None:
    values = make_documents(7, 20_000)
    checks, found = Checks(Settings().input), decided(*values)
    for value, outcome in zip(values, found, strict=True):
        closely = checks.judge(value, NOON_MS)
        assert outcome == parsed(closely if isinstance(closely, str) else asdict(closely)), value


@pytest.mark.parametrize("separators", [None, (",", ":"), (" , ", " : ")])
def test_a_document_is_decided_as_the_same_fields_in_another_order(separators: tuple[str, str] | None) -> None:
    documents = [{**READING, name: value} for name, values in EDGES.items() for value in values]
    plain = [json.dumps(one, separators=separators).encode() for one in documents]
    turned = [json.dumps(dict(reversed(one.items())), separators=separators).encode() for one in documents]
    found = decided(*plain)
    assert found == decided(*turned)
    assert {one for one in found if isinstance(one, str)} >= {"out_of_range", "bad_meter_id", "bad_status", "too_old"}


def test_the_brokers_time_decides_about_a_clock() -> None:
    found = Decoder(Settings().input).decode([GOOD, GOOD], [NOON_MS - 5000, NOON_MS - 5001])
    assert found.rows == [0]
    assert found.rejections == [Rejection(1, 0, "future_timestamp")]


def test_more_meters_than_are_remembered_change_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.readings.decode._REMEMBERED_IDS", 2)
    values = [document(meterId=f"m{n % 5}") for n in range(20)]
    assert [one["meter_id"] for one in decided(*values) if isinstance(one, dict)] == [f"m{n % 5}" for n in range(20)]


def test_a_decoder_can_be_sent_to_another_process() -> None:
    mapped = settings(input={"fields": {"voltage": "kV", "voltage_scale": 1000}})
    sent = pickle.loads(pickle.dumps(Decoder(mapped.input)))
    assert sent.decode([GOOD.replace(b'"voltage":230.0', b'"kV":0.23')], [NOON_MS]).voltage_v == [230.0]


def test_the_frame_holds_the_readings_in_their_types() -> None:
    found = Decoder(Settings().input).decode([GOOD, b"", document(current=None, x=1)], [NOON_MS] * 3)
    frame = readings_frame(found)
    assert dict(frame.schema) == READING_COLUMNS
    assert frame.rows() == [
        (0, 0, "m1", NOON_MS, 230.0, 5.0, 20.0, "OK", None),
        (2, 0, "m1", NOON_MS, 230.0, None, 20.0, "OK", '{"x":1}'),
    ]


def test_any_bytes_are_accepted_exactly_when_a_strict_reader_of_the_contract_accepts() -> None:
    values = make_documents(11, 20_000)
    verdict = judge(values)
    assert verdict.ok
    assert sum(verdict.outcomes.values()) == len(values)
    assert 0.1 < verdict.outcomes["accepted"] / len(values) < 0.9
