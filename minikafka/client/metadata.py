"""What a client knows of the cluster: brokers, leaders, and a channel to each broker.

State: the live brokers, per topic its id and the leader and leader epoch of each partition, one
channel per address, the topics in use, and which addresses failed last. Invariants: for one topic
id the leader epoch of a partition never falls here (replication.md section 6); at most one refresh
runs at a time, and requests for one that come meanwhile share the next; refreshes in a row keep
growing distances (20 to 200 ms), so that a cluster in trouble is not flooded.

A question that any broker can answer goes to one, and after half a second without an answer to the
next as well: a paused broker must not hold up a failover.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from minikafka.api.requests import ClusterMetadata, LeaderHint, TopicMetadata
from minikafka.client.backoff import Backoff, Random
from minikafka.client.channel import Channel, Connect, connect_over_grpc
from minikafka.client.values import parse_bootstrap
from minikafka.errors import (
    BrokerNotAvailableError,
    MinikafkaError,
    NetworkError,
    UnknownTopicOrPartitionError,
    UsageError,
)
from minikafka.model import NO_LEADER, BrokerInfo, TopicPartition

METADATA_MAX_AGE_MS = 60_000
_HEDGE_S = 0.5
_REFRESH_MAX_MS = 200  # what a client adds to a failover, at most
_QUIET_S = 1.0  # after which a refresh is the first of a row again
_ANY_BROKER_TIMEOUT_S = 10.0
_EVERYBODY_TIMEOUT_S = 2.0

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LeaderView:
    """Who leads one partition; -1: nobody."""

    leader: int
    leader_epoch: int


@dataclass(slots=True)
class TopicView:
    """One topic as it was last heard of. `error` is what the last answer said instead of it."""

    name: str
    topic_id: str = ""
    error: MinikafkaError | None = None
    partitions: dict[int, LeaderView] = field(default_factory=dict)

    @property
    def partition_count(self) -> int:
        return max(self.partitions, default=-1) + 1


class Cluster:
    """The metadata cache and the channels of one client. Belongs to one event loop."""

    def __init__(
        self,
        bootstrap: str | Iterable[str],
        *,
        connect: Connect = connect_over_grpc,
        metadata_max_age_ms: float = METADATA_MAX_AGE_MS,
        uniform: Random = random.random,
    ) -> None:
        self.bootstrap = parse_bootstrap(bootstrap)
        self.brokers: dict[int, BrokerInfo] = {}
        self.cluster_id = ""
        self.controller_id = -1
        self.controller_epoch = -1
        self.topics: dict[str, TopicView] = {}
        self.last_error: MinikafkaError | None = None  # of the last refresh; None: it worked
        self.uniform = uniform
        self._connect = connect
        self._channels: dict[str, Channel] = {}
        self._suspects: dict[str, None] = {}  # addresses that failed last, oldest first
        self._tracked: dict[str, bool] = {}  # topic -> may it be created
        self._listeners: list[Callable[[], None]] = []
        self._max_age_s = metadata_max_age_ms / 1000
        self._backoff = Backoff(uniform, max_ms=_REFRESH_MAX_MS)
        self._not_before_s = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Ask every address once, until one answers. NetworkError names them all."""
        await self._refresh_once()
        self._schedule_periodic()

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._waiter is not None:
            self._waiter.set_result(None)
        channels, self._channels = list(self._channels.values()), {}
        await asyncio.gather(*(channel.close() for channel in channels))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` on the loop after everything that was learnt."""
        self._listeners.append(listener)

    # --- what is known ---------------------------------------------------------------------------

    def leader(self, topic_partition: TopicPartition) -> LeaderView | None:
        """The leader of a partition; None when there is none, or none known that lives."""
        topic = self.topics.get(topic_partition.topic)
        view = topic and topic.partitions.get(topic_partition.partition)
        if not view or view.leader == NO_LEADER or view.leader not in self.brokers:
            return None
        return view

    def channel(self, broker_id: int) -> Channel:
        """The channel to a live broker. NetworkError if it has died since somebody chose it."""
        broker = self.brokers.get(broker_id)
        if broker is None:
            raise NetworkError(f"broker {broker_id} is no longer alive")
        return self.channel_to(broker.grpc_address)

    def channel_to(self, address: str) -> Channel:
        if self._closed:
            raise UsageError("the client is closed")
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._connect(address)
        return channel

    def broker_failed(self, broker_id: int) -> None:
        """Ask this broker last from now on, until it answers."""
        broker = self.brokers.get(broker_id)
        if broker is not None:
            self._suspects[broker.grpc_address] = None

    # --- learning --------------------------------------------------------------------------------

    def track(self, topic: str, allow_auto_create: bool = False) -> None:
        """Keep this topic's metadata from now on."""
        self._tracked[topic] = self._tracked.get(topic, False) or allow_auto_create

    def refresh_soon(self) -> asyncio.Future[None]:
        """Ask for metadata, at once or after a distance; the future is done when that has ended,
        well or not (`last_error`). It is shared: await it with `asyncio.wait`."""
        if self._closed:
            raise UsageError("the client is closed")
        if self._waiter is None:
            self._waiter = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._refresh_while_wanted())
        return self._waiter

    async def wait_for_topic(
        self, name: str, timeout_ms: float, allow_auto_create: bool = False
    ) -> TopicView:
        """The topic, with at least one partition. UnknownTopicOrPartitionError that names it when
        it is not there in time; NetworkError when nobody could be asked; other errors at once."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        self.track(name, allow_auto_create)
        while True:
            view = self.topics.get(name)
            if view is not None and view.error is None and view.partitions:
                return view
            if view is not None and view.error is not None and not view.error.retriable:
                raise view.error
            remaining_s = deadline - loop.time()
            if remaining_s <= 0:
                raise self._no_topic(name, timeout_ms)
            await asyncio.wait([self.refresh_soon()], timeout=remaining_s)

    def _no_topic(self, name: str, timeout_ms: float) -> MinikafkaError:
        if self.last_error is not None:
            return self.last_error
        return UnknownTopicOrPartitionError(
            f"topic {name!r} does not exist (asked for {timeout_ms:.0f} ms); create it first"
        )

    def apply_hint(self, topic_partition: TopicPartition, hint: LeaderHint | None) -> bool:
        """Take a refusing broker's word for who leads, if it is newer than what is known. True: the
        refusal needs no metadata request."""
        topic = self.topics.get(topic_partition.topic)
        known = topic and topic.partitions.get(topic_partition.partition)
        if hint is None or not topic or not known or hint.leader not in self.brokers:
            return False
        if hint.leader_epoch <= known.leader_epoch:
            return False
        topic.partitions[topic_partition.partition] = LeaderView(hint.leader, hint.leader_epoch)
        self._tell()
        return True

    def absorb(self, metadata: ClusterMetadata) -> None:
        """Take over what is not older than what is known."""
        self.cluster_id = metadata.cluster_id
        if metadata.controller_epoch >= self.controller_epoch:
            self.controller_id = metadata.controller_id
            self.controller_epoch = metadata.controller_epoch
            self.brokers = {broker.broker_id: broker for broker in metadata.brokers}
        for topic in metadata.topics:
            self._absorb_topic(topic)
        self._tell()

    def _absorb_topic(self, topic: TopicMetadata) -> None:
        view = self.topics.setdefault(topic.name, TopicView(topic.name))
        view.error = topic.error
        if topic.error is not None:
            return
        if topic.name in self._tracked:
            self._tracked[topic.name] = False  # once it was there, never create it again unasked
        if view.topic_id != topic.topic_id:
            view.topic_id = topic.topic_id
            view.partitions.clear()
        for partition in topic.partitions:
            number = partition.topic_partition.partition
            known = view.partitions.get(number)
            if known is None or partition.state.leader_epoch >= known.leader_epoch:
                view.partitions[number] = LeaderView(
                    partition.state.leader, partition.state.leader_epoch
                )

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    # --- asking ----------------------------------------------------------------------------------

    async def call_any(
        self,
        call: Callable[[Channel], Awaitable[_T]],
        timeout_s: float = _ANY_BROKER_TIMEOUT_S,
        hedge_s: float = _HEDGE_S,
    ) -> _T:
        """The first answer to a question that any broker can answer, and that does no harm when
        several are asked. Brokers that fail with a retriable error are passed over.

        NetworkError names all addresses when none answered in time; a retriable error is raised
        when all that answered gave one, any other at once.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        pending: dict[asyncio.Future[_T], str] = {}
        errors: dict[str, MinikafkaError] = {}
        candidates = self.candidates()
        try:
            for address in [*candidates, None]:
                if address is not None:
                    channel = self.channel_to(address)
                    pending[asyncio.ensure_future(call(channel))] = address
                while pending:
                    remaining_s = max(deadline - loop.time(), 0)
                    wait_s = remaining_s if address is None else min(hedge_s, remaining_s)
                    done, _ = await asyncio.wait(
                        pending, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                    )
                    for future in done:
                        answerer = pending.pop(future)
                        problem = self._problem(answerer, future)
                        if problem is None:
                            return future.result()
                        errors[answerer] = problem
                    if not done:
                        break  # ask the next one as well
        finally:
            for future in pending:
                future.cancel()
        answers = [error for error in errors.values() if not isinstance(error, NetworkError)]
        if answers:
            raise answers[-1]
        reasons = "; ".join(_reason(address, errors.get(address)) for address in candidates)
        raise NetworkError(f"no broker answers at {', '.join(candidates)} ({reasons})")

    async def ask_everybody(self) -> None:
        """Learn what each broker knows that answers within two seconds: one that is cut off from
        the others tells what is true no more, and does not know."""

        async def ask(address: str) -> ClusterMetadata:
            return await self.channel_to(address).metadata(list(self._tracked), False)

        asking = [asyncio.ensure_future(ask(address)) for address in self.candidates()]
        try:
            await asyncio.wait(asking, timeout=_EVERYBODY_TIMEOUT_S)
        finally:
            for each in asking:
                each.cancel()
            answers = await asyncio.gather(*asking, return_exceptions=True)
        known = [each for each in answers if isinstance(each, ClusterMetadata) and each.brokers]
        for metadata in sorted(known, key=lambda each: each.controller_epoch):
            self.absorb(metadata)

    def candidates(self) -> list[str]:
        """All addresses to ask, best first: live brokers in random order, then the bootstrap
        addresses, then those that failed last."""
        brokers = sorted(broker.grpc_address for broker in self.brokers.values())
        shuffled = sorted(brokers, key=lambda _: self.uniform())
        addresses = dict.fromkeys((*shuffled, *self.bootstrap))
        good = [address for address in addresses if address not in self._suspects]
        return good + [address for address in self._suspects if address in addresses]

    def _problem(self, address: str, future: asyncio.Future[_T]) -> MinikafkaError | None:
        """Why another broker has to be asked; None: this answer is the one (maybe a final
        error)."""
        error = future.exception()
        if error is not None and isinstance(error, MinikafkaError) and error.retriable:
            if isinstance(error, NetworkError):
                self._suspects[address] = None
            return error
        self._suspects.pop(address, None)
        return None

    async def _refresh_once(self) -> None:
        topics = dict(self._tracked)
        created = any(topics.values())

        async def ask(channel: Channel) -> ClusterMetadata:
            metadata = await channel.metadata(list(topics), created)
            if not metadata.brokers:
                raise BrokerNotAvailableError("the broker does not know the cluster yet")
            return metadata

        try:
            metadata = await self.call_any(ask)
        except MinikafkaError as error:
            self.last_error = error
            raise
        self.last_error = None
        self.absorb(metadata)

    async def _refresh_while_wanted(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiter is not None:
            now_s = loop.time()
            if now_s > self._not_before_s + _QUIET_S:
                self._backoff.reset()
            if now_s < self._not_before_s:
                await asyncio.sleep(self._not_before_s - now_s)
            waiter, self._waiter = self._waiter, None
            try:
                await self._refresh_once()
            except MinikafkaError as error:
                _logger.info("metadata refresh failed: %s", error)
            finally:
                waiter.set_result(None)
            self._not_before_s = loop.time() + self._backoff.next_s()
        self._schedule_periodic()

    def _schedule_periodic(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._max_age_s, self.refresh_soon)


def _reason(address: str, error: MinikafkaError | None) -> str:
    reason = str(error) if error is not None else "no answer in time"
    return reason if reason.startswith(address) else f"{address}: {reason}"
