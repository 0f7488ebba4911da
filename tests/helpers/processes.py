"""A cluster of real processes, as `minikafka up` makes it, and a producer that keeps count.

Everything lies under one directory and is ended with the fixture: `minikafka down` ends each
process by its own pid, and whoever survives that is killed. If the tests themselves are killed, a
guardian ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kazoo.client import KazooClient

from minikafka import processes
from minikafka.client import AsyncAdmin, AsyncConsumer, AsyncProducer
from minikafka.errors import MinikafkaError
from minikafka.local.guardian import Guardian
from minikafka.model import PartitionState, TopicPartition, describe_state
from minikafka.processes import Process
from minikafka.zookeeper.codec import encode_config_change
from minikafka.zookeeper.paths import Layout
from tests.helpers.waiting import until

_KILL_WAIT_S = 30.0
FAST = ("zookeeper.session.timeout.ms=1500", "replica.lag.time.max.ms=1500")


class ProcessCluster:
    """`minikafka up --detach` in `path`. Brokers are named A, B, C, …"""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guardian: Guardian | None = None

    def minikafka(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI on this cluster."""
        done = subprocess.run(
            [sys.executable, "-m", "minikafka", *arguments],
            cwd=self.path,
            env={**os.environ, "MINIKAFKA_DATA_DIR": str(self.path), "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done

    def up(self, brokers: int, zookeeper: str, *settings: str) -> None:
        if self._guardian is None:
            self._guardian = Guardian(self.path).__enter__()
        options = [option for setting in (*FAST, *settings) for option in ("--set", setting)]
        self.minikafka(
            "up", "--detach", "--brokers", str(brokers), "--zookeeper", zookeeper, *options
        )

    def down(self) -> None:
        if self._guardian is not None:
            guardian, self._guardian = self._guardian, None
            guardian.__exit__()
        file = self.path / "cluster.json"
        if not file.exists():
            return
        brokers = list(self._processes().values())
        for broker in brokers:
            processes.send_signal(broker, signal.SIGCONT)
        self.minikafka("down", check=False)
        for broker in brokers:
            processes.send_signal(broker, signal.SIGKILL)

    def document(self) -> dict[str, object]:
        return json.loads((self.path / "cluster.json").read_text())  # type: ignore[no-any-return]

    @property
    def bootstrap(self) -> str:
        brokers = json.loads((self.path / "cluster.json").read_text())["brokers"]
        return ",".join(broker["grpc"] for broker in brokers)

    def _processes(self) -> dict[str, Process]:
        """The brokers', by name."""
        brokers = json.loads((self.path / "cluster.json").read_text())["brokers"]
        return {each["name"]: Process(each["pid"], each["started"]) for each in brokers}

    def kill(self, name: str, number: str = "KILL") -> None:
        self.minikafka("kill", name, "--signal", number)

    def kill_at_once(self, *names: str) -> None:
        """Without a command, which would take its time: SIGKILL to these. Returns when they are
        gone."""
        found = self._processes()
        for name in names:
            processes.send_signal(found[name], signal.SIGKILL)
        assert all(processes.wait_ended(found[name], _KILL_WAIT_S) for name in names), found

    def signal(self, name: str, number: signal.Signals) -> None:
        processes.send_signal(self._processes()[name], number)

    def restart(self, name: str) -> None:
        self.minikafka("restart", name)

    def zookeeper(self) -> KazooClient:
        """A plain ZooKeeper client on the same servers; the caller stops it."""
        client = KazooClient(
            json.loads((self.path / "cluster.json").read_text())["zookeeper"]["hosts"]
        )
        client.start(timeout=15)
        return client

    def state_in_zookeeper(self, topic: str, partition: int = 0) -> tuple[dict[str, object], int]:
        """The State znode and its version, as any ZooKeeper client reads it."""
        client = self.zookeeper()
        try:
            data, stat = client.get(f"/brokers/topics/{topic}/partitions/{partition}/state")
            return json.loads(data), stat.version
        finally:
            client.stop()
            client.close()

    def write_to_zookeeper(self, nodes: Mapping[str, bytes]) -> None:
        """Make these nodes, or write over what they hold."""
        client = self.zookeeper()
        try:
            for path, data in nodes.items():
                if client.exists(path):
                    client.set(path, data)
                else:
                    client.create(path, data)
        finally:
            client.stop()
            client.close()

    def announce_config(self, entity_path: str) -> None:
        """As whoever writes /config by hand has to: brokers read what is announced."""
        client = self.zookeeper()
        try:
            data = encode_config_change(entity_path)
            client.create(Layout().config_change_prefix, data, sequence=True)
        finally:
            client.stop()
            client.close()

    def read_from_zookeeper(self, paths: Iterable[str]) -> dict[str, bytes]:
        client = self.zookeeper()
        try:
            return {path: client.get(path)[0] for path in paths}
        finally:
            client.stop()
            client.close()

    def log_of(self, name: str) -> str:
        """What this broker has said on standard error."""
        return (self.path / f"broker-{ord(name) - ord('A') + 1}.log").read_text()


async def state_of(admin: AsyncAdmin, topic: str) -> PartitionState | None:
    """The State of partition 0, as whichever broker answers knows it."""
    try:
        described = await admin.describe_topic(topic)
    except MinikafkaError:
        return None
    return described.partitions[0].state


async def until_words(admin: AsyncAdmin, topic: str, words: str) -> None:
    """Until the partition's state reads like this, in the words of the slide."""

    async def read() -> bool:
        state = await state_of(admin, topic)
        if state is None:
            return False
        seen.append(describe_state(state.leader, state.leader_epoch, state.isr, {}))
        return seen[-1] == words

    seen: list[str] = []
    try:
        await until(read, 40)
    except AssertionError:
        raise AssertionError(f"never {words!r}; states seen: {list(dict.fromkeys(seen))}") from None


async def until_isr(admin: AsyncAdmin, topic: str, size: int) -> PartitionState:
    async def read() -> PartitionState | None:
        state = await state_of(admin, topic)
        return state if state is not None and state.leader > 0 and len(state.isr) == size else None

    found = await until(read, 40)
    assert found is not None
    return found


@dataclass
class Load:
    """A producer that sends numbered records, one at a time per lane, and remembers what was
    acknowledged; an idempotent one must leave each number in the log exactly once. With
    `partitions` they take turns; else the partitioner sticks to one for thousands of such small
    records."""

    bootstrap: str
    topic: str
    lanes: int = 8
    delivery_timeout_ms: int = 60_000
    acknowledged: list[int] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    partitions: int = 0
    _next: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Load:
        self._producer = AsyncProducer(
            self.bootstrap, acks="all", delivery_timeout_ms=self.delivery_timeout_ms
        )
        await self._producer.start()
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self.lanes)]
        return self

    async def _run(self) -> None:
        while not self._stop.is_set():
            number, self._next = self._next, self._next + 1
            partition = number % self.partitions if self.partitions else None
            try:
                await (await self._producer.send(self.topic, b"%d" % number, partition=partition))
            except MinikafkaError as error:
                self.failed.append((number, repr(error)))
            else:
                self.acknowledged.append(number)

    async def more(self, count: int) -> None:
        """Until that many more are acknowledged."""
        goal = len(self.acknowledged) + count
        await until(lambda: len(self.acknowledged) >= goal, 40)

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._producer.close()

    def judge(self, read: Sequence[int]) -> None:
        """Everything that was acknowledged was read, once; nothing twice."""
        lost = sorted(set(self.acknowledged) - set(read))
        duplicated = sorted(number for number, times in Counter(read).items() if times > 1)
        assert not lost, f"lost {len(lost)}: {lost[:10]}"
        assert not duplicated, f"duplicated {len(duplicated)}: {duplicated[:10]}"
        assert not self.failed, self.failed[:5]


async def read_numbers(bootstrap: str, topic: str) -> list[int]:
    """Every committed record of partition 0."""
    partition = TopicPartition(topic, 0)
    async with AsyncConsumer(bootstrap) as consumer:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        numbers: list[int] = []
        while await consumer.position(partition) < end:
            numbers += [int(record.value or b"") for record in await consumer.poll(5_000)]
        return numbers
