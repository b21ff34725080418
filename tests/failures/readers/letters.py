"""Reads dead letters with confluent-kafka: letters.py BROKERS TOPIC COUNT

Prints one line a letter: key, value, the original's headers, and Spring's headers in Spring's encodings.
"""

import struct
import sys

from confluent_kafka import Consumer, TopicPartition

brokers, topic, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "letters", "enable.auto.commit": False})
consumer.assign([TopicPartition(topic, 0, 0)])


def show(data):
    return "null" if data is None else "x" + data.hex()


while left > 0:
    letter = consumer.poll(1.0)
    if letter is None:
        continue
    if letter.error():
        sys.exit(str(letter.error()))
    headers = letter.headers()
    ours = [name for name, _ in headers].index("onceward.dlq.topic")
    last = dict(headers)
    print(
        show(letter.key()),
        show(letter.value()),
        ",".join(f"{name}={show(value)}" for name, value in headers[:ours]),
        last["kafka_dlt-original-topic"].decode(),
        struct.unpack(">i", last["kafka_dlt-original-partition"])[0],
        struct.unpack(">q", last["kafka_dlt-original-offset"])[0],
        struct.unpack(">q", last["kafka_dlt-original-timestamp"])[0],
        last["kafka_dlt-exception-message"].decode(),
    )
    left -= 1
consumer.close()
