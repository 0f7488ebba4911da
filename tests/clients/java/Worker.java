// A distributed worker of Kafka Connect, with exactly-once support for sources, and the source of its own that
// ../test_connect.py runs on it. It says where its REST interface is, and ends when nobody speaks to it any more.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.cli.ConnectDistributed;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.runtime.Connect;
import org.apache.kafka.connect.source.ExactlyOnceSupport;
import org.apache.kafka.connect.source.SourceConnector;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.source.SourceTask;

public class Worker {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws Exception {
    JsonNode ask = JSON.readTree(arguments[0]);
    Map<String, String> settings = new HashMap<>();
    ask.get("settings").fields().forEachRemaining(each -> settings.put(each.getKey(), each.getValue().asText()));
    Connect<?> connect = new ConnectDistributed().startConnect(settings);
    System.out.println(JSON.writeValueAsString(Map.of("rest", connect.rest().serverUrl().toString())));
    while (System.in.read() >= 0) {}
    connect.stop();
    connect.awaitStop();
  }

  /** Writes 0, 1, 2, … up to `limit`; where it stands, the offsets of the source say. */
  public static class Numbers extends SourceConnector {
    private Map<String, String> settings;

    @Override
    public void start(Map<String, String> settings) {
      this.settings = settings;
    }

    @Override
    public Class<? extends Task> taskClass() {
      return NumbersTask.class;
    }

    @Override
    public List<Map<String, String>> taskConfigs(int most) {
      return List.of(settings);
    }

    @Override
    public ExactlyOnceSupport exactlyOnceSupport(Map<String, String> settings) {
      return ExactlyOnceSupport.SUPPORTED;
    }

    @Override
    public void stop() {}

    @Override
    public ConfigDef config() {
      return new ConfigDef()
          .define("topic", ConfigDef.Type.STRING, ConfigDef.Importance.HIGH, "where to")
          .define("limit", ConfigDef.Type.LONG, ConfigDef.Importance.HIGH, "how many");
    }

    @Override
    public String version() {
      return "1";
    }
  }

  public static class NumbersTask extends SourceTask {
    private static final Map<String, String> SOURCE = Map.of("source", "numbers");
    private static final int AT_ONCE = 10;
    private String topic;
    private long limit;
    private long next;

    @Override
    public void start(Map<String, String> settings) {
      topic = settings.get("topic");
      limit = Long.parseLong(settings.get("limit"));
      Map<String, Object> stands = context.offsetStorageReader().offset(SOURCE);
      next = stands == null ? 0 : (Long) stands.get("next");
    }

    @Override
    public List<SourceRecord> poll() throws InterruptedException {
      Thread.sleep(20);
      if (next >= limit) {
        return null;
      }
      List<SourceRecord> records = new ArrayList<>();
      for (int each = 0; each < AT_ONCE && next < limit; each++, next++) {
        records.add(
            new SourceRecord(
                SOURCE, Map.of("next", next + 1), topic, 0, Schema.STRING_SCHEMA, String.valueOf(next)));
      }
      return records;
    }

    @Override
    public void stop() {}

    @Override
    public String version() {
      return "1";
    }
  }
}
