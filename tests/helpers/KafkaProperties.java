import java.util.TreeMap;
import org.apache.kafka.common.config.ConfigDef;

/**
 * Prints what Apache Kafka declares: scope, name, type and default, with tabs between.
 *
 * <p>tests/unit/kafka_properties.tsv is what this printed with the jars of tests/helpers/kafka_java.py:
 * javac -cp 'LIBS/*' -d OUT KafkaProperties.java, java -cp 'LIBS/*:OUT' KafkaProperties.
 */
public final class KafkaProperties {
    public static void main(String[] arguments) {
        print("topic", org.apache.kafka.storage.internals.log.LogConfig.configDefCopy());
        print("broker", kafka.server.KafkaConfig$.MODULE$.configDef());
    }

    private static void print(String scope, ConfigDef definition) {
        for (ConfigDef.ConfigKey key : new TreeMap<>(definition.configKeys()).values()) {
            String value = key.hasDefault() ? String.valueOf(key.defaultValue) : "";
            System.out.println(String.join("\t", scope, key.name, key.type.name(), value));
        }
    }
}
