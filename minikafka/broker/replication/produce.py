"""Produce requests: look at the records, append at the leader, wait for the replicas that were
asked for.

A request names batches for several partitions; each is judged on its own. Appends happen in the
call itself, or in the order of the calls of one source where the records take a while to be looked
at (produced.py), or where there are so many partitions that it is done in slices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from minikafka.api.requests import (
    LeaderHint,
    ProducePartition,
    ProduceRequest,
    ProduceResult,
)
from minikafka.broker.counters import BrokerCounters
from minikafka.broker.ports import Buffer
from minikafka.broker.replication.produced import (
    Batches,
    Budget,
    RecordChecker,
    append_time_ms,
    own_batches,
)
from minikafka.broker.replication.replica import Replica
from minikafka.broker.replication.transactional import TransactionalAppend
from minikafka.core.replication.partition import Partition
from minikafka.core.replication.transactional import TransactionalProduce
from minikafka.errors import (
    BrokerNotAvailableError,
    ConcurrentTransactionsError,
    InvalidProducerIdMappingError,
    InvalidRecordError,
    InvalidRequiredAcksError,
    InvalidTopicError,
    MinikafkaError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    RequestTimedOutError,
)
from minikafka.model import INTERNAL_TOPICS, BatchHeader, TopicPartition
from minikafka.records.check import CheckedBatch, check_size
from minikafka.records.header import stamp

FindReplica = Callable[..., Replica]
Serving = Callable[[Partition, int], None]
ALL_ACKS = -1


SLICE = 256  # partitions of a request that are done in one go


class Wait(NamedTuple):
    """For acks, or for the word of a coordinator. `time_out(error)`: nobody waits any more."""

    token: asyncio.Future[object]
    time_out: Callable[[MinikafkaError], None]


@dataclass(slots=True)
class _Work:
    """A request under way. `found`: what there is to append, by partition of the request, as far
    as it was looked at; None where there is an error instead. `waits`: what was appended and waits
    for its acks, or waits to be appended, with its place in the request."""

    request: ProduceRequest
    results: list[ProduceResult]
    budget: Budget = field(default_factory=Budget)
    found: list[Batches | None] = field(default_factory=list)
    waits: list[tuple[int, Wait]] = field(default_factory=list)
    producer_id: int | None = None  # of its transaction

    @property
    def complete(self) -> bool:
        return all(batches is None or batches.complete for batches in self.found)


class _Waiting:
    """A request of which some partitions are not settled yet."""

    def __init__(self, results: list[ProduceResult], unsettled: int) -> None:
        self.results = results
        self.unsettled = unsettled
        self.waits: list[Wait] = []
        self.done: asyncio.Future[Sequence[ProduceResult]] = (
            asyncio.get_running_loop().create_future()
        )
        self.timer: asyncio.TimerHandle | None = None

    def settle(self, index: int, token: asyncio.Future[object]) -> None:
        error = (
            BrokerNotAvailableError("the broker is stopping")
            if token.cancelled()
            else token.result()
        )
        if error is not None:
            assert isinstance(error, MinikafkaError)
            self.results[index].error = error
            self.results[index].base_offset = -1
        self.unsettled -= 1
        if self.unsettled == 0:
            if self.timer is not None:
                self.timer.cancel()
            if not self.done.done():
                self.done.set_result(self.results)

    def time_out(self, timeout_ms: int) -> None:
        for wait in self.waits:
            if not wait.token.done():
                wait.time_out(
                    RequestTimedOutError(
                        f"not all in-sync replicas had the records within {timeout_ms} ms; "
                        "they may yet be committed"
                    )
                )


class ProduceHandler:
    """`find_replica(topic_partition)` gives the replica, or raises what the client is to be told.
    `serving(partition, acks)` raises while another may lead instead of that one, so that it must
    not take such records (out of touch with ZooKeeper)."""

    def __init__(
        self,
        find_replica: FindReplica,
        serving: Serving,
        checker: RecordChecker,
        counters: BrokerCounters | None = None,
    ) -> None:
        self._find_replica = find_replica
        self._checker = checker
        self._serving = serving
        self._counters = counters or BrokerCounters()

    def produce(self, request: ProduceRequest) -> Awaitable[Sequence[ProduceResult]]:
        """Append now, or as soon as the records have been looked at; the results come when the
        acks are in. See BrokerService.produce."""
        if request.acks not in (0, 1, -1):
            raise InvalidRequiredAcksError(f"acks is {request.acks}; it must be 0, 1 or -1 (all)")
        work = _Work(request, [ProduceResult(item.topic_partition) for item in request.partitions])
        ahead = self._checker.ahead_of(request.source)
        if len(request.partitions) <= SLICE:
            self._look(work, 0)
            if ahead is None and work.complete:
                self._append_slice(work, 0)
                return self._wait(work)
        appended = self._checker.queue(request.source)
        return asyncio.ensure_future(self._append_later(work, ahead, appended))

    def _look(self, work: _Work, start: int) -> None:
        """What of a slice of the request may be appended, as far as that can be seen at once."""
        request = work.request
        for index in range(start, min(start + SLICE, len(request.partitions))):
            item = request.partitions[index]
            self._counters.of(item.topic_partition.topic).produce_requests += 1
            try:
                self._refuse_internal(item.topic_partition)
                replica = self._find_replica(item.topic_partition)
                replica.core.require_leader()
                batches = self._checker.begin(
                    item.records,
                    replica.rules,
                    replica.config.segment_bytes,
                    request.transactional_id,
                    work.budget,
                )
                if request.transactional_id is not None and batches.is_transactional:
                    _check_transaction(work, batches)
                work.found.append(batches)
            except MinikafkaError as error:
                work.found.append(None)
                self._fail(work, index, error)

    def _fail(self, work: _Work, index: int, error: MinikafkaError) -> None:
        item, result = work.request.partitions[index], work.results[index]
        work.found[index] = None
        result.error = error.with_traceback(None)
        self._counters.of(item.topic_partition.topic).failed_produce_requests += 1
        if isinstance(error, NotLeaderOrFollowerError):
            result.leader_hint = self._hint(item)

    async def _append_later(
        self,
        work: _Work,
        ahead: asyncio.Future[None] | None,
        appended: asyncio.Future[None],
    ) -> Sequence[ProduceResult]:
        """Look at the rest off the loop, and append after what came before from there."""
        count = len(work.request.partitions)
        try:
            for start in range(len(work.found), count, SLICE):
                self._look(work, start)
                await asyncio.sleep(0)
            for index, batches in enumerate(work.found):
                if batches is None or batches.complete:
                    continue
                try:
                    await self._checker.finish(batches)
                except MinikafkaError as error:
                    self._fail(work, index, error)
            if ahead is not None:
                await asyncio.shield(ahead)
            for start in range(0, count, SLICE):
                self._append_slice(work, start)
                if start + SLICE < count:
                    await asyncio.sleep(0)
        finally:
            self._checker.appended(work.request.source, appended)
        return await self._wait(work)

    def _append_slice(self, work: _Work, start: int) -> None:
        request = work.request
        for index in range(start, min(start + SLICE, len(request.partitions))):
            batches = work.found[index]
            if batches is None:
                continue
            result = work.results[index]
            topic_partition = request.partitions[index].topic_partition
            wait: Wait | None
            try:
                if request.transactional_id is not None and batches.is_transactional:
                    wait = self._append_to_transaction(
                        topic_partition, batches.checked, request, result
                    )
                else:
                    wait = self._append(topic_partition, batches.checked, request.acks, result)
            except MinikafkaError as error:
                self._fail(work, index, error)
                continue
            result.log_append_time_ms = append_time_ms(batches.checked, batches.rules)
            if wait is not None:
                work.waits.append((index, wait))

    @staticmethod
    def _wait(work: _Work) -> asyncio.Future[Sequence[ProduceResult]]:
        unsettled = [wait for wait in work.waits if not wait[1].token.done()]
        waiting = _Waiting(work.results, len(work.waits))
        for index, wait in work.waits:
            if wait.token.done():
                waiting.settle(index, wait.token)
        if not unsettled:
            if not waiting.done.done():
                waiting.done.set_result(work.results)
            return waiting.done
        for index, wait in unsettled:
            waiting.waits.append(wait)
            wait.token.add_done_callback(partial(waiting.settle, index))
        timeout_ms = work.request.timeout_ms
        waiting.timer = asyncio.get_running_loop().call_later(
            timeout_ms / 1000, waiting.time_out, timeout_ms
        )
        return waiting.done

    @staticmethod
    def _refuse_internal(topic_partition: TopicPartition) -> None:
        if topic_partition.topic in INTERNAL_TOPICS:
            raise InvalidTopicError(f"{topic_partition.topic} is the brokers' own topic")

    def _hint(self, item: ProducePartition) -> LeaderHint | None:
        try:
            state = self._find_replica(item.topic_partition).core.state
        except MinikafkaError:
            return None
        return None if state is None else LeaderHint(state.leader, state.leader_epoch)

    def _append(
        self,
        topic_partition: TopicPartition,
        batches: Sequence[CheckedBatch],
        acks: int,
        result: ProduceResult,
    ) -> Wait | None:
        """Append to one partition. Returns what to wait for, or None if nothing."""
        replica = self._find_replica(topic_partition)
        core = replica.core
        self._serving(core, acks)
        plan = core.plan_append([batch.header for batch in batches], acks)
        if plan.duplicate is not None:
            result.base_offset = plan.duplicate.base_offset
            end_offset = plan.duplicate.last_offset + 1
        else:
            replica.append_as_leader(_buffers(batches, plan.headers), plan.headers)
            result.base_offset = plan.headers[0].base_offset
            end_offset = plan.headers[-1].next_offset
            traffic = replica.traffic
            traffic.messages_in += end_offset - result.base_offset
            traffic.bytes_in += sum(header.size_bytes for header in plan.headers)
        result.log_start_offset = core.log_state.log_start_offset
        if acks == -1:
            token = replica.park(end_offset)
            return Wait(token, partial(_give_up, replica, token))
        if acks == 1 and core.settings.flush_before_ack:
            token = replica.when_flushed(end_offset)
            return Wait(token, token.set_result)
        return None

    def _append_to_transaction(
        self,
        topic_partition: TopicPartition,
        batches: Sequence[CheckedBatch],
        request: ProduceRequest,
        result: ProduceResult,
    ) -> Wait:
        """Append one batch to one partition, or have it wait for the word of its coordinator."""
        replica = self._find_replica(topic_partition)
        if request.acks != ALL_ACKS:
            raise InvalidRequiredAcksError(
                f"acks is {request.acks}; records of a transaction take acks=all"
            )
        [batch] = batches
        assert request.transactional_id is not None
        transaction = TransactionalProduce(request.transactional_id, request.adds_to_transaction)
        check = partial(self._serving, replica.core, ALL_ACKS)
        append = TransactionalAppend(replica, batch, transaction, check)
        append.begin()

        def tell(_: object = None) -> None:
            result.base_offset = append.base_offset
            result.log_start_offset = replica.core.log_state.log_start_offset

        tell()
        append.done.add_done_callback(tell)
        return Wait(append.done, partial(_time_out, append, request.adds_to_transaction))

    def append(self, topic_partition: TopicPartition, records: bytes) -> asyncio.Future[object]:
        """For this broker's own records (of groups): append whole batches with acks=all. The future
        yields None once all in-sync replicas have them, or the error; without a time limit. Raises
        what `produce` answers for a partition when nothing was appended."""
        check_size(len(records), self._find_replica(topic_partition).rules)
        return self.append_any(topic_partition, records)

    def append_any(self, topic_partition: TopicPartition, records: bytes) -> asyncio.Future[object]:
        """As `append`, of whatever size."""
        result = ProduceResult(topic_partition)
        wait = self._append(topic_partition, own_batches(records), ALL_ACKS, result)
        assert wait is not None, "acks=all waits"
        return wait.token


def _check_transaction(work: _Work, batches: Batches) -> None:
    """Of the batches of a transaction there is one a partition, all of one producer."""
    if len(batches.headers) > 1:
        raise InvalidRecordError(
            "a produce request of a transaction holds one batch a partition; "
            f"this one holds {len(batches.headers)}"
        )
    [header] = batches.headers
    if work.producer_id is None:
        work.producer_id = header.producer_id
    if header.producer_id != work.producer_id:
        raise InvalidProducerIdMappingError(
            f"records of producers {work.producer_id} and {header.producer_id} are in one request "
            "of a transaction"
        )


def _give_up(replica: Replica, token: asyncio.Future[object], error: MinikafkaError) -> None:
    replica.give_up(token)
    if not token.done():
        token.set_result(error)


def _time_out(append: TransactionalAppend, adds: bool, appended: MinikafkaError) -> None:
    """What waits for a word in vain is refused with what its client takes for a reason to send it
    again."""
    waiting: MinikafkaError
    if adds:
        waiting = ConcurrentTransactionsError("the coordinator has not said in time that it is so")
    else:
        waiting = NotEnoughReplicasError("the coordinator could not be asked in time")
    append.time_out(waiting, appended)


def _buffers(batches: Sequence[CheckedBatch], headers: Sequence[BatchHeader]) -> list[Buffer]:
    """The batches as they go to disk: a new stamp each, and the rest of the bytes uncopied."""
    buffers: list[Buffer] = []
    for batch, header in zip(batches, headers, strict=True):
        buffers.append(stamp(header.base_offset, header.size_bytes, header.leader_epoch))
        buffers += batch.pieces
    return buffers
