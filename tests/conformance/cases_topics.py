"""Topics, partitions and what is told of the cluster."""

from __future__ import annotations

import uuid
from typing import Any

from minikafka.kafka.apis import ApiKey
from tests.conformance.exchange import Case, Known

NOTHING_KNOWN_YET = {3, 5, 6, 14, 15, 16}  # of a topic, a leader, a coordinator
LONG_NAME = "n" * 250


def topic(name: str, partitions: int = 1, replication: int = 1, **more: Any) -> dict[str, Any]:
    fields = {"num_partitions": partitions, "replication_factor": replication}
    return {"name": name, **fields, "assignments": [], "configs": [], **more}


def config(name: str, value: str | None) -> dict[str, Any]:
    return {"name": name, "value": value}


def replicas(index: int, *brokers: int) -> dict[str, Any]:
    return {"partition_index": index, "broker_ids": list(brokers)}


def settled(answer: Any) -> bool:
    """Nothing in an answer says that the cluster has still to find out."""
    if isinstance(answer, dict):
        return answer.get("error_code") not in NOTHING_KNOWN_YET and all(
            settled(item) for item in answer.values()
        )
    return not isinstance(answer, list) or all(settled(item) for item in answer)


def led(name: str, *names: str) -> Case:
    """Wait until topics have leaders."""
    wanted = [{"name": each, "topic_id": None} for each in names]
    values = {"topics": wanted, "allow_auto_topic_creation": False}
    values["include_topic_authorized_operations"] = False
    values["include_cluster_authorized_operations"] = False
    return Case(name, ApiKey.METADATA, values, [9], settled)


def _create(name: str, *topics: dict[str, Any], **more: Any) -> Case:
    values = {"topics": list(topics), "timeout": 30_000, "validate_only": False}
    versions = more.pop("versions", None)
    return Case(name, ApiKey.CREATE_TOPICS, values | more, versions)


SETUP = [
    _create(
        "setup",
        topic("plain", 2),
        topic("filled", 1, configs=[config("retention.ms", "-1")]),
        topic("configured", 1, configs=[config("retention.ms", "5000")]),
        topic("compacted", 1, configs=[config("cleanup.policy", "compact")]),
        topic("dot.ted"),
        topic("altered", 1, configs=[config("retention.ms", "5000")]),
        versions=[6],
    ),
    led("setup is led", "plain", "filled", "configured", "compacted", "altered"),
]

CREATE = [
    _create("a topic", topic("create-{v}", 3)),
    _create("validated only", topic("validated-{v}", 3), validate_only=True),
    _create("one that is there", topic("plain")),
    _create("validated only, one that is there", topic("plain"), validate_only=True),
    _create("twice in a request", topic("twice-{v}"), topic("twice-{v}"), topic("once-{v}")),
    _create("no topics"),
    *(
        _create(f"a bad name: {name[:10]!r}", topic(name))
        for name in ("", ".", "..", "a b", "a/b", "a:b", "ä", LONG_NAME, "a\x00b")
    ),
    _create("a name that collides", topic("dot_ted")),
    _create("no partitions", topic("zero-{v}", 0)),
    _create("partitions: -1", topic("default-partitions-{v}", -1)),
    _create("partitions: -2", topic("less-{v}", -2)),
    _create("replicas: 0", topic("zero-replicas-{v}", 1, 0)),
    _create("replicas: -1", topic("default-replicas-{v}", 1, -1)),
    _create("replicas: -2", topic("less-replicas-{v}", 1, -2)),
    _create("more replicas than brokers", topic("much-{v}", 1, 2)),
    _create("assigned", topic("assigned-{v}", -1, -1, assignments=[replicas(0, 1)])),
    _create("assigned and counted", topic("both-{v}", 1, 1, assignments=[replicas(0, 1)])),
    _create("assigned with a gap", topic("gap-{v}", -1, -1, assignments=[replicas(1, 1)])),
    _create("assigned from below 0", topic("below-{v}", -1, -1, assignments=[replicas(-1, 1)])),
    _create("assigned to one twice", topic("pair-{v}", -1, -1, assignments=[replicas(0, 1, 1)])),
    _create(
        "assigned unevenly",
        topic("uneven-{v}", -1, -1, assignments=[replicas(0, 1), replicas(1, 1, 9)]),
    ),
    _create(
        "a partition assigned twice",
        topic("again-{v}", -1, -1, assignments=[replicas(0, 1), replicas(0, 1)]),
    ),
    _create("with a config", topic("config-{v}", configs=[config("retention.ms", "70000")])),
    _create(
        "with an unknown config", topic("unknown-config-{v}", configs=[config("no.such", "1")])
    ),
    _create("with a bad config", topic("bad-config-{v}", configs=[config("retention.ms", "x")])),
    _create(
        "with a config of null", topic("null-config-{v}", configs=[config("retention.ms", None)])
    ),
    _create(
        "with a config twice",
        topic("two-{v}", configs=[config("retention.ms", "1000"), config("retention.ms", "2000")]),
    ),
    _create(
        "validated only, with a bad config",
        topic("v-{v}", configs=[config("retention.ms", "x")]),
        validate_only=True,
    ),
    _create("a good one and a bad one", topic("good-{v}"), topic("bad {v}")),
    _create("a timeout of 0", topic("no-time-{v}"), timeout=0),
    _create("a timeout below 0", topic("negative-time-{v}"), timeout=-1),
    Case("null topics", ApiKey.CREATE_TOPICS, raw=b"\xff\xff\xff\xff\0\0\0\0\0", versions=[2, 4]),
]

# With ZooKeeper, Kafka makes these topics, and waits for their leaders in vain.
LAST = [
    _create(
        f"assigned to {name}",
        topic(f"to-{name}-{{v}}", -1, -1, assignments=[replicas(0, *brokers)]),
        timeout=300,
        versions=[2, 7],
    )
    for name, brokers in (("nobody", ()), ("stranger", (9,)), ("stranger too", (1, 9)))
]


def _delete(name: str, *topics: Any, timeout: int = 30_000, versions: Any = None) -> Case:
    named = [item for item in topics if isinstance(item, str)]
    either = [{"name": i, "topic_id": None} if isinstance(i, str) else i for i in topics]
    values = {"topic_names": named, "topics": either, "timeout": timeout}
    return Case(name, ApiKey.DELETE_TOPICS, values, versions)


_ID = Known("id", uuid.UUID(int=1))
_STRANGE_ID = uuid.UUID(int=77)
DELETE = [
    _create("victims", *(topic(f"victim-{version}") for version in range(8)), versions=[4]),
    led("victims are led", *(f"victim-{version}" for version in range(8))),
    Case(
        "the id of a victim",
        ApiKey.METADATA,
        {
            "topics": [{"name": "victim-7", "topic_id": None}],
            "allow_auto_topic_creation": False,
            "include_topic_authorized_operations": False,
        },
        [11],
        remember={"id": lambda answer: answer["topics"][0]["topic_id"]},
    ),
    _delete("a topic", "victim-{v}"),
    _delete("a topic that is not there", "no-such"),
    _delete("no topics"),
    _delete("a bad name", "a b"),
    _delete("the empty name", ""),
    _delete("a good one and one that is not there", "no-such", "validated-only"),
    _delete("twice", "once-{v}", "once-{v}", versions=[2, 4, 6]),
    _delete("by id", {"name": None, "topic_id": _ID}, versions=[6]),
    _delete("by an id that is not there", {"name": None, "topic_id": _STRANGE_ID}, versions=[6]),
    _delete("by name and id", {"name": "plain", "topic_id": _STRANGE_ID}, versions=[6]),
    _delete("by neither", {"name": None, "topic_id": None}, versions=[6]),
]


def _grow(name: str, *topics: dict[str, Any], **more: Any) -> Case:
    values = {"topics": list(topics), "timeout": 30_000, "validate_only": False}
    return Case(name, ApiKey.CREATE_PARTITIONS, values | more)


def growth(name: str, count: int, assignments: Any = None) -> dict[str, Any]:
    given = assignments and [{"broker_ids": each} for each in assignments]
    return {"name": name, "count": count, "assignments": given}


GROW = [
    _create("to grow", *(topic(f"grow-{version}") for version in range(4)), versions=[4]),
    led("to grow are led", *(f"grow-{version}" for version in range(4))),
    _grow("validated only", growth("grow-{v}", 5), validate_only=True),
    _grow("more partitions", growth("grow-{v}", 3)),
    _grow("as many as there are", growth("plain", 2)),
    _grow("fewer", growth("plain", 1)),
    _grow("validated only, fewer", growth("plain", 1), validate_only=True),
    _grow("none", growth("plain", 0)),
    _grow("below 0", growth("plain", -1)),
    _grow("of a topic that is not there", growth("no-such", 3)),
    _grow("validated only, of none", growth("no-such", 3), validate_only=True),
    _grow("of a bad name", growth("a b", 3)),
    _grow("twice", growth("plain", 3), growth("plain", 4)),
    _grow("of no topics"),
    _grow("assigned", growth("grow-{v}", 4, [[1]])),
    _grow("too few assigned", growth("plain", 4, [[1]])),
    _grow("too many assigned", growth("plain", 3, [[1], [1]])),
    _grow("assigned to a stranger", growth("plain", 3, [[9]])),
    _grow("validated only, to a stranger", growth("plain", 3, [[9]]), validate_only=True),
    _grow("assigned to nobody", growth("plain", 3, [[]])),
    _grow("assigned to one twice", growth("plain", 3, [[1, 1]])),
]


def _metadata(name: str, names: Any, versions: Any = None, **more: Any) -> Case:
    values = {
        "topics": None if names is None else [{"name": n, "topic_id": None} for n in names],
        "allow_auto_topic_creation": False,
        "include_topic_authorized_operations": False,
        "include_cluster_authorized_operations": False,
    }
    return Case(name, ApiKey.METADATA, values | more, versions)


_ALL = range(12)
METADATA = [
    _metadata("two topics", ["plain", "filled"]),
    _metadata("all topics", None, range(1, 12)),
    _metadata("no topics, which once was all", [], _ALL),
    _metadata("a topic that is not there", ["no-such"], range(4, 12)),
    _metadata("a topic twice", ["plain", "plain"]),
    *(
        _metadata(f"a bad name: {name[:10]!r}", [name], range(4, 12))
        for name in ("", ".", "a b", "a/b", LONG_NAME)
    ),
    *(
        _metadata(f"a bad name to be made: {name!r}", [name], allow_auto_topic_creation=True)
        for name in ("", "a b")
    ),
    _metadata(
        "operations of the cluster", [], range(8, 11), include_cluster_authorized_operations=True
    ),
    _metadata(
        "operations of topics",
        ["plain", "no-such"],
        range(8, 12),
        include_topic_authorized_operations=True,
    ),
    _metadata(
        "by an id",
        None,
        [10, 11],
        topics=[{"name": None, "topic_id": _STRANGE_ID}],
    ),
    _metadata(
        "by name and id",
        None,
        [10, 11],
        topics=[{"name": "plain", "topic_id": _STRANGE_ID}],
    ),
    _metadata("made by asking", ["made-{v}"], allow_auto_topic_creation=True),
]


def _cluster(name: str, versions: Any = None, **more: Any) -> Case:
    values = {"include_cluster_authorized_operations": False, "endpoint_type": 1}
    return Case(name, ApiKey.DESCRIBE_CLUSTER, values | more, versions)


CLUSTER = [
    _cluster("the cluster"),
    _cluster("with operations", include_cluster_authorized_operations=True),
    _cluster("the controllers", [1], endpoint_type=2),
    _cluster("an unknown type of endpoint", [1], endpoint_type=7),
    _cluster("type 0 of endpoint", [1], endpoint_type=0),
    Case(
        "versions",
        ApiKey.API_VERSIONS,
        {"client_software_name": "conformance", "client_software_version": "1"},
    ),
    *(
        Case(
            f"a bad name of software: {name!r}",
            ApiKey.API_VERSIONS,
            {"client_software_name": name, "client_software_version": "1"},
            [3],
        )
        for name in ("", "a b", "ä", "-")
    ),
]


def _elect(name: str, topics: Any, kind: int = 0, versions: Any = None, **more: Any) -> Case:
    listed = None if topics is None else [{"topic": t, "partitions": p} for t, p in topics]
    values = {"election_type": kind, "topic_partitions": listed, "timeout": 30_000}
    return Case(name, ApiKey.ELECT_LEADERS, values | more, versions)


ELECT = [
    _elect("one that leads", [("plain", [0])]),
    _elect("a partition that is not there", [("plain", [9])]),
    _elect("a topic that is not there", [("no-such", [0])]),
    _elect("a bad name", [("a b", [0])]),
    _elect("a partition below 0", [("plain", [-1])]),
    _elect("no topics", []),
    _elect("no partitions", [("plain", [])]),
    _elect("a partition twice", [("plain", [0, 0])]),
    _elect("unclean", [("plain", [0])], 1, [1, 2]),
    _elect("unclean, a topic that is not there", [("no-such", [0])], 1, [1, 2]),
    _elect("an unknown type", [("plain", [0])], 7, [1, 2]),
    _elect("an unknown type below 0", [("plain", [0])], -1, [1, 2]),
    _elect("a timeout of 0", [("plain", [0])], timeout=0),
    _elect("everything", None),
]


def _reassign(name: str, *items: tuple[str, int, Any]) -> Case:
    listed = [
        {"name": topic_name, "partitions": [{"partition_index": index, "replicas": brokers}]}
        for topic_name, index, brokers in items
    ]
    values = {"timeout": 30_000, "topics": listed}
    return Case(name, ApiKey.ALTER_PARTITION_REASSIGNMENTS, values)


def _reassigning(name: str, topics: Any) -> Case:
    listed = topics and [{"name": t, "partition_indexes": p} for t, p in topics]
    values = {"timeout": 30_000, "topics": listed}
    return Case(name, ApiKey.LIST_PARTITION_REASSIGNMENTS, values)


REASSIGN = [
    _reassign("to where it is", ("plain", 0, [1])),
    _reassign("to a stranger", ("plain", 0, [9])),
    _reassign("to nobody", ("plain", 0, [])),
    _reassign("to one twice", ("plain", 0, [1, 1])),
    _reassign("to a broker below 0", ("plain", 0, [-1])),
    _reassign("to be cancelled", ("plain", 0, None)),
    _reassign("a partition that is not there", ("plain", 9, [1])),
    _reassign("a topic that is not there", ("no-such", 0, [1])),
    _reassign("cancelled, of a topic that is not there", ("no-such", 0, None)),
    _reassign("nothing"),
    _reassign("a good one and a bad one", ("filled", 0, [1]), ("plain", 0, [9])),
    _reassigning("all", None),
    _reassigning("of a partition", [("plain", [0])]),
    _reassigning("of one that is not there", [("no-such", [0])]),
    _reassigning("of none", []),
]
CASES = [*METADATA[:-1], *CLUSTER, *CREATE, *DELETE, *GROW, *ELECT, *REASSIGN, METADATA[-1]]
