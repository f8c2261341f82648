// How long messages take from one topic to another, through whatever runs between them.
// Latency.java BROKERS INPUT OUTPUT PARTITIONS RATE SECONDS
//
// RATE messages of 100 bytes a second, 0: as many as there can be. Each says when it should have been sent, so that a sender that is held
// up does not hide it; a reader of committed records looks at the clock when it has it. The first quarter of the time is not counted. It
// prints how many came a second, and the 50th and 99th percentile and the longest time, in ms.

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Latency {
    public static void main(String[] args) throws Exception {
        String brokers = args[0], input = args[1], output = args[2];
        int partitions = Integer.parseInt(args[3]);
        long rate = Long.parseLong(args[4]), seconds = Long.parseLong(args[5]);
        long begin = System.nanoTime(), end = begin + seconds * 1_000_000_000L;
        Thread sender = new Thread(() -> send(brokers, input, partitions, rate, begin, end));
        sender.start();

        Properties settings = new Properties();
        settings.put("bootstrap.servers", brokers);
        settings.put("isolation.level", "read_committed");
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("fetch.max.wait.ms", "10");
        settings.put("max.poll.records", "50000");
        List<TopicPartition> all = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            all.add(new TopicPartition(output, partition));
        }
        long counted = begin + (end - begin) / 4;
        long[] times = new long[1 << 20];
        int count = 0;
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(all);
            while (System.nanoTime() < end) {
                var records = consumer.poll(Duration.ofMillis(20));
                long now = System.nanoTime();
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    long sent = ByteBuffer.wrap(record.value()).getLong();
                    if (sent < counted) {
                        continue;
                    }
                    if (count == times.length) {
                        times = Arrays.copyOf(times, 2 * count);
                    }
                    times[count++] = now - sent;
                }
            }
        }
        sender.join();
        Arrays.sort(times, 0, count);
        double counting = (end - counted) / 1e9;
        System.out.printf("%.0f %.1f %.1f %.1f%n", count / counting, at(times, count, 0.5), at(times, count, 0.99), at(times, count, 1));
    }

    static double at(long[] times, int count, double share) {
        return count == 0 ? 0 : times[Math.min(count - 1, (int) (count * share))] / 1e6;
    }

    static void send(String brokers, String topic, int partitions, long rate, long begin, long end) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", brokers);
        settings.put("linger.ms", "2");
        settings.put("batch.size", "262144");
        settings.put("buffer.memory", "67108864");
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (long number = 0; ; number++) {
                long due = rate == 0 ? System.nanoTime() : begin + number * 1_000_000_000L / rate;
                if (due >= end) {
                    return;
                }
                while (System.nanoTime() < due) {
                    Thread.sleep(1);
                }
                byte[] value = new byte[100];
                ByteBuffer.wrap(value).putLong(due);
                int partition = (int) (number % partitions);
                producer.send(new ProducerRecord<>(topic, partition, null, value));
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }
}
