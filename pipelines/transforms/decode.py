"""Kafka records to typed columns: one `from_json` a record, and a slow path only for the odd ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.contract import message
from pipelines.settings import InputFields

CORRUPT = "_corrupt"
"""Where `from_json` leaves the text of a document it could not parse."""

_JSON_OPTIONS = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": CORRUPT,
    "allowSingleQuotes": "false",
    # Bare NaN and Infinity become values here, so that they are rejected as not_finite and not as broken JSON.
    "allowNonNumericNumbers": "true",
}
_TYPES = (T.StringType(), T.LongType(), T.DoubleType(), T.DoubleType(), T.DoubleType(), T.StringType())


@dataclass(frozen=True)
class DocumentNames:
    """Names of the contract's fields in the user's documents."""

    fields: InputFields

    @property
    def schema(self) -> T.StructType:
        """Schema given to `from_json`."""
        timestamp = T.LongType() if self.fields.timestamp_unit == "ms" else T.DoubleType()
        types = (_TYPES[0], timestamp, *_TYPES[2:])
        pairs = zip(self.fields.names, types, strict=True)
        return T.StructType([T.StructField(n, t) for n, t in pairs] + [T.StructField(CORRUPT, T.StringType())])


def decode_readings(records: DataFrame, *, fields: InputFields) -> DataFrame:
    """Typed columns of Kafka records.

    In: key, value (binary), topic, partition, offset, timestamp, as the Kafka source gives them.
    Out: key, value, kafka_topic, kafka_partition, kafka_offset, kafka_ts, text (value as string), meter_id,
    event_ms (epoch ms), voltage_v, current_a, temperature_c, status, and what the checks need:
    `corrupt` (from_json gave up), `is_plain` (see `_plain_document`), `shape` (null for an ordinary document, else what
    the slow path saw: see `_look_closely`). No row is dropped. Stateless.
    """
    names = DocumentNames(fields)
    with_text = records.select(
        "key",
        "value",
        F.col("topic").alias("kafka_topic"),
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
        F.col("timestamp").alias("kafka_ts"),
        F.col("value").cast("string").alias("text"),
    )
    parsed = with_text.withColumn("document", F.from_json("text", names.schema, _JSON_OPTIONS))
    document, corrupt = F.col("document"), F.col("document")[CORRUPT].isNotNull()
    is_plain = F.coalesce(~corrupt & F.col("text").rlike(_plain_document(fields)), F.lit(False))
    parsed = parsed.withColumn("is_plain", is_plain)
    # Branches, not a conjunction: of that Spark evaluates the parts that stand in it twice for every record.
    shape = F.when(F.col("is_plain"), None).when(corrupt | ~_is_ordinary(document, fields), _look_closely(fields))
    return parsed.select(
        *with_text.columns,
        document[fields.meter_id].alias("meter_id"),
        _event_ms(document[fields.timestamp], fields).alias("event_ms"),
        (document[fields.voltage] * F.lit(fields.voltage_scale)).alias("voltage_v"),
        (document[fields.current] * F.lit(fields.current_scale)).alias("current_a"),
        _celsius(document[fields.temperature], fields).alias("temperature_c"),
        document[fields.status].alias("status"),
        corrupt.alias("corrupt"),
        "is_plain",
        shape.alias("shape"),
    )


def trimmed_text() -> Column:
    """The document without the white space that JSON allows around it."""
    return F.expr(r"trim(BOTH ' \t\r\n' FROM text)")


def _event_ms(timestamp: Column, fields: InputFields) -> Column:
    if fields.timestamp_unit == "ms":
        return timestamp
    seconds = F.when(F.abs(timestamp) < F.lit(1e15), timestamp)
    return F.coalesce(F.round(seconds * 1000).try_cast("long"), F.when(timestamp.isNotNull(), F.lit(-1)))


def _celsius(temperature: Column, fields: InputFields) -> Column:
    match fields.temperature_unit:
        case "F":
            return (temperature - 32) * F.lit(5 / 9)
        case "K":
            return temperature - F.lit(273.15)
        case _:
            return temperature


def _plain_document(fields: InputFields) -> str:
    """Pattern of a document that needs no further test of its text: the contract's fields in the contract's order,
    compact or with one space after colons and commas, ASCII texts within their limits, numbers without exponent.

    Cheaper than the tests of `_is_ordinary` and the checks of texts, which other orders take (docs/adr/0004).
    """
    number = r"-?[0-9]{1,9}+(?:\.[0-9]{1,17}+)?+"
    values = {
        fields.meter_id: _quoted("meter_id"),
        fields.timestamp: "[0-9]{1,15}+" if fields.timestamp_unit == "ms" else r"[0-9]{1,12}+(?:\.[0-9]{1,9}+)?+",
        fields.voltage: number,
        fields.current: number,
        fields.temperature: number,
    }
    needed = ", ?".join(f'"{re.escape(name)}": ?{value}' for name, value in values.items())
    status = f'"{re.escape(fields.status)}": ?(?:null|{_quoted("status")})'
    return rf"\A\{{{needed}(?:, ?{status})?+\}}\z"


def _quoted(column: str) -> str:
    """Pattern of a JSON string within the contract's limits, without escapes."""
    field = message("sensor_reading").field(column)
    inner = field.pattern.strip("^$") if field.pattern else r"[ !#-\[\]-~]*+"
    return rf'"(?=[^"]{{0,{field.max_length}}}"){inner}"'


def _is_ordinary(document: Column, fields: InputFields) -> Column:
    """Whether cheap text tests already prove: one flat document, known fields only, texts quoted.

    Anything else (unknown fields, nested values, escapes, a second document) takes the slow path.
    """
    text = trimmed_text()
    present: Column = F.lit(0)
    for name in fields.names:
        present = present + F.when(document[name].isNotNull(), 1).otherwise(0)
    is_null = document[fields.status].isNull() & _stands_before(fields.status, "null")
    explicit_null = F.when(is_null, 1).otherwise(0)
    texts_are_quoted = _stands_before(fields.meter_id, '"') & (
        document[fields.status].isNull() | _stands_before(fields.status, '"')
    )
    return (
        F.col("text").isNotNull()
        & text.startswith("{")
        & text.endswith("}")
        & (_count("{") == 1)
        & (_count("}") == 1)
        & (_count("[") == 0)
        & (_count("\\") == 0)
        # Every field has a colon, whatever white space is before it: none is there twice, and none is unknown.
        & (_count(":") == present + explicit_null)
        & texts_are_quoted
    )


def _stands_before(name: str, start: str) -> Column:
    """Whether the value of a field begins so, in compact JSON or with one space after the colon."""
    text = F.col("text")
    return text.contains(f'"{name}":{start}') | text.contains(f'"{name}": {start}')


def _count(character: str) -> Column:
    text = F.col("text")
    removed = F.replace(text, F.lit(character), F.lit(""))
    return (F.length(text) - F.length(removed)) / F.lit(len(character))


def _look_closely(fields: InputFields) -> Column:
    """What a full parse sees: is_json (valid, no repeated field), is_single (nothing follows the document),
    texts_are_text (meter id and status are JSON strings), has_extra (fields that the contract does not know)."""
    text = F.col("text")
    variant = F.try_parse_json(text)
    known = F.array(*[F.lit(name) for name in fields.names])
    return F.struct(
        variant.isNotNull().alias("is_json"),
        # Wrapped as array and as object: text that closes one wrapper early does not fit the other.
        (
            (F.coalesce(F.json_array_length(F.concat(F.lit("["), text, F.lit("]"))), F.lit(0)) == 1)
            & (F.coalesce(F.size(F.json_object_keys(F.concat(F.lit('{"x":'), text, F.lit("}")))), F.lit(0)) == 1)
        ).alias("is_single"),
        (_is_text(variant, fields.meter_id) & _is_text(variant, fields.status)).alias("texts_are_text"),
        (F.size(F.array_except(F.json_object_keys(text), known)) > 0).alias("has_extra"),
    )


def extra_fields(text: Column, fields: InputFields) -> Column:
    """The fields of a JSON document that the contract does not know, as a JSON document; null for null.

    Kept out of the stream's own plan: a lambda there takes whole projections out of code generation.
    """
    known = F.array(*[F.lit(name) for name in fields.names])
    document = F.try_parse_json(text).try_cast("map<string, variant>")
    return F.to_json(F.map_filter(document, lambda name, _: ~F.array_contains(known, name)))


def _is_text(variant: Column, name: str) -> Column:
    """True for a JSON string, for null and for an absent field."""
    kind = F.schema_of_variant(F.try_variant_get(variant, f"$['{name}']", "variant"))
    return F.coalesce(kind.isin("STRING", "VOID"), F.lit(True))
