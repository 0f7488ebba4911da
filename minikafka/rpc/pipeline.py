"""Many requests in flight on one stream, answered by correlation id: the client's side.

A Pipeline has at most one stream at a time, opened by the first request and again by the first one
after it broke. Requests go out in the order of submission. When a stream breaks (refused, ended,
silent beyond the timeout of any of its requests), everything outstanding on it fails with
NetworkError, sent or not: nothing is sent again here, since only the caller knows whether that is
safe.

Invariant: a request is in `_pending` of the stream that it was submitted to until it has its
outcome, or its caller has gone away and the answer came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import grpc.aio
from google.protobuf.message import DecodeError

from minikafka.errors import MinikafkaError, NetworkError
from minikafka.rpc.calls import Connection, error_for_failure
from minikafka.rpc.hot import Answer

T = TypeVar("T")


class _Pending(NamedTuple, Generic[T]):
    answered: asyncio.Future[Sequence[T]]
    timer: asyncio.TimerHandle


class Pipeline(Generic[T]):
    def __init__(
        self, connection: Connection, method: str, decode: Callable[[bytes], Answer[T]]
    ) -> None:
        self._connection = connection
        self._method = method
        self._decode = decode
        self._stream: _Stream[T] | None = None
        self._last_correlation_id = 0
        connection.closes(self)

    def submit(
        self,
        encode: Callable[[int], bytes],
        timeout_ms: int,
        unanswered: Sequence[T] | None = None,
    ) -> asyncio.Future[Sequence[T]]:
        """Queue the request that `encode(correlation id)` gives. The future has the results, or the
        error of the request as a whole; `unanswered` are the results of a request that gets no
        answer, once it was handed to the network. Raises NetworkError after close()."""
        self._last_correlation_id += 1
        correlation_id = self._last_correlation_id
        raw = encode(correlation_id)
        if self._stream is None or self._stream.broken:
            call = self._connection.open_stream(self._method)
            self._stream = _Stream(call, self._connection.address, self._decode)
        return self._stream.submit(correlation_id, raw, timeout_ms, unanswered)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.fail(
                NetworkError(f"{self._connection.address}: the connection was closed")
            )


class _Stream(Generic[T]):
    """One stream: a task that writes what is submitted, a task that reads the answers."""

    def __init__(
        self,
        call: grpc.aio.StreamStreamCall[bytes, bytes],
        address: str,
        decode: Callable[[bytes], Answer[T]],
    ) -> None:
        self.broken = False
        self._call = call
        self._address = address
        self._decode = decode
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, _Pending[T]] = {}
        self._outgoing: deque[tuple[int, bytes, Sequence[T] | None]] = deque()
        self._submitted = asyncio.Event()
        self._writer = self._loop.create_task(self._write())
        self._reader = self._loop.create_task(self._read())

    def submit(
        self, correlation_id: int, raw: bytes, timeout_ms: int, unanswered: Sequence[T] | None
    ) -> asyncio.Future[Sequence[T]]:
        answered: asyncio.Future[Sequence[T]] = self._loop.create_future()
        timer = self._loop.call_later(
            timeout_ms / 1000,
            self.fail,
            NetworkError(f"{self._address} did not answer within {timeout_ms} ms"),
        )
        self._pending[correlation_id] = _Pending(answered, timer)
        self._outgoing.append((correlation_id, raw, unanswered))
        self._submitted.set()
        return answered

    def fail(self, error: MinikafkaError) -> None:
        """The stream is of no use any more: everything outstanding fails."""
        if self.broken:
            return
        self.broken = True
        self._call.cancel()
        self._writer.cancel()
        self._reader.cancel()
        self._outgoing.clear()
        for correlation_id in list(self._pending):
            self._settle(correlation_id, type(error)(error.message))

    def _settle(self, correlation_id: int, outcome: Sequence[T] | MinikafkaError) -> None:
        pending = self._pending.pop(correlation_id, None)
        if pending is None:
            return
        pending.timer.cancel()
        if pending.answered.done():  # its caller was cancelled
            return
        if isinstance(outcome, MinikafkaError):
            pending.answered.set_exception(outcome)
        else:
            pending.answered.set_result(outcome)

    async def _write(self) -> None:
        while True:
            while self._outgoing:
                correlation_id, raw, unanswered = self._outgoing.popleft()
                try:
                    await self._call.write(raw)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    return  # the call has ended: the reader learns why
                if unanswered is not None:
                    self._settle(correlation_id, unanswered)
            self._submitted.clear()
            await self._submitted.wait()

    async def _read(self) -> None:
        try:
            while True:
                raw = await self._call.read()
                if not isinstance(raw, bytes):
                    self.fail(NetworkError(f"{self._address} ended the stream"))
                    return
                self._settle(*self._decode(raw))
        except DecodeError as failure:
            self.fail(NetworkError(f"{self._address} sent an unreadable answer: {failure}"))
        except (Exception, asyncio.CancelledError) as failure:
            if self.broken:  # by us
                return
            self.fail(error_for_failure(failure, self._address))
