"""Names proved by SASL, by real clients of several families, against brokers that are processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka
import confluent_kafka.admin
import kafka
import kafka.errors
import pytest

from tests.helpers.processes import ProcessCluster

MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
SETTINGS = (
    "listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms=PLAIN",
    f'listener.name.plaintext.plain.sasl.jaas.config={MODULE} required user_alice="wonderland";',
    "super.users=User:ANONYMOUS",  # gRPC is on a loopback address
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    made = ProcessCluster(tmp_path_factory.mktemp("logins"))
    made.up(2, "embedded", *SETTINGS)
    try:
        yield made
    finally:
        made.down()


def kafka_address(cluster: ProcessCluster) -> str:
    return ",".join(str(each["kafka"]) for each in cluster.document()["brokers"])  # type: ignore[attr-defined]


def by_kafka_python(address: str, password: str) -> None:
    login = {
        "bootstrap_servers": address,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "alice",
        "sasl_plain_password": password,
        "bootstrap_timeout_ms": 30_000 if password == "wonderland" else 1_000,
    }
    producer = kafka.KafkaProducer(**login, acks="all")
    producer.send("words", b"hello").get(30)
    producer.close()
    consumer = kafka.KafkaConsumer(
        "words", **login, auto_offset_reset="earliest", consumer_timeout_ms=30_000, group_id="g1"
    )
    assert next(consumer).value == b"hello"
    consumer.close()


def by_librdkafka(address: str, password: str) -> None:
    errors: list[confluent_kafka.KafkaError] = []
    login = {
        "bootstrap.servers": address,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "alice",
        "sasl.password": password,
        "error_cb": errors.append,
    }
    producer = confluent_kafka.Producer(login)
    producer.produce("words", b"hello")
    if producer.flush(30 if password == "wonderland" else 3):
        producer.purge()
        raise confluent_kafka.KafkaException(errors[0])
    consumer = confluent_kafka.Consumer(login | {"group.id": "g2", "auto.offset.reset": "earliest"})
    consumer.subscribe(["words"])
    found = consumer.poll(30)
    assert found is not None
    assert found.value() == b"hello"
    consumer.close()


CLIENTS = [by_kafka_python, by_librdkafka]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_knows_the_password_works(
    cluster: ProcessCluster, client: Callable[[str, str], None]
) -> None:
    client(kafka_address(cluster), "wonderland")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_does_not_know_it_is_told(
    cluster: ProcessCluster,
    client: Callable[[str, str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises((kafka.errors.KafkaError, confluent_kafka.KafkaException)) as refused:
        client(kafka_address(cluster), "looking-glass")
    assert "Invalid username or password" in f"{refused.value} {caplog.text}"


def test_the_commands_work_on(cluster: ProcessCluster) -> None:
    """They speak gRPC, which is on a loopback address, and open to this machine."""
    assert "B" in cluster.minikafka("status").stdout


def test_no_password_is_in_a_log(cluster: ProcessCluster, tmp_path: Path) -> None:
    for name in ("A", "B"):
        log = cluster.log_of(name)
        assert "wonderland" not in log
        assert "looking-glass" not in log
