// A word count of Kafka Streams, exactly once: see ../test_streams.py. It says in which state it is, and what
// went wrong; it ends when nobody speaks to it any more.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

public class Streams {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws Exception {
    JsonNode ask = JSON.readTree(arguments[0]);
    KafkaStreams streams = new KafkaStreams(count(ask).build(), settings(ask));
    streams.setStateListener((now, before) -> say("state", now.name()));
    streams.setUncaughtExceptionHandler(
        error -> {
          say("error", String.valueOf(error));
          return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
    streams.start();
    while (System.in.read() >= 0) {}
    boolean closed = streams.close(Duration.ofSeconds(30));
    say("closed", String.valueOf(closed));
    System.exit(closed ? 0 : 1);
  }

  /** The key of each record is its word, so it goes through a topic of its own to whoever counts that. */
  private static StreamsBuilder count(JsonNode ask) {
    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(ask.get("from").asText(), Consumed.with(Serdes.String(), Serdes.String()))
        .selectKey((key, word) -> word)
        .groupByKey(Grouped.with("by-word", Serdes.String(), Serdes.String()))
        .count(Materialized.as("counts"))
        .toStream()
        .mapValues(String::valueOf)
        .to(ask.get("to").asText(), Produced.with(Serdes.String(), Serdes.String()));
    return builder;
  }

  private static Properties settings(JsonNode ask) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, ask.get("id").asText());
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, ask.get("bootstrap").asText());
    settings.put(StreamsConfig.STATE_DIR_CONFIG, ask.get("state_dir").asText());
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 3);
    // Each change of a count is told, not only the last before a commit.
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 6_000);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), 1_000);
    return settings;
  }

  private static synchronized void say(String what, String text) {
    try {
      System.out.println(JSON.writeValueAsString(Map.of(what, text)));
    } catch (Exception error) {
      throw new IllegalStateException(error);
    }
  }
}
