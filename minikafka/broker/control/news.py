"""What ZooKeeper holds, read and handed to the core: all of it at the begin of a term, later what a
hint says has changed.

A hint is no more than that: what counts is what is read then. No state.

Errors: DeposedError when somebody else is controller; whatever reading raises ends the term too.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from typing import Protocol, TypeVar

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.control.settings import DecisiveSettings
from minikafka.broker.control.takeover import TakeoverCount, describe_takeover
from minikafka.broker.ports import ClusterStore, StoreEvent
from minikafka.core.control.commands import DeposedError, Operation
from minikafka.core.control.context import BrokerBatch
from minikafka.core.control.controller import ClusterRead, Controller

log = logging.getLogger("minikafka.controller")

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class Drive(Protocol):
    """Carries an operation of the core out."""

    def __call__(self, operation: Operation[T], /) -> Awaitable[T]: ...


class ClusterNews:
    """Of one term. `deletable`: delete.topic.enable; without it deletion markers count for
    nothing."""

    def __init__(
        self,
        store: ClusterStore,
        core: Controller,
        drive: Drive,
        settings: DecisiveSettings,
        takeover: TakeoverCount,
        *,
        deletable: bool,
    ) -> None:
        self._store = store
        self._core = core
        self._drive = drive
        self._settings = settings
        self._finalized_level = 0  # of transaction.version, as far as it was this one
        self._takeover = takeover
        self._deletable = deletable

    async def load(self) -> ClusterRead:
        """Read all, and have the core take over. Returns what was read."""
        store = self._store
        await store.sync()
        self._settings.take(await store.read_topic_configs(), await store.read_broker_configs())
        self._settings.pending = False  # all is decided by these
        topics, unreadable_topics = _apart(await store.read_topics())
        preferred = await store.read_preferred_election()
        brokers = await store.read_brokers()
        states, unreadable = _apart(await store.read_states(topics))
        read = ClusterRead(
            brokers=brokers,
            topics=topics,
            states=states,
            deletions=frozenset(await self._marked_deletions()),
            preferred_election=None if preferred is None else tuple(preferred),
            unreadable_topics=unreadable_topics,
            unreadable=unreadable,
        )
        await self._drive(self._core.load(read))
        await self._raise_features()
        return read

    async def on_hint(self, event: StoreEvent) -> None:
        """Look at what has changed; at everything, if ZooKeeper was out of touch."""
        if event is StoreEvent.RECONNECTED:
            await self._store.sync()
            await self._check_controller()
            await self._read_brokers()
            await self._read_topics()
            await self._read_configs()
            await self._read_deletions()
            await self._read_preferred_election()
        elif event is StoreEvent.CONTROLLER_CHANGED:
            await self._check_controller()
        elif event is StoreEvent.BROKERS_CHANGED:
            await self._read_brokers()
        elif event is StoreEvent.TOPICS_CHANGED:
            await self._read_topics()
        elif event is StoreEvent.DELETE_TOPICS_CHANGED:
            await self._read_deletions()
        elif event is StoreEvent.PREFERRED_ELECTION_CHANGED:
            await self._read_preferred_election()
        else:
            assert event is StoreEvent.CONFIG_CHANGED, event
            await self._read_configs()

    async def finish_takeover(self) -> None:
        """Tell how this controller came to be it, when all have said whether they were woken."""
        takeover = self._takeover.finish(self._core.context.brokers.keys())
        if takeover is not None:
            log.info("%s", describe_takeover(takeover, self._core.context.names))
            if await self._store.record_takeover(takeover) is WriteOutcome.DEPOSED:
                raise DeposedError("another controller has been elected")

    async def _check_controller(self) -> None:
        found = await self._store.read_controller(watch=True)
        context = self._core.context
        if (found.controller_id, found.controller_epoch) != (
            context.controller_id,
            context.controller_epoch,
        ):
            raise DeposedError(
                f"broker {found.controller_id} is controller, epoch {found.controller_epoch}"
            )

    async def _read_brokers(self) -> None:
        batch = await self._drive(self._core.on_brokers(await self._store.read_brokers()))
        _log_batch(batch, self._core.context.names)
        await self._raise_features()
        await self.finish_takeover()

    async def _raise_features(self) -> None:
        """What all brokers that are registered know is finalized, and never taken back: one that
        knows less does not start any more."""
        levels = [each.transaction_level for each in self._core.context.brokers.values()]
        level = min(levels, default=0)
        if level > self._finalized_level:
            outcome = await self._store.raise_feature(level)
            if outcome is WriteOutcome.DEPOSED:
                raise DeposedError("another controller has been elected")
            if outcome is WriteOutcome.WRITTEN:
                self._finalized_level = level

    async def _read_topics(self) -> None:
        topics, unreadable = _apart(await self._store.read_topics())
        await self._drive(self._core.on_topics(topics, unreadable))

    async def _read_configs(self) -> None:
        """What has no part in a decision changes nothing here."""
        store = self._store
        self._settings.take(await store.read_topic_configs(), await store.read_broker_configs())
        if self._settings.pending:
            await self._drive(self._core.on_configs())
            self._settings.pending = False

    async def _read_deletions(self) -> None:
        await self._drive(self._core.on_deletions(await self._marked_deletions()))

    async def _marked_deletions(self) -> set[str]:
        return await self._store.read_deletions() if self._deletable else set()

    async def _read_preferred_election(self) -> None:
        partitions = await self._store.read_preferred_election()
        if partitions is not None:
            await self._drive(self._core.on_preferred_election(partitions))


def _apart(found: Mapping[K, V | None]) -> tuple[dict[K, V], frozenset[K]]:
    """What could be read, and what could not."""
    readable = {key: value for key, value in found.items() if value is not None}
    return readable, frozenset(found.keys() - readable.keys())


def _log_batch(batch: BrokerBatch, names: Mapping[int, str]) -> None:
    for ids, what in ((batch.dead, "died"), (batch.bounced, "restarted"), (batch.new, "started")):
        for broker_id in ids:
            log.info("broker %s %s", names.get(broker_id, broker_id), what)
