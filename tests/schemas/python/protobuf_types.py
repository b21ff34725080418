"""Writes with Google's own library what `framework/src/schemas/protobuf_types.rs` reads: no words

Prints one JSON object a line: a name, the message in hex, and its fields.
"""

import json
import random

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

F = descriptor_pb2.FieldDescriptorProto
SCALARS = [("double", F.TYPE_DOUBLE), ("float", F.TYPE_FLOAT), ("int32", F.TYPE_INT32), ("int64", F.TYPE_INT64),
           ("uint32", F.TYPE_UINT32), ("uint64", F.TYPE_UINT64), ("sint32", F.TYPE_SINT32),
           ("sint64", F.TYPE_SINT64), ("fixed32", F.TYPE_FIXED32), ("fixed64", F.TYPE_FIXED64),
           ("sfixed32", F.TYPE_SFIXED32), ("sfixed64", F.TYPE_SFIXED64), ("bool", F.TYPE_BOOL),
           ("string", F.TYPE_STRING), ("bytes", F.TYPE_BYTES)]


def all_types():
    file = descriptor_pb2.FileDescriptorProto(name="all.proto", package="test", syntax="proto3")
    message = file.message_type.add(name="All")
    for number, (name, kind) in enumerate(SCALARS, 1):
        message.field.add(name=f"a_{name}", number=number, type=kind, label=F.LABEL_OPTIONAL)
    message.field.add(name="packed", number=20, type=F.TYPE_SINT64, label=F.LABEL_REPEATED)
    plain = message.field.add(name="plain", number=21, type=F.TYPE_INT32, label=F.LABEL_REPEATED)
    plain.options.packed = False
    entry = message.nested_type.add(name="LabelsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=F.TYPE_INT64, label=F.LABEL_OPTIONAL)
    message.field.add(name="labels", number=22, type=F.TYPE_MESSAGE, type_name=".test.All.LabelsEntry",
                      label=F.LABEL_REPEATED)
    message.field.add(name="next", number=23, type=F.TYPE_MESSAGE, type_name=".test.All", label=F.LABEL_OPTIONAL)
    message.oneof_decl.add(name="choice")
    for number, (name, kind) in enumerate([("left", F.TYPE_STRING), ("right", F.TYPE_INT64)], 24):
        message.field.add(name=name, number=number, type=kind, label=F.LABEL_OPTIONAL, oneof_index=0)
    # A newer schema has it; the reader's does not.
    message.field.add(name="newer", number=100, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    enum = file.enum_type.add(name="Kind")
    enum.value.add(name="NEW", number=0)
    message.field.add(name="kind", number=26, type=F.TYPE_ENUM, type_name=".test.Kind", label=F.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.All"))


ALL = all_types()
RNG = random.Random(18)
LIMITS = {"int32": (-2**31, 2**31 - 1), "int64": (-2**63, 2**63 - 1), "uint32": (0, 2**32 - 1),
          "uint64": (0, 2**64 - 1)}


def number(kind):
    least, most = LIMITS[{"s": "int", "f": "uint"}.get(kind[0], kind[:-2]).replace("sint", "int") + kind[-2:]]
    if kind.startswith("sfixed"):
        least, most = LIMITS["int" + kind[-2:]]
    return RNG.choice([0, least, most, 1, 127, 128, RNG.randint(least, most)])


def filled(depth):
    message, fields = ALL(), {}
    for name, _ in SCALARS:
        if RNG.random() < 0.3:
            continue
        if name in ("double", "float"):
            value = RNG.choice([0.0, 1.5, -2.25, 1e10])
        elif name == "bool":
            value = RNG.random() < 0.5
        elif name == "string":
            value = "".join(RNG.choice("a\u00e4\u20ac\U0001f600") for _ in range(RNG.randint(0, 9)))
        elif name == "bytes":
            value = RNG.randbytes(RNG.randint(0, 9))
        else:
            value = number(name)
        setattr(message, f"a_{name}", value)
        fields[f"a_{name}"] = value.hex() if name == "bytes" else value
    packed = [number("sint64") for _ in range(RNG.randint(0, 4))]
    plain = [number("int32") for _ in range(RNG.randint(0, 4))]
    labels = {f"k{key}": number("int64") for key in range(RNG.randint(0, 3))}
    message.packed.extend(packed)
    message.plain.extend(plain)
    message.labels.update(labels)
    fields.update(packed=packed, plain=plain, labels=labels)
    match RNG.randint(0, 2):
        case 0:
            message.left = fields["left"] = "l"
        case 1:
            message.right = fields["right"] = number("int64")
    if RNG.random() < 0.3:
        message.kind = fields["kind"] = RNG.choice([0, 7])
    if RNG.random() < 0.3:
        message.newer = "n"
    if depth < 3 and RNG.random() < 0.6:
        inner, fields["next"] = filled(depth + 1)
        message.next.CopyFrom(inner)
    return message, fields


for case in range(60):
    message, fields = filled(0)
    print(json.dumps({"message": message.SerializeToString().hex(), "fields": fields}))
