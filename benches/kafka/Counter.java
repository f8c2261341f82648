// The counter of the benchmark in Kafka Streams: count, sum of the last bytes and maximum by key, in 24 bytes; 40 bytes out for each
// message. Counter.java BROKERS APPLICATION INPUT OUTPUT COUNT STATE-DIR INTERVAL-MS
//
// It prints `first` when the first message is processed and `done` when so many are and their epoch is committed, and ends.

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

public class Counter {
    static final AtomicLong processed = new AtomicLong();
    static final AtomicBoolean begun = new AtomicBoolean();

    static class Counting implements Processor<byte[], byte[], byte[], byte[]> {
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], byte[]> counts;

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            counts = context.getStateStore("counts");
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            if (!begun.getAndSet(true)) {
                System.out.println("first");
                System.out.flush();
            }
            byte[] found = counts.get(record.key());
            long count = 0, sum = 0, most = 0;
            if (found != null) {
                ByteBuffer before = ByteBuffer.wrap(found).order(ByteOrder.LITTLE_ENDIAN);
                count = before.getLong();
                sum = before.getLong();
                most = before.getLong();
            }
            long seen = record.value()[record.value().length - 1] & 0xff;
            ByteBuffer entry = ByteBuffer.allocate(24).order(ByteOrder.LITTLE_ENDIAN);
            entry.putLong(count + 1).putLong(sum + seen).putLong(Math.max(most, seen));
            counts.put(record.key(), entry.array());
            byte[] sent = new byte[40];
            System.arraycopy(record.key(), 0, sent, 0, 16);
            System.arraycopy(entry.array(), 0, sent, 16, 24);
            context.forward(record.withValue(sent));
            processed.incrementAndGet();
        }
    }

    public static void main(String[] args) throws Exception {
        String brokers = args[0], application = args[1], input = args[2], output = args[3];
        long count = Long.parseLong(args[4]);
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[5]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, args[6]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 10000);
        settings.put(StreamsConfig.consumerPrefix("max.partition.fetch.bytes"), 16 << 20);
        settings.put(StreamsConfig.producerPrefix("batch.size"), 1 << 20);
        settings.put(StreamsConfig.producerPrefix("buffer.memory"), 256L << 20);

        Topology topology = new Topology();
        topology.addSource("in", new ByteArrayDeserializer(), new ByteArrayDeserializer(), input);
        topology.addProcessor("count", Counting::new, "in");
        topology.addStateStore(
            Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("counts"), Serdes.ByteArray(), Serdes.ByteArray())
                .withCachingEnabled()
                .withLoggingEnabled(java.util.Map.of()),
            "count");
        topology.addSink("out", output, new ByteArraySerializer(), new ByteArraySerializer(), "count");

        KafkaStreams streams = new KafkaStreams(topology, settings);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(30))));
        streams.start();
        while (processed.get() < count) {
            Thread.sleep(20);
        }
        // The last epoch is committed by the end.
        streams.close(Duration.ofSeconds(60));
        System.out.println("done");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
