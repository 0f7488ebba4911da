"""ZooKeeper as a broker needs it: the implementation of `ClusterStore` (broker/ports.py).

The parts: the session (session.py), reads with watches (watches.py), the registration of the broker
(registration.py), the cluster id (cluster.py), the queue of candidates (candidates.py) and the
controllership (election.py), the controller's writes (fenced.py) under its fence (fence.py),
configurations (configs.py).
Here: the reads of everything, and the writes that any broker may do.

State: the events that wait; the announcement that is due when the watches are armed again after a
new connection (LOST outranks RECONNECTED, if connections follow one another quickly).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from kazoo.exceptions import NodeExistsError
from kazoo.protocol.states import ZnodeStat

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import (
    ControllerElection,
    SessionLostError,
    StoreEvent,
    Takeover,
)
from minikafka.core.control.commands import StateChange
from minikafka.model import BrokerInfo, PartitionState, TopicDescription, TopicPartition
from minikafka.turns import in_slices
from minikafka.zookeeper import codec
from minikafka.zookeeper.errors import CorruptNodeError, ZooKeeperError
from minikafka.zookeeper.paths import split_connect
from minikafka.zookeeper.session import SessionChange, ZooKeeperSession, gather_all
from minikafka.zookeeper.stores import registration
from minikafka.zookeeper.stores.candidates import CandidateQueue
from minikafka.zookeeper.stores.cluster import ClusterIdConsensus
from minikafka.zookeeper.stores.configs import ConfigNodes
from minikafka.zookeeper.stores.coordination import Znodes
from minikafka.zookeeper.stores.election import NOBODY, Controllership
from minikafka.zookeeper.stores.fenced import FencedWriter
from minikafka.zookeeper.unreadable import UnreadableNodes
from minikafka.zookeeper.watches import EventQueue, Watches

log = logging.getLogger(__name__)

DEFAULT_SESSION_TIMEOUT_MS = 6_000
DEFAULT_CONNECTION_TIMEOUT_MS = 18_000

_NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})

T = TypeVar("T")


class ZooKeeperStore:
    """One broker's view of ZooKeeper. `connect`: `host:port,…[/chroot]`; times in milliseconds.

    All calls raise SessionLostError as `ClusterStore` says, CorruptNodeError for a node that cannot
    be read and that nothing can be done without (unreadable.py), and ZooKeeperError for an answer
    that has no place in the protocol.
    """

    def __init__(
        self,
        connect: str,
        session_timeout_ms: int = DEFAULT_SESSION_TIMEOUT_MS,
        connection_timeout_ms: int = DEFAULT_CONNECTION_TIMEOUT_MS,
    ) -> None:
        hosts, self._layout = split_connect(connect)
        self.events: asyncio.Queue[StoreEvent] = EventQueue()
        self._session = ZooKeeperSession(
            hosts, session_timeout_ms, connection_timeout_ms, self._on_session_change
        )
        self._watches = Watches(self._session, self.events)
        self.unreadable = UnreadableNodes()
        self._controllership = Controllership(
            self._session, self._layout, self._watches, self.unreadable
        )
        self._queue = CandidateQueue(self._session, self._layout, self._watches)
        self._fenced = FencedWriter(
            self._session, self._layout, self._controllership.fence, self.unreadable
        )
        self._configs = ConfigNodes(
            self._session, self._layout, self._watches, self.unreadable, self._fenced, self._read
        )
        # The last that could be read, for as long as what is there now cannot be.
        self._brokers: dict[int, BrokerInfo] = {}
        self._broker_id: int | None = None
        self._announcement: StoreEvent | None = None
        self._rejoining: asyncio.Task[None] | None = None

    # --- life ---

    @property
    def connected(self) -> bool:
        return self._session.connected

    @property
    def out_of_touch_ms(self) -> int:
        return self._session.out_of_touch_ms

    @property
    def session(self) -> ZooKeeperSession:
        return self._session

    def znodes(self) -> Znodes:
        """For what else lives in this session, under the same fence."""
        return Znodes(self._session, self._controllership.fence, self.unreadable)

    @property
    def root(self) -> str:
        return self._layout.root

    async def start(self) -> None:
        """Connect and make the persistent nodes. UsageError if no server can be reached in time."""
        await self._session.start()
        try:
            await self._make_persistent_nodes()
        except BaseException:
            await self.close()
            raise

    async def _make_persistent_nodes(self) -> None:
        paths = self._layout.persistent()
        # Reads go out together and cost no write of ZooKeeper's log, unlike a create that fails.
        found = await gather_all([self._session.get(path) for path in paths])
        for path, node in zip(paths, found, strict=True):
            is_epoch = path == self._layout.controller_epoch
            if node is None:
                await self._create_if_absent(
                    path, codec.encode_controller_epoch(0) if is_epoch else b""
                )

    async def close(self) -> None:
        """End the session, with every ephemeral node of this broker."""
        if self._rejoining is not None:
            self._rejoining.cancel()
        await self._session.close()

    async def sync(self) -> None:
        await self._session.sync()

    async def cluster_id(self) -> str:
        """22 characters, as Kafka's: at the first start, what all who start agree upon."""
        return await ClusterIdConsensus(self._session, self._layout).agree()

    # --- the session's changes ---

    def _on_session_change(self, change: SessionChange) -> None:
        if change is SessionChange.SUSPENDED:
            self.events.put_nowait(StoreEvent.SUSPENDED)
            return
        if change is SessionChange.LOST:
            self._controllership.on_session_lost()
            self._announcement = StoreEvent.LOST
        elif self._announcement is None:
            self._announcement = StoreEvent.RECONNECTED
        self._configs.on_new_connection()
        if self._rejoining is not None:
            self._rejoining.cancel()
        self._rejoining = asyncio.get_running_loop().create_task(self._rejoin())

    async def _rejoin(self) -> None:
        """Arm the watches again, then tell."""
        try:
            await self._watches.rearm()
        except SessionLostError:
            return  # out of touch again: the next connection does this anew
        except ZooKeeperError:
            log.exception("arming the ZooKeeper watches again failed")
        assert self._announcement is not None
        self.events.put_nowait(self._announcement)
        self._announcement = None

    # --- brokers and controller ---

    async def register_broker(self, broker: BrokerInfo) -> int:
        self._broker_id = broker.broker_id
        return await registration.register(self._session, self._layout, broker)

    async def unregister_broker(self) -> None:
        if self._broker_id is not None:
            await registration.unregister(self._session, self._layout, self._broker_id)

    async def elect_controller(
        self, broker_id: int, *, out_of_turn: bool = False
    ) -> ControllerElection:
        place = await self._queue.join(broker_id)
        if place.ahead:
            # Who waits watches the one before it, and nothing that it read when it was controller.
            self._watches.keep_only(StoreEvent.CONFIG_CHANGED)
            election = await self._controllership.read()
        if not place.ahead or (out_of_turn and election.controller_id == NOBODY):
            election = await self._controllership.elect(broker_id)
        return replace(election, ahead=place.ahead, candidates=place.candidates)

    async def resign_controller(self) -> None:
        await self._controllership.resign()
        await self._queue.leave()

    async def read_controller(self, *, watch: bool = False) -> ControllerElection:
        return await self._controllership.read(watch=watch)

    async def record_takeover(self, takeover: Takeover) -> WriteOutcome:
        return await self._fenced.record_takeover(takeover)

    async def read_brokers(self, *, watch: bool = True) -> dict[int, BrokerInfo]:
        path = self._layout.broker_ids
        ids: list[str]
        if watch:
            ids = await self._watches.children(path, StoreEvent.BROKERS_CHANGED)
        else:
            ids = await self._repeat(lambda client: client.get_children_async(path))
        brokers = await gather_all(
            [self._read_broker(broker_id, watch) for broker_id in self._broker_ids(ids)]
        )
        self._brokers = {broker.broker_id: broker for broker in brokers if broker is not None}
        return dict(self._brokers)

    def _broker_ids(self, names: Sequence[str]) -> list[int]:
        found = []
        for name in names:
            broker_id = codec.broker_id_of(name)
            if broker_id is None:
                path = f"{self._layout.broker_ids}/{name}"
                self.unreadable.note(CorruptNodeError(path, "its name is no broker id"))
            else:
                found.append(broker_id)
        return found

    async def _read_broker(self, broker_id: int, watch: bool) -> BrokerInfo | None:
        path = self._layout.broker(broker_id)
        if watch:
            found = await self._watches.existing(path, StoreEvent.BROKERS_CHANGED)
        else:
            found = await self._session.get(path)
        if found is None:
            self.unreadable.forget(path)
            return None
        data, stat = found
        broker = self.unreadable.decode(
            path, lambda: codec.decode_broker(path, data, broker_id, stat.czxid)
        )
        if broker is None:
            # It registered so, and lives; somebody has written over it since.
            known = self._brokers.get(broker_id)
            return known if known is not None and known.broker_epoch == stat.czxid else None
        return broker

    # --- topics ---

    async def read_topics(self) -> dict[str, TopicDescription | None]:
        names = sorted(await self._watches.children(self._layout.topics, StoreEvent.TOPICS_CHANGED))
        nodes = await self._session.get_many([self._layout.topic(name) for name in names])
        topics: dict[str, TopicDescription | None] = {}
        async for name, node in in_slices(zip(names, nodes, strict=True)):
            there, topic = await self._read_topic(name, node)
            if there:
                topics[name] = topic
        return topics

    async def _read_topic(
        self, name: str, node: tuple[bytes, ZnodeStat] | None
    ) -> tuple[bool, TopicDescription | None]:
        path = self._layout.topic(name)
        return await self._decode(
            path,
            node,
            StoreEvent.TOPICS_CHANGED,
            lambda data, _: codec.decode_topic(path, data, name),
        )

    async def _read(
        self, path: str, event: StoreEvent, decode: Callable[[bytes, ZnodeStat], T]
    ) -> tuple[bool, T | None]:
        """(is it there, what it holds). One that cannot be read is watched, so that `event` tells
        when it has been put right."""
        return await self._decode(path, await self._session.get(path), event, decode)

    async def _decode(
        self,
        path: str,
        node: tuple[bytes, ZnodeStat] | None,
        event: StoreEvent,
        decode: Callable[[bytes, ZnodeStat], T],
    ) -> tuple[bool, T | None]:
        """The same, of what was found there."""
        while node is not None:
            data, stat = node
            value = self.unreadable.decode(path, partial(decode, data, stat))
            if value is not None:
                self._watches.forget(path)
                return True, value
            node = await self._watches.existing(path, event)
            if node is not None and node[0] == data:
                return True, None
        self.unreadable.forget(path)
        return False, None

    async def read_states(
        self, topics: Mapping[str, TopicDescription]
    ) -> dict[TopicPartition, PartitionState | None]:
        """Partitions without a state yet are left out. None for one that cannot be read, or that
        names a controller epoch that has never been: a controller that read it would take itself
        for deposed, again and again."""
        partitions = [
            TopicPartition(topic.name, number)
            for topic in topics.values()
            for number in topic.assignments
        ]
        lease = self._controllership.lease
        epoch = None if lease is None else lease.controller_epoch
        found = await self._read_all_states(partitions, epoch, only_unreadable=True)
        if epoch is not None and any(
            state is not None and state.controller_epoch > epoch for _, state in found
        ):
            # Of a later controller, or of none that ever was: the fence tells.
            epoch = max(epoch, (await self._controllership.read()).controller_epoch)
            found = await self._read_all_states(partitions, epoch)
        return {
            partition: state
            for partition, (there, state) in zip(partitions, found, strict=True)
            if there
        }

    async def _read_all_states(
        self,
        partitions: Sequence[TopicPartition],
        newest_epoch: int | None,
        *,
        only_unreadable: bool = False,
    ) -> list[tuple[bool, PartitionState | None]]:
        """`only_unreadable`: the newest epoch matters to those that could not be read so far."""
        paths = [self._state_path(each) for each in partitions]
        nodes = await self._session.get_many(paths)
        found = []
        async for path, node in in_slices(zip(paths, nodes, strict=True)):
            matters = not only_unreadable or path in self.unreadable
            found.append(await self._read_state(path, node, newest_epoch if matters else None))
        return found

    async def _read_state(
        self, path: str, node: tuple[bytes, ZnodeStat] | None, newest_epoch: int | None
    ) -> tuple[bool, PartitionState | None]:
        """`newest_epoch`: the newest controller epoch that there has been, where that matters."""

        def decode(data: bytes, stat: ZnodeStat) -> PartitionState:
            state = codec.decode_state(path, data, stat.version)
            if newest_epoch is not None and state.controller_epoch > newest_epoch:
                raise CorruptNodeError(
                    path,
                    f"controller_epoch is {state.controller_epoch}, and there has been none above "
                    f"{newest_epoch}",
                )
            return state

        return await self._decode(path, node, StoreEvent.TOPICS_CHANGED, decode)

    def _state_path(self, partition: TopicPartition) -> str:
        return self._layout.state(partition.topic, partition.partition)

    # --- the controller's writes ---

    async def write_states(self, changes: Sequence[StateChange]) -> list[WriteOutcome]:
        return await self._fenced.write_states(changes)

    async def create_topic(
        self, topic: TopicDescription, overrides: Mapping[str, str] = _NO_OVERRIDES
    ) -> WriteOutcome:
        outcome = await self._fenced.create_topic(topic, overrides)
        if outcome is WriteOutcome.WRITTEN:
            await self._configs.maybe_purge()
        return outcome

    async def update_topic(self, topic: TopicDescription) -> WriteOutcome:
        return await self._fenced.update_topic(topic)

    async def delete_topic_nodes(self, topic: TopicDescription) -> WriteOutcome:
        return await self._fenced.delete_topic_nodes(topic)

    async def clear_preferred_election(self) -> WriteOutcome:
        return await self._fenced.clear_preferred_election()

    async def allocate_producer_ids(self, broker_id: int, count: int) -> tuple[int, int]:
        """NotControllerError if this is not, or no longer, the controller."""
        return await self._fenced.allocate_producer_ids(broker_id, count)

    # --- deletions, preferred elections ---

    async def mark_topic_deleted(self, topic: str) -> None:
        await self._create_if_absent(self._layout.delete_topic(topic), b"")

    async def read_deletions(self) -> set[str]:
        return set(
            await self._watches.children(
                self._layout.delete_topics, StoreEvent.DELETE_TOPICS_CHANGED
            )
        )

    async def read_preferred_election(self) -> list[TopicPartition] | None:
        path = self._layout.preferred_election
        found = await self._watches.data(path, StoreEvent.PREFERRED_ELECTION_CHANGED)
        if found is None:
            self.unreadable.forget(path)
            return None
        return self.unreadable.decode(path, lambda: codec.decode_preferred_election(path, found[0]))

    # --- features ---

    async def read_feature(self) -> tuple[int, int] | None:
        path = self._layout.feature
        found = await self._watches.data(path, StoreEvent.CONFIG_CHANGED)
        if found is None:
            self.unreadable.forget(path)
            return None
        data, stat = found
        level = self.unreadable.decode(path, lambda: codec.decode_feature(path, data))
        return None if level is None else (level, stat.version)

    async def raise_feature(self, level: int) -> WriteOutcome:
        return await self._fenced.raise_feature(level)

    # --- configuration ---

    async def read_topic_configs(self) -> dict[str, dict[str, str]]:
        return await self._configs.read(self._layout.topic_configs)

    async def read_broker_configs(self) -> dict[str, dict[str, str]]:
        return await self._configs.read(self._layout.broker_configs)

    async def write_topic_config(self, topic: str, overrides: Mapping[str, str]) -> WriteOutcome:
        path = self._layout.topic_config(topic)
        return await self._configs.write(path, overrides, f"topics/{topic}")

    async def write_broker_config(self, broker: str, overrides: Mapping[str, str]) -> WriteOutcome:
        path = self._layout.broker_config(broker)
        return await self._configs.write(path, overrides, f"brokers/{broker}")

    # --- single nodes ---

    async def _repeat(self, operation: Any) -> Any:
        return await self._session.repeat(operation)

    async def _create_if_absent(self, path: str, data: bytes) -> None:
        try:
            await self._repeat(lambda client: client.create_async(path, data))
        except NodeExistsError:
            return  # by another broker, or by this one before an answer was lost
