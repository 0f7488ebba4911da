"""The streams that a broker serves: produce, fetch, replicate, watch.

Produce and Fetch take requests while earlier ones are unanswered. Each of their streams has

- a reader, which hands requests to the service in the order of arrival and stops reading while
  MAX_OUTSTANDING requests are unanswered or the broker's memory for requests is full;
- a writer, the only one that writes, which sends answers in the order in which they are ready.

A request counts as outstanding until its answer was handed to the network. When a stream ends, what
is outstanding on it is cancelled: for a produce request that means only that nobody waits for its
acks any more, since it was appended when it was read.

When the broker stops, no stream takes another request; produce streams send the answers that are
still due, then every stream ends with UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from minikafka.api.requests import ClusterUpdate
from minikafka.api.service import BrokerService
from minikafka.broker.counters import RequestCounters
from minikafka.broker.replication.fetch import MAX_FETCH_BYTES
from minikafka.broker.request_memory import RequestMemory
from minikafka.errors import BrokerNotAvailableError, MessageTooLargeError, MinikafkaError
from minikafka.rpc import hot
from minikafka.rpc.convert import error_for_peer, error_to_wire
from minikafka.rpc.generated import client_pb2, replication_pb2
from minikafka.rpc.limits import SHORT_BYTES, check_fields
from minikafka.rpc.many_partitions import cluster_update_to_wire
from minikafka.turns import aside, give_way

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

MAX_OUTSTANDING = 256
_LARGE_BYTES = 64 * 1024
_MAX_FIELDS = 50_000  # of a fetch
_MAX_POSITIONS = 500_000  # fields of what a follower asks for
# A client that takes less of a large answer keeps memory from others when it is scarce.
_READING_PATIENCE_S = 10.0
_READING_PACE_BYTES_PER_S = 256 * 1024


def too_large(size_bytes: int, max_request_bytes: int) -> MessageTooLargeError:
    return MessageTooLargeError(
        f"a request of {size_bytes} bytes is more than this broker reads "
        f"(socket.request.max.bytes={max_request_bytes}): send less at once"
    )


class _Kind(NamedTuple):
    """What Produce and Fetch differ in: their name, the one by which they are counted, and their
    answers by correlation id."""

    name: str
    counted_as: str
    answer: Callable[[int, Any], bytes]
    refuse: Callable[[int, MinikafkaError], bytes]


_PRODUCE = _Kind("Produce", "Produce", hot.produced_to_wire, hot.produce_failed_to_wire)
_FETCH = _Kind("Fetch", "FetchConsumer", hot.fetched_to_wire, hot.fetch_failed_to_wire)


class _AnsweringStream:
    """One Produce or Fetch stream: its reader, its writer, and what is outstanding between them.

    `accept(stream, raw)` starts a request and calls `track` or `refuse`; DecodeError from it ends
    the stream. `_held_count` and `_held_bytes` are the outstanding requests, `_unfinished` those of
    them that the service works on, `_ready` the answers to be written.
    """

    def __init__(
        self,
        kind: _Kind,
        context: Context,
        accept: Callable[[_AnsweringStream, bytes], None],
        memory: RequestMemory,
        counters: RequestCounters,
    ) -> None:
        self._counters = counters
        self._kind = kind
        self._context = context
        self._accept = accept
        self._memory = memory
        self._held_count = 0
        self._held_bytes = 0
        self._unfinished: set[asyncio.Future[Any]] = set()
        self._ready: deque[tuple[bytes, int]] = deque()
        self._wake_writer = asyncio.Event()
        self._has_room = asyncio.Event()
        self._no_more_requests = False
        self._over = False
        self._reader = asyncio.create_task(self._read())

    async def run(self) -> None:
        """Until the client has ended the stream and has all answers, or `stop`. DecodeError for a
        message that cannot be read."""
        writer = asyncio.create_task(self._write())
        try:
            await asyncio.wait({self._reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            self._no_more_requests = True
            self._wake_writer.set()
            if self._reader.done() and not self._reader.cancelled():
                self._reader.result()  # raises if reading failed
            await writer
        finally:
            self._over = True
            self._reader.cancel()
            writer.cancel()
            for work in self._unfinished:
                work.cancel()
            self._memory.give_back(self._held_bytes)
            await asyncio.wait({self._reader, writer})

    def stop(self, *, give_up: bool) -> None:
        """Take no more requests; `give_up`: nor finish those that are outstanding."""
        self._reader.cancel()
        if give_up:
            for work in list(self._unfinished):
                work.cancel()

    # --- called by `accept` ---

    def track(
        self, correlation_id: int, size_bytes: int, started_s: float, work: asyncio.Future[Any]
    ) -> None:
        """Answer with what `work` gives."""
        self._hold(size_bytes)
        if work.done():
            self._on_done(correlation_id, size_bytes, started_s, work)
        else:
            self._unfinished.add(work)
            work.add_done_callback(partial(self._on_done, correlation_id, size_bytes, started_s))

    def track_unanswered(
        self, size_bytes: int, started_s: float, work: asyncio.Future[Any]
    ) -> None:
        """The client wants no answer: an unexpected error shows in our log only."""
        self._hold(size_bytes)
        self._unfinished.add(work)
        work.add_done_callback(partial(self._on_unanswered_done, size_bytes, started_s))

    def refuse(self, correlation_id: int, error: MinikafkaError) -> None:
        self._hold(0)
        self._put(self._kind.refuse(correlation_id, error), 0)

    # --- between the two tasks ---

    def _on_done(
        self, correlation_id: int, size_bytes: int, started_s: float, work: asyncio.Future[Any]
    ) -> None:
        self._unfinished.discard(work)
        self._counters.add(self._kind.counted_as, perf_counter() - started_s)
        if self._over:
            _ = work.cancelled() or work.exception()  # seen: nobody is left to tell
            return
        try:
            if work.cancelled():
                raise BrokerNotAvailableError("the broker stopped before the request was done")
            raw = self._kind.answer(correlation_id, work.result())
        except Exception as raised:
            raw = self._kind.refuse(correlation_id, error_for_peer(raised, self._kind.name))
        # From now on it is the answer that is held, until the client has taken it.
        self._held_bytes += len(raw) - size_bytes
        self._memory.take(len(raw))
        self._memory.give_back(size_bytes)
        self._put(raw, len(raw))

    def _on_unanswered_done(
        self, size_bytes: int, started_s: float, work: asyncio.Future[Any]
    ) -> None:
        self._unfinished.discard(work)
        self._counters.add(self._kind.counted_as, perf_counter() - started_s)
        if not work.cancelled() and (raised := work.exception()) is not None:
            assert isinstance(raised, Exception)
            error_for_peer(raised, self._kind.name)
        if not self._over:
            self._release(size_bytes)

    def _put(self, raw: bytes, size_bytes: int) -> None:
        self._ready.append((raw, size_bytes))
        self._wake_writer.set()

    def _hold(self, size_bytes: int) -> None:
        self._held_count += 1
        self._held_bytes += size_bytes
        self._memory.take(size_bytes)

    def _release(self, size_bytes: int) -> None:
        self._held_count -= 1
        self._held_bytes -= size_bytes
        self._memory.give_back(size_bytes)
        self._has_room.set()
        if self._no_more_requests and not self._held_count:
            self._wake_writer.set()

    async def _read(self) -> None:
        while True:
            while self._held_count >= MAX_OUTSTANDING:
                self._has_room.clear()
                await self._has_room.wait()
            await self._memory.wait_for_room()
            raw = await self._context.read()
            if not isinstance(raw, bytes):  # grpc.aio.EOF
                return
            await self._memory.wait_for_room()  # others may have taken it meanwhile
            self._accept(self, raw)

    async def _write_large(self, raw: bytes) -> None:
        """BrokerNotAvailableError if the client takes it too slowly while memory is scarce."""
        writing = asyncio.ensure_future(self._context.write(raw))
        patience_s = _READING_PATIENCE_S + len(raw) / _READING_PACE_BYTES_PER_S
        try:
            while not writing.done():
                await asyncio.wait({writing}, timeout=patience_s)
                if not writing.done() and self._memory.scarce:
                    raise BrokerNotAvailableError(
                        f"{len(raw)} bytes of an answer were not read in {patience_s:.0f} s, and "
                        "others need the memory (queued.max.request.bytes)"
                    )
            writing.result()
        finally:
            writing.cancel()

    async def _write(self) -> None:
        while True:
            while self._ready:
                raw, size_bytes = self._ready.popleft()
                if len(raw) < _LARGE_BYTES:
                    await self._context.write(raw)
                else:
                    await self._write_large(raw)
                self._release(size_bytes)
            if self._no_more_requests and not self._held_count:
                return
            self._wake_writer.clear()
            await self._wake_writer.wait()


class Streams:
    """The streaming methods of the services, over one BrokerService."""

    def __init__(
        self,
        service: BrokerService,
        *,
        max_request_bytes: int,
        memory: RequestMemory,
        counters: RequestCounters,
    ) -> None:
        self._service = service
        self._counters = counters
        self._max_request_bytes = max_request_bytes
        self.memory = memory
        self._stoppers: set[Callable[[], object]] = set()
        self._stopped = False

    def stop(self) -> None:
        """End every stream, as the module's docstring says."""
        self._stopped = True
        for stop in list(self._stoppers):
            stop()

    # --- the methods ---

    async def produce(self, _: object, context: Context) -> None:
        stream = self._answering(_PRODUCE, context, self._accept_produce)
        await self._serve("Produce", context, stream.run(), partial(stream.stop, give_up=False))

    async def fetch(self, _: object, context: Context) -> None:
        stream = self._answering(_FETCH, context, self._accept_fetch)
        await self._serve("Fetch", context, stream.run(), partial(stream.stop, give_up=True))

    async def replicate(self, _: object, context: Context) -> None:
        await self._serve("Replicate", context, self._replicate(context))

    async def watch(self, raw: bytes, context: Context) -> None:
        await self._serve("WatchPartitions", context, self._watch(raw, context))

    # --- inside ---

    def _answering(
        self,
        kind: _Kind,
        context: Context,
        accept: Callable[[_AnsweringStream, bytes], None],
    ) -> _AnsweringStream:
        return _AnsweringStream(kind, context, accept, self.memory, self._counters)

    async def _serve(
        self,
        name: str,
        context: Context,
        work: Coroutine[Any, Any, None],
        stop: Callable[[], object] | None = None,
    ) -> None:
        """Run a stream until it ends, its client is gone (which cancels this), or `stop`, which by
        default cancels `work`."""
        task = asyncio.create_task(work)
        stop = stop or task.cancel
        self._stoppers.add(stop)
        if self._stopped:
            stop()
        try:
            await asyncio.wait({task})
        finally:
            self._stoppers.discard(stop)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            # Seen, also where the client is gone: then a write may fail as it is cancelled.
            _ = task.cancelled() or task.exception()
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, DecodeError):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{name}: unreadable message")
        if failure is not None:
            assert isinstance(failure, Exception)
            await context.abort(grpc.StatusCode.UNKNOWN, error_for_peer(failure, name).message)
        if self._stopped:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the broker is stopping")

    def _accept_produce(self, stream: _AnsweringStream, raw: bytes) -> None:
        started_s = perf_counter()
        correlation_id, request = hot.produce_from_wire(raw)
        request.source = stream
        size_bytes = len(raw)
        try:
            if size_bytes > self._max_request_bytes:
                raise too_large(size_bytes, self._max_request_bytes)
            work = asyncio.ensure_future(self._service.produce(request))
        except Exception as raised:
            error = error_for_peer(raised, "Produce")
            if request.acks != 0:
                stream.refuse(correlation_id, error)
            return
        if request.acks == 0:
            stream.track_unanswered(size_bytes, started_s, work)
        else:
            stream.track(correlation_id, size_bytes, started_s, work)

    def _accept_fetch(self, stream: _AnsweringStream, raw: bytes) -> None:
        started_s = perf_counter()
        if len(raw) > SHORT_BYTES:
            check_fields(raw, client_pb2.FetchRequest, _MAX_FIELDS)
        correlation_id, request = hot.fetch_from_wire(raw)
        if len(raw) > self._max_request_bytes:
            stream.refuse(correlation_id, too_large(len(raw), self._max_request_bytes))
            return
        work = asyncio.ensure_future(self._service.fetch(request))
        stream.track(correlation_id, len(raw), started_s, work)

    async def _replicate(self, context: Context) -> None:
        while isinstance(raw := await context.read(), bytes):
            started_s = perf_counter()
            if len(raw) > _LARGE_BYTES:
                await aside(
                    check_fields, raw, replication_pb2.ReplicateRequest, _MAX_POSITIONS, give_way
                )
            request = hot.replicate_from_wire(raw)
            try:
                if len(raw) > self._max_request_bytes:
                    raise too_large(len(raw), self._max_request_bytes)
                request.max_bytes = min(request.max_bytes, MAX_FETCH_BYTES)
                answer = hot.replicated_to_wire(await self._service.replica_fetch(request))
            except Exception as raised:
                answer = hot.replicate_failed_to_wire(error_for_peer(raised, "Replicate"))
            self._counters.add("FetchFollower", perf_counter() - started_s)
            self.memory.take(len(answer))
            try:
                await context.write(answer)
            finally:
                self.memory.give_back(len(answer))

    async def _watch(self, raw: bytes, context: Context) -> None:
        if len(raw) > SHORT_BYTES:
            check_fields(raw, client_pb2.WatchPartitionsRequest, _MAX_FIELDS)
        wanted = frozenset(client_pb2.WatchPartitionsRequest.FromString(raw).topics)
        updates = self._service.watch()
        last_controller: tuple[int, int] | None = None
        try:
            async for update in updates:
                controller = (update.controller_id, update.controller_epoch)
                seen = _only_topics(update, wanted)
                if not wanted or _says_something(seen) or controller != last_controller:
                    wire = await cluster_update_to_wire(seen)
                    await context.write(wire.SerializeToString())
                last_controller = controller
        except Exception as raised:
            error = error_for_peer(raised, "WatchPartitions")
            response = client_pb2.WatchPartitionsResponse(error=error_to_wire(error))
            await context.write(response.SerializeToString())
        finally:
            if isinstance(updates, AsyncGenerator):
                await updates.aclose()


def _only_topics(update: ClusterUpdate, wanted: frozenset[str]) -> ClusterUpdate:
    """The update with nothing of other topics in it; empty `wanted`: all."""
    if not wanted:
        return update
    return ClusterUpdate(
        partitions=[each for each in update.partitions if each.topic_partition.topic in wanted],
        deleted_topics=[each for each in update.deleted_topics if each[0] in wanted],
        brokers=update.brokers,
        controller_id=update.controller_id,
        controller_epoch=update.controller_epoch,
    )


def _says_something(update: ClusterUpdate) -> bool:
    return bool(update.partitions or update.deleted_topics or update.brokers is not None)
