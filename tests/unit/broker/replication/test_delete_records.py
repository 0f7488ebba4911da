"""DeleteRecords at a leader: its log start moves at once, the answer waits for the ISR."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikafka.api.requests import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResult,
    ReplicaFetchRequest,
)
from minikafka.broker.replication.delete_records import DeleteRecordsHandler
from minikafka.broker.replication.fetch import FetchHandler
from minikafka.errors import (
    InvalidTopicError,
    MinikafkaError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
    PolicyViolationError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import OFFSETS_TOPIC, FollowerPosition, TopicPartition
from minikafka.records.header import split
from tests.helpers.replicas import TOPIC_ID, TP, Bench, partition, settle, stored


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


@pytest.fixture
def handler(bench: Bench) -> DeleteRecordsHandler:
    return DeleteRecordsHandler(bench.manager.find, bench.clock)


def append(bench: Bench, count: int) -> None:
    """One batch of `count` records at the leader."""
    replica = bench.manager.replicas[TP]
    data = stored(replica.log.log_end_offset, *[b"v"] * count)
    replica.append_as_leader([data], split(data))


async def fetch(bench: Bench, broker_id: int, offset: int, log_start: int) -> None:
    """A follower tells where it stands."""
    epoch = bench.manager.replicas[TP].core.leader_epoch
    at = FollowerPosition(TP, TOPIC_ID, offset, 0 if offset else -1, epoch, log_start)
    request = ReplicaFetchRequest(broker_id, 100 * broker_id, 0, 1, 10**6, 10**6, [at])
    await FetchHandler(bench.manager.find, bench.clock).replica_fetch(request)


async def delete(
    handler: DeleteRecordsHandler,
    before_offset: int,
    timeout_ms: int = 20_000,
    tp: TopicPartition = TP,
) -> DeleteRecordsResult:
    request = DeleteRecordsRequest(timeout_ms, [DeleteRecordsPartition(tp, before_offset)])
    [result] = await handler.delete_records(request)
    return result


@pytest.mark.parametrize(("before_offset", "start"), [(3, 3), (-1, 5), (0, 0), (5, 5)])
async def test_a_leader_alone_is_done_at_once(
    bench: Bench, handler: DeleteRecordsHandler, before_offset: int, start: int
) -> None:
    replica = await bench.lead(1)
    append(bench, 5)
    result = await delete(handler, before_offset)
    assert (result.error, result.low_watermark) == (None, start)
    assert (replica.log.log_start_offset, replica.core.log_state.log_start_offset) == (start, start)


async def test_what_was_deleted_already_is_no_error(
    bench: Bench, handler: DeleteRecordsHandler
) -> None:
    await bench.lead(1)
    append(bench, 5)
    await delete(handler, 4)
    result = await delete(handler, 2)
    assert (result.error, result.low_watermark) == (None, 4)


async def test_nothing_above_the_high_watermark_is_deleted(
    bench: Bench, handler: DeleteRecordsHandler
) -> None:
    await bench.lead(1, 2)
    append(bench, 5)
    await fetch(bench, 2, 0, 0)
    for before_offset in (1, 6, -2):
        result = await delete(handler, before_offset)
        assert isinstance(result.error, OffsetOutOfRangeError)
        assert result.low_watermark == -1
    assert bench.manager.replicas[TP].log.log_start_offset == 0


async def test_the_answer_waits_for_every_member_of_the_isr(
    bench: Bench, handler: DeleteRecordsHandler
) -> None:
    replica = await bench.lead(1, 2, 3)
    append(bench, 5)
    for follower in (2, 3):
        await fetch(bench, follower, 5, 0)
    waiting = asyncio.ensure_future(delete(handler, -1))
    await settle()
    assert replica.log.log_start_offset == 5
    await fetch(bench, 2, 5, 5)
    await settle()
    assert not waiting.done()
    await fetch(bench, 3, 5, 4)
    await settle()
    assert not waiting.done()
    await fetch(bench, 3, 5, 5)
    result = await waiting
    assert (result.error, result.low_watermark) == (None, 5)


async def test_a_follower_outside_the_isr_keeps_nobody_waiting(
    bench: Bench, handler: DeleteRecordsHandler
) -> None:
    await bench.lead(1, 2)
    append(bench, 5)
    await fetch(bench, 2, 5, 5)
    assert (await delete(handler, 5)).low_watermark == 5


async def test_a_wait_ends_with_its_time(bench: Bench, handler: DeleteRecordsHandler) -> None:
    await bench.lead(1, 2)
    append(bench, 5)
    await fetch(bench, 2, 5, 0)
    waiting = asyncio.ensure_future(delete(handler, 5, timeout_ms=1))
    await settle()
    bench.clock.now_ms += 1
    result = await waiting
    assert isinstance(result.error, RequestTimedOutError)
    assert bench.manager.replicas[TP].log.log_start_offset == 5


async def test_a_leader_that_is_deposed_meanwhile_says_so(
    bench: Bench, handler: DeleteRecordsHandler
) -> None:
    await bench.lead(1, 2)
    append(bench, 5)
    await fetch(bench, 2, 5, 0)
    waiting = asyncio.ensure_future(delete(handler, 5))
    await settle()
    await bench.update(partition(2, 1, isr=(1, 2), version=1))
    assert isinstance((await waiting).error, NotLeaderOrFollowerError)


@pytest.mark.parametrize(
    ("tp", "error"),
    [
        (TopicPartition("nowhere", 0), UnknownTopicOrPartitionError),
        (TopicPartition(OFFSETS_TOPIC, 0), InvalidTopicError),
        (TP, NotLeaderOrFollowerError),
    ],
)
async def test_only_leaders_of_clients_topics_delete_records(
    bench: Bench, handler: DeleteRecordsHandler, tp: TopicPartition, error: type[MinikafkaError]
) -> None:
    bench.manager.on_registered(100)
    await bench.update(partition(2))
    assert isinstance((await delete(handler, 0, tp=tp)).error, error)


@pytest.mark.parametrize(
    ("policy", "refused"), [("compact", True), ("compact,delete", False), ("delete", False)]
)
async def test_a_topic_that_is_only_compacted_keeps_its_records(
    bench: Bench, handler: DeleteRecordsHandler, policy: str, refused: bool
) -> None:
    bench.overrides = {"t": {"cleanup.policy": policy}}
    await bench.lead(1)
    append(bench, 2)
    result = await delete(handler, 1)
    assert isinstance(result.error, PolicyViolationError) is refused
    assert bench.manager.replicas[TP].log.log_start_offset == (0 if refused else 1)
