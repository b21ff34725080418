"""Makes up Avro schemas and values, and writes and reads them with fastavro: SEED COUNT

Prints one JSON object a line: the writer's schema, a datum in hex, and its value; and a reader's schema with what
fastavro reads by it, or `"refused": true` where it does not.
"""

import copy
import io
import json
import random
import struct
import sys
from decimal import Decimal

import fastavro
from fastavro.schema import SchemaParseException


BLOB = "\u00ff\u0000a"


class Maker:
    def __init__(self, rng):
        self.rng, self.names = rng, 0

    def name(self, kind):
        self.names += 1
        return f"{kind}{self.names}"

    def schema(self, depth=0, in_union=False):
        simple = ["null", "boolean", "int", "long", "float", "double", "bytes", "string", "fixed", "enum", "decimal",
                  "fixed decimal", "uuid", "date", "time-millis", "time-micros", "timestamp-millis",
                  "timestamp-micros"]
        complex = ["array", "map", "record", "record"] + ([] if in_union else ["union", "option", "option"])
        kind = self.rng.choice(simple if depth > 3 else simple + 3 * complex)
        return self.of(kind, depth)

    def of(self, kind, depth):
        rng = self.rng
        match kind:
            case "array":
                return {"type": "array", "items": self.filled(depth)}
            case "map":
                return {"type": "map", "values": self.schema(depth + 1)}
            case "record":
                fields = [{"name": f"f{place}", "type": self.schema(depth + 1)} for place in range(rng.randint(1, 5))]
                return {"type": "record", "name": self.name("R"), "namespace": rng.choice(["a", "a.b", "c"]),
                        "fields": fields}
            case "option":
                inner = self.schema(depth + 1, in_union=True)
                branches = ["null", inner] if inner != "null" else ["null", "int"]
                return branches if rng.random() < 0.7 else branches[::-1]
            case "union":
                branches, kinds = [], set()
                for _ in range(rng.randint(2, 5)):
                    branch = self.schema(depth + 1, in_union=True)
                    base = branch if isinstance(branch, str) else branch["type"]
                    if base not in kinds or base in ("record", "enum", "fixed"):
                        branches.append(branch)
                        kinds.add(base)
                return branches
            case "fixed":
                return {"type": "fixed", "name": self.name("F"), "size": rng.choice([1, 4, 16, 20])}
            case "enum":
                return {"type": "enum", "name": self.name("E"), "symbols": [f"S{n}" for n in range(rng.randint(1, 6))]}
            case "decimal":
                precision = rng.choice([1, 5, 18, 28, 38, 64])
                schema = {"type": "bytes", "logicalType": "decimal", "precision": precision}
                if rng.random() < 0.8:
                    schema["scale"] = rng.randint(0, precision)
                return schema
            case "fixed decimal":
                size = rng.choice([4, 8, 16, 20])
                return {"type": "fixed", "name": self.name("D"), "size": size, "logicalType": "decimal",
                        "precision": 2 * size, "scale": rng.randint(0, 2 * size)}
            case "uuid":
                return {"type": "string", "logicalType": "uuid"}
            case "date" | "time-millis":
                return {"type": "int", "logicalType": kind}
            case "time-micros" | "timestamp-millis" | "timestamp-micros":
                return {"type": "long", "logicalType": kind}
            case _:
                return kind

    def filled(self, depth):
        """Items that take no room have a limit."""
        while True:
            schema = self.schema(depth + 1)
            if schema != "null" and not (isinstance(schema, dict) and schema["type"] == "record"):
                return schema

    def value(self, schema):
        """A value as fastavro writes it without logical types, and as Onceward is to read it."""
        rng = self.rng
        if isinstance(schema, list):
            branch = rng.choice(schema)
            raw, seen = self.value(branch)
            return Branch(schema.index(branch), raw), seen
        kind = schema if isinstance(schema, str) else schema["type"]
        logical = None if isinstance(schema, str) else schema.get("logicalType")
        match kind:
            case "null":
                return None, None
            case "boolean":
                value = rng.random() < 0.5
                return value, value
            case "int":
                most = {"time-millis": (0, 86_399_999), "date": (-100_000, 100_000)}.get(logical, (-2**31, 2**31 - 1))
                value = self.whole(*most)
                return value, value
            case "long":
                most = {"time-micros": (0, 86_399_999_999), "timestamp-millis": (-10**13, 10**13),
                        "timestamp-micros": (-10**16, 10**16)}.get(logical, (-2**63, 2**63 - 1))
                value = self.whole(*most)
                return value, value
            case "float":
                value = struct.unpack("<f", struct.pack("<f", rng.uniform(-1e6, 1e6)))[0]
                return value, of_float(value)
            case "double":
                value = rng.choice([0.0, -0.0, 1e300, 5e-324, rng.uniform(-1e9, 1e9)])
                return value, of_float(value)
            case "string":
                if logical == "uuid":
                    value = f"{rng.getrandbits(128):032x}"
                    value = "-".join([value[:8], value[8:12], value[12:16], value[16:20], value[20:]])
                else:
                    value = "".join(rng.choice("aä€😀\n\"{}0") for _ in range(rng.randint(0, 70)))
                return value, value
            case "bytes":
                if logical == "decimal":
                    return self.decimal(schema, None)
                value = rng.randbytes(rng.choice([0, 1, 63, 64, 200]))
                return value, {"bytes": value.hex()}
            case "fixed":
                if logical == "decimal":
                    return self.decimal(schema, schema["size"])
                value = rng.randbytes(schema["size"])
                return value, {"bytes": value.hex()}
            case "enum":
                value = rng.choice(schema["symbols"])
                return value, value
            case "array":
                pairs = [self.value(schema["items"]) for _ in range(rng.choice([0, 1, 2, 3, 7]))]
                return [raw for raw, _ in pairs], [seen for _, seen in pairs]
            case "map":
                pairs = {f"k{key}": self.value(schema["values"]) for key in range(rng.choice([0, 1, 3]))}
                return {k: raw for k, (raw, _) in pairs.items()}, {"map": {k: seen for k, (_, seen) in pairs.items()}}
            case "record":
                pairs = {field["name"]: self.value(field["type"]) for field in schema["fields"]}
                return {k: raw for k, (raw, _) in pairs.items()}, {"map": {k: seen for k, (_, seen) in pairs.items()}}

    def whole(self, least, most):
        near = [number for number in (0, 1, -1, 63, 64, -64, -65, 8191, 8192, least, most) if least <= number <= most]
        return self.rng.choice(near + [self.rng.randint(least, most)])

    def decimal(self, schema, size):
        digits = self.rng.randint(0, schema["precision"])
        number = self.rng.randint(-(10**digits) + 1, 10**digits - 1) if digits else 0
        raw = number.to_bytes(size or max(1, (number.bit_length() + 8) // 8), "big", signed=True)
        scale = schema.get("scale", 0)
        text = str(abs(number)).rjust(scale + 1, "0")
        text = ("-" if number < 0 else "") + (f"{text[:-scale]}.{text[-scale:]}" if scale else text)
        assert Decimal(text).scaleb(scale, decimal_context()) == number
        return raw, text


class Branch:
    """A value with the number of its branch: fastavro would look for one that fits."""

    def __init__(self, number, value):
        self.number, self.value = number, value


def decimal_context():
    import decimal
    return decimal.Context(prec=400)


def of_float(value):
    return {"float": struct.pack(">d", value).hex()}


def without_logical(schema):
    match schema:
        case list():
            return [without_logical(branch) for branch in schema]
        case dict():
            left_out = ("logicalType", "precision", "scale")
            return {k: without_logical(v) if k in ("items", "values", "type", "fields") else v
                    for k, v in schema.items() if k not in left_out}
        case _:
            return schema


def written(schema, raw):
    """The datum. Unions are written branch by branch."""
    out = io.BytesIO()
    write(out, without_logical(schema), raw)
    return out.getvalue()


def write(out, schema, raw):
    if isinstance(raw, Branch):
        fastavro.schemaless_writer(out, "long", raw.number)
        return write(out, schema[raw.number], raw.value)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        for field in schema["fields"]:
            write(out, field["type"], raw[field["name"]])
    elif kind in ("array", "map"):
        items = raw if kind == "array" else list(raw.items())
        # In one block or in two, and with its length or without.
        for block in blocks(items):
            body = io.BytesIO()
            for item in block:
                if kind == "map":
                    fastavro.schemaless_writer(body, "string", item[0])
                write(body, schema["items" if kind == "array" else "values"], item if kind == "array" else item[1])
            if len(block) % 2:
                fastavro.schemaless_writer(out, "long", len(block))
            else:
                fastavro.schemaless_writer(out, "long", -len(block))
                fastavro.schemaless_writer(out, "long", len(body.getvalue()))
            out.write(body.getvalue())
        fastavro.schemaless_writer(out, "long", 0)
    else:
        fastavro.schemaless_writer(out, schema, raw)


def blocks(items):
    if len(items) > 3:
        return [items[:3], items[3:]]
    return [items] if items else []


def reader_of(rng, maker, schema):
    """The schema, changed as readers' schemas are."""
    match schema:
        case list():
            branches = [reader_of(rng, maker, branch) for branch in schema]
            if rng.random() < 0.3:
                branches = branches[::-1]
            return branches
        case {"type": "record"}:
            schema = copy.copy(schema)
            fields = []
            for field in schema["fields"]:
                choice = rng.random()
                if choice < 0.15:
                    continue
                field = {"name": field["name"], "type": reader_of(rng, maker, field["type"])}
                if choice < 0.3:
                    field = {"name": field["name"] + "new", "type": field["type"], "aliases": [field["name"]]}
                fields.append(field)
            if rng.random() < 0.4:
                fields.append({"name": "more", "type": ["null", "string"], "default": None})
            if rng.random() < 0.4:
                fields.insert(0, {"name": "first", "type": "long", "default": 7})
            if rng.random() < 0.3:
                fields.append({"name": "blob", "type": "bytes", "default": BLOB})
            if rng.random() < 0.3:
                rng.shuffle(fields)
            schema["fields"] = fields
            return schema
        case {"type": "array"}:
            return {"type": "array", "items": reader_of(rng, maker, schema["items"])}
        case {"type": "map"}:
            return {"type": "map", "values": reader_of(rng, maker, schema["values"])}
        case {"type": "enum"} if rng.random() < 0.3:
            return {**schema, "symbols": schema["symbols"][::-1][:3] + ["Other"], "default": "Other"}
        case "int" if rng.random() < 0.4:
            return rng.choice(["long", "double"])
        case "float" if rng.random() < 0.4:
            return "double"
        case "bytes" if rng.random() < 0.1:
            return ["null", "bytes"]
        case "string" if rng.random() < 0.3:
            return rng.choice(["bytes", ["null", "string"]])
        case _:
            return schema


def seen_by(schema, value):
    """What fastavro has read, without logical types, as Onceward is to read it."""
    if isinstance(schema, list):
        branch, value = value
        return seen_by(schema[branch], value)
    kind = schema if isinstance(schema, str) else schema["type"]
    if not isinstance(schema, str) and schema.get("logicalType") == "decimal":
        number, scale = int.from_bytes(value, "big", signed=True), schema.get("scale", 0)
        text = str(abs(number)).rjust(scale + 1, "0")
        return ("-" if number < 0 else "") + (f"{text[:-scale]}.{text[-scale:]}" if scale else text)
    match kind:
        case "float" | "double":
            return of_float(value)
        case "bytes" | "fixed":
            return {"bytes": value.hex()}
        case "array":
            return [seen_by(schema["items"], item) for item in value]
        case "map":
            return {"map": {key: seen_by(schema["values"], item) for key, item in value.items()}}
        case "record":
            fields = {field["name"]: field["type"] for field in schema["fields"]}
            return {"map": {name: seen_by(fields[name], item) for name, item in value.items()}}
        case _:
            return value


def has_union(schema):
    match schema:
        case list():
            return True
        case dict():
            return any(has_union(schema.get(part)) for part in ("items", "values", "type")) or any(
                has_union(field["type"]) for field in schema.get("fields", []))
        case _:
            return False


def main(seed, count):
    rng = random.Random(int(seed))
    left = int(count)
    while left:
        maker = Maker(rng)
        schema = maker.schema()
        raw, seen = maker.value(schema)
        datum = written(schema, raw)
        try:
            plain = fastavro.parse_schema(copy.deepcopy(without_logical(schema)))
        except SchemaParseException:
            continue
        back = fastavro.schemaless_reader(io.BytesIO(datum), plain, None)
        case = {"schema": schema, "datum": datum.hex(), "value": seen}
        if not has_union(schema):
            assert seen_by(schema, back) == seen, (schema, back, seen)
            reader = reader_of(rng, maker, schema)
            case["reader"] = reader
            try:
                by = fastavro.parse_schema(copy.deepcopy(without_logical(reader)))
                read = fastavro.schemaless_reader(io.BytesIO(datum), plain, by, return_named_type=True)
                case["read"] = seen_resolved(reader, read)
            except (fastavro.read.SchemaResolutionError, SchemaParseException):
                case["refused"] = True
        print(json.dumps(case))
        left -= 1


def seen_resolved(schema, value):
    """The same of a reader's schema, whose unions are of null and one other."""
    if isinstance(schema, list):
        if value is None:
            return None
        return seen_resolved([branch for branch in schema if branch != "null"][0], value)
    match schema:
        case {"type": "array"}:
            return [seen_resolved(schema["items"], item) for item in value]
        case {"type": "map"}:
            return {"map": {key: seen_resolved(schema["values"], item) for key, item in value.items()}}
        case {"type": "record"}:
            fields = {field["name"]: field["type"] for field in schema["fields"]}
            return {"map": {name: seen_resolved(fields[name], item) for name, item in value.items()}}
        # fastavro leaves a default, and a string that is read as bytes, as they are.
        case "bytes" if isinstance(value, str):
            return {"bytes": value.encode("latin-1" if value == BLOB else "utf-8").hex()}
        case _:
            return seen_by(schema, value)


main(*sys.argv[1:])
