"""What a rolling restart needs of ZooKeeper: a lock that everybody can see, and the state of all
partitions as ZooKeeper holds it. Synchronous.

The lock is kazoo's recipe: ephemeral sequential nodes under /locks/rolling-restart, the first of
which holds it and says who it is. It goes with the session of its holder. The recipe does not tell
its holder when the session ends; `HeldLock.check` does, and has to be called before each step that
rests on the lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import LockTimeout, NoNodeError
from kazoo.protocol.states import KazooState

from minikafka.errors import MinikafkaError
from minikafka.model import NO_LEADER, TopicPartition
from minikafka.zookeeper import codec
from minikafka.zookeeper.client import opened, translating
from minikafka.zookeeper.paths import Layout, split_connect

SESSION_TIMEOUT_MS = 10_000
_POLL_S = 0.1
_ASK_AGAIN_S = 1.0


class LockTakenError(MinikafkaError):
    """Somebody else holds the lock; the sentence says who."""


class LockLostError(MinikafkaError):
    """The lock is not held any more, or nobody can tell."""


@dataclass(frozen=True, slots=True)
class PartitionHealth:
    """One partition: brokers that are to hold it, those of them that are not in sync, and whether
    it has a leader."""

    topic_partition: TopicPartition
    replicas: tuple[int, ...]
    missing: tuple[int, ...]
    has_leader: bool

    @property
    def whole(self) -> bool:
        return self.has_leader and not self.missing


class RollingZooKeeper:
    """One session. NetworkError if it is lost or an answer takes too long."""

    def __init__(self, client: KazooClient, layout: Layout) -> None:
        self._client = client
        self._layout = layout
        self._lost = False
        client.add_listener(self._on_state)

    def _on_state(self, state: str) -> None:
        if state == KazooState.LOST:
            self._lost = True

    # --- reading ---

    def partitions(self) -> list[PartitionHealth]:
        """Every partition of every topic that is not being deleted, after a sync."""
        layout = self._layout
        with translating():
            self._client.sync("/")
            deleted = set(self._client.get_children(layout.delete_topics))
            topics = sorted(set(self._client.get_children(layout.topics)) - deleted)
            return [each for topic in topics for each in self._of_topic(topic)]

    def _of_topic(self, name: str) -> list[PartitionHealth]:
        path = self._layout.topic(name)
        try:
            topic = codec.decode_topic(path, self._client.get(path)[0], name)
        except NoNodeError:
            return []
        found = []
        for partition, assignment in topic.assignments.items():
            path = self._layout.state(name, partition)
            key = TopicPartition(name, partition)
            try:
                data, stat = self._client.get(path)
            except NoNodeError:  # being created, or deleted
                found.append(PartitionHealth(key, assignment.replicas, assignment.replicas, False))
                continue
            state = codec.decode_state(path, data, stat.version)
            missing = tuple(each for each in assignment.replicas if each not in state.isr)
            found.append(
                PartitionHealth(key, assignment.replicas, missing, state.leader != NO_LEADER)
            )
        return found

    def controller(self) -> int | None:
        """The id of the controller; None if there is none at the moment."""
        with translating():
            try:
                data, _ = self._client.get(self._layout.controller)
            except NoNodeError:
                return None
            return codec.decode_controller(self._layout.controller, data).broker_id

    def registered(self) -> set[int]:
        """The ids of the live brokers."""
        with translating():
            try:
                names = self._client.get_children(self._layout.broker_ids)
            except NoNodeError:
                return set()
            return {int(name) for name in names if name.isdecimal()}

    # --- the lock ---

    @contextmanager
    def lock(
        self, holder: str, wait: bool, on_wait: Callable[[str], None] = lambda _: None
    ) -> Iterator[HeldLock]:
        """Hold the lock. `holder` is what others are told. LockTakenError if somebody has it,
        unless `wait`: then `on_wait` is told who it is, whenever that is another."""
        lock = self._client.Lock(f"{self._layout.root}/locks/rolling-restart", holder)
        told = None
        with translating():
            while not self._acquire(lock, wait and told is not None):
                others = [each for each in lock.contenders() if each and each != holder]
                who = others[0] if others else "somebody else"
                if not wait:
                    raise LockTakenError(
                        f"a rolling restart is under way already: {who}; "
                        "--wait begins when that is over"
                    )
                if who != told:
                    told = who
                    on_wait(who)
        try:
            yield HeldLock(self, lock)
        finally:
            if self._client.connected:
                with translating():
                    lock.release()

    @staticmethod
    def _acquire(lock: Any, patient: bool) -> bool:
        try:
            return bool(lock.acquire(blocking=patient, timeout=_ASK_AGAIN_S if patient else None))
        except LockTimeout:
            return False

    def check(self, lock: Any) -> None:
        deadline = time.monotonic() + SESSION_TIMEOUT_MS / 1000
        while not self._lost and not self._client.connected and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if self._lost or not self._client.connected:
            raise LockLostError(
                "the session with ZooKeeper is lost, and with it the lock: stopping here; "
                "start the rolling restart again"
            )
        with translating():
            stat = self._client.exists(f"{lock.path}/{lock.node}")
        if stat is None or stat.ephemeralOwner != self._client.client_id[0]:
            raise LockLostError("the lock was taken away: stopping here")


class HeldLock:
    def __init__(self, zookeeper: RollingZooKeeper, lock: Any) -> None:
        self._zookeeper = zookeeper
        self._lock = lock

    def check(self) -> None:
        """Wait while the connection is suspended, for as long as the session lasts. LockLostError
        if the lock is not held any more."""
        self._zookeeper.check(self._lock)


@contextmanager
def open_rolling(connect: str) -> Iterator[RollingZooKeeper]:
    """A session with `host:port,…[/chroot]`. UsageError if no server can be reached in time."""
    hosts, layout = split_connect(connect)
    with opened(hosts, SESSION_TIMEOUT_MS, SESSION_TIMEOUT_MS) as client:
        yield RollingZooKeeper(client, layout)
