"""Records what the real clients send, as seeds for fuzzing the decoder.

    python -m tests.clients.record [CLIENT…]

Each client makes a tour of all that it can do against one broker of minikafka, and against one of
Apache Kafka 3.9, which has newer versions, through a proxy. `captured/CLIENT.txt` then has a line a
request: API key, version, and the request in hex, without its length. Of each key and version there
are at most two, a small one and a larger one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.kafka.apache import ApacheKafka
from minikafka.zookeeper.servers.addresses import Ports
from minikafka.zookeeper.servers.launcher import launch, parse_mode
from tests.clients.clients import CLIENTS, Client, Document, Program
from tests.helpers.kafka_recorder import Recorder

CAPTURED = Path(__file__).parent / "captured"
_FIRST_PORT = 31_000
_BETWEEN_BROKERS = {4, 5, 6, 7, 56, 67}
_ONE_BROKER = {
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "true",
}


def main(names: list[str]) -> int:
    clients = [client for client in CLIENTS if not names or client.name in names]
    found: dict[str, list[dict[tuple[int, int], list[bytes]]]] = {each.name: [] for each in clients}
    for broker in (_mini_broker, _apache_broker):
        with broker() as (recorder, bootstrap):
            for client in clients:
                tour(client, bootstrap)
                found[client.name].append(recorder.take())
    for client in clients:
        ours, newer = found[client.name]
        write(client, newer | ours)
    return 0


@contextmanager
def _mini_broker() -> Iterator[tuple[Recorder, str]]:
    with tempfile.TemporaryDirectory(prefix="record-") as path:
        target, port = (ports.client for ports in Ports.choose("127.0.0.1", 2, _FIRST_PORT))
        recorder = Recorder(port, f"127.0.0.1:{target}")
        recorder.start()
        zookeeper = launch(parse_mode("embedded"), Path(path) / "zookeeper", 0)
        settings = {
            **_ONE_BROKER,
            "broker.id": "1",
            "zookeeper.connect": zookeeper.hosts,
            "log.dirs": f"{path}/data",
            "grpc.listener": "127.0.0.1:0",
            "listeners": f"PLAINTEXT://127.0.0.1:{target}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        }
        options = [f"--set={name}={value}" for name, value in settings.items()]
        command = [sys.executable, "-m", "minikafka", "broker", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as broker:
            try:
                assert broker.stdout is not None
                assert broker.stdout.readline(), "the broker ended as it was started"
                yield recorder, f"127.0.0.1:{port}"
            finally:
                broker.terminate()
                broker.wait()
                zookeeper.stop()
                recorder.stop()


@contextmanager
def _apache_broker() -> Iterator[tuple[Recorder, str]]:
    (port,) = (ports.client for ports in Ports.choose("127.0.0.1", 1, _FIRST_PORT))
    advertised = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}"}
    with tempfile.TemporaryDirectory(prefix="record-") as path:
        kafka = ApacheKafka(Path(path), _ONE_BROKER | advertised, brokers=1)
        kafka.prepare()
        recorder = Recorder(port, kafka.members[0].address)
        recorder.start()
        try:
            kafka.start()  # its controller, too, goes through the proxy
            recorder.take()
            yield recorder, f"127.0.0.1:{port}"
        finally:
            kafka.stop()
            recorder.stop()


def tour(client: Client, bootstrap: str) -> None:
    with client.start("admin", bootstrap=bootstrap) as administrator:
        _tour(client, bootstrap, administrator)


def _tour(client: Client, bootstrap: str, administrator: Program) -> None:
    topic, group = f"t-{client.name}", f"g-{client.name}"

    def admin(call: str, **ask: object) -> None:
        if call in client.calls:
            administrator.call(call, topic=topic, group=group, **ask)

    admin("create_topic", partitions=2, replication=1, configs={"retention.ms": "3600000"})
    for codec, idempotent in [(codec, False) for codec in client.codecs] + [("none", True)]:
        ask = {"topic": topic, "acks": "all", "codec": codec, "idempotent": idempotent}
        with client.start("produce", bootstrap=bootstrap, **ask) as producer:
            records: list[Document] = [
                {"value": "hello", "key": "k", "headers": [["h", "1"]], "partition": 0},
                {"value": "x" * 100, "partition": 0},
            ]
            producer.send(records)
            producer.finish()
    for begin in ("earliest", {"offset": 1}, {"timestamp_ms": 1}):
        ask = {"topic": topic, "partition": 0, "from": begin, "count": 1}
        with client.start("consume", bootstrap=bootstrap, **ask) as consumer:
            consumer.finish()
    ask = {"topic": topic, "group": group, "session_timeout_ms": 6_000}
    with client.start("group", bootstrap=bootstrap, **ask) as member:
        member.wait_for_records(1)
        for call in ("groups", "group", "committed"):
            admin(call)
        member.leave()
    admin("topics")
    admin("config", name="retention.ms")
    admin("set_config", name="retention.ms", value="7200000")
    admin("add_partitions", partitions=3)
    admin("offsets", partition=0)
    admin("delete_records", partition=0, before=1)
    admin("delete_group")
    admin("delete_topic")


def write(client: Client, requests: dict[tuple[int, int], list[bytes]]) -> None:
    CAPTURED.mkdir(exist_ok=True)
    lines = [
        f"{key} {version} {request.hex()}\n"
        for (key, version), kept in sorted(requests.items())
        if key not in _BETWEEN_BROKERS
        for request in dict.fromkeys(kept)
    ]
    (CAPTURED / f"{client.name}.txt").write_text("".join(lines))
    print(f"{client.name}: {len(lines)} requests")


def captured() -> list[tuple[str, int, int, bytes]]:
    """(client, API key, version, request) of all that is recorded."""
    found = []
    for path in sorted(CAPTURED.glob("*.txt")):
        for line in path.read_text().splitlines():
            key, version, request = line.split()
            found.append((path.stem, int(key), int(version), bytes.fromhex(request)))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
