import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A member of a group with Kafka's own client. What it is told and what it tells: README.md. */
public final class Member implements ConsumerRebalanceListener {
    private static final Map<String, String> ASSIGNORS = Map.of(
        "range", "RangeAssignor",
        "roundrobin", "RoundRobinAssignor",
        "sticky", "StickyAssignor",
        "cooperative-sticky", "CooperativeStickyAssignor");

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final long hold;
    private final Map<TopicPartition, OffsetAndMetadata> uncommitted = new HashMap<>();
    private Instant committed = Instant.now();
    private volatile boolean enough;

    private Member(Map<String, String> args) {
        Properties config = new Properties();
        config.put("bootstrap.servers", args.get("bootstrap"));
        config.put("client.id", args.get("name"));
        config.put("group.id", args.get("group"));
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "earliest");
        config.put("key.deserializer", ByteArrayDeserializer.class.getName());
        config.put("value.deserializer", ByteArrayDeserializer.class.getName());
        config.put("metadata.max.age.ms", "5000");
        if (args.getOrDefault("protocol", "classic").equals("consumer")) {
            config.put("group.protocol", "consumer");
            config.put("group.remote.assignor", args.get("assignor"));
        } else {
            String assignor = ASSIGNORS.get(args.get("assignor"));
            config.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
            config.put("session.timeout.ms", args.get("session"));
            config.put("heartbeat.interval.ms", "300");
        }
        if (args.containsKey("instance")) {
            config.put("group.instance.id", args.get("instance"));
        }
        hold = Long.parseLong(args.getOrDefault("hold", "0"));
        consumer = new KafkaConsumer<>(config);
        consumer.subscribe(List.of(args.get("topics").split(",")), this);
    }

    public static void main(String[] args) {
        Map<String, String> named = new HashMap<>();
        for (String arg : args) {
            String[] pair = arg.split("=", 2);
            named.put(pair[0], pair[1]);
        }
        Member member = new Member(named);
        Thread stdin = new Thread(member::waitForTheEnd);
        stdin.setDaemon(true);
        stdin.start();
        member.read();
    }

    private void waitForTheEnd() {
        try {
            while (System.in.read() >= 0) { }
        } catch (IOException end) {
            // As good as an end.
        }
        enough = true;
    }

    private void read() {
        while (!enough) {
            ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(50));
            for (TopicPartition partition : records.partitions()) {
                List<Long> offsets = new ArrayList<>();
                for (ConsumerRecord<byte[], byte[]> record : records.records(partition)) {
                    offsets.add(record.offset());
                }
                tell("records", "\"partition\":" + name(partition) + ",\"offsets\":" + offsets);
                uncommitted.put(partition, new OffsetAndMetadata(offsets.get(offsets.size() - 1) + 1));
            }
            if (Duration.between(committed, Instant.now()).toMillis() >= 100) {
                commit();
            }
        }
        commit();
        consumer.close();
        tell("closed", "");
    }

    /** What cannot be committed now stays, for the next attempt. */
    private void commit() {
        committed = Instant.now();
        if (uncommitted.isEmpty()) {
            return;
        }
        try {
            consumer.commitSync(uncommitted);
        } catch (KafkaException error) {
            tell("trouble", "\"what\":\"commit: " + error.getClass().getSimpleName() + "\"");
            return;
        }
        String offsets = uncommitted.entrySet().stream()
            .map(entry -> name(entry.getKey()).replace("]", "," + entry.getValue().offset() + "]"))
            .collect(Collectors.joining(","));
        uncommitted.clear();
        tell("committed", "\"offsets\":[" + offsets + "]");
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        tell("assigned", partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        try {
            Thread.sleep(partitions.isEmpty() ? 0 : hold);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
        commit();
        uncommitted.keySet().removeAll(partitions);
        tell("revoked", partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        uncommitted.keySet().removeAll(partitions);
        tell("lost", partitions);
    }

    private static void tell(String event, Collection<TopicPartition> partitions) {
        if (!partitions.isEmpty()) {
            String names = partitions.stream().map(Member::name).collect(Collectors.joining(","));
            tell(event, "\"partitions\":[" + names + "]");
        }
    }

    private static void tell(String event, String more) {
        Instant now = Instant.now();
        long micros = now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000;
        System.out.println("{\"at\":" + micros + ",\"event\":\"" + event + "\"" + (more.isEmpty() ? "" : ",") + more + "}");
        System.out.flush();
    }

    private static String name(TopicPartition partition) {
        return "[\"" + partition.topic() + "\"," + partition.partition() + "]";
    }
}
