"""Every record gets exactly one outcome: the typed reading, or the first reason that fits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession

from generator.malformed import VARIANTS, expected_reason, make_malformed
from pipelines.contract import rejection_reasons
from pipelines.jobs import archive, windows
from pipelines.settings import Settings
from pipelines.sources import empty_table
from tests.factories import NOON_MS, READING, document, kafka_frame, ms
from tests.timelines import epoch_ms
from tests.transforms.decoding import GOOD, REASONS, VALUES, decide, is_valid
from tests.transforms.documents import OLDEST_MS, make_documents


def raw(name: str, literal: str) -> bytes:
    """GOOD with a literal, valid JSON or not, as the value of a field."""
    return document(**{name: "@"}).replace(b'"@"', literal.encode())


def adding(fields: str) -> bytes:
    """GOOD with more text before its closing brace."""
    return GOOD[:-1] + b"," + fields.encode() + b"}"


def without(*names: str) -> bytes:
    """GOOD without some of its fields."""
    return json.dumps({k: v for k, v in READING.items() if k not in names}).encode()


REJECTED: list[tuple[str, bytes | None, str]] = [
    ("a tombstone", None, "empty_value"),
    ("an empty value", b"", "empty_value"),
    ("only white space", b" \t\r\n ", "empty_value"),
    ("a byte that is not UTF-8", GOOD.replace(b"OK", b"\xff"), "not_utf8"),
    ("an overlong encoding", GOOD.replace(b"OK", b"\xc0\xaf"), "not_utf8"),
    ("a surrogate encoded as UTF-8", GOOD.replace(b"OK", b"\xed\xa0\x80"), "not_utf8"),
    ("only a stray byte", b"\x80", "not_utf8"),
    ("words after the document", GOOD + b" and more", "trailing_content"),
    ("a second document", GOOD + GOOD, "trailing_content"),
    ("a second document on the next line", GOOD + b"\n" + GOOD, "trailing_content"),
    ("a closing brace too many", GOOD + b"}", "trailing_content"),
    ("a closing bracket too many", GOOD + b"]", "trailing_content"),
    ("a comma after the document", GOOD + b",", "trailing_content"),
    ("text that closes the array wrapper", GOOD + b"],[" + GOOD, "trailing_content"),
    ("text that closes the object wrapper", GOOD + b'},"y":{' + GOOD[1:], "trailing_content"),
    ("an array", b"[" + GOOD + b"]", "not_an_object"),
    ("an empty array", b"[]", "not_an_object"),
    ("a number", b"230.1", "not_an_object"),
    ("a negative number", b" -1", "not_an_object"),
    ("a string", b'"230 V"', "not_an_object"),
    ("true", b"true", "not_an_object"),
    ("null", b"null", "not_an_object"),
    ("a truncated document", GOOD[:-9], "malformed_json"),
    ("an opening brace alone", b"{", "malformed_json"),
    ("plain words", b"voltage is 230 V", "malformed_json"),
    ("single quotes", GOOD.replace(b'"', b"'"), "malformed_json"),
    ("unquoted names", GOOD.replace(b'"voltage"', b"voltage"), "malformed_json"),
    ("a comma too many", GOOD[:-1] + b",}", "malformed_json"),
    ("a comment", GOOD.replace(b",", b",/* volts */", 1), "malformed_json"),
    ("a byte order mark", b"\xef\xbb\xbf" + GOOD, "malformed_json"),
    ("a non-breaking space before the document", b"\xc2\xa0" + GOOD, "malformed_json"),
    ("a leading zero", raw("voltage", "0230"), "malformed_json"),
    ("a plus sign", raw("voltage", "+230"), "malformed_json"),
    ("a number that ends in its point", raw("voltage", "230."), "malformed_json"),
    ("a hexadecimal number", raw("voltage", "0xE6"), "malformed_json"),
    ("a raw line break in a string", GOOD.replace(b"OK", b"O\nK"), "malformed_json"),
    ("an unknown escape", GOOD.replace(b"OK", b"\\x"), "malformed_json"),
    ("half a surrogate pair", raw("status", r'"\ud83d"'), "malformed_json"),
    ("a measurement twice", adding('"voltage":231'), "malformed_json"),
    ("the same measurement twice", adding('"voltage":230.0'), "malformed_json"),
    ("the status null, then a text", adding('"status":"OK"').replace(b'"OK"', b"null", 1), "malformed_json"),
    ("a text, then the status null", adding('"status":null'), "malformed_json"),
    ("the status null twice", document(status=None)[:-1] + b',"status":null}', "malformed_json"),
    ("a measurement twice, once with a tab before its colon", adding('"voltage"\t:231'), "malformed_json"),
    ("the same field once escaped", adding(r'"v\u006fltage":231'), "malformed_json"),
    ("an unknown field twice", adding('"x":1,"x":1'), "malformed_json"),
    ("a nested field twice", adding('"x":{"a":1,"a":2}'), "malformed_json"),
    ("NaN in an unknown field", adding('"x":NaN'), "malformed_json"),
    ("text for a number", document(voltage="abc"), "wrong_type"),
    ("digits in quotes", document(voltage="230"), "wrong_type"),
    ("empty text for a number", document(voltage=""), "wrong_type"),
    ("true for a number", document(voltage=True), "wrong_type"),
    ("an object for a number", document(current={"value": 5}), "wrong_type"),
    ("an array for a number", document(temperature=[20.0]), "wrong_type"),
    ("an ISO time", document(timestamp="2026-03-01T12:00:00Z"), "wrong_type"),
    ("milliseconds with a point", raw("timestamp", f"{NOON_MS}.0"), "wrong_type"),
    ("milliseconds with an exponent", raw("timestamp", "1.7e12"), "wrong_type"),
    ("milliseconds beyond 64 bits", raw("timestamp", "9" * 30), "wrong_type"),
    ("a number as meter id", document(meterId=4711), "wrong_type"),
    ("true as meter id", document(meterId=True), "wrong_type"),
    ("an object as meter id", document(meterId={"id": "m1"}), "wrong_type"),
    ("a number as status", document(status=0), "wrong_type"),
    ("an array as status", document(status=["OK"]), "wrong_type"),
    ("an object as status", document(status={}), "wrong_type"),
    ("no fields", b"{}", "missing_meter_id"),
    ("unknown fields only", b'{"x":1}', "missing_meter_id"),
    ("no meter id", without("meterId"), "missing_meter_id"),
    ("an empty meter id", document(meterId=""), "missing_meter_id"),
    ("a meter id in other letters", GOOD.replace(b"meterId", b"METERID"), "missing_meter_id"),
    ("nothing but nulls", json.dumps(dict.fromkeys(READING)).encode(), "missing_meter_id"),
    ("no timestamp", without("timestamp"), "missing_timestamp"),
    ("a null timestamp", document(timestamp=None), "missing_timestamp"),
    ("no voltage", without("voltage"), "missing_measurement"),
    ("a null current", document(current=None), "missing_measurement"),
    ("no temperature", without("temperature"), "missing_measurement"),
    ("a bare NaN", raw("voltage", "NaN"), "not_finite"),
    ("NaN as text", document(voltage="NaN"), "not_finite"),
    ("a bare Infinity", raw("temperature", "Infinity"), "not_finite"),
    ("a bare -Infinity", raw("current", "-Infinity"), "not_finite"),
    ("Infinity as text", document(current="Infinity"), "not_finite"),
    ("an overflowing number", raw("current", "1e400"), "not_finite"),
    ("a voltage above the legal range", raw("voltage", "1000000.1"), "out_of_range"),
    ("a voltage below the legal range", document(voltage=-1_000_001), "out_of_range"),
    ("an integer of 30 digits", raw("current", "9" * 30), "out_of_range"),
    ("a temperature below absolute zero", document(temperature=-273.1), "out_of_range"),
    ("a temperature above the legal range", document(temperature=1000.5), "out_of_range"),
    ("a time before 1970", document(timestamp=-1), "out_of_range"),
    ("a time after the year 9999", document(timestamp=253_402_300_800_000), "out_of_range"),
    ("the largest 64-bit time", document(timestamp=2**63 - 1), "out_of_range"),
    ("the least 64-bit time", document(timestamp=-(2**63)), "out_of_range"),
    ("a path as meter id", document(meterId="m1/../2"), "bad_meter_id"),
    ("a space in the meter id", document(meterId="m 1"), "bad_meter_id"),
    ("a line break after the meter id", document(meterId="m1\n"), "bad_meter_id"),
    ("a meter id that starts with a point", document(meterId=".m1"), "bad_meter_id"),
    ("letters outside ASCII in the meter id", document(meterId="métér"), "bad_meter_id"),
    ("a meter id of 65 characters", document(meterId="m" * 65), "bad_meter_id"),
    ("a status of 257 characters", document(status="x" * 257), "bad_status"),
    ("a clock just beyond the skew", document(timestamp=ms(5.001)), "future_timestamp"),
    ("a clock in the year 2100", document(timestamp=4_102_444_800_000), "future_timestamp"),
    ("a time just beyond the age limit", document(timestamp=OLDEST_MS - 1), "too_old"),
    ("seconds instead of milliseconds", document(timestamp=NOON_MS // 1000), "too_old"),
]
ACCEPTED: list[tuple[str, bytes, dict[str, Any]]] = [
    ("the ordinary document", GOOD, {}),
    ("white space around it", b"\r\n\t " + GOOD + b" \n", {}),
    ("an indented document", json.dumps(READING, indent=2).encode(), {}),
    ("a space before the colons", json.dumps(READING, separators=(" , ", " : ")).encode(), {}),
    ("fields in another order", json.dumps(dict(reversed(READING.items()))).encode(), {}),
    ("whole numbers for measurements", document(voltage=230, current=5, temperature=20), {}),
    ("exponents", raw("voltage", "2.3e2"), {}),
    ("a null status", document(status=None), {"status": None}),
    ("no status", without("status"), {"status": None}),
    ("an empty status", document(status=""), {"status": ""}),
    ("a status of 256 characters", document(status="x" * 256), {"status": "x" * 256}),
    ("braces and brackets in a string", document(status='}{[]":,'), {"status": '}{[]":,'}),
    ("a document in a string", document(status='{"voltage":1}'), {"status": '{"voltage":1}'}),
    (
        "letters of other scripts",
        document(status="störung 故障").decode("unicode_escape").encode(),
        {"status": "störung 故障"},
    ),
    ("escapes in a string", raw("status", r'"\"\\\/\b\f\n\r\t\u00e9"'), {"status": '"\\/\b\f\n\r\té'}),
    ("a surrogate pair", raw("status", r'"\ud83d\ude00"'), {"status": "😀"}),
    ("an escaped field name", GOOD.replace(b'"meterId"', rb'"\u006deterId"'), {}),
    ("a meter id of 64 characters", document(meterId="m" * 64), {"meter_id": "m" * 64}),
    ("every character a meter id may have", document(meterId="Az09._:-"), {"meter_id": "Az09._:-"}),
    ("the clock at the skew", document(timestamp=ms(5)), {"event_ms": ms(5)}),
    ("a time at the age limit", document(timestamp=OLDEST_MS), {"event_ms": OLDEST_MS}),
    ("odd milliseconds", document(timestamp=NOON_MS - 877), {"event_ms": NOON_MS - 877}),
    ("a voltage at the legal limit", document(voltage=-1e6), {"voltage_v": -1e6}),
    ("a temperature at the legal limits", document(temperature=-273), {"temperature_c": -273.0}),
    ("a negative zero", raw("current", "-0.0"), {"current_a": 0.0}),
    ("an unknown field", adding('"x":1'), {"extra": {"x": 1}}),
    ("an unknown field with a space before its colon", adding('"x" :1'), {"extra": {"x": 1}}),
    ("an unknown null", adding('"x":null'), {"extra": {"x": None}}),
    ("an unknown object", adding('"x":{"a":[1,{"b":"}"}]}'), {"extra": {"x": {"a": [1, {"b": "}"}]}}}),
    ("an unknown field with an empty name", adding('"":true'), {"extra": {"": True}}),
    ("a field in other letters", adding('"Voltage":1'), {"extra": {"Voltage": 1}}),
    ("a field whose name has quotes", adding(r'"a\"b":"c\"d"'), {"extra": {'a"b': 'c"d'}}),
    (
        "the name of a field inside an unknown one",
        adding('"x":{"voltage":1}'),
        {"extra": {"x": {"voltage": 1}}},
    ),
    (
        "an unknown field in place of the status",
        adding('"x":2').replace(b'"status":"OK",', b""),
        {"status": None, "extra": {"x": 2}},
    ),
]


@pytest.fixture(scope="module")
def outcomes(spark: SparkSession) -> dict[bytes | None, Row]:
    """Every record of the tables above and of the generator's malformed kinds, decided in one frame."""
    values = [value for _, value, _ in (*REJECTED, *ACCEPTED)] + [made(v) for v in VARIANTS if v != "future_clock"]
    rows = decide(spark, values, Settings()).orderBy("kafka_offset").collect()
    assert len(rows) == len(values)
    return dict(zip(values, rows, strict=True))


def made(variant: str) -> bytes | None:
    """The generator's malformed record of a kind."""
    return make_malformed(variant, GOOD)


@pytest.mark.parametrize(("name", "value", "reason"), REJECTED, ids=[name for name, *_ in REJECTED])
def test_record_is_rejected(outcomes: dict[bytes | None, Row], name: str, value: bytes | None, reason: str) -> None:
    row = outcomes[value]
    assert row["reason"] == reason
    assert (None if row["value"] is None else bytes(row["value"])) == value, "all bytes are kept"
    assert row["event_ts"] is None, "a rejected record's clock moves nothing"


@pytest.mark.parametrize(("name", "value", "changed"), ACCEPTED, ids=[name for name, *_ in ACCEPTED])
def test_record_is_accepted(
    outcomes: dict[bytes | None, Row], name: str, value: bytes, changed: dict[str, Any]
) -> None:
    row, expected = outcomes[value], {**VALUES, "event_ms": NOON_MS, **changed}
    assert row["reason"] is None
    found = {**{column: row[column] for column in VALUES}, "event_ms": epoch_ms(row["event_ts"])}
    found["extra"] = found["extra"] and json.loads(found["extra"])
    assert found == expected
    assert row["value"] is None, "the bytes of a reading are not kept twice"


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "future_clock"])
def test_malformed_kind_of_the_generator_gets_its_reason(outcomes: dict[bytes | None, Row], variant: str) -> None:
    assert outcomes[made(variant)]["reason"] == expected_reason(variant)


def test_every_reason_is_reached_and_named_in_the_contract() -> None:
    assert {reason for _, _, reason in REJECTED} == set(REASONS) == set(rejection_reasons())


@settings(max_examples=3, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
@given(seed=st.integers(0, 2**32 - 1))
def test_any_bytes_get_one_outcome_and_what_is_accepted_is_valid(spark: SparkSession, seed: int) -> None:
    """3,000 records a frame: no crash, and accepted exactly when a strict reader of the contract accepts."""
    values = make_documents(seed, 3000)
    limits = Settings().input
    rows = decide(spark, values, Settings()).select("kafka_offset", "reason").orderBy("kafka_offset").collect()
    assert [row["kafka_offset"] for row in rows] == list(range(len(values)))
    assert {row["reason"] for row in rows} <= {None, *REASONS}
    valid = [is_valid(value, max_skew_s=limits.max_skew, max_age_s=limits.max_age) for value in values]
    assert 0.1 < sum(valid) / len(valid) < 0.9
    wrong = [
        (v, row["reason"]) for v, row, ok in zip(values, rows, valid, strict=True) if ok != (row["reason"] is None)
    ]
    assert wrong == []


EDGES: dict[str, list[Any]] = {
    "meterId": ["m" * 64, "m" * 65, "m 1", "m1:a.b-c_d", ".m", ""],
    "timestamp": [NOON_MS + 5000, NOON_MS + 5001, OLDEST_MS, OLDEST_MS - 1, -1, 0, 10**15, 10**18, float(NOON_MS)],
    "voltage": [1e6, 1000000.01, -1e6, -1000001, 999999999.5, 1e10, 12345678901],
    "temperature": [-273, -273.1, 1000, 1000.5],
    "status": ["", "x" * 256, "x" * 257, "[~]", "café", "tab\t", None, "null"],
}
"""Values on both sides of every limit that the pattern of plain documents knows."""


def test_a_plain_document_is_decided_as_the_same_fields_in_another_order(spark: SparkSession) -> None:
    documents = [{**READING, name: value} for name, values in EDGES.items() for value in values]
    plain = [json.dumps(one, separators=separators).encode() for one in documents for separators in (None, (",", ":"))]
    turned = [
        json.dumps(dict(reversed(one.items())), separators=separators).encode()
        for one in documents
        for separators in (None, (",", ":"))
    ]
    rows = decide(spark, [*plain, *turned], Settings()).orderBy("kafka_offset").collect()
    found = [(row["reason"], *(row[column] for column in VALUES)) for row in rows]
    assert found[: len(plain)] == found[len(plain) :]
    assert {reason for reason, *_ in found} >= {None, "out_of_range", "bad_meter_id", "bad_status", "too_old"}


@pytest.mark.parametrize(("query", "times"), [("archive", 1), ("windows", 0)])
def test_plan_parses_each_record_once(spark: SparkSession, query: str, times: int) -> None:
    """A filter pushed below the parse would repeat it: five `from_json` cost twice the time of one."""
    planned = archive_plan(spark) if query == "archive" else windows.build(empty_table(spark, "readings"), Settings())
    width = "spark.sql.debug.maxToStringFields"
    before = spark.conf.get(width)
    spark.conf.set(width, 100_000)
    try:
        plan = planned._jdf.queryExecution().executedPlan().toString()
    finally:
        spark.conf.set(width, before)
    assert plan.count("from_json(") == times


def archive_plan(spark: SparkSession) -> DataFrame:
    """The archive's plan over a batch of Kafka records."""
    flagged = archive.build(kafka_frame(spark, [GOOD]), meters=empty_table(spark, "meters"), settings=Settings())
    return archive.judge(flagged, empty_table(spark, "baselines"), settings=Settings())
