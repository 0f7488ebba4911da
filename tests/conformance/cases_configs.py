"""Configurations of topics and brokers, and access control, of which there is none."""

from __future__ import annotations

from typing import Any

from minikafka.kafka.apis import ApiKey
from tests.conformance.exchange import Case

TOPIC, BROKER, LOGGER = 2, 4, 8
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def _describe(
    name: str, kind: int, resource: str, keys: Any = None, versions: Any = None, **more: Any
) -> Case:
    resources = [{"resource_type": kind, "resource_name": resource, "configuration_keys": keys}]
    values = {
        "resources": resources,
        "include_synonyms": False,
        "include_documentation": False,
    }
    return Case(name, ApiKey.DESCRIBE_CONFIGS, values | more, versions)


_TYPES_OF_BROKER = [
    "log.retention.ms",
    "log.retention.hours",
    "log.retention.bytes",
    "log.segment.bytes",
    "log.roll.ms",
    "log.cleanup.policy",
    "log.cleaner.min.cleanable.ratio",
    "min.insync.replicas",
    "compression.type",
    "unclean.leader.election.enable",
    "message.max.bytes",
    "num.partitions",
    "default.replication.factor",
    "producer.id.expiration.ms",
    "offsets.retention.minutes",
    "group.max.session.timeout.ms",
    "leader.replication.throttled.rate",
    "background.threads",
    "broker.id",
    "broker.rack",
    "connections.max.idle.ms",
    "delete.topic.enable",
    "zookeeper.session.timeout.ms",
]
DESCRIBE = [
    _describe("a topic", TOPIC, "configured", versions=[4]),
    _describe("a property that is set", TOPIC, "configured", ["retention.ms"]),
    _describe("a property that is not set", TOPIC, "configured", ["segment.ms"]),
    _describe(
        "with synonyms",
        TOPIC,
        "configured",
        ["retention.ms", "segment.ms", "segment.bytes"],
        include_synonyms=True,
    ),
    _describe(
        "with documentation",
        TOPIC,
        "configured",
        ["retention.ms"],
        [3, 4],
        include_documentation=True,
    ),
    _describe("an unknown property", TOPIC, "configured", ["no.such", "retention.ms"]),
    _describe("a property twice", TOPIC, "configured", ["retention.ms", "retention.ms"]),
    _describe("an empty list", TOPIC, "configured", [], [1, 4]),
    _describe("a topic that is not there", TOPIC, "no-such"),
    _describe("the empty topic", TOPIC, ""),
    _describe("a bad name", TOPIC, "a b"),
    _describe("a broker", BROKER, "1", _TYPES_OF_BROKER),
    _describe("a broker, with synonyms", BROKER, "1", _TYPES_OF_BROKER[:6], include_synonyms=True),
    _describe("all brokers", BROKER, ""),
    _describe("a broker that is not there", BROKER, "9", ["broker.id"]),
    _describe("a broker that is no number", BROKER, "x", ["broker.id"]),
    _describe("a broker below 0", BROKER, "-1", ["broker.id"]),
    _describe("an unknown type", 77, "x"),
    _describe("type 0", 0, "x"),
    _describe("type 3", 3, "x"),
    _describe("no resources", TOPIC, "", resources=[]),
    _describe(
        "a resource twice",
        TOPIC,
        "",
        resources=[
            {
                "resource_type": TOPIC,
                "resource_name": "configured",
                "configuration_keys": ["retention.ms"],
            }
        ]
        * 2,
    ),
]


def _incremental(name: str, *changes: tuple[str, int, str | None], **more: Any) -> Case:
    configs = [{"name": n, "config_operation": o, "value": v} for n, o, v in changes]
    kind, resource = more.pop("kind", TOPIC), more.pop("resource", "altered")
    resources = [{"resource_type": kind, "resource_name": resource, "configs": configs}]
    values = {"resources": resources * more.pop("times", 1), "validate_only": False}
    return Case(name, ApiKey.INCREMENTAL_ALTER_CONFIGS, values | more)


def _alter(name: str, *configs: tuple[str, str | None], **more: Any) -> Case:
    listed = [{"name": n, "value": v} for n, v in configs]
    kind, resource = more.pop("kind", TOPIC), more.pop("resource", "altered")
    resources = [{"resource_type": kind, "resource_name": resource, "configs": listed}]
    values = {"resources": resources * more.pop("times", 1), "validate_only": False}
    return Case(name, ApiKey.ALTER_CONFIGS, values | more)


_counter = iter(range(1_000))


def _now(*keys: str) -> Case:
    """What the topic's properties are by now."""
    what = ["retention.ms", "cleanup.policy", "segment.ms", *keys]
    return _describe(f"by now {next(_counter)}", TOPIC, "altered", what, [4])


RETENTION, POLICY = "retention.ms", "cleanup.policy"
INCREMENTAL = [
    _incremental("set", (RETENTION, SET, "6000")),
    _now(),
    _incremental("set to null", (RETENTION, SET, None)),
    _now(),
    _incremental("an unknown operation", (RETENTION, 9, "7000")),
    _incremental("an operation below 0", (RETENTION, -1, "7000")),
    _now(),
    _incremental(
        "an unknown operation beside a good one", ("segment.ms", SET, "9"), (POLICY, 9, "x")
    ),
    _now(),
    _incremental("an unknown property", ("no.such", SET, "1")),
    _incremental("an unknown property taken away", ("no.such", DELETE, None)),
    _incremental("a bad value", (RETENTION, SET, "x")),
    _incremental("a value below the lowest", (RETENTION, SET, "-2")),
    _incremental("the empty value", (RETENTION, SET, "")),
    _incremental("a property twice", (RETENTION, SET, "1"), (RETENTION, SET, "2")),
    _incremental("an item more", (POLICY, APPEND, "compact")),
    _now(),
    _incremental("an item that is there", (POLICY, APPEND, "compact")),
    _incremental("an item less", (POLICY, SUBTRACT, "delete")),
    _now(),
    _incremental("an item that is not there", (POLICY, SUBTRACT, "delete")),
    _incremental("the last item", (POLICY, SUBTRACT, "compact")),
    _now(),
    _incremental("items in the other order", (POLICY, SET, "delete,compact")),
    _now(),
    _incremental("items again", (POLICY, SET, "compact,delete")),
    _now(),
    _incremental("an unknown item", (POLICY, APPEND, "x")),
    _incremental("an item of null", (POLICY, APPEND, None)),
    _incremental("an item of what is no list", (RETENTION, APPEND, "1")),
    _incremental("taken away", (POLICY, DELETE, None)),
    _incremental("taken away with a value", (RETENTION, DELETE, "5")),
    _incremental("taken away again", (RETENTION, DELETE, None)),
    _now(),
    _incremental("validated only", (RETENTION, SET, "8000"), validate_only=True),
    _incremental("validated only, a bad value", (RETENTION, SET, "x"), validate_only=True),
    _now(),
    _incremental("nothing"),
    _incremental("no resources", resources=[]),
    _incremental("a resource twice", (RETENTION, SET, "8000"), times=2),
    _now(),
    _incremental("a topic that is not there", (RETENTION, SET, "1"), resource="no-such"),
    _incremental("a bad name", (RETENTION, SET, "1"), resource="a b"),
    _incremental("the empty topic", (RETENTION, SET, "1"), resource=""),
    _incremental("an unknown type", (RETENTION, SET, "1"), kind=77),
    _incremental("type 0", (RETENTION, SET, "1"), kind=0),
    _incremental(
        "of a broker", ("log.cleaner.backoff.ms", SET, "14000"), kind=BROKER, resource="1"
    ),
    _incremental(
        "of a broker, null", ("log.cleaner.backoff.ms", SET, None), kind=BROKER, resource="1"
    ),
    _incremental(
        "of a broker, unknown operation",
        ("log.cleaner.backoff.ms", 9, "9"),
        kind=BROKER,
        resource="1",
    ),
    _incremental(
        "of a broker, taken away",
        ("log.cleaner.backoff.ms", DELETE, None),
        kind=BROKER,
        resource="1",
    ),
    _incremental(
        "of a broker, what cannot be altered", ("broker.id", SET, "5"), kind=BROKER, resource="1"
    ),
    _incremental(
        "of a broker that is no number",
        ("log.cleaner.backoff.ms", SET, "1"),
        kind=BROKER,
        resource="x",
    ),
    _incremental(
        "of all brokers", ("log.cleaner.backoff.ms", SET, "15000"), kind=BROKER, resource=""
    ),
    _incremental(
        "of all brokers, taken away",
        ("log.cleaner.backoff.ms", DELETE, None),
        kind=BROKER,
        resource="",
    ),
]
ALTER = [
    _alter("set", (RETENTION, "6000")),
    _now(),
    _alter("set to null", (RETENTION, None)),
    _now(),
    _alter("another", (POLICY, "compact")),
    _now(),
    _alter("an unknown property", ("no.such", "1")),
    _alter("a bad value", (RETENTION, "x")),
    _alter("a property twice", (RETENTION, "1"), (RETENTION, "2")),
    _now(),
    _alter("validated only", (RETENTION, "8000"), validate_only=True),
    _alter("validated only, null", (RETENTION, None), validate_only=True),
    _alter("validated only, a bad value", (RETENTION, "x"), validate_only=True),
    _now(),
    _alter("nothing"),
    _now(),
    _alter("no resources", resources=[]),
    _alter("a topic that is not there", (RETENTION, "1"), resource="no-such"),
    _alter("a bad name", (RETENTION, "1"), resource="a b"),
    _alter("the empty topic", (RETENTION, "1"), resource=""),
    _alter("an unknown type", (RETENTION, "1"), kind=77),
    _alter("of a broker, null", ("log.cleaner.backoff.ms", None), kind=BROKER, resource="1"),
    _alter(
        "of a broker that is no number", ("log.cleaner.backoff.ms", "1"), kind=BROKER, resource="x"
    ),
]
ACCESS = [
    Case(
        "what is allowed",
        ApiKey.DESCRIBE_ACLS,
        {
            "resource_type_filter": 1,
            "resource_name_filter": None,
            "principal_filter": None,
            "host_filter": None,
            "operation": 1,
            "permission_type": 1,
        },
    ),
    Case(
        "something is allowed",
        ApiKey.CREATE_ACLS,
        {
            "creations": [
                {
                    "resource_type": 2,
                    "resource_name": "plain",
                    "principal": "User:a",
                    "host": "*",
                    "operation": 3,
                    "permission_type": 3,
                }
            ]
        },
    ),
    Case("nothing is allowed", ApiKey.CREATE_ACLS, {"creations": []}),
    Case(
        "something is taken away",
        ApiKey.DELETE_ACLS,
        {
            "filters": [
                {
                    "resource_type_filter": 2,
                    "resource_name_filter": "plain",
                    "principal_filter": None,
                    "host_filter": None,
                    "operation": 3,
                    "permission_type": 3,
                }
            ]
        },
    ),
    Case("nothing is taken away", ApiKey.DELETE_ACLS, {"filters": []}),
]
CASES = [*DESCRIBE, *INCREMENTAL, *ALTER, *ACCESS]
