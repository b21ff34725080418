import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Numbers by Avro's own reader and writer: BROKERS REGISTRY TOPIC, then write NUMBER... or read COUNT. */
class Numbers {
    static final String SCHEMA =
        "{\"type\": \"record\", \"name\": \"Numbered\", \"fields\": [{\"name\": \"number\", \"type\": \"int\"}]}";
    static final ObjectMapper JSON = new ObjectMapper();
    static final HttpClient HTTP = HttpClient.newHttpClient();

    public static void main(String[] words) throws Exception {
        if (words[3].equals("write")) {
            write(words[0], words[1], words[2], List.of(words).subList(4, words.length));
        } else {
            read(words[0], words[1], words[2], Integer.parseInt(words[4]));
        }
    }

    static void write(String brokers, String registry, String topic, List<String> numbers) throws Exception {
        var body = HttpRequest.BodyPublishers.ofString(JSON.writeValueAsString(Map.of("schema", SCHEMA)));
        var request = HttpRequest.newBuilder(URI.create(registry + "/subjects/" + topic + "-value/versions"));
        var answer = HTTP.send(
            request.header("content-type", "application/vnd.schemaregistry.v1+json").POST(body).build(),
            BodyHandlers.ofString());
        int id = JSON.readTree(answer.body()).get("id").asInt();
        var schema = new Schema.Parser().parse(SCHEMA);
        var writer = new GenericDatumWriter<GenericRecord>(schema);
        Map<String, Object> config = Map.of("bootstrap.servers", brokers);
        try (var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (var number : numbers) {
                var record = new GenericData.Record(schema);
                record.put("number", Integer.parseInt(number));
                var bytes = new ByteArrayOutputStream();
                bytes.write(0);
                bytes.write(ByteBuffer.allocate(4).putInt(id).array());
                var encoder = EncoderFactory.get().binaryEncoder(bytes, null);
                writer.write(record, encoder);
                encoder.flush();
                producer.send(new ProducerRecord<>(topic, bytes.toByteArray())).get();
            }
        }
    }

    static void read(String brokers, String registry, String topic, int left) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", brokers, "auto.offset.reset", "earliest");
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            var partition = List.of(new TopicPartition(topic, 0));
            consumer.assign(partition);
            consumer.seekToBeginning(partition);
            while (left > 0) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    var bytes = ByteBuffer.wrap(record.value());
                    if (bytes.get() != 0) throw new IllegalStateException("no magic byte");
                    var request = HttpRequest.newBuilder(URI.create(registry + "/schemas/ids/" + bytes.getInt()));
                    var answer = HTTP.send(request.build(), BodyHandlers.ofString());
                    var schema = new Schema.Parser().parse(JSON.readTree(answer.body()).get("schema").asText());
                    var decoder = DecoderFactory.get().binaryDecoder(record.value(), 5, record.value().length - 5, null);
                    System.out.println(new GenericDatumReader<GenericRecord>(schema).read(null, decoder).get("number"));
                    left--;
                }
            }
        }
    }
}
