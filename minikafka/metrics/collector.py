"""A broker's metrics as Prometheus families, under the names that boards for Kafka expect: those
that the JMX exporter's usual configuration makes of Kafka's beans, and for offsets of partitions
and groups those of kafka_exporter.

Nothing is kept here: `families` reads the broker as it goes along. What is one number a partition
comes in portions of PORTION samples, so that whoever renders it can let others have their turn in
between (exposition.py); a portion has the name of the one before it. Counters with and without the
label `topic` stand side by side, as Kafka has them: the one without is the sum.

Imports prometheus_client, so it is imported only where somebody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import attrgetter

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CollectorRegistry, Metric

from minikafka import __version__
from minikafka.api.metrics import BrokerMetrics
from minikafka.broker.counters import TopicCounters
from minikafka.broker.metrics_reader import IsrHealth, MetricsReader, Waiting, isr_health
from minikafka.broker.replication.replica import Replica
from minikafka.broker.transactions.coordinator import STATES
from minikafka.core.groups.lifecycle import GroupState
from minikafka.metrics.exposition import Gauges, labels_text
from minikafka.metrics.names import BROKER_COUNTERS, BROKER_GAUGES, TOPIC_COUNTERS
from minikafka.model import TopicPartition

PORTION = 100
QUANTILES = (0.5, 0.75, 0.95, 0.98, 0.99, 0.999)
_QUANTILE_LABELS = ("0.50", "0.75", "0.95", "0.98", "0.99", "0.999")

_BY_NAME = attrgetter("topic_partition.topic", "topic_partition.partition")

Labels = dict[str, str]
Sample = tuple[Labels, float]


class BrokerCollector:
    """`name` is what people call the broker; `connections` tells how many Kafka clients are
    connected."""

    def __init__(self, reader: MetricsReader, name: str, connections: Callable[[], int]) -> None:
        self._reader = reader
        self._name = name
        self._connections = connections
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def families(self, metrics: BrokerMetrics, waiting: Waiting) -> Iterator[Metric | Gauges]:
        """All of them, each computed when it is asked for, but those that have been read."""
        yield from self._broker(metrics)
        yield from self._topics()
        yield from self._requests()
        yield self._purgatory(waiting)
        yield from self._partitions()
        yield from self._groups()
        yield from self._transactions()
        yield from self._process.collect()

    # --- the broker ---

    def _broker(self, metrics: BrokerMetrics) -> Iterator[Metric]:
        labels = {
            "broker_id": str(metrics.broker_id),
            "broker_name": self._name,
            "version": __version__,
        }
        yield _family("minikafka_broker_info", "Who this is.", "gauge", [(labels, 1)])
        for name, help_text, read in BROKER_GAUGES:
            yield _family(name, help_text, "gauge", [({}, read(metrics))])
        for name, help_text, read in BROKER_COUNTERS:
            yield _family(name, help_text, "counter", [({}, read(metrics))])
        yield _family(
            "kafka_server_replicafetchermanager_maxlag",
            "Records that the slowest follower on this broker is behind its leader.",
            "gauge",
            [({"clientId": "Replica"}, metrics.replicas.max_lag)],
        )
        elections = Metric(
            "kafka_controller_controllerstats_leaderelectionrateandtimems",
            "Elections of partition leaders by this broker as the controller (no times).",
            "summary",
        )
        elections.add_sample(elections.name + "_count", {}, metrics.controller.elections)
        yield elections
        yield _family(
            "kafka_server_socket_server_metrics_connection_count",
            "Connected Kafka clients.",
            "gauge",
            [({"listener": "PLAINTEXT", "networkProcessor": "0"}, self._connections())],
        )

    def _topics(self) -> Iterator[Metric]:
        counters = self._reader.counters
        rows: list[tuple[Labels, TopicCounters]] = [({}, counters.total())]
        rows += [({"topic": topic}, each) for topic, each in sorted(counters.topics.items())]
        for name, help_text, field, by_topic in TOPIC_COUNTERS:
            samples = [(labels, getattr(each, field)) for labels, each in rows]
            shown = samples if by_topic else samples[:1]
            yield from _portions(name, help_text, "counter", shown)

    def _requests(self) -> Iterator[Metric]:
        kinds = sorted(self._reader.counters.requests.kinds.items())
        yield _family(
            "kafka_network_requestmetrics_requests",
            "Requests that were answered, by kind.",
            "counter",
            [({"request": kind}, counter.count) for kind, counter in kinds],
        )
        times = Metric(
            "kafka_network_requestmetrics_totaltimems",
            "Milliseconds from a request to its answer, waits included; the quantiles are of the "
            "last 1024.",
            "summary",
        )
        for kind, counter in kinds:
            labels = {"request": kind}
            values_us = counter.quantiles_us(QUANTILES)
            for quantile, value_us in zip(_QUANTILE_LABELS, values_us, strict=True):
                times.add_sample(times.name, labels | {"quantile": quantile}, value_us / 1000)
            times.add_sample(times.name + "_count", labels, counter.count)
            times.add_sample(times.name + "_sum", labels, counter.total_us / 1000)
        yield times

    @staticmethod
    def _purgatory(waiting: Waiting) -> Metric:
        return _family(
            "kafka_server_delayedoperationpurgatory_purgatorysize",
            "Requests that wait: for replication of a partition, for records.",
            "gauge",
            [
                ({"delayedOperation": "Produce"}, waiting.produces),
                ({"delayedOperation": "Fetch"}, waiting.fetches),
            ],
        )

    # --- partitions ---

    def _partitions(self) -> Iterator[Gauges]:
        replicas = self._reader.replicas.replicas.values()
        rows = [_Row(replica) for replica in sorted(replicas, key=_BY_NAME)]
        for name, help_text, read in _LOG_GAUGES:
            samples = ((row.labels, read(row.replica)) for row in rows)
            yield from _gauges(name, help_text, samples)
        for name, help_text, read_health in _ISR_GAUGES:
            yield from _gauges(name, help_text, _of_leaders(rows, read_health))
        yield from _gauges(
            "kafka_server_fetcherlagmetrics_consumerlag",
            "Records that a follower on this broker is behind its leader.",
            _lags(rows),
        )

    # --- groups ---

    def _groups(self) -> Iterator[Metric]:
        groups = sorted(self._reader.groups.loaded_groups(), key=lambda group: group.group_id)
        states = [group.state for group in groups]
        for state in GroupState:
            yield _family(
                f"kafka_coordinator_group_groupmetadatamanager_numgroups{state.value.lower()}",
                f"Groups that this broker coordinates and that are {state.value}.",
                "gauge",
                [({}, states.count(state))],
            )
        yield from _portions(
            "kafka_consumergroup_members",
            "Members of a group.",
            "gauge",
            (({"consumergroup": each.group_id}, len(each.members)) for each in groups),
        )
        yield from _portions(
            "kafka_consumergroup_current_offset",
            "The offset that a group has committed.",
            "gauge",
            (
                ({"consumergroup": group.group_id, **_labels(tp)}, each.offset)
                for group in groups
                for tp, each in sorted(group.offsets.committed.items())
            ),
        )

    # --- transactions ---

    def _transactions(self) -> Iterator[Metric]:
        reader = self._reader
        counts = reader.transactions.count_states()
        yield _family(
            "minikafka_transactional_ids",
            "Transactional ids that this broker coordinates, by state.",
            "gauge",
            [({"state": name}, counts[state]) for name, state in STATES.items()],
        )
        yield _family(
            "minikafka_transaction_marker_wait_ms",
            "For how long the marker of a transaction has waited that waits longest.",
            "gauge",
            [({}, reader.marker_wait_ms())],
        )
        replicas = reader.replicas.replicas.values()
        yield _family(
            "kafka_server_replicamanager_partitionswithlatetransactionscount",
            "Partitions that this broker leads with a transaction open for longer than it may be.",
            "gauge",
            [({}, sum(map(reader.is_late, replicas)))],
        )


def _family(name: str, help_text: str, kind: str, samples: Iterable[Sample]) -> Metric:
    family = Metric(name, help_text, kind)
    sample_name = f"{name}_total" if kind == "counter" else name
    for labels, value in samples:
        family.add_sample(sample_name, labels, value)
    return family


def _portions(name: str, help_text: str, kind: str, samples: Iterable[Sample]) -> Iterator[Metric]:
    """At least one, so that a name is there also while there is nothing to count."""
    portion: list[Sample] = []
    for sample in samples:
        portion.append(sample)
        if len(portion) == PORTION:
            yield _family(name, help_text, kind, portion)
            portion = []
    yield _family(name, help_text, kind, portion)


def _gauges(name: str, help_text: str, samples: Iterable[tuple[str, float]]) -> Iterator[Gauges]:
    """As `_portions`."""
    iterator = iter(samples)
    yield Gauges(name, help_text, list(islice(iterator, PORTION)))
    while portion := list(islice(iterator, PORTION)):
        yield Gauges(name, help_text, portion)


class _Row:
    """A replica in one scrape: what is the same in all of its lines."""

    __slots__ = ("_labels", "replica")

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._labels: str | None = None

    @property
    def labels(self) -> str:
        if self._labels is None:
            self._labels = labels_text(**_labels(self.replica.topic_partition))
        return self._labels


def _labels(topic_partition: TopicPartition) -> Labels:
    return {"partition": str(topic_partition.partition), "topic": topic_partition.topic}


_LOG_GAUGES: tuple[tuple[str, str, Callable[[Replica], float]], ...] = (
    ("kafka_log_log_size", "Bytes of a log.", lambda replica: replica.log.size_bytes),
    (
        "kafka_log_log_numlogsegments",
        "Segments of a log.",
        lambda replica: replica.log.segment_count,
    ),
    (
        "kafka_log_log_logstartoffset",
        "The first offset of a log.",
        lambda replica: replica.core.log_state.log_start_offset,
    ),
    (
        "kafka_log_log_logendoffset",
        "The next offset of a log.",
        lambda replica: replica.core.log_state.log_end_offset,
    ),
)

_ISR_GAUGES: tuple[tuple[str, str, Callable[[Replica, IsrHealth], float]], ...] = (
    (
        "kafka_cluster_partition_replicascount",
        "Replicas of a partition, by its leader.",
        lambda _, health: health.replicas,
    ),
    (
        "kafka_cluster_partition_insyncreplicascount",
        "In-sync replicas of a partition, by its leader.",
        lambda _, health: health.in_sync,
    ),
    (
        "kafka_cluster_partition_underreplicated",
        "1 if a replica of the partition is out of sync.",
        lambda _, health: health.under_replicated,
    ),
    (
        "kafka_cluster_partition_underminisr",
        "1 if fewer replicas are in sync than min.insync.replicas.",
        lambda _, health: health.under_min_isr,
    ),
    (
        "kafka_cluster_partition_atminisr",
        "1 if just min.insync.replicas are in sync.",
        lambda _, health: health.at_min_isr,
    ),
    (
        "kafka_topic_partition_oldest_offset",
        "The first offset of a partition, by its leader.",
        lambda replica, _: replica.core.log_state.log_start_offset,
    ),
    (
        "kafka_cluster_partition_laststableoffsetlag",
        "Committed records that transactions hold back from who reads committed ones.",
        lambda replica, _: (
            replica.core.log_state.high_watermark - replica.core.log_state.last_stable_offset
        ),
    ),
    (
        "kafka_topic_partition_current_offset",
        "The offset up to which a partition can be read, by its leader.",
        lambda replica, _: replica.core.log_state.high_watermark,
    ),
)


def _of_leaders(
    rows: Iterable[_Row], read: Callable[[Replica, IsrHealth], float]
) -> Iterator[tuple[str, float]]:
    for row in rows:
        health = isr_health(row.replica)
        if health is not None:
            yield row.labels, read(row.replica, health)


def _lags(rows: Iterable[_Row]) -> Iterator[tuple[str, float]]:
    for row in rows:
        replica = row.replica
        state = replica.core.state
        if state is not None and not replica.core.is_leader:
            client_id = labels_text(clientId=f"ReplicaFetcherThread-0-{state.leader}")
            yield f"{client_id},{row.labels}", replica.lag
