import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.annotation.EnableKafka;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.config.KafkaListenerEndpointRegistry;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.core.ProducerFactory;
import org.springframework.kafka.listener.ConcurrentMessageListenerContainer;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.requestreply.KafkaReplyTimeoutException;
import org.springframework.kafka.requestreply.ReplyingKafkaTemplate;
import org.springframework.kafka.support.TopicPartitionOffset;
import org.springframework.messaging.handler.annotation.SendTo;

/** One side of request-reply with Spring Kafka, without Spring Boot. What it is told and what it tells: ../README.md. */
public final class Partner {
    private static final Map<String, String> ARGS = new HashMap<>();

    public static void main(String[] words) throws Exception {
        for (String word : words) {
            String[] parts = word.split("=", 2);
            ARGS.put(parts[0], parts[1]);
        }
        System.setProperty("topics", ARGS.get("topics"));
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        if (ARGS.get("role").equals("responder")) {
            respond(lines);
        } else {
            ask(lines);
        }
        tell("closed", "");
        System.exit(0);
    }

    /** What people set who look for speed: nothing lingers, and commits are neither per batch nor awaited. */
    private static boolean tuned() {
        return ARGS.getOrDefault("tuned", "no").equals("yes");
    }

    private static ProducerFactory<String, String> producers() {
        var config = new HashMap<String, Object>();
        config.put("bootstrap.servers", ARGS.get("bootstrap"));
        config.put("client.id", ARGS.get("name"));
        if (tuned()) {
            config.put("linger.ms", 0);
        }
        return new DefaultKafkaProducerFactory<>(config, new StringSerializer(), new StringSerializer());
    }

    private static DefaultKafkaConsumerFactory<String, String> consumers(boolean fromBeginning) {
        var config = new HashMap<String, Object>();
        config.put("bootstrap.servers", ARGS.get("bootstrap"));
        config.put("client.id", ARGS.get("name"));
        config.put("auto.offset.reset", fromBeginning ? "earliest" : "latest");
        return new DefaultKafkaConsumerFactory<>(config, new StringDeserializer(), new StringDeserializer());
    }

    private static void tune(ContainerProperties properties) {
        if (tuned()) {
            properties.setAckMode(ContainerProperties.AckMode.TIME);
            properties.setAckTime(1000);
            properties.setSyncCommits(false);
        }
    }

    @Configuration
    @EnableKafka
    public static class App {
        @Bean
        public ConcurrentKafkaListenerContainerFactory<String, String> kafkaListenerContainerFactory() {
            var factory = new ConcurrentKafkaListenerContainerFactory<String, String>();
            factory.setConsumerFactory(consumers(true));
            factory.setReplyTemplate(new KafkaTemplate<>(producers()));
            if (tuned()) {
                factory.setConcurrency(4);
            }
            tune(factory.getContainerProperties());
            return factory;
        }

        @KafkaListener(id = "answers", groupId = "${group}", topics = "#{'${topics}'.split(',')}")
        @SendTo
        public String answer(ConsumerRecord<String, String> request) throws InterruptedException {
            if (!ARGS.getOrDefault("quiet", "no").equals("yes")) {
                tell("served", ",\"value\":" + quoted(request.value()));
            }
            String[] words = request.value().split(" ", 2);
            switch (words[0]) {
                case "echo": return words[1];
                case "upper": return words[1].toUpperCase();
                case "null": return null;
                case "empty": return "";
                case "slow": {
                    String[] parts = words[1].split(" ", 2);
                    Thread.sleep(Long.parseLong(parts[0]));
                    return parts[1];
                }
                default: throw new IllegalArgumentException(request.value());
            }
        }
    }

    private static void respond(BufferedReader lines) throws Exception {
        System.setProperty("group", ARGS.get("group"));
        try (var context = new AnnotationConfigApplicationContext(App.class)) {
            var container = context.getBean(KafkaListenerEndpointRegistry.class).getListenerContainer("answers");
            while (container.getAssignedPartitions().isEmpty()) {
                Thread.sleep(20);
            }
            tell("ready", "");
            while (lines.readLine() != null) {
                // Nothing is asked of a responder.
            }
        }
    }

    private static ReplyingKafkaTemplate<String, String, String> template() {
        ContainerProperties properties;
        if (ARGS.containsKey("partition")) {
            int partition = Integer.parseInt(ARGS.get("partition"));
            properties = new ContainerProperties(new TopicPartitionOffset(
                ARGS.get("replies"), partition, TopicPartitionOffset.SeekPosition.END));
        } else {
            properties = new ContainerProperties(ARGS.get("replies"));
            properties.setGroupId(ARGS.get("group") + "-" + UUID.randomUUID());
        }
        // Else it waits for five seconds before it is ready.
        properties.setPollTimeout(100);
        tune(properties);
        var container = new ConcurrentMessageListenerContainer<>(consumers(false), properties);
        var template = new ReplyingKafkaTemplate<>(producers(), container);
        template.setBinaryCorrelation(!ARGS.getOrDefault("ids", "binary").equals("text"));
        template.setSharedReplyTopic(true);
        template.setReplyErrorChecker(reply -> {
            Header error = reply.headers().lastHeader("kafka_nest-err");
            return error == null ? null : new IllegalStateException(new String(error.value(), StandardCharsets.UTF_8));
        });
        return template;
    }

    private static void ask(BufferedReader lines) throws Exception {
        var template = template();
        template.start();
        if (!template.waitForAssignment(Duration.ofSeconds(60))) {
            throw new IllegalStateException("no reply partition");
        }
        tell("ready", "");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ", 5);
            int calls = Integer.parseInt(words[1]);
            int concurrency = Integer.parseInt(words[2]);
            Duration limit = Duration.ofMillis(Long.parseLong(words[3]));
            double[] took = new double[calls];
            var lost = new AtomicInteger();
            var room = new Semaphore(concurrency);
            long begun = System.nanoTime();
            for (int i = 0; i < calls; i++) {
                int number = i;
                room.acquire();
                long start = System.nanoTime();
                var request = new ProducerRecord<String, String>(ARGS.get("topics"), words[4] + "-" + number);
                template.sendAndReceive(request, limit).whenComplete((reply, error) -> {
                    took[number] = (System.nanoTime() - start) / 1e6;
                    if (error instanceof KafkaReplyTimeoutException) {
                        lost.incrementAndGet();
                    }
                    if (words[0].equals("call")) {
                        outcome(number, reply, error);
                    }
                    room.release();
                });
            }
            room.acquire(concurrency);
            double seconds = (System.nanoTime() - begun) / 1e9;
            Arrays.sort(took);
            tell("done", ",\"calls\":" + calls + ",\"lost\":" + lost + ",\"seconds\":" + seconds
                + ",\"p50\":" + took[calls / 2] + ",\"p99\":" + took[Math.min(calls - 1, calls * 99 / 100)]
                + ",\"max\":" + took[calls - 1]);
        }
        template.stop();
        template.destroy();
    }

    private static void outcome(int number, ConsumerRecord<String, String> reply, Throwable error) {
        List<String> items = new ArrayList<>();
        if (reply != null) {
            items.add(reply.value() == null ? "null" : quoted(reply.value()));
        }
        boolean lost = error instanceof KafkaReplyTimeoutException;
        String said = error == null ? "null" : quoted(String.valueOf(error.getMessage()));
        tell("outcome", ",\"call\":" + number + ",\"items\":[" + String.join(",", items) + "],\"lost\":" + lost
            + ",\"error\":" + said);
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
    }

    private static synchronized void tell(String event, String more) {
        long at = ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now());
        System.out.println("{\"at\":" + at + ",\"event\":\"" + event + "\"" + more + "}");
        System.out.flush();
    }
}
