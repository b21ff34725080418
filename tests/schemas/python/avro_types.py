"""Writes with fastavro what `framework/src/schemas/avro/types.rs` reads: no words

Prints one JSON object a line: a name, the schema of a record with a field of the type and one behind it, and a
datum in hex.
"""

import datetime
import io
import json
import uuid
from decimal import Decimal

import fastavro

ID = uuid.UUID("0192f3a4-6c1e-7d6a-9a0e-2f6f4f7f9a11")
TIME = datetime.datetime(2018, 4, 5, 17, 31, 0, 123456, tzinfo=datetime.timezone.utc)
X = [{"name": "x", "type": "int"}]
UNION = ["null", "long", "string", {"type": "record", "name": "A", "namespace": "shop", "fields": X},
         {"type": "record", "name": "B", "namespace": "shop", "fields": X},
         {"type": "record", "name": "C", "namespace": "shop", "fields": X}]


def logical(kind, name, **more):
    return {"type": kind, "logicalType": name, **more}


def fixed(size, **more):
    return {"type": "fixed", "name": "Fixed", "size": size, **more}


TYPES = {
    "null": ("null", None),
    "boolean": ("boolean", True),
    "int": ("int", -7),
    "long": ("long", 1 << 40),
    "float": ("float", 1.5),
    "double": ("double", 0.1),
    "string": ("string", "h\u00e9"),
    "bytes": ("bytes", b"\x00\xff\x07"),
    "fixed": (fixed(4), b"\x01\x02\x03\x04"),
    "array": ({"type": "array", "items": "double"}, [1.5, 2.5]),
    "map": ({"type": "map", "values": "long"}, {"a": 1}),
    "record": ({"type": "record", "name": "A", "fields": X}, {"x": 3}),
    "enum": ({"type": "enum", "name": "Kind", "symbols": ["New", "Used"]}, "Used"),
    "enum of more": ({"type": "enum", "name": "Kind", "symbols": ["New", "Lent"]}, "Lent"),
    "enum in a string": ("string", "New"),
    "option": (["null", "long"], 5),
    "option of null": (["null", "long"], None),
    "union of long": (UNION, 5),
    "union of string": (UNION, "s"),
    "union of null": (UNION, None),
    "union of a record": (UNION, ("shop.A", {"x": 3})),
    "union of another record": (UNION, ("shop.B", {"x": 4})),
    "union of an unknown record": (UNION, ("shop.C", {"x": 5})),
    "decimal": (logical("bytes", "decimal", precision=9, scale=2), Decimal("-123.45")),
    "decimal without scale": (logical("bytes", "decimal", precision=9), Decimal("12345")),
    "decimal of 38 digits": (logical("bytes", "decimal", precision=38, scale=10),
                             Decimal("1234567890123456789012345678.9012345678")),
    "decimal of 64 digits": (logical("bytes", "decimal", precision=64), Decimal("1234567890" * 6 + "1234")),
    "decimal of fixed": (fixed(20, logicalType="decimal", precision=38, scale=32), Decimal("-1.2345E-28")),
    "decimal without precision": (logical("bytes", "decimal"), b"\x30\x39"),
    "uuid": (logical("string", "uuid"), ID),
    "uuid of fixed": (fixed(16, logicalType="uuid"), ID.bytes),
    "date": (logical("int", "date"), datetime.date(2024, 2, 29)),
    "time-millis": (logical("int", "time-millis"), datetime.time(23, 59, 59, 999000)),
    "time-micros": (logical("long", "time-micros"), datetime.time(23, 59, 59, 999999)),
    "timestamp-millis": (logical("long", "timestamp-millis"), TIME),
    "timestamp-micros": (logical("long", "timestamp-micros"), TIME),
    "local-timestamp-millis": (logical("long", "local-timestamp-millis"), TIME.replace(tzinfo=None)),
    "duration": (fixed(12, logicalType="duration"), b"\1\0\0\0\2\0\0\0\3\0\0\0"),
    "map of decimals": ({"type": "map", "values": logical("bytes", "decimal", precision=4, scale=1)},
                        {"a": Decimal("1.0")}),
    "array of uuids": ({"type": "array", "items": logical("string", "uuid")}, [ID]),
    "array of options of dates": ({"type": "array", "items": ["null", logical("int", "date")]},
                                  [None, datetime.date(2024, 2, 29)]),
    "union of timestamp": (["null", "string", logical("long", "timestamp-millis")], TIME),
    "array of an empty record": (
        {"type": "array", "items": {"type": {"type": "record", "name": "Empty", "fields": []}}}, [{}, {}]),
}


def without(schema, name):
    """fastavro refuses a logical type that the specification ignores, and a type around a type."""
    if isinstance(schema, dict) and isinstance(schema.get("type"), dict):
        return schema["type"]
    if isinstance(schema, dict):
        return {key: without(value, name) for key, value in schema.items() if value != name}
    return schema


for name, (kind, value) in TYPES.items():
    schema = {"type": "record", "name": "Around",
              "fields": [{"name": "field", "type": kind}, {"name": "behind", "type": "string"}]}
    own = {"uuid of fixed": "uuid", "duration": "duration", "decimal without precision": "decimal"}.get(name)
    parsed = fastavro.parse_schema(json.loads(json.dumps(
        {**schema, "fields": [{**schema["fields"][0], "type": without(kind, own)}, schema["fields"][1]]})))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, {"field": value, "behind": "behind"})
    print(json.dumps({"name": name, "schema": schema, "datum": out.getvalue().hex()}))
