"""Who may do what, by entries that clients make, seen by real clients."""

from __future__ import annotations

from collections.abc import Iterator

import confluent_kafka
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import happens
from tests.integration.security.test_logins import MODULE, Login, kafka_address, librdkafkas

ADMIN = Login("PLAIN", "admin", "a")
ALICE = Login("PLAIN", "alice", "b")
BOB = Login("PLAIN", "bob", "c")
JAAS = " ".join(f'user_{each.user}="{each.password}"' for each in (ADMIN, ALICE, BOB))
ANY_HOST = "*"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    made = ProcessCluster(tmp_path_factory.mktemp("acls"))
    made.up(
        3,
        "embedded",
        "listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms=PLAIN",
        f"sasl.jaas.config={MODULE} required {JAAS};",
        "super.users=User:ANONYMOUS;User:admin",
        "authorizer.class.name=kafka.security.authorizer.AclAuthorizer",
    )
    try:
        admin = AdminClient(librdkafkas(kafka_address(made), ADMIN))
        for name in ("orders", "secrets"):
            admin.create_topics([NewTopic(name, 3, 2)])[name].result(30)
        yield made
    finally:
        made.down()


@pytest.fixture
def admin(cluster: ProcessCluster) -> Iterator[AdminClient]:
    """The super user; what it has allowed is taken back."""
    client = AdminClient(librdkafkas(kafka_address(cluster), ADMIN))
    try:
        yield client
    finally:
        everything = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            None,
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for done in client.delete_acls([everything]).values():
            done.result(30)
        assert client.describe_acls(everything).result(30) == []


def entry(
    name: str,
    login: Login,
    operation: AclOperation,
    kind: ResourceType = ResourceType.TOPIC,
    permission: AclPermissionType = AclPermissionType.ALLOW,
    pattern: ResourcePatternType = ResourcePatternType.LITERAL,
) -> AclBinding:
    principal = f"User:{login.user}"
    return AclBinding(kind, name, pattern, principal, ANY_HOST, operation, permission)


def allow(admin: AdminClient, *entries: AclBinding) -> None:
    for done in admin.create_acls(list(entries)).values():
        done.result(30)


def produced(cluster: ProcessCluster, login: Login, topic: str) -> str:
    """The name of the error, or nothing."""
    told: list[confluent_kafka.KafkaError | None] = []
    producer = confluent_kafka.Producer(librdkafkas(kafka_address(cluster), login))
    producer.produce(topic, b"x", on_delivery=lambda error, _: told.append(error))
    assert producer.flush(30) == 0
    return "" if told[0] is None else told[0].name()


def consumed(cluster: ProcessCluster, login: Login, topic: str, group: str) -> str:
    """The name of the error, or nothing if a record came."""
    settings = librdkafkas(kafka_address(cluster), login)
    consumer = confluent_kafka.Consumer(
        settings | {"group.id": group, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    try:
        message = happens(lambda: consumer.poll(0.5), within_s=30)
        assert message is not None
        error = message.error()
        return "" if error is None else error.name()
    finally:
        consumer.close()


def topics_seen(cluster: ProcessCluster, login: Login) -> set[str]:
    admin = AdminClient(librdkafkas(kafka_address(cluster), login))
    return set(admin.list_topics(timeout=30).topics)


def test_who_is_allowed_nothing_sees_and_does_nothing(
    cluster: ProcessCluster, admin: AdminClient
) -> None:
    assert topics_seen(cluster, ADMIN) >= {"orders", "secrets"}
    assert topics_seen(cluster, ALICE) == set()
    assert produced(cluster, ALICE, "orders") == "TOPIC_AUTHORIZATION_FAILED"
    assert produced(cluster, ALICE, "never-was") == "TOPIC_AUTHORIZATION_FAILED"
    assert "never-was" not in topics_seen(cluster, ADMIN)
    assert consumed(cluster, ALICE, "orders", "g") == "GROUP_AUTHORIZATION_FAILED"
    of_alice = AdminClient(librdkafkas(kafka_address(cluster), ALICE))
    with pytest.raises(confluent_kafka.KafkaException, match="CLUSTER_AUTHORIZATION_FAILED"):
        allow(of_alice, entry("orders", ALICE, AclOperation.ALL))


def test_what_is_allowed_is_allowed_and_nothing_else(
    cluster: ProcessCluster, admin: AdminClient
) -> None:
    allow(
        admin,
        entry("orders", ALICE, AclOperation.WRITE),
        entry("ord", BOB, AclOperation.READ, pattern=ResourcePatternType.PREFIXED),
        entry("readers", BOB, AclOperation.READ, ResourceType.GROUP),
    )

    def in_force() -> bool:
        """On all brokers: each hears of it for itself."""
        return produced(cluster, ALICE, "orders") == ""

    assert happens(in_force, within_s=10)
    assert produced(cluster, ALICE, "secrets") == "TOPIC_AUTHORIZATION_FAILED"
    assert topics_seen(cluster, ALICE) == {"orders"}
    assert produced(cluster, BOB, "orders") == "TOPIC_AUTHORIZATION_FAILED"
    assert consumed(cluster, BOB, "orders", "readers") == ""
    assert consumed(cluster, BOB, "orders", "others") == "GROUP_AUTHORIZATION_FAILED"


def test_a_denial_goes_before_and_holds_everywhere_soon(
    cluster: ProcessCluster, admin: AdminClient
) -> None:
    allow(admin, entry("orders", ALICE, AclOperation.WRITE))
    assert happens(lambda: produced(cluster, ALICE, "orders") == "", within_s=10)
    allow(
        admin,
        entry("orders", ALICE, AclOperation.WRITE, permission=AclPermissionType.DENY),
    )

    def denied() -> bool:
        return produced(cluster, ALICE, "orders") == "TOPIC_AUTHORIZATION_FAILED"

    assert happens(denied, within_s=10)
    assert all(denied() for _ in range(3))


def test_entries_outlive_all_brokers(cluster: ProcessCluster, admin: AdminClient) -> None:
    allow(admin, entry("orders", ALICE, AclOperation.WRITE))
    for name in ("A", "B", "C"):
        cluster.kill(name)
        cluster.restart(name)
    assert happens(lambda: produced(cluster, ALICE, "orders") == "", within_s=20)
    assert produced(cluster, ALICE, "secrets") == "TOPIC_AUTHORIZATION_FAILED"


def test_denials_are_in_the_log(cluster: ProcessCluster) -> None:
    """By whichever broker was asked."""
    produced(cluster, BOB, "secrets")
    logs = "".join(cluster.log_of(name) for name in ("A", "B", "C"))
    assert "Principal = User:bob is Denied" in logs
