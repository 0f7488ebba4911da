"""The metrics of a broker that are one number: name, help, and where in a reading it stands.

Counters are exported with `_total` behind their name.
"""

from __future__ import annotations

from collections.abc import Callable

from minikafka.api.metrics import BrokerMetrics

Read = Callable[[BrokerMetrics], float]
Row = tuple[str, str, Read]

RUNNING, STARTING = 3, 1  # of Kafka's broker states

_REPLICAS = "kafka_server_replicamanager_"
_CONTROLLER = "kafka_controller_kafkacontroller_"
_GROUPS = "kafka_coordinator_group_groupmetadatamanager_"
_ZOOKEEPER = "kafka_server_sessionexpirelistener_"
_TRAFFIC = "kafka_server_brokertopicmetrics_"

BROKER_GAUGES: tuple[Row, ...] = (
    (_REPLICAS + "partitioncount", "Replicas on this broker.", lambda m: m.replicas.partitions),
    (_REPLICAS + "leadercount", "Partitions that it leads.", lambda m: m.replicas.leaders),
    (
        _REPLICAS + "offlinereplicacount",
        "Replicas here whose disk failed.",
        lambda m: m.replicas.offline,
    ),
    (
        _REPLICAS + "underreplicatedpartitions",
        "Partitions that it leads and of which a replica is out of sync.",
        lambda m: m.replicas.under_replicated,
    ),
    (
        _REPLICAS + "underminisrpartitioncount",
        "Partitions that it leads with fewer in-sync replicas than min.insync.replicas.",
        lambda m: m.replicas.under_min_isr,
    ),
    (
        _REPLICAS + "atminisrpartitioncount",
        "Partitions that it leads with just min.insync.replicas in sync.",
        lambda m: m.replicas.at_min_isr,
    ),
    (
        _CONTROLLER + "activecontrollercount",
        "1 on the controller, 0 on the others.",
        lambda m: m.controller.active,
    ),
    (
        _CONTROLLER + "offlinepartitionscount",
        "Partitions without a leader, on the controller.",
        lambda m: m.controller.offline_partitions,
    ),
    (
        _CONTROLLER + "preferredreplicaimbalancecount",
        "Partitions that another replica leads than the preferred one, on the controller.",
        lambda m: m.controller.preferred_imbalance,
    ),
    (
        _CONTROLLER + "globaltopiccount",
        "Topics of the cluster, on the controller.",
        lambda m: m.controller.topics,
    ),
    (
        _CONTROLLER + "globalpartitioncount",
        "Partitions of the cluster, on the controller.",
        lambda m: m.controller.partitions,
    ),
    (
        _CONTROLLER + "activebrokercount",
        "Live brokers, on the controller.",
        lambda m: m.controller.brokers,
    ),
    (
        _CONTROLLER + "topicstodeletecount",
        "Topics that are being deleted, on the controller.",
        lambda m: m.controller.topics_to_delete,
    ),
    (_GROUPS + "numgroups", "Groups that it coordinates.", lambda m: m.groups.groups),
    (_GROUPS + "numoffsets", "Offsets that those have committed.", lambda m: m.groups.offsets),
    (
        "kafka_server_kafkaserver_brokerstate",
        "3 running, 1 starting or out of touch with ZooKeeper.",
        lambda m: RUNNING if m.zookeeper_connected else STARTING,
    ),
)

BROKER_COUNTERS: tuple[Row, ...] = (
    (
        _REPLICAS + "isrshrinks",
        "Changes in which an ISR lost a member, as its leader saw it.",
        lambda m: m.replicas.isr_shrinks,
    ),
    (
        _REPLICAS + "isrexpands",
        "Changes in which an ISR got a member, as its leader saw it.",
        lambda m: m.replicas.isr_expands,
    ),
    (
        "kafka_controller_controllerstats_uncleanleaderelections",
        "Elections of leaders out of sync, by this broker as the controller.",
        lambda m: m.controller.unclean_elections,
    ),
    (
        _ZOOKEEPER + "zookeeperdisconnects",
        "How often ZooKeeper was out of touch.",
        lambda m: m.zookeeper_disconnects,
    ),
    (
        _ZOOKEEPER + "zookeeperexpires",
        "Sessions with ZooKeeper that were lost.",
        lambda m: m.zookeeper_expires,
    ),
)

# Name, help, field of TopicCounters, and whether Kafka has it for each topic as well.
TOPIC_COUNTERS: tuple[tuple[str, str, str, bool], ...] = (
    (_TRAFFIC + "messagesin", "Records from producers.", "messages_in", True),
    (_TRAFFIC + "bytesin", "Bytes from producers.", "bytes_in", True),
    (_TRAFFIC + "bytesout", "Bytes to consumers.", "bytes_out", True),
    (
        _TRAFFIC + "replicationbytesin",
        "Bytes from leaders on other brokers.",
        "replication_bytes_in",
        False,
    ),
    (
        _TRAFFIC + "replicationbytesout",
        "Bytes to followers on other brokers.",
        "replication_bytes_out",
        False,
    ),
    (
        _TRAFFIC + "totalproducerequests",
        "Produce requests, one for each partition in them.",
        "produce_requests",
        True,
    ),
    (
        _TRAFFIC + "totalfetchrequests",
        "Fetch requests of consumers, one for each partition in them.",
        "fetch_requests",
        True,
    ),
    (
        _TRAFFIC + "failedproducerequests",
        "Those of the produce requests that were refused.",
        "failed_produce_requests",
        True,
    ),
    (
        _TRAFFIC + "failedfetchrequests",
        "Those of the fetch requests that were refused.",
        "failed_fetch_requests",
        True,
    ),
)
