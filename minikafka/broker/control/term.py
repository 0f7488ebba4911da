"""One term as the active controller: the queue of events, and the core carried out.

Everything happens in one task, `run`: load, then one event after the other, each to its end. An
operation of the core yields commands; they are executed on the `ClusterStore`, and its results sent
back in. Around it: hints from ZooKeeper (merged: each kind waits at most once; news.py reads what
they are about), requests with their futures (bounded), answers of brokers, the clock of the
automatic rebalance, and whoever waits for a deletion (deletion_waits.py).

Invariants: only `run` touches the core, apart from the senders, which take messages out of its
outbox; nothing is written or sent while ZooKeeper is out of touch; whatever goes wrong ends the
term, and with it everything that it knew: all futures fail with NotControllerError.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from minikafka.api.requests import (
    ControllerResponse,
    DeleteTopicsRequest,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.broker.control.commands import execute
from minikafka.broker.control.deletion_waits import DeletionWaits
from minikafka.broker.control.news import ClusterNews
from minikafka.broker.control.sender import ControllerChannelManager, Send
from minikafka.broker.control.settings import DecisiveSettings
from minikafka.broker.control.takeover import TakeoverCount
from minikafka.broker.control.term_listener import TermListener
from minikafka.broker.ports import ClusterStore, StoreEvent, UnreadableNodeError
from minikafka.config import BrokerConfig
from minikafka.core.control.commands import Command, DeposedError, Operation
from minikafka.core.control.controller import Controller
from minikafka.core.control.outbox import UpdateStateBatch
from minikafka.core.control.topics import NewTopicDefaults
from minikafka.errors import (
    MinikafkaError,
    NotControllerError,
    RequestTimedOutError,
)
from minikafka.model import BrokerInfo

log = logging.getLogger("minikafka.controller")

MAX_WAITING_REQUESTS = 1000
DELETION_WAIT_MS = 5_000

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class ControllerEnvironment:
    """What a term works with. `in_touch` is set while ZooKeeper is in touch."""

    store: ClusterStore
    send: Send
    config: BrokerConfig
    in_touch: asyncio.Event
    now_ms: Callable[[], int]
    backoff_ms: int = 100
    max_waiting_requests: int = MAX_WAITING_REQUESTS
    deletion_wait_ms: int = DELETION_WAIT_MS
    term_listeners: Sequence[TermListener] = ()


class ControllerTerm:
    """From the won election to the end of controllership."""

    def __init__(
        self,
        environment: ControllerEnvironment,
        controller_id: int,
        controller_epoch: int,
        takeover: TakeoverCount,
    ) -> None:
        self._environment = environment
        self._takeover = takeover
        settings = DecisiveSettings(environment.config)
        self._core = Controller(
            controller_id, controller_epoch, settings.unclean_allowed, settings.min_insync
        )
        self._news = ClusterNews(
            environment.store,
            self._core,
            self._drive,
            settings,
            takeover,
            deletable=environment.config.delete_topic_enable,
        )
        self._deletion_waits = DeletionWaits(self._core, environment.deletion_wait_ms)
        self._channels = ControllerChannelManager(
            self._core.outbox,
            self._address,
            environment.send,
            in_touch=environment.in_touch,
            on_answer=self._on_answer,
            on_failure=self.end,
            backoff_ms=environment.backoff_ms,
        )
        self._events: deque[Callable[[], Awaitable[None]]] = deque()
        self._hints: set[StoreEvent] = set()
        self._wake = asyncio.Event()
        self._requests: dict[asyncio.Future[Any], None] = {}  # in order of arrival
        self._waiting_requests = 0  # in _events, those that nobody waits for any more included
        self._messages = 0  # that were sent to brokers
        self._ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._rebalance_timer: asyncio.TimerHandle | None = None
        self.loaded = False

    @property
    def core(self) -> Controller:
        """For reading: metrics and status."""
        return self._core

    # --- the one task ---

    async def run(self) -> Exception:
        """Serve until the term ends; returns why it did. Cancelled: the term ends too."""
        serving = asyncio.create_task(self._serve(), name="controller-term")
        try:
            either: set[asyncio.Future[Any]] = {serving, self._ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if serving.done() and not self._ended.done():
                failure = serving.exception()
                assert isinstance(failure, Exception), failure
                self.end(failure)
            return self._ended.result()
        finally:
            self.end(NotControllerError("the controller was stopped"))
            serving.cancel()
            await asyncio.wait({serving})
            if not serving.cancelled() and (late := serving.exception()) is not None:
                log.debug("the controller's term ended with %r", late)

    def end(self, reason: Exception) -> None:
        """End the term now: nothing more is sent, and nobody waits for it any more."""
        if self._ended.done():
            return
        self._ended.set_result(reason)
        self.loaded = False
        self._channels.close()
        if self._rebalance_timer is not None:
            self._rebalance_timer.cancel()
        for listener in self._environment.term_listeners:
            listener.end()
        for future in list(self._requests):
            if not future.done():
                future.set_exception(NotControllerError("this broker is no longer the controller"))
        self._deletion_waits.end()

    async def _serve(self) -> None:
        await self._environment.in_touch.wait()
        await self._load()
        if self._ended.done():
            return
        self.loaded = True
        self._arm_rebalance()
        for listener in self._environment.term_listeners:
            listener.begin(self)
        while not self._ended.done():
            await self._wake.wait()
            await self._environment.in_touch.wait()
            if not self._events:
                self._wake.clear()
                continue
            await self._events.popleft()()
            self._deletion_waits.check()

    def enqueue(self, event: Callable[[], Awaitable[None]]) -> None:
        """For term_listeners, see TermQueue."""
        self._enqueue(event)

    def _enqueue(self, event: Callable[[], Awaitable[None]], *, first: bool = False) -> None:
        if first:
            self._events.appendleft(event)
        else:
            self._events.append(event)
        self._wake.set()

    async def _drive(self, operation: Operation[T]) -> T:
        """Carry an operation of the core out."""
        result: Any = None
        try:
            while True:
                try:
                    command = operation.send(result)
                except StopIteration as stop:
                    value: T = stop.value
                    return value
                await self._environment.in_touch.wait()
                result = await self._execute(command)
                self._channels.wake()
        finally:
            operation.close()
            self._channels.wake()

    async def _execute(self, command: Command) -> object:
        if self._ended.done():
            raise DeposedError("the term is over")
        try:
            return await execute(self._environment.store, command, self._core.context.names)
        except NotControllerError as error:
            raise DeposedError(str(error)) from error
        except UnreadableNodeError:
            raise  # the answer to who asked for just this node
        except MinikafkaError as error:  # of the store: no answer to a request, but a broken term
            raise RuntimeError(f"{type(command).__name__} failed: {error}") from error

    async def _load(self) -> None:
        started_ms = self._environment.now_ms()
        read = await self._news.load()
        log.info(
            "broker %s is controller, controller epoch %d: %d brokers, %d topics, %d partitions, "
            "taken over in %d ms",
            self._core.context.names.get(self._core.context.controller_id, ""),
            self._core.context.controller_epoch,
            len(read.brokers),
            len(read.topics),
            len(read.states),
            self._environment.now_ms() - started_ms,
        )

    # --- hints from ZooKeeper ---

    def hint(self, event: StoreEvent) -> None:
        """Something changed: look at it in its turn. One that waits already is not added again;
        what was missed while ZooKeeper was out of touch comes before everything else."""
        if event in self._hints:
            return
        self._hints.add(event)
        self._enqueue(lambda: self._on_hint(event), first=event is StoreEvent.RECONNECTED)

    async def _on_hint(self, event: StoreEvent) -> None:
        self._hints.discard(event)  # before reading: what changes from now on is a new hint
        await self._news.on_hint(event)

    # --- requests ---

    async def request(self, make: Callable[[Controller], Operation[T]]) -> T:
        """Handle a request in its turn. Raises what the core answers, RequestTimedOutError if too
        many wait, NotControllerError if the term ends first."""
        if self._ended.done():
            raise NotControllerError("this broker is not the controller")
        if self._waiting_requests >= self._environment.max_waiting_requests:
            raise RequestTimedOutError(
                f"{self._waiting_requests} requests wait for the controller already: try later"
            )
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._requests[future] = None
        self._waiting_requests += 1
        self._enqueue(lambda: self._on_request(make, future))
        try:
            return await future
        finally:
            self._requests.pop(future, None)

    async def _on_request(
        self, make: Callable[[Controller], Operation[T]], future: asyncio.Future[T]
    ) -> None:
        self._waiting_requests -= 1
        if future.done():  # whoever asked has given up
            return
        try:
            result = await self._drive(make(self._core))
        except MinikafkaError as refused:
            answer = partial(future.set_exception, refused)
        else:
            answer = partial(future.set_result, result)
        if not future.done():
            answer()

    async def deleted(self, request: DeleteTopicsRequest, response: ControllerResponse) -> None:
        """Wait until the topics that were marked are gone, unless that has to wait for a broker
        that is not there, and not for long: the marker is durable, they will go."""
        names = frozenset(result.name for result in response.results if result.error is None)
        assert names <= set(request.names)
        await self._deletion_waits.until_gone(names)

    def chance(self) -> NewTopicDefaults:
        """Randomness and defaults for new topics."""
        config = self._environment.config
        return NewTopicDefaults(
            random.randrange, new_topic_id, config.num_partitions, config.default_replication_factor
        )

    # --- brokers ---

    def _address(self, message: UpdateStateBatch) -> UpdateStateRequest:
        context = self._core.context
        self._messages += 1
        return UpdateStateRequest(
            controller_id=context.controller_id,
            controller_epoch=context.controller_epoch,
            target_broker_epoch=message.broker.broker_epoch,
            brokers=[broker for _, broker in sorted(context.brokers.items())],
            shutting_down=sorted(context.shutting_down),
            partitions=message.partitions,
            deletions=message.deletions,
            deleted_topics=message.deleted_topics,
            full=message.full,
            number=self._messages,
            drops=message.drops,
        )

    def _on_answer(self, broker: BrokerInfo, response: UpdateStateResponse) -> None:
        if self._takeover.on_answer(broker.broker_id, response.wakeups):
            self._enqueue(self._news.finish_takeover)
        if response.deleted or response.failed:
            self._enqueue(lambda: self._take_answer(broker, response))
        if self._core.awaits_word:
            self._enqueue(lambda: self._drive(self._core.on_word()))

    async def _take_answer(self, broker: BrokerInfo, response: UpdateStateResponse) -> None:
        core = self._core
        if response.deleted:
            await self._drive(core.on_replicas_deleted(broker.broker_id, response.deleted))
        topics = core.context.topics
        failed = [
            (tp, topics[tp.topic].topic_id) for tp, _ in response.failed if tp.topic in topics
        ]
        for tp, error in response.failed:
            log.warning("broker %s could not open %s: %s", broker.name, tp, error)
        if failed:
            try:
                await self._drive(
                    core.on_failed_replicas(broker.broker_id, broker.broker_epoch, failed)
                )
            except MinikafkaError as over:
                log.info("broker %s is another incarnation by now: %s", broker.name, over)

    # --- the automatic rebalance ---

    def _arm_rebalance(self) -> None:
        config = self._environment.config
        if config.auto_leader_rebalance_enable:
            self._rebalance_timer = asyncio.get_running_loop().call_later(
                config.leader_imbalance_check_interval_seconds,
                lambda: self._enqueue(self.rebalance),
            )

    async def rebalance(self) -> None:
        """Give leadership back to preferred replicas where too many partitions moved away."""
        percent = self._environment.config.leader_imbalance_per_broker_percentage
        moved = await self._drive(self._core.rebalance(percent))
        if moved:
            log.info("leadership of %d partitions went back to the preferred replicas", moved)
        self._arm_rebalance()


def new_topic_id() -> str:
    """A random 22-character id (a UUID in URL-safe base64, as Kafka's are)."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
