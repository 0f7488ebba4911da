"""The client's side of a call: a connection made at need, and statuses turned into typed errors.

An error that a broker answers with travels inside a response (Error in common.proto); a status
other than OK means that no answer came. So nearly every status is a NetworkError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol, TypeVar
from weakref import WeakSet

import grpc
import grpc.aio

from minikafka.errors import (
    InvalidRequestError,
    MessageTooLargeError,
    MinikafkaError,
    NetworkError,
    UnknownServerError,
    UnsupportedVersionError,
)
from minikafka.rpc.tuning import Options

R = TypeVar("R")

_NOT_THE_NETWORK: dict[grpc.StatusCode, type[MinikafkaError]] = {
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedVersionError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: MessageTooLargeError,
    grpc.StatusCode.UNKNOWN: UnknownServerError,
}


def error_for_status(code: grpc.StatusCode, details: str | None, address: str) -> MinikafkaError:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return NetworkError(f"{address} did not answer in time")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" not in (details or ""):
        return NetworkError(f"{address} has too much to do: {details or code.name}")
    return _NOT_THE_NETWORK.get(code, NetworkError)(f"{address}: {details or code.name}")


def error_for_failure(failure: BaseException, address: str) -> MinikafkaError:
    """What the failure of a call means; an exception that is none of gRPC's is raised again."""
    if isinstance(failure, MinikafkaError):
        return failure
    if isinstance(failure, grpc.aio.AioRpcError):
        return error_for_status(failure.code(), failure.details(), address)
    if isinstance(failure, asyncio.CancelledError):
        return NetworkError(f"{address}: the connection was closed")
    if isinstance(
        failure, asyncio.InvalidStateError | grpc.aio.UsageError | grpc.aio.InternalError
    ):
        return NetworkError(f"{address}: the connection is closed")
    raise failure


def raise_for_failure(failure: BaseException, address: str) -> NoReturn:
    """Raise what the failure of a call means to the task that awaited it. A call that was cancelled
    because its connection was closed raises CancelledError, as does one whose task is cancelled:
    the two must not be confused, since only the latter may pass on."""
    task = asyncio.current_task()
    if isinstance(failure, asyncio.CancelledError) and task is not None and task.cancelling():
        raise failure
    raise error_for_failure(failure, address) from None


class Closable(Protocol):
    def close(self) -> None: ...


class Connection:
    """A gRPC channel to one address, made on the first use (in the event loop of that use). Without
    `credentials` it is not encrypted, and nobody proves anything."""

    def __init__(
        self, address: str, options: Options, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.address = address
        self.credentials = credentials
        self._options = options
        self._channel: grpc.aio.Channel | None = None
        self._closed = False
        self._users: WeakSet[Closable] = WeakSet()

    @property
    def channel(self) -> grpc.aio.Channel:
        """Raises NetworkError after close()."""
        if self._closed:
            raise NetworkError(f"{self.address}: the connection is closed")
        if self._channel is None:
            if self.credentials is None:
                self._channel = grpc.aio.insecure_channel(self.address, options=self._options)
            else:
                self._channel = grpc.aio.secure_channel(
                    self.address, self.credentials, options=self._options
                )
        return self._channel

    async def call(
        self, start: Callable[[grpc.aio.Channel, float], Awaitable[R]], timeout_ms: int
    ) -> R:
        """The response of the unary call that `start(channel, timeout in seconds)` starts."""
        try:
            return await start(self.channel, timeout_ms / 1000)
        except (Exception, asyncio.CancelledError) as failure:
            raise_for_failure(failure, self.address)

    def open_stream(self, method: str) -> grpc.aio.StreamStreamCall[bytes, bytes]:
        """A bidirectional stream of serialized messages."""
        multi: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self.channel.stream_stream(method)
        return multi()

    def closes(self, user: Closable) -> None:
        """Have close() close `user` first, if it still exists then."""
        self._users.add(user)

    async def close(self) -> None:
        """Outstanding calls fail with NetworkError. Idempotent."""
        self._closed = True
        for user in list(self._users):
            user.close()
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()
