"""Moves batches from the lanes to the leaders and what comes of them back: order, retries,
timeouts.

State: the lanes with unresolved batches, the requests that are not answered, how many of them each
broker has, the producer id. Nothing here is a task per record or per batch: `_pump` runs on the
loop when something may have become possible, sends one request after another to each leader (one
batch of each lane), and returns.

Rules:

- a full batch goes as soon as a request to its leader is free (at most `max_in_flight`); one that
  is still open goes after `linger_ms`, and only while its lane has nothing in flight: so a lone
  record never waits, and under load batches grow by themselves;
- a retriable error drains the lane and repeats it in order (accumulator.py has the rules of
  sequences);
- a request that takes long is watched: once the metadata say that another broker leads, its answer
  is no longer waited for (a paused leader must not hold its producers up for a request timeout);
- what is not acknowledged within `delivery_timeout_ms` fails with the error that kept it;
- with a transactional id a record that fails takes all others with it: the transaction can only be
  aborted (transactions.py, which also says which producer id and epoch are the next).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence

from minikafka.api.requests import (
    LeaderHint,
    ProducePartition,
    ProduceRequest,
    ProduceResult,
)
from minikafka.client.metadata import Cluster
from minikafka.client.options import SenderOptions
from minikafka.client.producing.accumulator import NO_SEQUENCE, Batch, Lane
from minikafka.client.producing.fate import certainly_not_written, expiry_error
from minikafka.client.producing.producer_ids import ProducerIds
from minikafka.client.producing.requests import Request
from minikafka.errors import (
    BrokerNotAvailableError,
    DuplicateSequenceNumberError,
    InvalidProducerEpochError,
    LeaderNotAvailableError,
    MessageTooLargeError,
    MinikafkaError,
    NetworkError,
    OutOfOrderSequenceNumberError,
    RequestTimedOutError,
    UnknownProducerIdError,
    UnknownServerError,
)
from minikafka.model import TopicPartition

_NEVER = math.inf
_SLOW_REQUEST_S = 1.0
# The broker's own time limit is request_timeout_ms: it should be the one that answers.
_ANSWER_GRACE = 1.25

_logger = logging.getLogger(__name__)


class Sender:
    """One producer's sender. `on_released` is told of buffer memory that became free, in bytes,
    `on_failed` of records that failed. `sent`: something was, since somebody set it to False."""

    def __init__(
        self,
        cluster: Cluster,
        options: SenderOptions,
        on_released: Callable[[int], None],
        on_failed: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self.sent = False
        self._on_failed = on_failed
        self._doom: MinikafkaError | None = None  # what all that is left is to fail with
        self._cluster = cluster
        self._options = options
        self._on_released = on_released
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[Lane, None] = {}  # those with unresolved batches, next to be served first
        self._requests: dict[Request, None] = {}
        self._in_flight: dict[int, int] = {}  # requests by broker
        self._flushing = 0
        self._pump_handle: asyncio.Handle | None = None
        self._pump_timer: asyncio.TimerHandle | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._producer_ids = ProducerIds(cluster, self.wake)
        self._closed = False
        sweep_ms = min(options.delivery_timeout_ms / 20, options.request_timeout_ms / 20, 500)
        self._sweep_s = max(sweep_ms, 5) / 1000
        cluster.on_change(self._on_metadata)

    def add(self, lane: Lane) -> None:
        """A lane has a new batch."""
        self._lanes[lane] = None
        if lane.transactional:
            lane.begin_under(self._producer_ids.current)
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(self._sweep_s, self._sweep)
        self.wake()

    def wake(self) -> None:
        """Something may have become possible: look soon."""
        if self._pump_handle is None and not self._closed:
            self._pump_handle = self._loop.call_soon(self._pump)

    async def flush(self) -> None:
        """Send everything without lingering; returns when all that was given before is resolved."""
        self._flushing += 1
        self.wake()
        try:
            for batch in [batch for lane in self._lanes for batch in lane.batches]:
                await batch.wait()
        finally:
            self._flushing -= 1

    def become(self, producer_id: int, producer_epoch: int) -> None:
        """Whose records the next ones are, with sequences from 0. Nothing is unresolved."""
        self._producer_ids.current = (producer_id, producer_epoch)

    def drop_soon(self, error: MinikafkaError) -> None:
        """Have all that is unresolved fail, at the next turn of the loop."""
        self._doom = error
        self.wake()

    def drop(self, error: MinikafkaError) -> None:
        """Have all that is unresolved fail now. No answer is waited for any more: what arrives late
        is fenced by its epoch, or aborted."""
        self._doom = None
        for request in list(self._requests):
            self._close_request(request)
        for lane in list(self._lanes):
            for batch in list(lane.batches):
                batch.seal()
                lane.remove(batch)
                self._on_released(batch.reserved_bytes)
                batch.resolve(-1, error)
            lane.reset()

    async def close(self) -> None:
        """Stop. What is unresolved fails; flush first."""
        self._closed = True
        for timer in (self._pump_handle, self._pump_timer, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        await self._producer_ids.close()
        for request in list(self._requests):
            self._close_request(request)
        for lane in list(self._lanes):
            for batch in list(lane.batches):
                self._resolve(
                    batch,
                    error=RequestTimedOutError(
                        f"the producer was closed before {lane.topic_partition} acknowledged it"
                    ),
                )

    # --- sending ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._pump_handle = None
        if self._doom is not None:
            self.drop(self._doom)
        now_s = self._loop.time()
        wake_at_s = _NEVER
        by_leader: dict[int, list[Lane]] = {}
        for lane in list(self._lanes):
            if not lane.batches:
                del self._lanes[lane]
                continue
            due_s = self._due_s(lane, now_s)
            if due_s > now_s:
                wake_at_s = min(wake_at_s, due_s)
                continue
            leader = self._leader_for(lane, now_s)
            if leader is not None:
                by_leader.setdefault(leader, []).append(lane)
            elif not lane.in_flight:
                wake_at_s = min(wake_at_s, lane.retry_at_s)
        for leader, lanes in by_leader.items():
            self._send_to(leader, lanes, now_s)
        self._wake_at(wake_at_s, now_s)

    def _wake_at(self, wake_at_s: float, now_s: float) -> None:
        if self._pump_timer is not None:
            self._pump_timer.cancel()
            self._pump_timer = None
        if wake_at_s < _NEVER:
            delay_s = max(wake_at_s - now_s, 0)
            self._pump_timer = self._loop.call_later(delay_s, self.wake)

    def _due_s(self, lane: Lane, now_s: float) -> float:
        """When the lane's next batch may go; never: something else has to happen first."""
        batch = lane.next_unsent()
        if batch is None or lane.draining:
            return _NEVER
        if lane.in_flight and (lane.probing or not batch.sealed):
            return _NEVER
        if self._options.idempotence and batch.sequence == NO_SEQUENCE:
            if not lane.may_number():
                return _NEVER
            if lane.needs_producer_id and self._producer_ids.current is None:
                lane.last_error = self._producer_ids.last_error or lane.last_error
                self._producer_ids.acquire_soon()
                return _NEVER
        if lane.retry_at_s > now_s:
            view = self._cluster.leader(lane.topic_partition)
            if view is None or view == lane.failed_view:
                return lane.retry_at_s
        if batch.sealed or self._flushing:
            return now_s
        return batch.created_s + self._options.linger_ms / 1000

    def _leader_for(self, lane: Lane, now_s: float) -> int | None:
        view = self._cluster.leader(lane.topic_partition)
        if lane.in_flight:
            # Never overtake what another broker may still be about to refuse.
            return lane.target if view is not None and view.leader == lane.target else None
        if view is None:
            topic = self._cluster.topics.get(lane.topic_partition.topic)
            lane.last_error = (topic and topic.error) or LeaderNotAvailableError(
                f"{lane.topic_partition} has no leader"
            )
            lane.failed_view = None
            lane.retry_at_s = now_s + lane.backoff.next_s()
            self._cluster.refresh_soon()
            return None
        topic_id = self._cluster.topics[lane.topic_partition.topic].topic_id
        if lane.topic_id != topic_id:  # deleted and made again: nobody there knows this producer
            lane.topic_id = topic_id
            lane.acknowledged = False
        return view.leader

    def _send_to(self, leader: int, lanes: list[Lane], now_s: float) -> None:
        """Requests to one leader, each with one batch of several lanes, while it may have more."""
        options = self._options
        waiting = lanes
        while waiting and self._in_flight.get(leader, 0) < options.max_in_flight:
            chosen: list[Lane] = []
            size_bytes = 0
            for lane in waiting:
                batch = lane.next_unsent()
                assert batch is not None
                if chosen and size_bytes + batch.reserved_bytes > options.max_request_bytes:
                    break
                size_bytes += batch.reserved_bytes
                chosen.append(lane)
            self._send(leader, chosen, now_s)
            for lane in chosen:  # served: to the end of the line
                if lane in self._lanes:
                    del self._lanes[lane]
                    self._lanes[lane] = None
            again = [lane for lane in chosen if self._due_s(lane, now_s) <= now_s]
            waiting = waiting[len(chosen) :] + again

    def _send(self, leader: int, lanes: list[Lane], now_s: float) -> None:
        options = self._options
        batches: dict[TopicPartition, Batch] = {}
        partitions: list[ProducePartition] = []
        for lane in lanes:
            batch = lane.next_unsent()
            assert batch is not None
            batch.seal()
            if options.idempotence and batch.sequence == NO_SEQUENCE:
                lane.assign_sequence(batch, *(self._producer_ids.current or (-1, -1)))
            data = batch.encoded(options.codec)
            lane.sent += 1
            lane.in_flight += 1
            lane.target = leader
            batches[lane.topic_partition] = batch
            partitions.append(ProducePartition(lane.topic_partition, data))
        request = Request(leader, batches, now_s)
        self._requests[request] = None
        self._in_flight[leader] = self._in_flight.get(leader, 0) + 1
        self.sent = True
        message = ProduceRequest(
            options.acks,
            int(options.request_timeout_ms),
            partitions,
            transactional_id=options.transactional_id,
            adds_to_transaction=options.transactional_id is not None,
        )
        future = request.future = self._submit(leader, message)
        request.deadline = self._loop.call_later(
            options.request_timeout_ms / 1000 * _ANSWER_GRACE, self._on_timeout, request
        )
        future.add_done_callback(lambda done: self._on_answer(request, done))

    def _submit(
        self, leader: int, message: ProduceRequest
    ) -> asyncio.Future[Sequence[ProduceResult]]:
        try:
            return asyncio.ensure_future(self._cluster.channel(leader).produce(message))
        except Exception as error:  # it goes the way of all failures
            failed: asyncio.Future[Sequence[ProduceResult]] = self._loop.create_future()
            failed.set_exception(error)
            return failed

    # --- answers ---------------------------------------------------------------------------------

    def _on_timeout(self, request: Request) -> None:
        self._cluster.broker_failed(request.broker_id)
        self._fail_request(
            request,
            RequestTimedOutError(
                f"broker {request.broker_id} did not answer a produce request within "
                f"{self._options.request_timeout_ms * _ANSWER_GRACE:.0f} ms"
            ),
        )

    def _on_answer(self, request: Request, future: asyncio.Future[Sequence[ProduceResult]]) -> None:
        if future.cancelled():
            error: BaseException | None = NetworkError("the connection was closed")
        else:
            error = future.exception()
        if request not in self._requests:
            return  # given up meanwhile
        if error is None:
            self._on_results(request, future.result())
            return
        if not isinstance(error, MinikafkaError):
            _logger.error("a produce request failed in an unforeseen way", exc_info=error)
            error = UnknownServerError(f"{type(error).__name__}: {error}")
        elif isinstance(error, NetworkError | BrokerNotAvailableError):
            self._cluster.broker_failed(request.broker_id)
        self._fail_request(request, error)

    def _on_results(self, request: Request, results: Sequence[ProduceResult]) -> None:
        by_partition = {result.topic_partition: result for result in results}
        batches = self._close_request(request)
        for topic_partition, batch in batches.items():
            batch.lane.in_flight -= 1
            result = by_partition.get(topic_partition)
            if result is not None and result.error is not None:
                self._on_error(batch, result.error, result.leader_hint)
            elif result is not None or self._options.acks == 0:
                self._on_written(batch, result.base_offset if result is not None else -1)
            else:
                self._on_error(
                    batch, NetworkError(f"the broker's answer leaves out {topic_partition}"), None
                )
        for batch in batches.values():
            self._settle(batch.lane)
        self.wake()

    def _fail_request(self, request: Request, error: MinikafkaError) -> None:
        for topic_partition in list(request.batches):
            self._give_up(request, topic_partition, error)

    def _give_up(
        self, request: Request, topic_partition: TopicPartition, error: MinikafkaError
    ) -> None:
        """Stop waiting for the answer for one batch."""
        batch = request.batches.pop(topic_partition)
        if not request.batches:
            self._close_request(request)
        batch.lane.in_flight -= 1
        self._on_error(batch, error, None)
        self._settle(batch.lane)
        self.wake()

    def _close_request(self, request: Request) -> dict[TopicPartition, Batch]:
        del self._requests[request]
        self._in_flight[request.broker_id] -= 1
        if request.deadline is not None:
            request.deadline.cancel()
        if request.future is not None:
            request.future.cancel()
        return request.batches

    def _on_written(self, batch: Batch, base_offset: int) -> None:
        if batch.done:
            return  # it had expired: its user was told that its fate is unknown
        lane = batch.lane
        lane.acknowledged = True
        lane.probing = False
        if not lane.draining:
            lane.backoff.reset()
            lane.last_error = None
        self._resolve(batch, base_offset)

    def _on_error(self, batch: Batch, error: MinikafkaError, hint: LeaderHint | None) -> None:
        if batch.done:
            return
        lane = batch.lane
        if isinstance(error, DuplicateSequenceNumberError):
            self._on_written(batch, -1)
            return
        if not certainly_not_written(error):
            batch.maybe_written = True
        sequenced = batch.sequence != NO_SEQUENCE
        if sequenced and isinstance(error, OutOfOrderSequenceNumberError):
            if batch.orphaned or lane.batches[0] is not batch:
                lane.draining = True  # a batch before it failed, which settles this one, too
                return
        elif (
            sequenced
            and isinstance(error, InvalidProducerEpochError | UnknownProducerIdError)
            and not lane.transactional
        ):
            lane.orphan_after(batch, error)
            batch.orphaned, batch.orphan_error = True, error
            lane.needs_producer_id = True
            self._producer_ids.current = None
            self._back_off(lane, error)
            return
        elif error.retriable:
            self._retry_later(lane, error, hint)
            return
        if isinstance(error, MessageTooLargeError) and batch.record_count > 1:
            self._split(batch)
            return
        if sequenced:
            lane.orphan_after(batch, error if batch.maybe_written else None)
        self._resolve(batch, error=error)

    def _retry_later(self, lane: Lane, error: MinikafkaError, hint: LeaderHint | None) -> None:
        hinted = self._cluster.apply_hint(lane.topic_partition, hint)
        if error.refresh_metadata and not hinted:
            self._cluster.refresh_soon()
        if not lane.draining:
            self._back_off(lane, error)
        lane.last_error = error
        if hinted:
            lane.retry_at_s = 0

    def _back_off(self, lane: Lane, error: MinikafkaError) -> None:
        lane.draining = True
        lane.last_error = error
        lane.failed_view = self._cluster.leader(lane.topic_partition)
        lane.retry_at_s = self._loop.time() + lane.backoff.next_s()

    def _split(self, batch: Batch) -> None:
        """The topic takes only smaller batches than this: halve it, and later ones from the
        start."""
        lane = batch.lane
        lane.batch_limit_bytes = max(batch.reserved_bytes // 2, 1)
        self._on_released(batch.reserved_bytes)
        for half in lane.split(batch):
            self._on_released(-half.reserved_bytes)

    def _settle(self, lane: Lane) -> None:
        if lane.draining and not lane.in_flight:
            for batch, error in lane.settle():
                self._finish(batch, error=error)

    def _resolve(
        self, batch: Batch, base_offset: int = -1, error: MinikafkaError | None = None
    ) -> None:
        batch.seal()
        batch.lane.remove(batch)
        self._finish(batch, base_offset, error)

    def _finish(
        self, batch: Batch, base_offset: int = -1, error: MinikafkaError | None = None
    ) -> None:
        if error is not None and not batch.watched():
            _logger.error("%d records failed, unheard: %s", batch.record_count, error)
        self._on_released(batch.reserved_bytes)
        batch.resolve(base_offset, error)
        if error is not None:
            self._on_failed(error)

    # --- time ------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Now and then: expire batches, look after slow requests."""
        self._sweep_timer = None
        now_s = self._loop.time()
        for lane in list(self._lanes):
            self._expire(lane, now_s)
        if self._slow_requests():
            self._cluster.refresh_soon()  # then `_on_metadata` looks after them
        if self._lanes or self._requests:
            self._sweep_timer = self._loop.call_later(self._sweep_s, self._sweep)

    def _expire(self, lane: Lane, now_s: float) -> None:
        limit_s = now_s - self._options.delivery_timeout_ms / 1000
        expired = False
        while lane.batches and lane.batches[0].created_s <= limit_s:
            batch = lane.batches[0]
            unanswered = lane.sent > 0 and lane.in_flight > 0
            unknown = batch.maybe_written or unanswered
            batch.seal()
            error = expiry_error(batch, unknown, self._options.delivery_timeout_ms)
            if batch.sequence != NO_SEQUENCE:
                lane.orphan_after(batch, error if unknown else None)
            self._forget(batch)
            self._resolve(batch, error=error)
            expired = True
        if expired:
            self._settle(lane)
            self.wake()

    def _forget(self, batch: Batch) -> None:
        """Wait no longer for the answer about a batch that has expired."""
        topic_partition = batch.lane.topic_partition
        for request in list(self._requests):
            if request.batches.get(topic_partition) is batch:
                del request.batches[topic_partition]
                batch.lane.in_flight -= 1
                if not request.batches:
                    self._close_request(request)

    def _on_metadata(self) -> None:
        for request in self._slow_requests():
            self._leave_if_moved(request)
        self.wake()

    def _slow_requests(self) -> list[Request]:
        since_s = self._loop.time() - _SLOW_REQUEST_S
        return [request for request in self._requests if request.sent_at_s <= since_s]

    def _leave_if_moved(self, request: Request) -> None:
        for topic_partition in list(request.batches):
            view = self._cluster.leader(topic_partition)
            if view is not None and view.leader != request.broker_id:
                self._cluster.broker_failed(request.broker_id)
                self._give_up(
                    request,
                    topic_partition,
                    NetworkError(
                        f"broker {request.broker_id} did not answer, and broker {view.leader} "
                        f"leads {topic_partition} now"
                    ),
                )
