// The Java client of Apache Kafka: see ../programs/common.py for what is spoken here.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;

public class Program {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static JsonNode ask;
  private static String topic;

  public static void main(String[] arguments) throws Exception {
    ask = JSON.readTree(arguments[0]);
    topic = ask.path("topic").asText();
    switch (ask.get("do").asText()) {
      case "produce" -> produce();
      case "consume" -> consume();
      case "group" -> group();
      case "admin" -> admin();
      case "transact" -> transact();
      default -> throw new IllegalArgumentException(arguments[0]);
    }
  }

  private static synchronized void emit(ObjectNode document) {
    System.out.println(document);
    System.out.flush();
  }

  private static String text(byte[] data) {
    return data == null ? null : new String(data, StandardCharsets.UTF_8);
  }

  private static byte[] data(JsonNode record, String name) {
    return record.hasNonNull(name) ? record.get(name).asText().getBytes(StandardCharsets.UTF_8) : null;
  }

  private static Properties settings() {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", ask.get("bootstrap").asText());
    String bytes = "org.apache.kafka.common.serialization.ByteArray";
    for (String side : new String[] {"key", "value"}) {
      settings.put(side + ".serializer", bytes + "Serializer");
      settings.put(side + ".deserializer", bytes + "Deserializer");
    }
    ask.path("properties").fields().forEachRemaining(each -> settings.put(each.getKey(), each.getValue().asText()));
    return settings;
  }

  private static void produce() throws Exception {
    Properties settings = settings();
    settings.put("acks", ask.get("acks").asText());
    settings.put("compression.type", ask.get("codec").asText());
    settings.put("enable.idempotence", ask.get("idempotent").asText());
    settings.put("linger.ms", "5");
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings)) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        JsonNode record = JSON.readTree(line);
        Integer partition = record.hasNonNull("partition") ? record.get("partition").asInt() : null;
        Long timestamp = record.hasNonNull("timestamp_ms") ? record.get("timestamp_ms").asLong() : null;
        ProducerRecord<byte[], byte[]> sent =
            new ProducerRecord<>(topic, partition, timestamp, data(record, "key"), data(record, "value"));
        for (JsonNode header : record.path("headers")) {
          sent.headers().add(header.get(0).asText(), header.get(1).asText().getBytes(StandardCharsets.UTF_8));
        }
        String value = text(sent.value());
        producer.send(
            sent,
            (metadata, error) -> {
              ObjectNode document = JSON.createObjectNode();
              if (error == null) {
                emit(document.put("acknowledged", value).put("partition", metadata.partition())
                    .put("offset", metadata.offset()));
              } else {
                emit(document.put("failed", value).put("error", error.toString()));
              }
            });
      }
    }
  }

  private static void consume() {
    Properties settings = settings();
    if (ask.has("isolation")) {
      settings.put("isolation.level", ask.get("isolation").asText());
    }
    TopicPartition partition = new TopicPartition(topic, ask.get("partition").asInt());
    int left = ask.get("count").asInt();
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
      consumer.assign(List.of(partition));
      JsonNode begin = ask.get("from");
      if (begin.asText().equals("earliest")) {
        consumer.seekToBeginning(List.of(partition));
      } else if (begin.asText().equals("latest")) {
        consumer.seekToEnd(List.of(partition));
      } else if (begin.has("offset")) {
        consumer.seek(partition, begin.get("offset").asLong());
      } else {
        Map<TopicPartition, Long> wanted = Map.of(partition, begin.get("timestamp_ms").asLong());
        consumer.seek(partition, consumer.offsetsForTimes(wanted).get(partition).offset());
      }
      while (left > 0) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
          if (left > 0) {
            emitRecord(record);
            left -= 1;
          }
        }
      }
    }
  }

  private static void emitRecord(ConsumerRecord<byte[], byte[]> record) {
    ObjectNode found = JSON.createObjectNode();
    found.put("topic", record.topic()).put("partition", record.partition()).put("offset", record.offset());
    found.put("timestamp_ms", record.timestamp()).put("key", text(record.key()));
    found.put("value", text(record.value()));
    ArrayNode headers = found.putArray("headers");
    for (Header header : record.headers()) {
      headers.addArray().add(header.key()).add(text(header.value()));
    }
    ObjectNode document = JSON.createObjectNode();
    document.set("record", found);
    emit(document);
  }

  private static void group() throws Exception {
    Properties settings = settings();
    settings.put("group.id", ask.get("group").asText());
    settings.put("session.timeout.ms", ask.get("session_timeout_ms").asText());
    settings.put("heartbeat.interval.ms", "500");
    settings.put("auto.offset.reset", "earliest");
    settings.put("enable.auto.commit", "false");
    KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings);
    Thread here = Thread.currentThread();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      consumer.wakeup();
      try {
        here.join();
      } catch (InterruptedException error) {
        // the process ends anyway
      }
    }));
    consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
      @Override
      public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}

      @Override
      public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        TreeSet<Integer> numbers = new TreeSet<>();
        partitions.forEach(each -> numbers.add(each.partition()));
        ObjectNode document = JSON.createObjectNode();
        ArrayNode assigned = document.putArray("assigned");
        numbers.forEach(assigned::add);
        emit(document);
      }
    });
    try {
      while (true) {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
        records.forEach(Program::emitRecord);
        if (!records.isEmpty()) {
          try {
            consumer.commitSync();
          } catch (CommitFailedException rebalanced) {
            // Whoever has the partitions now reads these again; the next poll joins.
          }
        }
      }
    } catch (WakeupException ended) {
      consumer.close();
    }
  }

  private static KafkaProducer<byte[], byte[]> transactional;
  private static KafkaConsumer<byte[], byte[]> member;
  private static final ArrayDeque<ConsumerRecord<byte[], byte[]>> read = new ArrayDeque<>();

  private static void transact() throws Exception {
    Properties settings = settings();
    settings.put("transactional.id", ask.get("id").asText());
    settings.put("transaction.timeout.ms", ask.get("timeout_ms").asText());
    settings.put("linger.ms", "5");
    String bootstrap = ask.get("bootstrap").asText();
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    transactional = new KafkaProducer<>(settings);
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      ask = JSON.readTree(line);
      ((ObjectNode) ask).put("bootstrap", bootstrap);
      topic = ask.path("topic").asText();
      ObjectNode document = JSON.createObjectNode();
      try {
        document.set("result", JSON.valueToTree(step()));
      } catch (Exception error) {
        document.put("error", error.toString()).put("then", then(error));
      }
      emit(document);
    }
    if (member != null) {
      member.close();
    }
    transactional.close();
  }

  private static String then(Exception error) {
    if (error instanceof ProducerFencedException
        || error instanceof OutOfOrderSequenceException
        || error instanceof IllegalStateException) {
      return "die";
    }
    return error instanceof TimeoutException ? "retry" : "abort";
  }

  private static Object step() throws Exception {
    switch (ask.get("call").asText()) {
      case "init" -> transactional.initTransactions();
      case "begin" -> transactional.beginTransaction();
      case "send" -> {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode value : ask.get("values")) {
          byte[] data = value.asText().getBytes(StandardCharsets.UTF_8);
          sent.add(transactional.send(new ProducerRecord<>(topic, ask.get("partition").asInt(), null, data)));
        }
        transactional.flush();
        for (Future<RecordMetadata> each : sent) {
          try {
            each.get();
          } catch (ExecutionException failed) {
            throw (Exception) failed.getCause();
          }
        }
      }
      case "commit" -> transactional.commitTransaction();
      case "abort" -> transactional.abortTransaction();
      case "join" -> {
        Properties settings = settings();
        settings.put("group.id", ask.get("group").asText());
        settings.put("session.timeout.ms", ask.get("session_timeout_ms").asText());
        settings.put("heartbeat.interval.ms", "500");
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("isolation.level", "read_committed");
        member = new KafkaConsumer<>(settings);
        member.subscribe(List.of(topic));
      }
      case "poll" -> {
        List<List<Object>> found = new ArrayList<>();
        while (found.size() < ask.get("count").asInt()) {
          if (read.isEmpty()) {
            member.poll(Duration.ofMillis(500)).forEach(read::add);
          } else {
            ConsumerRecord<byte[], byte[]> record = read.remove();
            found.add(List.of(record.partition(), record.offset(), text(record.value())));
          }
        }
        return found;
      }
      case "send_offsets" -> {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        ask.get("offsets").fields().forEachRemaining(each -> offsets.put(
            new TopicPartition(topic, Integer.parseInt(each.getKey())),
            new OffsetAndMetadata(each.getValue().asLong())));
        transactional.sendOffsetsToTransaction(offsets, member.groupMetadata());
      }
      case "rewind" -> {
        read.clear();
        for (Map.Entry<TopicPartition, OffsetAndMetadata> each : member.committed(member.assignment()).entrySet()) {
          if (each.getValue() == null) {
            member.seekToBeginning(List.of(each.getKey()));
          } else {
            member.seek(each.getKey(), each.getValue().offset());
          }
        }
      }
      default -> throw new IllegalArgumentException(ask.get("call").asText());
    }
    return null;
  }

  private static void admin() throws Exception {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    try (Admin admin = Admin.create(settings())) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        ask = JSON.readTree(line);
        topic = ask.path("topic").asText();
        ObjectNode document = JSON.createObjectNode();
        try {
          document.set("result", JSON.valueToTree(call(admin)));
        } catch (Exception error) {
          document.put("error", error.toString());
        }
        emit(document);
      }
    }
  }

  /** Without a number: all brokers. */
  private static ConfigResource broker() {
    return new ConfigResource(ConfigResource.Type.BROKER, ask.path("broker").asText());
  }

  private static Object call(Admin admin) throws Exception {
    ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    TopicPartition partition = new TopicPartition(topic, ask.path("partition").asInt());
    String group = ask.path("group").asText();
    switch (ask.get("call").asText()) {
      case "create_topic" -> {
        Map<String, String> configs = new HashMap<>();
        ask.get("configs").fields().forEachRemaining(each -> configs.put(each.getKey(), each.getValue().asText()));
        NewTopic wanted = new NewTopic(topic, ask.get("partitions").asInt(), (short) ask.get("replication").asInt());
        admin.createTopics(List.of(wanted.configs(configs))).all().get();
        return null;
      }
      case "topics" -> {
        Map<String, Integer> found = new HashMap<>();
        admin.describeTopics(admin.listTopics().names().get()).allTopicNames().get()
            .forEach((name, each) -> found.put(name, each.partitions().size()));
        return found;
      }
      case "config" -> {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource)
            .get(ask.get("name").asText()).value();
      }
      case "set_config" -> {
        ConfigEntry entry = new ConfigEntry(ask.get("name").asText(), ask.get("value").asText());
        AlterConfigOp change = new AlterConfigOp(entry, AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
        return null;
      }
      case "broker_config" -> {
        return admin.describeConfigs(List.of(broker())).all().get().get(broker())
            .get(ask.get("name").asText()).value();
      }
      case "set_broker_config", "set_broker_default" -> {
        String value = ask.get("value").isNull() ? null : ask.get("value").asText();
        AlterConfigOp.OpType how = value == null ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET;
        AlterConfigOp change = new AlterConfigOp(new ConfigEntry(ask.get("name").asText(), value), how);
        admin.incrementalAlterConfigs(Map.of(broker(), List.of(change))).all().get();
        return null;
      }
      case "add_partitions" -> {
        NewPartitions wanted = NewPartitions.increaseTo(ask.get("partitions").asInt());
        admin.createPartitions(Map.of(topic, wanted)).all().get();
        return null;
      }
      case "delete_topic" -> {
        admin.deleteTopics(List.of(topic)).all().get();
        return null;
      }
      case "delete_records" -> {
        RecordsToDelete before = RecordsToDelete.beforeOffset(ask.get("before").asLong());
        return admin.deleteRecords(Map.of(partition, before)).lowWatermarks().get(partition).get().lowWatermark();
      }
      case "offsets" -> {
        List<Long> found = new ArrayList<>();
        for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest())) {
          found.add(admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset());
        }
        return found;
      }
      case "groups" -> {
        List<String> found = new ArrayList<>();
        admin.listConsumerGroups().all().get().forEach(each -> found.add(each.groupId()));
        return found;
      }
      case "group" -> {
        var found = admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
        return Map.of("state", found.state().toString(), "members", found.members().size());
      }
      case "committed" -> {
        Map<String, Long> found = new HashMap<>();
        admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
            .forEach((each, offset) -> found.put(String.valueOf(each.partition()), offset.offset()));
        return found;
      }
      case "delete_group" -> {
        admin.deleteConsumerGroups(List.of(group)).all().get();
        return null;
      }
      default -> throw new IllegalArgumentException(ask.get("call").asText());
    }
  }
}
