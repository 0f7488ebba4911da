"""The command line tools of Apache Kafka 3.9, as people use them."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest

from minikafka.errors import UsageError
from tests.clients.clients import CONFLUENT
from tests.clients.cluster import Cluster, bootstrap, leader, wait
from tests.clients.test_java_log_dump import dump
from tests.helpers import kafka_java
from tests.helpers.fetched import without

TIMEOUT_S = 60
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
TOPICS = "org.apache.kafka.tools.TopicCommand"
TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand"
_names = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _jars() -> None:
    try:
        kafka_java.home()
    except UsageError as error:
        without(error)


class Tools:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.bootstrap = cluster, bootstrap(cluster)

    def run(
        self, main: str, *arguments: str, text: str = "", option: str = "bootstrap-server"
    ) -> str:
        """What the tool printed on both outputs; it must end with status 0."""
        flags = kafka_java.tool_flags()
        done = subprocess.run(
            kafka_java.java(main, "--bootstrap-server", self.bootstrap, *arguments, flags=flags),
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, f"{main} {arguments}: {done.stdout[-3000:]}"
        return done.stdout

    def topic(self, partitions: int = 1) -> str:
        name = f"tools-{next(_names)}"
        self.cluster.create_topic(name, partitions)
        leader(self.cluster, name)
        return name

    def fill(self, topic: str, count: int) -> None:
        lines = "".join(f"k{number}:v{number}\n" for number in range(count))
        options = ("--property", "parse.key=true", "--property", "key.separator=:")
        self.run("kafka.tools.ConsoleProducer", "--topic", topic, *options, text=lines)


@pytest.fixture
def tools(cluster: Cluster) -> Tools:
    return Tools(cluster)


def test_kafka_topics_makes_alters_describes_and_deletes(tools: Tools) -> None:
    name = f"tools-{next(_names)}"
    options = ("--partitions", "2", "--replication-factor", "3", "--config", "retention.ms=3600000")
    tools.run(TOPICS, "--create", "--topic", name, *options)
    assert name in tools.run(TOPICS, "--list").split()
    tools.run(TOPICS, "--alter", "--topic", name, "--partitions", "3")
    described = tools.run(TOPICS, "--describe", "--topic", name)
    assert re.search(r"PartitionCount: 3\s+ReplicationFactor: 3", described)
    assert "retention.ms=3600000" in described
    partitions = re.findall(
        r"Partition: (\d)\s+Leader: [123]\s+Replicas: \S+\s+Isr: \S+", described
    )
    assert partitions == ["0", "1", "2"]
    tools.run(TOPICS, "--delete", "--topic", name)
    wait(lambda: name not in tools.run(TOPICS, "--list").split(), f"{name} to be gone")


def test_the_console_producer_and_consumer_pass_keys_and_values(tools: Tools) -> None:
    topic = tools.topic()
    tools.fill(topic, 20)
    options = ("--from-beginning", "--max-messages", "20", "--property", "print.key=true")
    printed = tools.run(CONSOLE_CONSUMER, "--topic", topic, *options)
    lines = [line for line in printed.splitlines() if line.startswith("k")]
    assert lines == [f"k{number}\tv{number}" for number in range(20)]


def test_kafka_consumer_groups_shows_lag_resets_and_deletes(tools: Tools) -> None:
    topic, group = tools.topic(), f"tools-group-{next(_names)}"
    tools.fill(topic, 10)
    options = ("--from-beginning", "--max-messages", "6", "--group", group)
    tools.run(CONSOLE_CONSUMER, "--topic", topic, *options)
    assert group in tools.run(GROUPS, "--list").split()
    assert lag(tools, group, topic) == (6, 10, 4)
    reset = ("--reset-offsets", "--to-offset", "2", "--topic", topic, "--execute")
    tools.run(GROUPS, "--group", group, *reset)
    assert lag(tools, group, topic) == (2, 10, 8)
    tools.run(GROUPS, "--delete-offsets", "--group", group, "--topic", topic)
    tools.run(GROUPS, "--delete", "--group", group)
    assert group not in tools.run(GROUPS, "--list").split()


def lag(tools: Tools, group: str, topic: str) -> tuple[int, int, int]:
    """(current offset, log end offset, lag)"""
    described = tools.run(GROUPS, "--describe", "--group", group)
    found = re.search(rf"^{group}\s+{topic}\s+0\s+(\d+)\s+(\d+)\s+(\d+)", described, re.M)
    assert found is not None, described
    return int(found[1]), int(found[2]), int(found[3])


def test_kafka_configs_of_topics_and_brokers(tools: Tools) -> None:
    topic, main = tools.topic(), "kafka.admin.ConfigCommand"
    entity = ("--entity-type", "topics", "--entity-name", topic)
    tools.run(main, *entity, "--alter", "--add-config", "max.message.bytes=2000")
    wait(lambda: "max.message.bytes=2000" in tools.run(main, *entity, "--describe"), "the change")
    tools.run(main, *entity, "--alter", "--delete-config", "max.message.bytes")
    wait(lambda: "max.message.bytes" not in tools.run(main, *entity, "--describe"), "its end")
    everything = ("--entity-type", "brokers", "--entity-name", "1", "--describe", "--all")
    assert "min.insync.replicas=2" in tools.run(main, *everything)


def test_get_offsets_and_delete_records(tools: Tools, tmp_path: Path) -> None:
    topic, main = tools.topic(), "org.apache.kafka.tools.GetOffsetShell"
    tools.fill(topic, 10)
    assert f"{topic}:0:10" in tools.run(main, "--topic", topic)
    wanted = {"partitions": [{"topic": topic, "partition": 0, "offset": 4}], "version": 1}
    (tmp_path / "delete.json").write_text(json.dumps(wanted))
    file = ("--offset-json-file", str(tmp_path / "delete.json"))
    tools.run("org.apache.kafka.tools.DeleteRecordsCommand", *file)
    assert f"{topic}:0:4" in tools.run(main, "--topic", topic, "--time", "earliest")


def test_replicas_are_moved(tools: Tools, tmp_path: Path) -> None:
    topic, main = tools.topic(), "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
    tools.fill(topic, 10)
    partition = {"topic": topic, "partition": 0, "replicas": [2, 3]}
    (tmp_path / "move.json").write_text(json.dumps({"version": 1, "partitions": [partition]}))
    file = ("--reassignment-json-file", str(tmp_path / "move.json"))
    begun = tools.run(main, *file, "--execute", "--throttle", "1000000")
    assert "Successfully started partition reassignment" in begun
    configs = ("--entity-type", "topics", "--entity-name", topic, "--describe")
    throttled = "follower.replication.throttled.replicas"
    assert throttled in tools.run("kafka.admin.ConfigCommand", *configs)
    done = f"Reassignment of partition {topic}-0 is completed"
    wait(lambda: done in tools.run(main, *file, "--verify"), "the replicas to move")
    wait(lambda: throttled not in tools.run("kafka.admin.ConfigCommand", *configs), "no throttle")
    assert "No partition reassignments found" in tools.run(main, "--list")
    described = tools.run(TOPICS, "--describe", "--topic", topic)
    assert re.search(r"Replicas: 2,3\s+Isr: (2,3|3,2)", described)
    assert f"{topic}:0:10" in tools.run("org.apache.kafka.tools.GetOffsetShell", "--topic", topic)


def test_the_verifiable_producer_and_consumer_agree(tools: Tools) -> None:
    topic = tools.topic(partitions=3)
    main = "org.apache.kafka.tools.Verifiable"
    options = ("--topic", topic, "--max-messages", "200")
    produced = documents(tools.run(f"{main}Producer", *options, "--acks", "-1"))
    sent = [each["value"] for each in produced if each["name"] == "producer_send_success"]
    assert len(sent) == 200
    group = ("--group-id", f"verify-{topic}", "--reset-policy", "earliest", "--verbose")
    consumed = documents(tools.run(f"{main}Consumer", *options, *group))
    read = [each["value"] for each in consumed if each["name"] == "record_data"]
    assert sorted(read) == sorted(sent)


def documents(printed: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def test_the_performance_tools_get_through(tools: Tools) -> None:
    topic = tools.topic(partitions=3)
    main = "org.apache.kafka.tools."
    options = ("--topic", topic, "--num-records", "20000", "--record-size", "100")
    settings = (f"bootstrap.servers={tools.bootstrap}", "compression.type=lz4", "acks=all")
    flags = kafka_java.tool_flags()
    command = kafka_java.java(
        f"{main}ProducerPerformance",
        *(*options, "--throughput", "-1", "--producer-props", *settings),
        flags=flags,
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert "20000 records sent" in done.stdout
    read = tools.run(f"{main}ConsumerPerformance", "--topic", topic, "--messages", "20000")
    figures = read.strip().splitlines()[-1].split(", ")
    assert int(figures[4]) >= 20_000


def test_the_broker_tells_its_versions(tools: Tools) -> None:
    told = tools.run("kafka.admin.BrokerApiVersionsCommand")
    assert len(re.findall(r"^127\.0\.0\.1:\d+ \(id: [123] ", told, re.M)) == 3
    for name in ("Produce(0)", "Fetch(1)", "ListOffsets(2)", "Metadata(3)", "ApiVersions(18)"):
        assert len(re.findall(rf"{re.escape(name)}: .*\[usable: \d+\]", told)) == 3


def test_kafka_transactions_tells_of_open_ones_and_aborts_what_a_partition_has(
    tools: Tools,
) -> None:
    topic = tools.topic()
    name, place = f"id-{topic}", ("--topic", topic, "--partition", "0")
    ask = {"id": name, "timeout_ms": 60_000}
    with CONFLUENT.start("transact", bootstrap=tools.bootstrap, **ask) as program:
        program.call("init")
        program.call("begin")
        program.call("send", topic=topic, partition=0, values=["open", "to the end"])
        listed = table(tools.run(TRANSACTIONS, "list"))  # and what other tests have left
        [[_, coordinator, producer, state]] = [row for row in listed if row[0] == name]
        assert state == "Ongoing"
        [described] = table(tools.run(TRANSACTIONS, "describe", "--transactional-id", name))
        assert described[:6] == [coordinator, name, producer, "0", "Ongoing", "60000"]
        assert described[8] == f"{topic}-0"
        [[*known, _, begins]] = table(tools.run(TRANSACTIONS, "describe-producers", *place))
        assert (known, begins) == ([producer, "0", "-1", "1"], "0")
        # Its coordinator knows of it, however old it is; a follower answers for its replicas, too.
        for where in (("--broker-id", "1"), place):
            limit = ("--max-transaction-timeout", "0")
            assert table(tools.run(TRANSACTIONS, "find-hanging", *where, *limit)) == []
        tools.run(TRANSACTIONS, "abort", *place, "--start-offset", "0")
        [[*known, _, begins]] = table(tools.run(TRANSACTIONS, "describe-producers", *place))
        assert (known[:2], begins) == ([producer, "0"], "None")
        program.call("commit")
    ask = {"topic": topic, "acks": "all", "codec": "none", "idempotent": False}
    with CONFLUENT.start("produce", bootstrap=tools.bootstrap, **ask) as program:
        program.send([{"value": "after it"}])
        program.finish()
    ask = {"topic": topic, "partition": 0, "from": "earliest", "count": 1}
    ask["isolation"] = "read_committed"
    with CONFLUENT.start("consume", bootstrap=tools.bootstrap, **ask) as program:
        program.finish()
    assert program.values == ["after it"]


def table(printed: str) -> list[list[str]]:
    """The rows below the heads of what kafka-transactions.sh prints."""
    head, *rows = [line for line in printed.splitlines() if "\t" in line]
    assert "ProducerId" in head
    return [[cell.strip() for cell in row.rstrip("\t").split("\t")] for row in rows]


def test_the_dump_tool_decodes_the_log_of_transactions_and_the_index_of_aborted_ones(
    tools: Tools,
) -> None:
    topic = tools.topic()
    name = f"id-{topic}"
    ask = {"id": name, "timeout_ms": 60_000}
    with CONFLUENT.start("transact", bootstrap=tools.bootstrap, **ask) as program:
        program.call("init")
        for end in ("commit", "abort"):
            program.call("begin")
            program.call("send", topic=topic, partition=0, values=["a", "b"])
            program.call(end)
    describe = ("describe", "--transactional-id", name)
    wait(lambda: "CompleteAbort" in tools.run(TRANSACTIONS, *describe), "the end")
    [[coordinator, _, producer, *_]] = table(tools.run(TRANSACTIONS, *describe))

    states = files(tools, coordinator, "__transaction_state", "log")
    decoded = dump("--files", states, "--transaction-log-decoder")
    payloads = re.findall(rf"transactionalId={name} payload: (.*)$", decoded, re.M)
    told = [re.findall(r"producerId:(\d+),.*state=(\w+),partitions=\[(.*?)\]", p) for p in payloads]
    held = f"{topic}-0"
    assert [found[0] for found in told] == [
        (producer, "Empty", ""),
        *((producer, state, held) for state in ("Ongoing", "PrepareCommit")),
        (producer, "CompleteCommit", ""),
        *((producer, state, held) for state in ("Ongoing", "PrepareAbort")),
        (producer, "CompleteAbort", ""),
    ]

    leads = {name: number for number, name in tools.cluster.ids.items()}
    where = str(leads[leader(tools.cluster, topic)])
    records = dump("--files", files(tools, where, topic, "log"), "--print-data-log")
    markers = re.findall(r"offset: (\d) .*endTxnMarker: (\w+)", records)
    assert markers == [("2", "COMMIT"), ("5", "ABORT")]
    assert "isvalid: false" not in decoded + records
    index = dump("--files", files(tools, where, topic, "txnindex"))
    assert f"producerId: {producer} firstOffset: 3 lastOffset: 5 lastStableOffset: 6" in index


def files(tools: Tools, broker: str, topic: str, kind: str) -> str:
    """Of all partitions that the broker has of a topic; comma separated."""
    ask = ("--describe", "--broker-list", broker, "--topic-list", topic)
    printed = tools.run("org.apache.kafka.tools.LogDirsCommand", *ask)
    [directory] = json.loads(printed.splitlines()[-1])["brokers"][0]["logDirs"]
    folders = [Path(directory["logDir"]) / each["partition"] for each in directory["partitions"]]
    return ",".join(str(file) for folder in folders for file in folder.glob(f"*.{kind}"))
