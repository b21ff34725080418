"""Prints what Python's Avro deserializer makes of a topic's first records: BROKERS REGISTRY TOPIC COUNT"""

import sys

from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


def main(brokers, registry, topic, count):
    deserializer = AvroDeserializer(SchemaRegistryClient({"url": registry}))
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    for _ in range(int(count)):
        message = consumer.poll(60)
        assert message is not None and message.error() is None, message and message.error()
        print(deserializer(message.value(), SerializationContext(topic, MessageField.VALUE))["number"])
    consumer.close()


main(*sys.argv[1:])
