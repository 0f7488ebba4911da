"""A simulated cluster: hosts with disks, broker processes on them, ZooKeeper, a network, clients,
and one virtual clock. The brokers are the real `broker/` runtime over the real `core/`, and below
them the real `zookeeper/stores/store.py` and session; what they stand on is in loop, network,
zookeeper, disk.

State: the time, the hosts and their names, the story so far (`lines`), the first
violation. `chance` is the randomness of the world itself (delays, accidents): an action seeds it
anew, so that what an action does depends on little but the action.

Patched for the time of a life (`patched`): what the product takes from its modules' globals rather
than from ports: kazoo's client, the clock of `zookeeper/`, new topic ids.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from minikafka.api.features import MAX_TRANSACTION_LEVEL
from minikafka.broker.broker import Broker
from minikafka.broker.control import term
from minikafka.broker.groups import coordinator
from minikafka.broker.ports import SessionLostError
from minikafka.broker.replication.replica import Replica
from minikafka.config import BrokerConfig, parse_broker_config
from minikafka.core.replication.effects import Role
from minikafka.core.replication.leader import Leader
from minikafka.errors import KafkaStorageError, MinikafkaError, UsageError
from minikafka.model import Assignment, BrokerInfo, TopicDescription, TopicPartition, broker_name
from minikafka.zookeeper import client, session
from minikafka.zookeeper.stores import candidates, cluster, election, registration, store
from tests.simulation.coordinated import Coordinated
from tests.simulation.disk import Disk, SimulatedLogStore
from tests.simulation.grouped import Grouped
from tests.simulation.kazoo_client import HandlerStandIn, KazooStandIn, stop_at_once
from tests.simulation.ledger import Ledger
from tests.simulation.loop import START_S, Process, VirtualLoop
from tests.simulation.members import Members
from tests.simulation.network import Network, SimulatedPeers
from tests.simulation.states import Violation
from tests.simulation.transactions import Transactions
from tests.simulation.zookeeper import ZOOKEEPER, ZooKeeperServer

WALL_CLOCK_MS = 1_700_000_000_000
SETTINGS = {
    "zookeeper.connect": "zookeeper:2181",
    "log.dirs": "/simulated",
    "zookeeper.session.timeout.ms": "1500",
    "zookeeper.connection.timeout.ms": "6000",
    "replica.lag.time.max.ms": "2000",
    "replica.fetch.wait.max.ms": "500",
    "replica.fetch.backoff.ms": "200",
    "replica.high.watermark.checkpoint.interval.ms": "1000",
    "controlled.shutdown.retry.backoff.ms": "200",
    "log.retention.check.interval.ms": "2000",
    "leader.imbalance.check.interval.seconds": "20",
    "transaction.state.log.num.partitions": "2",
    "offsets.topic.num.partitions": "1",
    "offsets.retention.minutes": "1",
    "offsets.retention.check.interval.ms": "3000",
    "group.initial.rebalance.delay.ms": "100",
    "group.min.session.timeout.ms": "100",
}


@dataclass
class Host:
    """A machine with one disk, and the broker process on it, if there is one. `boot` counts how
    often it came up; `clock_ms` is how far its wall clock is off. `transaction_level`: of what is
    installed there; 0: a broker from before there were transactions."""

    number: int
    name: str
    config: BrokerConfig
    disk: Disk = field(default_factory=Disk)
    boot: int = 0
    clock_ms: int = 0
    transaction_level: int = MAX_TRANSACTION_LEVEL
    process: BrokerProcess | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and not self.process.ended

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.running

    @property
    def has_failed_replicas(self) -> bool:
        """Has a disk failed under a replica of the living process? Only a restart helps."""
        process = self.process
        if process is None or process.broker is None or process.ended:
            return False
        return bool(process.broker.replicas.failed)

    def replica(self, topic_partition: TopicPartition) -> Replica | None:
        """What a living process (it may be held) has of this partition."""
        process = self.process
        if process is None or process.broker is None or process.ended:
            return None
        return process.broker.replicas.replicas.get(topic_partition)


class WatchedBroker(Broker):
    """Outlives its bugs as any broker does, but here they are told."""

    def __init__(self, process: BrokerProcess, *arguments: Any) -> None:
        self._process = process
        super().__init__(*arguments)

    def on_bug(self, error: Exception) -> None:
        self._process.world.on_bug(f"something in {self._process.name}", error)


class BrokerProcess(Process):
    """From start to end, however it comes. `listens`: its server takes requests."""

    def __init__(self, world: World, host: Host) -> None:
        super().__init__(world.loop, host.name)
        self.world = world
        self.host = host
        self.number = host.number
        self.broker: Broker | None = None
        self.listens = False
        self.sessions: list[int] = []
        self.zookeeper_client: KazooStandIn | None = None
        self.stopping = False
        self.controller_epoch_seen = -1
        self._main = self.spawn(self._run())

    async def _run(self) -> None:
        """As `app.run` does it."""
        config = self.host.config
        zookeeper = store.ZooKeeperStore(
            config.zookeeper_connect,
            config.zookeeper_session_timeout_ms,
            config.zookeeper_connection_timeout_ms,
        )
        try:
            await zookeeper.start()
            await self._run_broker(zookeeper)
        except (SessionLostError, UsageError, KafkaStorageError) as error:
            self.world.tell(f"{self.name} cannot go on: {error}")
        except MinikafkaError as error:
            self.world.tell(f"{self.name} gives up its start: {error}")
        except Exception as bug:
            self.world.on_bug(f"the start of {self.name}", bug)
        await zookeeper.close()
        self.world.loop.call_soon(self.world.on_exit, self, context=self.world.context)

    async def _run_broker(self, zookeeper: store.ZooKeeperStore) -> None:
        cluster_id = await zookeeper.cluster_id()
        world, host = self.world, self.host
        logs = SimulatedLogStore(self, host)
        config = host.config
        info = BrokerInfo(
            host.number,
            config.name,
            host.name,
            9092,
            storage_id=logs.storage_id,
            dirty=logs.dirty,
            transaction_level=host.transaction_level,
        )
        self.broker = broker = WatchedBroker(
            self,
            config,
            info,
            cluster_id,
            logs,
            zookeeper,
            SimulatedPeers(world.network, self),
            world.now_ms,
            lambda: world.now_ms() + WALL_CLOCK_MS + host.clock_ms,
        )
        world.transactions.on_started(self)
        self.listens = True
        stopped = asyncio.get_running_loop().create_future()
        self.stop_wanted = stopped
        try:
            await broker.start()
            await asyncio.wait({stopped, broker.fatal}, return_when=asyncio.FIRST_COMPLETED)
            if broker.fatal.done():
                world.on_fatal(self, broker.fatal.exception())
            else:
                await broker.shut_down()
        finally:
            self.listens = False
            try:
                await broker.close(clean=not broker.fatal.done())
            except KafkaStorageError as error:
                world.tell(f"{self.name} closes its logs: {error}")
            self.broker = None

    def hold(self) -> None:
        if self.zookeeper_client is not None:
            self.zookeeper_client.note_heard()
        super().hold()

    def terminate(self) -> None:
        """SIGTERM."""
        if self.broker is None:
            self.world.kill(self.host)
        elif not self.stopping:
            self.stopping = True
            self.loop.call_soon(self._wish_to_stop, context=self.context)

    def _wish_to_stop(self) -> None:
        if not self.stop_wanted.done():
            self.stop_wanted.set_result(None)


class World:
    """Brokers 1 to `broker_count`, A, B and so on; each runs from `start` on."""

    def __init__(
        self,
        broker_count: int,
        settings: Mapping[str, str] | None = None,
        *,
        seed: int = 0,
        story: bool = False,
    ) -> None:
        self.chance = Random(seed)
        self.loop = VirtualLoop(self._on_loop_exception)
        self._clients = Process(self.loop, "the world")
        self.context = self._clients.context
        self.lines: list[str] = []
        self._remarks: set[int] = set()  # which lines are no part of the digest
        self.story = story
        self.first: Violation | None = None
        self.over = False  # whatever is said from now on is of no interest
        self.names: dict[int, str] = {}
        self.hosts: dict[int, Host] = {}
        self.topics: dict[str, TopicDescription] = {}
        self.unclean_topics: set[str] = set()
        self.ended: list[BrokerProcess] = []
        self.read_by_strangers: set[int] = set()  # CRCs of batches
        self.incarnations_seen: dict[Leader, dict[int, int]] = {}  # of followers, by each leader
        self._storage_ids = self._topic_ids = self._uuids = 0
        for number in range(1, broker_count + 1):
            self.names[number] = broker_name(number)
            config = _config(number, tuple(sorted({**SETTINGS, **(settings or {})}.items())))
            self.hosts[number] = Host(number, self.names[number], config)
        self.network = Network(self)
        self.ledger = Ledger(self)
        self.transactions = Transactions(self)
        self.coordinated = Coordinated(self)
        self.grouped = Grouped(self)
        self.members = Members(self)
        self.zookeeper = ZooKeeperServer(self)
        self.zookeeper.on_written = self._on_written

    # --- time and story --------------------------------------------------------------------------

    def now_ms(self) -> int:
        return int(self.loop._now * 1000)

    def elapsed_ms(self) -> int:
        return self.now_ms() - int(START_S * 1000)

    def tell(self, what: str) -> None:
        """A line of the story; part of the digest."""
        self.lines.append(f"{self.elapsed_ms():>8} {what}")

    def remark(self, what: str) -> None:
        """For a reader only."""
        if self.story:
            self._remarks.add(len(self.lines))
            self.lines.append(f"{self.elapsed_ms():>8}     {what}")

    def digest(self) -> str:
        """Of the story, without remarks: the same for a life, however it is told."""
        told = (line for at, line in enumerate(self.lines) if at not in self._remarks)
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    def violation(self, number: str, what: str) -> Violation:
        found = Violation(number, what)
        if self.first is None:
            self.first = found
            self.tell(f"VIOLATION of {found}")
        return found

    def on_bug(self, where: str, error: BaseException) -> None:
        """An exception that nobody expects: an assertion of the product, for instance."""
        if not isinstance(error, Violation) and self.first is None and not self.over:
            self.violation("bug", f"{where}: {error!r}").__cause__ = error

    def _on_loop_exception(self, context: dict[str, Any]) -> None:
        self.on_bug("a callback", context["exception"])

    def name(self, broker_id: int) -> str:
        return self.names.get(broker_id, str(broker_id))

    def run(self, duration_ms: float) -> None:
        self.loop.run_for(duration_ms / 1000)

    # --- what the product asks the world for -----------------------------------------------------

    def new_storage_id(self) -> str:
        self._storage_ids += 1
        return f"disk{self._storage_ids}"

    def new_uuid(self) -> SimpleNamespace:
        self._uuids += 1
        return SimpleNamespace(bytes=self._uuids.to_bytes(16), hex=f"{self._uuids:012x}")

    def new_topic_id(self) -> str:
        self._topic_ids += 1
        return f"topic-id-{self._topic_ids}"

    def _on_written(self, transaction: Any) -> None:
        try:
            self.ledger.on_written(transaction)
        except Violation:
            pass  # it is noted; ZooKeeper goes on
        except Exception as error:
            self.on_bug("the ledger", error)

    def on_topic(self, topic: TopicDescription) -> None:
        self.topics[topic.name] = topic
        self.tell(
            f"topic {topic.name} ({topic.topic_id}): "
            + ", ".join(
                f"{number} on {self._describe(assignment)}"
                for number, assignment in sorted(topic.assignments.items())
            )
        )

    def _describe(self, assignment: Assignment) -> str:
        changes = [
            f" {word} {''.join(self.name(replica) for replica in getattr(assignment, word))}"
            for word in ("adding", "removing", "dropped")
            if getattr(assignment, word)
        ]
        return "".join([*(self.name(replica) for replica in assignment.replicas), *changes])

    def is_marked_deleted(self, topic: str) -> bool:
        return self.zookeeper.tree.node(f"/admin/delete_topics/{topic}") is not None

    def shutting_down_for(self, controller_epoch: int) -> tuple[int, ...]:
        """Who shuts down, as the controller of this epoch knows."""
        for host in self.hosts.values():
            broker = host.process.broker if host.process is not None and host.alive else None
            core = None if broker is None else broker.controller.core
            if core is not None and core.context.controller_epoch == controller_epoch:
                return tuple(core.context.shutting_down)
        return ()

    # --- processes -------------------------------------------------------------------------------

    def start(self, host: Host) -> bool:
        """A broker process on this host; False if there is one."""
        if host.alive:
            return False
        host.process = BrokerProcess(self, host)
        return True

    def kill(self, host: Host, *, silent: bool = False) -> bool:
        """SIGKILL. With `silent` its host went with it: nobody hears of it."""
        process = host.process
        if process is None or process.ended:
            return False
        process.end()
        self.ended.append(process)
        host.process = None
        client = process.zookeeper_client
        if client is not None:
            client._detach()
        self.network.on_ended(process, silent)
        return True

    def power_off(self, host: Host, survives: float) -> None:
        """The host goes down and comes up again, without a process. `survives`: 0 to 1, how much of
        what was not flushed has reached the disk all the same."""
        self.kill(host, silent=True)
        host.boot += 1
        host.disk.lose_power(survives)

    def lose_disk(self, host: Host) -> None:
        """Replaced by an empty one, with the process down."""
        self.kill(host)
        host.disk = Disk()

    def on_exit(self, process: BrokerProcess) -> None:
        """A process has ended by itself."""
        if process.ended:
            return
        self.tell(f"{process.name} exits")
        self.kill(process.host)

    def on_fatal(self, process: BrokerProcess, error: BaseException | None) -> None:
        if isinstance(error, UsageError):
            self.tell(f"{process.name} ends: {error}")
        else:
            assert error is not None
            self.on_bug(f"a task of {process.name}", error)

    # --- links -----------------------------------------------------------------------------------

    def cut(self, one: int, other: int, *, both_ways: bool = True) -> None:
        self.network.cut_link(one, other)
        if both_ways:
            self.network.cut_link(other, one)
        for number in (one, other):
            if ZOOKEEPER in (one, other) and number != ZOOKEEPER:
                process = self.hosts[number].process
                if process is not None and process.zookeeper_client is not None:
                    process.zookeeper_client.lose_contact()

    def heal_links(self) -> None:
        self.network.cut.clear()

    # --- what is to be seen ----------------------------------------------------------------------

    def controller(self) -> Host | None:
        """The host of the controller by ZooKeeper."""
        data = self.zookeeper.data("/controller")
        if data is None:
            return None
        return self.hosts.get(store.codec.decode_controller("/controller", data).broker_id)

    def leads(self, host: Host, topic_partition: TopicPartition) -> bool:
        replica = host.replica(topic_partition)
        return replica is not None and replica.core.role is Role.LEADER


_CONFIGS: dict[tuple[int, tuple[tuple[str, str], ...]], BrokerConfig] = {}


def _config(number: int, settings: tuple[tuple[str, str], ...]) -> BrokerConfig:
    """Parsed once: it takes long."""
    key = (number, settings)
    if key not in _CONFIGS:
        _CONFIGS[key] = parse_broker_config({**dict(settings), "broker.id": str(number)})
    return _CONFIGS[key]


# Who says at INFO what the story tells anyway.
_WORDY = (
    "broker.replication.replicator",
    "broker.replication.replica_manager",
    "broker.replication.replica",
)


class _ErrorsOfTheProduct(logging.Handler):
    """What the product logs as an error with an exception that is a bug: it may have survived
    it."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO if world.story else logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        name = record.name.removeprefix("minikafka.")
        if name not in _WORDY or record.levelno >= logging.WARNING:
            self._world.remark(f"{name}: {record.getMessage()}")
        if record.levelno < logging.ERROR or not record.exc_info:
            return
        error = record.exc_info[1]
        if error is not None and not isinstance(error, MinikafkaError | SessionLostError):
            self._world.on_bug(record.name, error)


@contextmanager
def patched(world: World) -> Iterator[World]:
    """Puts the simulated world in place of the real one where the product has no port for it."""
    clock = SimpleNamespace(
        monotonic=lambda: world.loop._now, time=lambda: world.loop._now + WALL_CLOCK_MS / 1000
    )
    replaced: list[tuple[Any, str, Any]] = [
        (session, "time", clock),
        (client, "KazooClient", KazooStandIn),
        (session, "SessionHandler", HandlerStandIn),
        (session, "stop_client_in_thread", stop_at_once),
        (registration, "time", clock),
        (election, "time", clock),
        (term, "new_topic_id", world.new_topic_id),
        (term, "random", world.chance),
        (candidates, "time", clock),
        (candidates, "uuid", SimpleNamespace(uuid4=world.new_uuid)),
        (cluster, "uuid", SimpleNamespace(uuid4=world.new_uuid)),
        (coordinator, "uuid4", lambda: world.new_uuid().hex),
    ]
    logger = logging.getLogger("minikafka")
    level, propagate = logger.level, logger.propagate
    handler = _ErrorsOfTheProduct(world)
    patches = [patch.object(module, name, new) for module, name, new in replaced]
    for each in patches:
        each.start()
    logger.addHandler(handler)
    logger.setLevel(handler.level)
    logger.propagate = False
    try:
        yield world
    finally:
        for each in patches:
            each.stop()
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
