"""Reaching a coordinator, of a group or of a transactional id, which moves when brokers die.

State: the broker that coordinates, as far as is known. It is looked up before the first call, and
again after a refusal or a lost connection; a coordinator that still loads is asked again later.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from minikafka.api.groups import FindCoordinatorResult
from minikafka.client.backoff import Backoff
from minikafka.client.channel import Channel
from minikafka.client.metadata import Cluster
from minikafka.errors import (
    CoordinatorNotAvailableError,
    MinikafkaError,
    NetworkError,
    RequestTimedOutError,
)
from minikafka.model import BrokerInfo

R = TypeVar("R")
S = TypeVar("S")
_MAX_WAIT_MS = 500


def error_of(result: object) -> MinikafkaError | None:
    """The error of a result, if it is one that the coordinator gives as a whole."""
    error = getattr(result, "error", None)
    return error if isinstance(error, MinikafkaError) else None


class Coordination(Generic[S]):
    """Of one key, for one client. S: what the coordinator is asked by."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        """`name` is for people: "group 'g'"."""
        self._cluster = cluster
        self._name = name
        self._broker: BrokerInfo | None = None

    @abstractmethod
    async def _ask_who(self, channel: Channel) -> FindCoordinatorResult:
        """Any broker knows who coordinates the one key."""

    @abstractmethod
    def _service(self, channel: Channel) -> S: ...

    async def call(
        self,
        ask: Callable[[S], Awaitable[R]],
        timeout_ms: float,
        failure_of: Callable[[R], MinikafkaError | None] = error_of,
    ) -> R:
        """What the coordinator answers, be it an error that is final. Retriable errors are retried
        until `timeout_ms` is over, then raised; so is NetworkError, after which what was asked may
        have been done."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        backoff = Backoff(self._cluster.uniform, max_ms=_MAX_WAIT_MS)
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    answer = await self.call_once(ask)
                problem = failure_of(answer)
            except TimeoutError:
                self._broker = None
                raise RequestTimedOutError(
                    f"the coordinator of {self._name} did not answer within {timeout_ms:.0f} ms"
                ) from None
            except MinikafkaError as error:
                if not error.retriable:
                    raise
                problem = error
            else:
                if problem is None or not problem.retriable:
                    return answer
            if problem.refresh_coordinator or isinstance(problem, NetworkError):
                self._broker = None
            wait_s = backoff.next_s()
            if loop.time() + wait_s >= deadline:
                raise problem
            await asyncio.sleep(wait_s)

    async def call_once(self, ask: Callable[[S], Awaitable[R]]) -> R:
        """One question, without retries. After NetworkError the coordinator is looked up anew."""
        broker = await self._find()
        try:
            return await ask(self._service(self._cluster.channel_to(broker.grpc_address)))
        except NetworkError:
            self._cluster.broker_failed(broker.broker_id)
            self._broker = None
            raise

    def forget(self) -> None:
        """It has refused: look it up before the next call."""
        self._broker = None

    async def _find(self) -> BrokerInfo:
        if self._broker is not None:
            return self._broker

        async def ask(channel: Channel) -> BrokerInfo:
            [found] = (await self._ask_who(channel)).coordinators
            if found.error is not None:
                raise found.error
            if found.broker is None:
                raise CoordinatorNotAvailableError("a broker answered without a coordinator")
            return found.broker

        self._broker = await self._cluster.call_any(ask)
        return self._broker
