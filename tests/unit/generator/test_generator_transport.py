"""Records on their way: late, repeated, out of order, broken; every one is labelled."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from generator.contracts import load_contract, reading_fields, rejection_reasons
from generator.encode import encode_readings, restamp
from generator.malformed import FUTURE, VARIANTS, expected_reason, make_malformed
from generator.scenario import blocks, build_scenario, readings_between
from generator.transport import DUPLICATE, LATE, MALFORMED, NORMAL, OUT_OF_ORDER, Wire

GOOD = b'{"meterId":"m-00001","timestamp":1772366400000,"voltage":230.1,"current":1.5,"temperature":21.0,"status":"OK"}'
STRICT = json.JSONDecoder(parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))


@pytest.fixture(scope="module")
def sent(demo):
    """Every record of the demo in sending order."""
    wire = Wire(demo)
    return [record for until_ms, block in blocks(demo, 10_000) for record in wire.records(block, until_ms)]


def _reads_as(value: bytes | None) -> object:
    """What Python's own decoders make of a record: a word for the failure, or the document."""
    if value is None or not value.strip():
        return "empty"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return "bytes"
    try:
        document, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return "broken"
    return "more" if text[end:].strip() else document


SYNTAX = {"empty_value": "empty", "not_utf8": "bytes", "malformed_json": "broken", "trailing_content": "more"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_malformed_record_is_wrong_in_the_way_its_reason_says(variant):
    reason, found = expected_reason(variant), _reads_as(make_malformed(variant, GOOD))
    if reason in SYNTAX:
        assert found == SYNTAX[reason]
    elif reason == "not_an_object":
        assert not isinstance(found, dict)
        assert found not in SYNTAX.values()
    else:
        assert isinstance(found, dict)
        assert _first_flaw(found) == reason


def _first_flaw(reading: dict) -> str:
    """An independent reading of the contract, in the order of the reasons."""
    numbers = [reading.get(name) for name in ("voltage", "current", "temperature")]
    stamp, status, meter_id = reading.get("timestamp"), reading.get("status"), reading.get("meterId")
    not_finite = [n for n in numbers if n == "NaN" or (isinstance(n, float) and (n != n or abs(n) == float("inf")))]
    finite = [n for n in numbers if n not in not_finite and n is not None]
    voltage = numbers[0]
    if any(isinstance(n, (str, bool)) for n in finite) or isinstance(stamp, str) or isinstance(meter_id, int):
        return "wrong_type"
    if not meter_id:
        return "missing_meter_id"
    if stamp is None:
        return "missing_timestamp"
    if voltage is None:
        return "missing_measurement"
    if voltage in not_finite:
        return "not_finite"
    if abs(voltage) > 1e6 or stamp < 0:
        return "out_of_range"
    if len(meter_id) > 64 or not meter_id.replace("-", "").isalnum():
        return "bad_meter_id"
    if len(status or "") > 256:
        return "bad_status"
    return "too_old" if stamp < 1_000_000_000_000 else "future_timestamp"


def test_every_reason_of_the_contract_has_a_malformed_kind():
    assert {expected_reason(variant) for variant in VARIANTS} == set(rejection_reasons())


def test_good_records_are_compact_json_with_the_fields_of_the_contract_in_order(demo):
    block = readings_between(demo, demo.plan.start_ms, demo.plan.start_ms + 20_000)
    values = encode_readings(block, demo.network.meter_id)
    contract = load_contract("sensor_reading")
    for row, value in enumerate(values):
        reading = STRICT.decode(value.decode())
        assert list(reading) == [field["name"] for field in contract["fields"]]
        assert value == json.dumps(reading, separators=(",", ":")).encode()
        assert reading["meterId"] == demo.network.meter_id[block.meter[row]]
        assert reading["timestamp"] == block.ts[row]
        assert reading["voltage"] == block.voltage_v[row]
    assert {json.loads(value)["status"] for value in values} == {None, "OK"}
    assert len(reading_fields()) == 6


def test_restamping_changes_the_time_only():
    assert json.loads(restamp(GOOD, 5)) == {**json.loads(GOOD), "timestamp": 5}


def test_shares_of_odd_records_are_as_asked(sent):
    kinds = Counter(record.kind for record in sent)
    readings = kinds[NORMAL] + kinds[LATE] + kinds[OUT_OF_ORDER]
    assert 0.0015 < kinds[LATE] / readings < 0.003
    assert 0.004 < kinds[DUPLICATE] / readings < 0.006
    assert 0.008 < kinds[OUT_OF_ORDER] / readings < 0.012
    assert 0.002 < kinds[MALFORMED] / readings < 0.004


def test_records_leave_in_the_order_of_their_due_times_and_before_the_closing_end(demo, sent):
    due = [record.due_ms for record in sent]
    assert due == sorted(due)
    assert due[-1] < demo.plan.closing_end_ms


def test_every_reading_is_sent_once_and_repeated_ones_twice_with_the_same_bytes(demo, sent, frame):
    originals = {(r.meter, r.event_ms): r for r in sent if r.kind in (NORMAL, LATE, OUT_OF_ORDER)}
    repeated = [r for r in sent if r.kind == DUPLICATE]
    readings = frame(demo)
    assert set(originals) == set(zip(readings.meter, readings.ts, strict=True))
    assert len({(r.meter, r.event_ms) for r in repeated}) == len(repeated)
    for record in repeated:
        original = originals[record.meter, record.event_ms]
        assert original.kind == NORMAL
        assert original.value == record.value
        assert 0 <= record.due_ms - record.event_ms <= 60_000


def test_late_records_come_after_the_watermark_and_out_of_order_ones_before_half_of_it(demo, sent):
    plan = demo.plan
    for record in sent:
        held_s = (record.due_ms - record.event_ms) / 1000
        if record.kind == LATE:
            assert plan.late_by_s <= held_s <= 1.2 * plan.late_by_s
        elif record.kind == OUT_OF_ORDER:
            assert 0 < held_s <= plan.watermark_s / 2
        elif record.kind == NORMAL:
            assert held_s == 0


def test_a_reading_with_a_fault_is_never_late_repeated_or_out_of_order(demo, sent):
    held = [r for r in sent if r.kind in (LATE, DUPLICATE, OUT_OF_ORDER)]
    for fault in demo.faults:
        hit = [r for r in held if fault.start_ms <= r.event_ms < fault.end_ms and r.meter == fault.meter]
        assert not hit


def test_malformed_kinds_take_turns(sent):
    variants = [record.variant for record in sent if record.kind == MALFORMED]
    counts = Counter(variants)
    assert set(counts) == set(VARIANTS)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_same_records_come_out_however_time_is_cut(make):
    scenario = build_scenario(make(meters=60, rate=240.0, seconds=20))

    def run(block_ms: int) -> list:
        wire = Wire(scenario)
        return [r for until, block in blocks(scenario, block_ms) for r in wire.records(block, until)]

    assert run(10_000) == run(3_600_000)


def test_without_transport_faults_only_good_records_in_order_are_sent(make):
    scenario = build_scenario(make(meters=60, rate=240.0, seconds=20))
    wire = Wire(scenario, odd=False)
    kinds = {r.kind for until, block in blocks(scenario, 60_000) for r in wire.records(block, until)}
    assert kinds == {NORMAL}


def test_only_the_future_clock_needs_the_wall_clock():
    assert make_malformed(FUTURE, GOOD) == GOOD
