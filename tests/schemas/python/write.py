"""Writes numbers by Python's serializers: BROKERS REGISTRY TOPIC FORMAT NUMBER..."""

import sys

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

AVRO = '{"type": "record", "name": "Numbered", "fields": [{"name": "number", "type": "int"}]}'
JSON = """{"$schema": "http://json-schema.org/draft-07/schema#", "title": "Numbered", "type": "object",
           "properties": {"number": {"type": "integer"}}, "required": ["number"]}"""


def counted():
    """The message test.Counted, second in its file, as protoc would make it."""
    file = descriptor_pb2.FileDescriptorProto(name="counted.proto", package="test", syntax="proto3")
    file.message_type.add(name="Other")
    field = file.message_type.add(name="Counted").field.add(name="number", number=1)
    field.type, field.label = field.TYPE_INT64, field.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Counted"))


def main(brokers, registry, topic, form, *numbers):
    registry = SchemaRegistryClient({"url": registry})
    message = counted()
    serializer, value = {
        "avro": lambda: (AvroSerializer(registry, AVRO), lambda number: {"number": number}),
        "json": lambda: (JSONSerializer(JSON, registry), lambda number: {"number": number}),
        "protobuf": lambda: (
            ProtobufSerializer(message, registry, {"use.deprecated.format": False}),
            lambda number: message(number=number),
        ),
    }[form]()
    producer = Producer({"bootstrap.servers": brokers})
    context = SerializationContext(topic, MessageField.VALUE)
    for number in numbers:
        producer.produce(topic, serializer(value(int(number)), context))
    assert producer.flush(30) == 0


main(*sys.argv[1:])
