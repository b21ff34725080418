// Reads dead letters as a Spring Kafka application does: java -cp 'libs/*' Letters.java BROKERS TOPIC COUNT
// Prints one line a letter: what Spring's own constants and header mapper make of it.
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.support.*;

class Letters {
    public static void main(String[] args) {
        Map<String, Object> settings = Map.of(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        var factory = new DefaultKafkaConsumerFactory<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        int left = Integer.parseInt(args[2]);
        try (Consumer<byte[], byte[]> consumer = factory.createConsumer()) {
            var partition = new TopicPartition(args[1], 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            while (left > 0) {
                for (ConsumerRecord<byte[], byte[]> letter : consumer.poll(Duration.ofSeconds(1))) {
                    System.out.println(line(letter));
                    left--;
                }
            }
        }
    }

    static String line(ConsumerRecord<byte[], byte[]> letter) {
        var mapped = new HashMap<String, Object>();
        new DefaultKafkaHeaderMapper().toHeaders(letter.headers(), mapped);
        return String.join(" ",
            hex(letter.key()), hex(letter.value()),
            text(mapped, KafkaHeaders.DLT_ORIGINAL_TOPIC),
            "" + ByteBuffer.wrap((byte[]) mapped.get(KafkaHeaders.DLT_ORIGINAL_PARTITION)).getInt(),
            "" + ByteBuffer.wrap((byte[]) mapped.get(KafkaHeaders.DLT_ORIGINAL_OFFSET)).getLong(),
            "" + ByteBuffer.wrap((byte[]) mapped.get(KafkaHeaders.DLT_ORIGINAL_TIMESTAMP)).getLong(),
            text(mapped, KafkaHeaders.DLT_ORIGINAL_TIMESTAMP_TYPE),
            text(mapped, KafkaHeaders.DLT_ORIGINAL_CONSUMER_GROUP),
            text(mapped, KafkaHeaders.DLT_EXCEPTION_MESSAGE));
    }

    static String text(Map<String, Object> headers, String name) {
        Object value = headers.get(name);
        return value instanceof byte[] bytes ? new String(bytes) : String.valueOf(value);
    }

    static String hex(byte[] bytes) {
        return bytes == null ? "null" : "x" + HexFormat.of().formatHex(bytes);
    }
}
