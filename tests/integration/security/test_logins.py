"""Names proved by SASL, by real clients of several families, against brokers that are processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import confluent_kafka
import kafka
import kafka.errors
import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.helpers.processes import ProcessCluster

MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
SETTINGS = (
    "listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    f'listener.name.plaintext.plain.sasl.jaas.config={MODULE} required user_alice="wonderland";',
    "super.users=User:ANONYMOUS",  # gRPC is on a loopback address
)


class Login(NamedTuple):
    mechanism: str
    user: str
    password: str


LOGINS = [
    Login("PLAIN", "alice", "wonderland"),
    Login("SCRAM-SHA-256", "carol", "christmas"),
    Login("SCRAM-SHA-512", "dave", "chas & dave"),
]
STRANGE = Login("SCRAM-SHA-256", "e=v,e/%*", "wall=e")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """Where the users are that there should be."""
    made = ProcessCluster(tmp_path_factory.mktemp("logins"))
    made.up(2, "embedded", *SETTINGS)
    try:
        add_users(kafka_address(made), [*LOGINS[1:], STRANGE])
        yield made
    finally:
        made.down()


def kafka_address(cluster: ProcessCluster) -> str:
    brokers = cluster.document()["brokers"]
    return ",".join(str(each["kafka"]) for each in brokers)  # type: ignore[attr-defined]


def librdkafkas(address: str, login: Login) -> dict[str, object]:
    return {
        "bootstrap.servers": address,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": login.mechanism,
        "sasl.username": login.user,
        "sasl.password": login.password,
    }


def add_users(address: str, logins: list[Login]) -> None:
    """As somebody who has a name already."""
    admin = AdminClient(librdkafkas(address, LOGINS[0]))
    wanted = []
    for each in logins:
        mechanism = getattr(ScramMechanism, each.mechanism.replace("-", "_"))
        info = ScramCredentialInfo(mechanism, 4096)
        wanted.append(UserScramCredentialUpsertion(each.user, info, each.password.encode()))
    for done in admin.alter_user_scram_credentials(wanted).values():
        done.result(30)


def by_kafka_python(address: str, login: Login, *, patient: bool) -> None:
    settings = {
        "bootstrap_servers": address,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": login.mechanism,
        "sasl_plain_username": login.user,
        "sasl_plain_password": login.password,
        "bootstrap_timeout_ms": 30_000 if patient else 1_000,
    }
    producer = kafka.KafkaProducer(**settings, acks="all")
    producer.send("words", b"hello").get(30)
    producer.close()
    consumer = kafka.KafkaConsumer(
        "words", **settings, auto_offset_reset="earliest", consumer_timeout_ms=30_000
    )
    assert next(consumer).value == b"hello"
    consumer.close()


def by_librdkafka(address: str, login: Login, *, patient: bool) -> None:
    errors: list[confluent_kafka.KafkaError] = []
    settings = librdkafkas(address, login) | {"error_cb": errors.append}
    producer = confluent_kafka.Producer(settings)
    producer.produce("words", b"hello")
    if producer.flush(30 if patient else 2):
        producer.purge()
        raise confluent_kafka.KafkaException(errors[0])
    consumer = confluent_kafka.Consumer(
        settings | {"group.id": f"of-{login.mechanism}", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["words"])
    found = consumer.poll(30)
    assert found is not None
    assert found.value() == b"hello"
    consumer.close()


Client = Callable[..., None]
clients = pytest.mark.parametrize("client", [by_kafka_python, by_librdkafka])
logins = pytest.mark.parametrize("login", LOGINS, ids=lambda login: login.mechanism)


@clients
@logins
def test_a_client_that_knows_the_password_works(
    cluster: ProcessCluster, client: Client, login: Login
) -> None:
    client(kafka_address(cluster), login, patient=True)


@clients
@logins
@pytest.mark.parametrize("wrong", [{"password": "looking-glass"}, {"user": "nobody"}])
def test_a_client_that_does_not_know_it_is_told(
    cluster: ProcessCluster,
    client: Client,
    login: Login,
    wrong: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises((kafka.errors.KafkaError, confluent_kafka.KafkaException)) as refused:
        client(kafka_address(cluster), login._replace(**wrong), patient=False)
    assert "Authentication failed" in f"{refused.value} {caplog.text}"


def test_a_user_may_have_any_name(cluster: ProcessCluster) -> None:
    """(kafka-python escapes none.)"""
    by_librdkafka(kafka_address(cluster), STRANGE, patient=True)


def test_users_outlive_their_broker(cluster: ProcessCluster) -> None:
    cluster.kill("A")
    cluster.restart("A")
    by_librdkafka(kafka_address(cluster), LOGINS[1], patient=True)


def test_the_commands_work_on(cluster: ProcessCluster) -> None:
    """They speak gRPC, which is on a loopback address, and open to this machine."""
    assert "B" in cluster.minikafka("status").stdout


def test_no_password_is_in_a_log(cluster: ProcessCluster) -> None:
    for name in ("A", "B"):
        log = cluster.log_of(name)
        assert "no authentication of 127.0.0.1" in log
        for secret in ("wonderland", "looking-glass", "christmas", "chas & dave"):
            assert secret not in log
