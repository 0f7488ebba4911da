"""TLS on the Kafka door, by real clients: names by certificates, names by SASL, and new keys while
records come in."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import kafka
import kafka.errors
import pytest

from minikafka.certificates import write_authority, write_issued
from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import happens
from tests.integration.security.test_logins import MODULE, kafka_address

HOSTS = ("localhost", "127.0.0.1")
OPEN_GRPC = "super.users=User:ANONYMOUS"


class Keys:
    """An authority, and what it has issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = write_authority(folder, "the cluster's authority")
        self.broker = write_issued(folder, self.authority, "broker", HOSTS)
        self.client = write_issued(folder, self.authority, "alice")

    @property
    def trusted(self) -> str:
        return str(self.folder / "ca.crt")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "security")


def running(path: Path, *settings: str) -> Iterator[ProcessCluster]:
    made = ProcessCluster(path)
    made.up(1, "embedded", OPEN_GRPC, *settings)
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[ProcessCluster]:
    yield from running(
        tmp_path_factory.mktemp("mutual"),
        "listener.security.protocol.map=PLAINTEXT:SSL",
        f"ssl.keystore.location={keys.broker}",
        f"ssl.truststore.location={keys.trusted}",
        "ssl.client.auth=required",
    )


@pytest.fixture(scope="module")
def with_sasl(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[ProcessCluster]:
    yield from running(
        tmp_path_factory.mktemp("sasl"),
        "listener.security.protocol.map=PLAINTEXT:SASL_SSL",
        f"listener.name.plaintext.ssl.keystore.location={keys.broker}",
        "sasl.enabled.mechanisms=PLAIN",
        f'sasl.jaas.config={MODULE} required user_alice="wonderland";',
    )


def round_trip(settings: dict[str, object], wait_s: float = 30) -> None:
    errors: list[confluent_kafka.KafkaError] = []
    settings = settings | {"error_cb": errors.append}
    producer = confluent_kafka.Producer(settings)
    producer.produce("words", b"hello")
    if producer.flush(wait_s):
        producer.purge()
        raise confluent_kafka.KafkaException(errors[0])
    consumer = confluent_kafka.Consumer(
        settings | {"group.id": "g", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["words"])
    found = consumer.poll(30)
    assert found is not None
    assert found.value() == b"hello"
    consumer.close()


def by_certificate(cluster: ProcessCluster, keys: Keys) -> dict[str, object]:
    return {
        "bootstrap.servers": kafka_address(cluster),
        "security.protocol": "ssl",
        "ssl.ca.location": keys.trusted,
        "ssl.certificate.location": str(keys.client),
        "ssl.key.location": str(keys.client),
    }


def by_password(cluster: ProcessCluster, keys: Keys) -> dict[str, object]:
    return {
        "bootstrap.servers": kafka_address(cluster),
        "security.protocol": "sasl_ssl",
        "ssl.ca.location": keys.trusted,
        "sasl.mechanism": "PLAIN",
        "sasl.username": "alice",
        "sasl.password": "wonderland",
    }


def test_a_client_with_a_certificate_works(mutual: ProcessCluster, keys: Keys) -> None:
    round_trip(by_certificate(mutual, keys))


def test_kafka_python_works_with_a_certificate(mutual: ProcessCluster, keys: Keys) -> None:
    producer = kafka.KafkaProducer(
        bootstrap_servers=kafka_address(mutual),
        security_protocol="SSL",
        ssl_cafile=keys.trusted,
        ssl_certfile=str(keys.client),
        ssl_keyfile=str(keys.client),
    )
    producer.send("words", b"hello").get(30)
    producer.close()


def test_a_client_without_a_certificate_is_refused(mutual: ProcessCluster, keys: Keys) -> None:
    settings = by_certificate(mutual, keys)
    del settings["ssl.certificate.location"], settings["ssl.key.location"]
    with pytest.raises(confluent_kafka.KafkaException):
        round_trip(settings, wait_s=2)


def test_a_client_that_believes_somebody_else_does_not_come(
    mutual: ProcessCluster, keys: Keys, tmp_path: Path
) -> None:
    write_authority(tmp_path, "another authority")
    settings = by_certificate(mutual, keys) | {"ssl.ca.location": str(tmp_path / "ca.crt")}
    with pytest.raises(confluent_kafka.KafkaException, match=r"(?i)certificate"):
        round_trip(settings, wait_s=2)


def test_a_password_over_tls_works(with_sasl: ProcessCluster, keys: Keys) -> None:
    round_trip(by_password(with_sasl, keys))
    with pytest.raises(confluent_kafka.KafkaException, match="Authentication failed"):
        round_trip(by_password(with_sasl, keys) | {"sasl.password": "x"}, wait_s=2)


def test_new_keys_take_over_while_records_come_in(with_sasl: ProcessCluster, keys: Keys) -> None:
    """Old connections go on; what is told of the takeover is in the log."""
    producer = confluent_kafka.Producer(by_password(with_sasl, keys))
    failures: list[confluent_kafka.KafkaError] = []

    def on_delivery(error: confluent_kafka.KafkaError | None, _: object) -> None:
        if error is not None:
            failures.append(error)

    def send() -> None:
        producer.produce("many", b"x", on_delivery=on_delivery)
        producer.poll(0)

    send()
    write_issued(keys.folder, keys.authority, "broker", HOSTS, renew=True)
    with_sasl.signal("A", signal.SIGHUP)

    def taken_over() -> bool:
        send()
        return "new keys or trusted certificates have taken over" in with_sasl.log_of("A")

    assert happens(taken_over, within_s=20)
    round_trip(by_password(with_sasl, keys))
    send()
    assert producer.flush(30) == 0
    assert failures == []
