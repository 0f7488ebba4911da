"""/metrics as Prometheus reads it, over whole brokers in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from minikafka.api.groups import OffsetCommitPartition, OffsetCommitRequest
from minikafka.api.requests import CreateTopic, CreateTopicsRequest
from minikafka.metrics.collector import PORTION, BrokerCollector
from minikafka.metrics.endpoint import MetricsEndpoint
from minikafka.metrics.exposition import Gauges, labels_text, render_in_portions
from minikafka.model import TopicPartition
from tests.helpers.brokers import BrokerCluster, batch_of
from tests.helpers.transaction_client import TransactionClient
from tests.helpers.waiting import until

SIZE = len(batch_of(b"one", b"two"))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[BrokerCluster]:
    cluster = BrokerCluster(tmp_path, {"min.insync.replicas": "2"})
    yield cluster
    await cluster.close()


class Scrape:
    """The samples of one text: `scrape.name(label="value")` is the value of one."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, Metric] = {}
        for family in text_string_to_metric_families(text):
            assert family.name not in self.families, f"{family.name} is there twice"
            self.families[family.name] = family
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }
        assert len(self.samples) == sum(len(each.samples) for each in self.families.values())

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, tuple(sorted(labels.items()))]

    def labels(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for each, labels in self.samples if each == name]


async def scrape(cluster: BrokerCluster, broker_id: int, connections: int = 0) -> Scrape:
    reader = cluster.running[broker_id].broker.metrics
    endpoint = MetricsEndpoint(reader, f"broker {broker_id}", lambda: connections)
    return Scrape((await endpoint.render()).decode())


async def test_the_text_is_prometheus_and_has_what_boards_for_kafka_ask_for(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    await cluster.produce_until_acked(tp, b"one", b"two")
    await cluster.read_all(tp)
    one, two = await scrape(cluster, 1, connections=7), await scrape(cluster, 2)

    traffic = "kafka_server_brokertopicmetrics_"
    for labels in ({}, {"topic": "t"}):
        assert one.value(traffic + "messagesin_total", **labels) == 2
        assert one.value(traffic + "bytesin_total", **labels) == SIZE
        assert one.value(traffic + "bytesout_total", **labels) == SIZE
        assert one.value(traffic + "totalproducerequests_total", **labels) == 1
        assert two.value(traffic + "messagesin_total", **labels) == 0
    assert one.value(traffic + "replicationbytesout_total") == SIZE
    assert two.value(traffic + "replicationbytesin_total") == SIZE

    assert one.value("kafka_server_replicamanager_partitioncount") == 1
    assert one.value("kafka_server_replicamanager_leadercount") == 1
    assert two.value("kafka_server_replicamanager_leadercount") == 0
    assert one.value("kafka_server_replicamanager_underreplicatedpartitions") == 0
    assert one.value("kafka_server_replicamanager_atminisrpartitioncount") == 1
    assert two.value("kafka_server_replicafetchermanager_maxlag", clientId="Replica") == 0

    assert one.value("kafka_controller_kafkacontroller_activecontrollercount") == 1
    assert two.value("kafka_controller_kafkacontroller_activecontrollercount") == 0
    assert one.value("kafka_controller_kafkacontroller_globalpartitioncount") == 1
    assert one.value("kafka_controller_kafkacontroller_offlinepartitionscount") == 0
    assert one.value("kafka_controller_controllerstats_uncleanleaderelections_total") == 0
    elections = "kafka_controller_controllerstats_leaderelectionrateandtimems_count"
    assert one.value(elections) == 1

    assert one.value("kafka_log_log_size", topic="t", partition="0") == SIZE
    assert two.value("kafka_log_log_logendoffset", topic="t", partition="0") == 2
    assert two.value("kafka_log_log_numlogsegments", topic="t", partition="0") == 1
    in_sync = "kafka_cluster_partition_insyncreplicascount"
    assert one.value(in_sync, topic="t", partition="0") == 2
    assert two.labels(in_sync) == []
    lag = "kafka_server_fetcherlagmetrics_consumerlag"
    client = "ReplicaFetcherThread-0-1"
    assert two.value(lag, clientId=client, topic="t", partition="0") == 0
    assert one.labels(lag) == []

    connections = "kafka_server_socket_server_metrics_connection_count"
    assert one.value(connections, listener="PLAINTEXT", networkProcessor="0") == 7
    assert one.value("kafka_server_sessionexpirelistener_zookeeperexpires_total") == 0
    assert one.value("kafka_server_kafkaserver_brokerstate") == 3
    assert one.value("process_resident_memory_bytes") > 1_000_000
    assert one.value("process_cpu_seconds_total") > 0
    assert one.value("python_gc_collections_total", generation="0") >= 0


async def test_the_death_of_a_broker_shows(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    await cluster.kill(2)
    await cluster.until_state(tp, lambda state: state.isr == (1,), at=1)
    one = await scrape(cluster, 1)
    assert one.value("kafka_server_replicamanager_underreplicatedpartitions") == 1
    assert one.value("kafka_server_replicamanager_underminisrpartitioncount") == 1
    assert one.value("kafka_cluster_partition_underreplicated", topic="t", partition="0") == 1
    assert one.value("kafka_server_replicamanager_isrshrinks_total") == 1


async def test_times_of_requests_are_a_summary_in_milliseconds(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    requests = cluster.running[1].broker.replicas.counters.requests
    for ms in range(1, 101):
        requests.add("Produce", ms / 1000)
    requests.add("Metadata", 0.001)
    one = await scrape(cluster, 1)
    assert one.value("kafka_network_requestmetrics_requests_total", request="Produce") == 100
    times = "kafka_network_requestmetrics_totaltimems"
    assert one.value(times, request="Produce", quantile="0.50") == pytest.approx(51, abs=1)
    assert one.value(times, request="Produce", quantile="0.99") == pytest.approx(99, abs=1)
    assert one.value(times, request="Metadata", quantile="0.999") == 1
    assert one.value(times + "_count", request="Produce") == 100
    assert one.value(times + "_sum", request="Produce") == pytest.approx(5050, abs=1)


async def test_who_waits_is_counted(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    await cluster.create_topic("t", [1, 2])
    size = "kafka_server_delayedoperationpurgatory_purgatorysize"

    async def waiting() -> bool:
        return (await scrape(cluster, 1)).value(size, delayedOperation="Fetch") > 0

    await until(waiting)  # the follower
    assert (await scrape(cluster, 1)).value(size, delayedOperation="Produce") == 0


async def test_offsets_and_members_of_groups_are_told_by_their_coordinator(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    tp = await cluster.create_topic("t", [1], {"min.insync.replicas": "1"})
    await cluster.produce_until_acked(tp, b"one", b"two")
    groups = cluster.service(1).groups
    request = OffsetCommitRequest("workers", [OffsetCommitPartition(tp, 1)])

    async def committed() -> bool:
        result = await groups.commit_offsets(request)
        return all(each.error is None for each in result.partitions)

    await cluster.service(1).metadata(["__consumer_offsets"], True)
    await until(committed)
    one = await scrape(cluster, 1)
    where = {"topic": "t", "partition": "0"}
    offset = one.value("kafka_consumergroup_current_offset", consumergroup="workers", **where)
    assert (offset, one.value("kafka_topic_partition_current_offset", **where)) == (1, 2)
    assert one.value("kafka_consumergroup_members", consumergroup="workers") == 0
    manager = "kafka_coordinator_group_groupmetadatamanager_"
    assert one.value(manager + "numgroups") == one.value(manager + "numgroupsempty") == 1
    assert one.value(manager + "numoffsets") == 1


async def test_many_partitions_come_in_portions_that_make_one_family(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    count = 2 * PORTION + 3
    topic = CreateTopic("wide", -1, -1, {}, {number: [1] for number in range(count)})
    response = await cluster.service(1).administer(CreateTopicsRequest([topic]), 30_000)
    assert [each.error for each in response.results] == [None]
    broker = cluster.running[1].broker
    await until(lambda: len(broker.replicas.replicas) == count)
    metrics, waiting = await broker.metrics.read(), await broker.metrics.count_waiting()
    families = BrokerCollector(broker.metrics, "A", int).families(metrics, waiting)
    portions = list(render_in_portions(families))
    assert max(portion.count(b"\n") for portion in portions) <= PORTION + 2
    one = Scrape(b"".join(portions).decode())
    assert len(one.labels("kafka_log_log_size")) == count
    assert one.value("kafka_log_log_size", topic="wide", partition=str(count - 1)) == 0


def test_what_is_written_directly_is_written_as_prometheus_client_does() -> None:
    labels = [{"partition": "7", "topic": "t"}, {"partition": "0", "topic": 'a"\\\nb'}]
    values = [0.0, 1.0, 123456.0, 1234567.0, 2.0**53, 0.25, -1.0]
    metric = Metric("kafka_log_log_size", "Bytes of a log.", "gauge")
    for each in labels:
        for value in values:
            metric.add_sample(metric.name, each, value)
    written = [(labels_text(**each), value) for each in labels for value in values]
    gauges = Gauges("kafka_log_log_size", "Bytes of a log.", written)
    assert list(render_in_portions([gauges])) == list(render_in_portions([metric]))
    assert list(render_in_portions([gauges] * 3)) == list(render_in_portions([metric] * 3))


async def test_names_that_have_nothing_to_count_yet_are_there_all_the_same(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    one = await scrape(cluster, 1)
    for name in ("kafka_log_log_size", "kafka_consumergroup_current_offset"):
        assert one.families[name].samples == []


async def test_a_topic_with_any_name_that_kafka_allows_is_read_back(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    name = "with.dots_and-dashes"
    await cluster.create_topic(name, [1])
    one = await scrape(cluster, 1)
    assert one.value("kafka_log_log_size", topic=name, partition="0") == 0
    assert TopicPartition(name, 0) in cluster.running[1].broker.replicas.replicas


async def test_open_transactions_are_counted_with_what_they_hold_back(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    client = TransactionClient(cluster, "orders")
    await client.init()
    await client.add(tp)
    assert await client.produce_once(1, tp, b"a", b"b") is None
    coordinator = await client.coordinator()
    found = await scrape(cluster, coordinator)
    states = {each["state"] for each in found.labels("minikafka_transactional_ids")}
    assert {"Empty", "Ongoing", "PrepareCommit", "CompleteAbort"} <= states
    assert found.value("minikafka_transactional_ids", state="Ongoing") == 1
    assert found.value("minikafka_transactional_ids", state="Empty") == 0
    assert found.value("minikafka_transaction_marker_wait_ms") == 0
    led = await scrape(cluster, 1)
    lag, late = (
        "kafka_cluster_partition_laststableoffsetlag",
        "kafka_server_replicamanager_partitionswithlatetransactionscount",
    )
    assert led.value(lag, topic="t", partition="0") == 2
    # Its records are of 2023.
    assert led.value(late) == 1
    assert await client.end() is None

    async def stable() -> bool:
        return (await scrape(cluster, 1)).value(lag, topic="t", partition="0") == 0

    await until(stable)
    assert (await scrape(cluster, 1)).value(late) == 0
