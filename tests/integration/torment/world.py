"""A cluster that can be tormented: ZooKeeper, brokers, and the network between them.

    directory/
      zookeeper-0/ …  zookeeper-0.log …
      broker-1.log …  disks/1/data …

State: the processes; who is meant to be down. A broker that ends by itself is started again, as the
supervisor of a real machine would, and that is remembered in `deaths`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException

from minikafka.client import AsyncAdmin
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition
from minikafka.zookeeper.servers.launcher import ZooKeeperMode
from tests.helpers.waiting import until
from tests.integration.torment.disks import Disk
from tests.integration.torment.network import Doors, Network, broker_node
from tests.integration.torment.processes import Child
from tests.integration.torment.zookeepers import ZooKeepers

SETTINGS = {
    "zookeeper.session.timeout.ms": "2000",
    "zookeeper.connection.timeout.ms": "15000",
    "replica.lag.time.max.ms": "2000",
    "replica.fetch.backoff.ms": "200",
    "leader.imbalance.check.interval.seconds": "10",
    "replica.high.watermark.checkpoint.interval.ms": "1000",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "3",
    "group.initial.rebalance.delay.ms": "500",
    "controlled.shutdown.retry.backoff.ms": "500",
    # All that clients may make a broker hold; memory.py has the bound that comes of it.
    "queued.max.request.bytes": "134217728",
    "log.cleaner.backoff.ms": "2000",
}
TOPICS = {
    "small": (3, {"min.insync.replicas": "2", "segment.bytes": "131072"}),
    "synced": (2, {"min.insync.replicas": "2", "flush.before.ack": "true"}),
}
# For the liar, and for nobody else.
LIED_TO = {
    "lied-to": (1, {"min.insync.replicas": "2", "segment.bytes": "131072"}),
    "lied-compacted": (
        1,
        {
            "min.insync.replicas": "2",
            "cleanup.policy": "compact",
            "segment.bytes": "65536",
            "min.cleanable.dirty.ratio": "0.01",
        },
    ),
}
REPLICATION_FACTOR = 3
SETTLE_WAIT_S = 60.0
_SUPERVISOR_WAIT_S = 1.0
_SUPERVISOR_LOOK_S = 0.1

logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # its servers will be killed


@dataclass(frozen=True)
class Death:
    """A broker that ended without being told to. `status` is negative for a signal."""

    broker_id: int
    status: int
    at: float
    last_words: str

    @property
    def is_justified(self) -> bool:
        """As it was started, ZooKeeper could not be reached, or its session ended: then it says so
        and ends, for a supervisor to try again."""
        last = self.last_words.splitlines()[-3:]
        return self.status in (1, 2) and any("ZooKeeper" in line for line in last)

    def __str__(self) -> str:
        return f"broker {self.broker_id} ended by itself, status {self.status}: {self.last_words}"


class World:
    """`start`, then do what you like, then `close`: that also works after half a start."""

    def __init__(
        self, directory: Path, network: Network, mode: ZooKeeperMode, brokers: int, mounts: bool
    ) -> None:
        self.directory = directory
        self.network = network
        self.mode = mode
        self.broker_ids = list(range(1, brokers + 1))
        self.brokers = {
            each: Child(f"broker-{each}", directory / f"broker-{each}.log")
            for each in self.broker_ids
        }
        self.disks = {each: Disk(directory / "disks" / str(each)) for each in self.broker_ids}
        self.deaths: list[Death] = []
        self.down: set[int] = set()  # and meant to be
        self._mounts = mounts
        self._doors: dict[int, Doors] = {}
        self._supervisor: asyncio.Task[None] | None = None
        self._admin: AsyncAdmin | None = None
        self._zookeeper: KazooClient | None = None

    @property
    def bootstrap(self) -> str:
        return ",".join(str(each.grpc.advertised) for each in self._doors.values())

    @property
    def kafka_bootstrap(self) -> str:
        return ",".join(str(each.kafka.advertised) for each in self._doors.values())

    @property
    def admin(self) -> AsyncAdmin:
        assert self._admin is not None
        return self._admin

    @property
    def partitions(self) -> list[TopicPartition]:
        """Those of the honest clients."""
        return _partitions(TOPICS)

    @property
    def all_partitions(self) -> list[TopicPartition]:
        return _partitions({**TOPICS, **LIED_TO})

    # --- start and end ---------------------------------------------------------------------------

    async def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        await self.network.start(self.mode.servers)
        self.zookeepers = ZooKeepers(self.mode, self.directory, self.network)
        await self.zookeepers.start()
        hosts = ",".join(str(each) for each in self.zookeepers.addresses)
        self._zookeeper = KazooClient(hosts, timeout=10)
        await asyncio.to_thread(self._zookeeper.start, 15)
        for each in self.broker_ids:
            # Every other broker has its data on a disk that can be filled.
            self.disks[each].prepare(self._mounts and each % 2 == 1)
            self._doors[each] = await self.network.broker_doors(each)
            await self._start_broker(each)
        self._supervisor = asyncio.create_task(self._supervise())
        await until(lambda: all(self._serves(each) for each in self.broker_ids), 40)
        self._admin = AsyncAdmin(self.bootstrap)
        await self._admin.start()
        for topic, (count, configs) in {**TOPICS, **LIED_TO}.items():
            await self._admin.create_topic(topic, count, REPLICATION_FACTOR, configs=configs)
        await self.until_whole()

    async def close(self) -> None:
        """End everything, also what does not end by itself."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if self._admin is not None:
            await self._admin.close()
        if self._zookeeper is not None:
            await asyncio.to_thread(self._zookeeper.stop)
            await asyncio.to_thread(self._zookeeper.close)
        self.kill_now()
        await self.network.close()

    def kill_now(self) -> None:
        for child in self.children():
            child.kill_now()

    def children(self) -> list[Child]:
        return [*self.brokers.values(), *getattr(self, "zookeepers", _NONE).servers]

    # --- brokers ---------------------------------------------------------------------------------

    async def _start_broker(self, broker_id: int) -> None:
        node = broker_node(broker_id)
        doors = self._doors[broker_id]
        settings = SETTINGS | {
            "broker.id": str(broker_id),
            "zookeeper.connect": await self.network.zookeeper_connect(
                node, self.zookeepers.addresses
            ),
            "log.dirs": str(self.disks[broker_id].path / "data"),
            "grpc.listener": str(doors.grpc.listener),
            "grpc.advertised.listener": str(doors.grpc.advertised),
            "listeners": f"PLAINTEXT://{doors.kafka.listener}",
            "advertised.listeners": f"PLAINTEXT://{doors.kafka.advertised}",
        }
        sets = [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "minikafka", "broker", *sets]
        pid = self.brokers[broker_id].start(self.network.command_at(node, command))
        self.network.started(node, pid)

    def _serves(self, broker_id: int) -> bool:
        return "serves gRPC at" in self.brokers[broker_id].tail(100)

    async def start_broker(self, broker_id: int) -> None:
        """Start one that is meant to be down, unless it is up already."""
        if broker_id in self.down:
            self.down.discard(broker_id)
            await self._start_broker(broker_id)

    async def kill_broker(self, broker_id: int) -> None:
        self.down.add(broker_id)
        await self.brokers[broker_id].kill()

    async def terminate_broker(self, broker_id: int, deadline_s: float) -> bool:
        """A controlled shutdown; False if it had to be killed after `deadline_s`."""
        self.down.add(broker_id)
        try:
            await self.brokers[broker_id].terminate(deadline_s)
        except AssertionError:
            await self.brokers[broker_id].kill()
            return False
        return True

    async def _supervise(self) -> None:
        noticed: dict[int, float] = {}
        while True:
            await asyncio.sleep(_SUPERVISOR_LOOK_S)
            for each, child in self.brokers.items():
                if child.is_running or each in self.down:
                    noticed.pop(each, None)
                elif each not in noticed:
                    noticed[each] = time.monotonic()
                    self.deaths.append(Death(each, child.status or 0, noticed[each], child.tail()))
                elif time.monotonic() - noticed[each] >= _SUPERVISOR_WAIT_S:
                    await self._start_broker(each)

    # --- what the cluster says -------------------------------------------------------------------

    async def leader_of(self, partition: TopicPartition) -> int:
        """-1 while there is none, or nobody says."""
        try:
            topic = await asyncio.wait_for(self.admin.describe_topic(partition.topic), 3)
        except (MinikafkaError, TimeoutError):
            return -1
        return topic.partitions[partition.partition].state.leader

    async def controller(self) -> int:
        try:
            metadata = await asyncio.wait_for(self.admin.metadata([]), 3)
        except (MinikafkaError, TimeoutError):
            return -1
        return metadata.controller_id

    async def what_is_missing(self) -> str:
        """Why the cluster is not whole; empty if every partition has a leader and all its
        replicas in sync, by what ZooKeeper says: a broker may not know better yet."""
        try:
            missing = await asyncio.to_thread(self._missing_in_zookeeper)
        except (KazooException, OSError) as error:
            return f"ZooKeeper does not say: {type(error).__name__} {error}"
        if missing:
            return missing
        try:
            async with asyncio.timeout(5):
                statuses = await self.admin.describe_partitions(self.all_partitions)
        except (MinikafkaError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        errors = [f"{each.topic_partition}: {each.error}" for each in statuses if each.error]
        return "; ".join(errors)

    def _missing_in_zookeeper(self) -> str:
        assert self._zookeeper is not None
        live = {int(each) for each in self._zookeeper.get_children("/brokers/ids")}
        for topic, number in ((each.topic, each.partition) for each in self.all_partitions):
            path = f"/brokers/topics/{topic}/partitions/{number}/state"
            state = json.loads(self._zookeeper.get(path)[0])
            if state["leader"] not in live or len(state["isr"]) < REPLICATION_FACTOR:
                return f"{topic}-{number}: {state}, live brokers: {sorted(live)}"
        return ""

    async def topic_exists(self, topic: str) -> bool | None:
        """Also while it is on its way out; None: nobody can tell now."""

        def look() -> bool:
            assert self._zookeeper is not None
            paths = (f"/brokers/topics/{topic}", f"/admin/delete_topics/{topic}")
            return any(self._zookeeper.exists(path) for path in paths)

        try:
            return await asyncio.to_thread(look)
        except (KazooException, OSError):
            return None

    async def until_whole(self, deadline_s: float = SETTLE_WAIT_S) -> None:
        """AssertionError says what is missing."""
        missing = ""

        async def look() -> bool:
            nonlocal missing
            missing = await self.what_is_missing()
            return not missing

        try:
            await until(look, deadline_s)
        except AssertionError:
            raise AssertionError(f"not whole after {deadline_s:g} s: {missing}") from None


def _partitions(topics: Mapping[str, tuple[int, object]]) -> list[TopicPartition]:
    return [
        TopicPartition(topic, number)
        for topic, (count, _) in topics.items()
        for number in range(count)
    ]


class _NoServers:
    servers: Sequence[Child] = ()


_NONE = _NoServers()
