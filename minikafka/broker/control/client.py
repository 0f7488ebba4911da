"""How a broker reaches the controller, which may be itself, another broker, or nobody for now.

State: whether the metadata cache's word on who is controller is in doubt: after a refusal or a lost
connection ZooKeeper is asked, since the news of another controller may have been missed. Requests
that may be repeated are tried again until the caller's time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from minikafka.api.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerRequest,
    ControllerResponse,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.ports import ClusterStore, Peers, SessionLostError
from minikafka.errors import NetworkError, NotControllerError, RequestTimedOutError
from minikafka.model import BrokerInfo

RETRY_INTERVAL_S = 0.05
CALL_TIMEOUT_MS = 10_000

T = TypeVar("T")


class LocalController(Protocol):
    """The controller of this broker, as far as requests go."""

    @property
    def active(self) -> bool: ...
    async def alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse: ...
    async def controlled_shutdown(
        self, request: ControlledShutdownRequest
    ) -> ControlledShutdownResponse: ...
    async def controller_call(self, request: ControllerRequest) -> ControllerResponse: ...
    def with_wakeups(
        self, request: UpdateStateRequest, response: UpdateStateResponse
    ) -> UpdateStateResponse: ...


class ControllerClient:
    """Calls the active controller, wherever it is."""

    def __init__(
        self,
        broker_id: int,
        metadata: MetadataCache,
        store: ClusterStore,
        peers: Peers,
        local: LocalController,
        now_ms: Callable[[], int],
    ) -> None:
        self._broker_id = broker_id
        self._metadata = metadata
        self._store = store
        self._peers = peers
        self._local = local
        self._now_ms = now_ms
        self._in_doubt = False

    async def alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        """Once: the caller repeats it."""
        if self._local.active:
            return await self._local.alter_partition(request)
        controller = await self._find()
        try:
            return await self._peers.alter_partition(controller, request, CALL_TIMEOUT_MS)
        except (NotControllerError, NetworkError):
            self._in_doubt = True
            raise

    async def controlled_shutdown(
        self, request: ControlledShutdownRequest, timeout_ms: int
    ) -> ControlledShutdownResponse:
        async def call(remaining_ms: int) -> ControlledShutdownResponse:
            if self._local.active:
                return await self._local.controlled_shutdown(request)
            controller = await self._find()
            return await self._peers.controlled_shutdown(controller, request, remaining_ms)

        return await self._until(call, timeout_ms)

    async def call(self, request: ControllerRequest, timeout_ms: int) -> ControllerResponse:
        """Any other request, tried again while there is no controller, up to `timeout_ms`."""

        async def call(remaining_ms: int) -> ControllerResponse:
            if self._local.active:
                return await self._local.controller_call(request)
            controller = await self._find()
            return await self._peers.controller_call(controller, request, remaining_ms)

        return await self._until(call, timeout_ms)

    async def _until(self, call: Callable[[int], Awaitable[T]], timeout_ms: int) -> T:
        deadline_ms = self._now_ms() + timeout_ms
        while True:
            remaining_ms = deadline_ms - self._now_ms()
            try:
                async with asyncio.timeout(max(remaining_ms, 1) / 1000):
                    return await call(max(remaining_ms, 1))
            except TimeoutError:
                self._in_doubt = True
                raise RequestTimedOutError(
                    f"the controller did not answer within {timeout_ms} ms"
                ) from None
            except (NotControllerError, NetworkError) as error:
                self._in_doubt = True
                if self._now_ms() + RETRY_INTERVAL_S * 1000 >= deadline_ms:
                    if isinstance(error, NetworkError):
                        # Whoever asked has reached this broker well enough.
                        raise RequestTimedOutError(str(error)) from error
                    raise
                await asyncio.sleep(RETRY_INTERVAL_S)

    async def _find(self) -> BrokerInfo:
        try:
            return await self._look()
        except SessionLostError as error:
            raise NotControllerError("ZooKeeper cannot be reached") from error

    async def _look(self) -> BrokerInfo:
        if self._in_doubt or self._metadata.controller_id in (-1, self._broker_id):
            election = await self._store.read_controller()
            self._metadata.set_controller(election.controller_id, election.controller_epoch)
            self._in_doubt = False
        controller_id = self._metadata.controller_id
        if controller_id in (-1, self._broker_id):
            raise NotControllerError("there is no active controller at the moment")
        broker = self._metadata.brokers.get(controller_id)
        if broker is None:
            broker = (await self._store.read_brokers(watch=False)).get(controller_id)
        if broker is None:
            raise NotControllerError(f"broker {controller_id} was controller and is gone")
        return broker
