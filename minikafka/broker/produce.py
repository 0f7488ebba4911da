"""Produce requests: validate, append at the leader, wait for the replicas that were asked for.

A request names batches for several partitions; each is judged on its own. Appends happen in the
call itself, so the order of calls is the order in the log. Nothing here is done per record, except
that a compacted topic takes no record without a key: so there the keys are looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from minikafka.broker.counters import BrokerCounters
from minikafka.broker.ports import Buffer
from minikafka.broker.replica import Replica
from minikafka.broker.requests import (
    LeaderHint,
    ProducePartition,
    ProduceRequest,
    ProduceResult,
)
from minikafka.core.leader import Leader
from minikafka.core.parked import ParkedProduce
from minikafka.errors import (
    BrokerNotAvailableError,
    InvalidRecordError,
    InvalidRequiredAcksError,
    InvalidTopicError,
    MessageTooLargeError,
    MinikafkaError,
    NotLeaderOrFollowerError,
    RequestTimedOutError,
)
from minikafka.model import INTERNAL_TOPICS, BatchHeader, TopicPartition
from minikafka.records.header import STAMP_BYTES, split_produced, stamp, verify_crc
from minikafka.records.read import decompressed, iter_keys

FindReplica = Callable[..., Replica]
Serving = Callable[[Leader, int], None]
ALL_ACKS = -1


class _Waiting:
    """A request of which some partitions are not settled yet."""

    def __init__(self, results: list[ProduceResult], unsettled: int) -> None:
        self.results = results
        self.unsettled = unsettled
        self.parked: list[tuple[ParkedProduce | None, asyncio.Future[object]]] = []
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
        for parked, token in self.parked:
            if parked is not None:
                parked.settled = True
            if not token.done():
                token.set_result(
                    RequestTimedOutError(
                        f"not all in-sync replicas had the records within {timeout_ms} ms; "
                        "they may yet be committed"
                    )
                )


class ProduceHandler:
    """`find_replica(topic_partition)` gives the replica, or raises what the client is to be told.
    `serving(leader, acks)` raises while another may lead instead of that leader, so that it must
    not take such records (out of touch with ZooKeeper)."""

    def __init__(
        self,
        find_replica: FindReplica,
        serving: Serving,
        counters: BrokerCounters | None = None,
    ) -> None:
        self._find_replica = find_replica
        self._serving = serving
        self._counters = counters or BrokerCounters()

    def produce(self, request: ProduceRequest) -> Awaitable[Sequence[ProduceResult]]:
        """Append now; the results come when the acks are in. See BrokerService.produce."""
        if request.acks not in (0, 1, -1):
            raise InvalidRequiredAcksError(f"acks is {request.acks}; it must be 0, 1 or -1 (all)")
        loop = asyncio.get_running_loop()
        results: list[ProduceResult] = []
        waits: list[tuple[int, ParkedProduce | None, asyncio.Future[object]]] = []
        for index, item in enumerate(request.partitions):
            result = ProduceResult(item.topic_partition)
            results.append(result)
            traffic = self._counters.of(item.topic_partition.topic)
            traffic.produce_requests += 1
            try:
                self._refuse_internal(item.topic_partition)
                wait = self._produce_partition(item, request.acks, result)
            except MinikafkaError as error:
                result.error = error
                traffic.failed_produce_requests += 1
                if isinstance(error, NotLeaderOrFollowerError):
                    result.leader_hint = self._hint(item)
                continue
            if wait is not None:
                waits.append((index, *wait))
        unsettled = [wait for wait in waits if not wait[2].done()]
        waiting = _Waiting(results, len(waits))
        for index, _, token in waits:
            if token.done():
                waiting.settle(index, token)
        if not unsettled:
            if not waiting.done.done():
                waiting.done.set_result(results)
            return waiting.done
        for index, parked, token in unsettled:
            waiting.parked.append((parked, token))
            token.add_done_callback(partial(waiting.settle, index))
        waiting.timer = loop.call_later(
            request.timeout_ms / 1000, waiting.time_out, request.timeout_ms
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

    def _produce_partition(
        self, item: ProducePartition, acks: int, result: ProduceResult
    ) -> tuple[ParkedProduce | None, asyncio.Future[object]] | None:
        """Append to one partition. Returns what to wait for, or None if nothing."""
        replica = self._find_replica(item.topic_partition)
        leader = replica.core.leader()
        self._serving(leader, acks)
        headers = self._validate(item.records, replica.config.max_message_bytes)
        if replica.config.compacted:
            self._check_keys(item, headers)
        plan = leader.plan_append(headers, acks)
        if plan.duplicate is not None:
            result.base_offset = plan.duplicate.base_offset
            end_offset = plan.duplicate.last_offset + 1
        else:
            replica.append_as_leader(self._buffers(item.records, plan.headers), plan.headers)
            result.base_offset = plan.headers[0].base_offset
            end_offset = plan.headers[-1].next_offset
            traffic = replica.traffic
            traffic.messages_in += end_offset - result.base_offset
            traffic.bytes_in += len(item.records)
        result.log_start_offset = replica.core.log.log_start_offset
        if acks == -1:
            return replica.park(end_offset)
        if acks == 1 and leader.settings.flush_before_ack:
            return None, replica.when_flushed(end_offset)
        return None

    def append(self, topic_partition: TopicPartition, records: bytes) -> asyncio.Future[object]:
        """For this broker's own records (of groups): append whole batches with acks=all. The future
        yields None once all in-sync replicas have them, or the error; without a time limit. Raises
        what `produce` answers for a partition when nothing was appended."""
        result = ProduceResult(topic_partition)
        wait = self._produce_partition(ProducePartition(topic_partition, records), -1, result)
        assert wait is not None, "acks=all waits"
        return wait[1]

    @staticmethod
    def _validate(records: Buffer, max_message_bytes: int) -> list[BatchHeader]:
        if not records:
            raise InvalidRecordError("a produce request for a partition holds no record batch")
        headers = split_produced(records)
        position = 0
        for header in headers:
            if header.size_bytes > max_message_bytes:
                raise MessageTooLargeError(
                    f"the record batch has {header.size_bytes} bytes; "
                    f"max.message.bytes is {max_message_bytes}"
                )
            verify_crc(records, position, header)
            position += header.size_bytes
        return headers

    @staticmethod
    def _check_keys(item: ProducePartition, headers: Sequence[BatchHeader]) -> None:
        """Compaction would drop a record without a key unseen; Kafka refuses it as well."""
        view = memoryview(item.records)
        position = 0
        for header in headers:
            data = decompressed(view[position : position + header.size_bytes], header)
            for record in iter_keys(data, header):
                if record.key is None:
                    raise InvalidRecordError(
                        f"the record at position {record.offset} of a batch has no key; "
                        f"{item.topic_partition} is compacted (cleanup.policy), so every record "
                        "needs one; nothing was appended"
                    )
            position += header.size_bytes

    @staticmethod
    def _buffers(records: Buffer, headers: Sequence[BatchHeader]) -> list[Buffer]:
        """The batches as they go to disk: a new stamp each, and the rest of the bytes uncopied."""
        view = memoryview(records)
        buffers: list[Buffer] = []
        position = 0
        for header in headers:
            buffers.append(stamp(header.base_offset, header.size_bytes, header.leader_epoch))
            buffers.append(view[position + STAMP_BYTES : position + header.size_bytes])
            position += header.size_bytes
        return buffers
