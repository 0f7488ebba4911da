"""Produce requests at a leader: each partition is judged on its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from minikafka.broker.produce import ProduceHandler
from minikafka.broker.requests import ProducePartition, ProduceRequest, ProduceResult
from minikafka.core.leader import Leader
from minikafka.errors import (
    BrokerNotAvailableError,
    CorruptMessageError,
    InvalidRecordError,
    InvalidRequiredAcksError,
    KafkaStorageError,
    NetworkError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import FollowerPosition, TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.compression import Codec
from minikafka.records.header import HEADER_BYTES, crc_of
from tests.helpers.brokers import batch_of
from tests.helpers.replicas import TOPIC_ID, TP, Bench, partition, settle

OTHER, NOWHERE = TopicPartition("u", 0), TopicPartition("nowhere", 0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


@pytest.fixture
def handler(bench: Bench) -> ProduceHandler:
    return ProduceHandler(bench.manager.find, lambda leader, acks: None)


async def produce(
    handler: ProduceHandler,
    *partitions: TopicPartition,
    acks: int = -1,
    timeout_ms: int = 20_000,
    records: bytes | None = None,
) -> Sequence[ProduceResult]:
    batch = batch_of(b"x") if records is None else records
    items = [ProducePartition(tp, batch) for tp in partitions]
    return await handler.produce(ProduceRequest(acks, timeout_ms, items))


def acknowledge(bench: Bench, offset: int, tp: TopicPartition = TP) -> None:
    """Broker 2 fetches from here on."""
    replica = bench.manager.replicas[tp]
    at = FollowerPosition(tp, TOPIC_ID, offset, 0, replica.core.leader_epoch, 0)
    replica.apply(replica.core.leader().record_replica_fetch(2, 200, at, bench.clock()))


async def test_each_partition_is_answered_on_its_own(bench: Bench, handler: ProduceHandler) -> None:
    await bench.lead(1)
    await bench.update(partition(2, 4, tp=OTHER))
    ours, theirs, unknown = await produce(handler, TP, OTHER, NOWHERE)
    assert (ours.error, ours.base_offset, ours.log_start_offset) == (None, 0, 0)
    assert isinstance(theirs.error, NotLeaderOrFollowerError)
    assert theirs.leader_hint is not None
    assert (theirs.leader_hint.leader, theirs.leader_hint.leader_epoch) == (2, 4)
    assert isinstance(unknown.error, UnknownTopicOrPartitionError)
    assert unknown.leader_hint is None


async def test_without_a_replica_there_is_no_hint_who_leads(
    bench: Bench, handler: ProduceHandler
) -> None:
    await bench.lead(1)
    await bench.update(partition(2, tp=OTHER, isr=(2,), replicas=(2,)))
    (result,) = await produce(handler, OTHER)
    assert isinstance(result.error, NotLeaderOrFollowerError)
    assert result.leader_hint is None


async def test_a_request_waits_for_its_last_partition(
    bench: Bench, handler: ProduceHandler
) -> None:
    await bench.lead(1, 2)
    await bench.update(partition(1, tp=OTHER, isr=(1, 2)))
    waiting = asyncio.ensure_future(produce(handler, TP, OTHER))
    await settle()
    acknowledge(bench, 1)
    await settle()
    assert not waiting.done()
    acknowledge(bench, 1, OTHER)
    assert [result.error for result in await waiting] == [None, None]


async def test_acks_one_and_none_wait_for_nobody(bench: Bench, handler: ProduceHandler) -> None:
    await bench.lead(1, 2)
    for acks in (0, 1):
        (result,) = await produce(handler, TP, acks=acks)
        assert result.error is None
    assert bench.manager.replicas[TP].core.log.high_watermark == 0


async def test_a_time_out_settles_only_what_is_open(bench: Bench, handler: ProduceHandler) -> None:
    await bench.lead(1, 2)
    await bench.update(partition(1, tp=OTHER, isr=(1,)))
    timed_out, done = await produce(handler, TP, OTHER, timeout_ms=1)
    assert isinstance(timed_out.error, RequestTimedOutError)
    assert timed_out.base_offset == -1
    assert (done.error, done.base_offset) == (None, 0)
    acknowledge(bench, 1)  # committed after all: nobody waits any more
    assert not bench.manager.replicas[TP].core.leader().parked


async def test_whoever_waits_when_the_broker_ends_is_told_to_try_elsewhere(
    bench: Bench, handler: ProduceHandler
) -> None:
    await bench.lead(1, 2)
    waiting = asyncio.ensure_future(produce(handler, TP))
    await settle()
    bench.manager.close(BrokerNotAvailableError("stopping"))
    (result,) = await waiting
    assert isinstance(result.error, BrokerNotAvailableError)


async def test_a_wait_that_is_cancelled_below_ends_in_a_retriable_error(
    bench: Bench, handler: ProduceHandler
) -> None:
    await bench.lead(1, 2)
    waiting = asyncio.ensure_future(produce(handler, TP))
    await settle()
    token = bench.manager.replicas[TP].core.leader().parked[0].token
    assert isinstance(token, asyncio.Future)
    token.cancel()
    (result,) = await waiting
    assert isinstance(result.error, BrokerNotAvailableError)
    acknowledge(bench, 1)


async def test_a_client_that_leaves_while_it_waits_disturbs_nobody(
    bench: Bench, handler: ProduceHandler
) -> None:
    await bench.lead(1, 2)
    left = handler.produce(ProduceRequest(-1, 20_000, [ProducePartition(TP, batch_of(b"x"))]))
    assert isinstance(left, asyncio.Future)
    left.cancel()
    stays = asyncio.ensure_future(produce(handler, TP))
    await settle()
    acknowledge(bench, 2)
    assert (await stays)[0].error is None


async def test_too_few_replicas_in_sync_refuse_acks_all_only(
    bench: Bench, handler: ProduceHandler
) -> None:
    bench.overrides = {"t": {"min.insync.replicas": "2"}}
    await bench.lead(1)
    (result,) = await produce(handler, TP)
    assert isinstance(result.error, NotEnoughReplicasError)
    assert bench.manager.replicas[TP].log.log_end_offset == 0
    assert (await produce(handler, TP, acks=1))[0].error is None


async def test_a_disk_that_is_full_fails_one_partition_of_a_request(
    bench: Bench, handler: ProduceHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.lead(1)
    await bench.update(partition(1, tp=OTHER, isr=(1,)))

    def full(*_: object) -> None:
        raise KafkaStorageError("No space left on device")

    monkeypatch.setattr(bench.manager.replicas[TP].log, "append", full)
    bad, good = await produce(handler, TP, OTHER)
    assert isinstance(bad.error, KafkaStorageError)
    assert good.error is None


async def test_a_request_without_a_batch_or_with_foreign_acks_is_refused(
    bench: Bench, handler: ProduceHandler
) -> None:
    await bench.lead(1)
    (result,) = await produce(handler, TP, records=b"")
    assert isinstance(result.error, InvalidRecordError)
    assert await produce(handler) == []
    with pytest.raises(InvalidRequiredAcksError):
        await produce(handler, TP, acks=2)


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
async def test_a_compacted_topic_takes_no_record_without_a_key(
    bench: Bench, handler: ProduceHandler, codec: Codec, policy: str
) -> None:
    bench.overrides = {"t": {"cleanup.policy": policy}}
    await bench.lead(1)
    keyed, keyless = BatchBuilder(), BatchBuilder()
    for key in (b"a", b"", b"b"):
        keyed.append(key, None)
        keyless.append(key or None, b"value")
    good, bad = keyed.build(codec), keyless.build(codec)
    (result,) = await produce(handler, TP, records=bad)
    assert isinstance(result.error, InvalidRecordError)
    assert "position 1 of a batch has no key" in str(result.error)
    assert (await produce(handler, TP, records=good + bad))[0].error is not None
    assert bench.manager.replicas[TP].log.log_end_offset == 0
    (result,) = await produce(handler, TP, records=good + good)
    assert (result.error, bench.manager.replicas[TP].log.log_end_offset) == (None, 6)


async def test_other_topics_take_them(bench: Bench, handler: ProduceHandler) -> None:
    bench.overrides = {"t": {"cleanup.policy": "delete"}}
    await bench.lead(1)
    assert (await produce(handler, TP))[0].error is None


async def test_a_compacted_topic_refuses_a_batch_whose_records_cannot_be_read(
    bench: Bench, handler: ProduceHandler
) -> None:
    bench.overrides = {"t": {"cleanup.policy": "compact"}}
    await bench.lead(1)
    builder = BatchBuilder()
    builder.append(b"k", b"v")
    batch = bytearray(builder.build())
    batch[HEADER_BYTES] ^= 0x40
    batch[17:21] = crc_of(batch, 0, len(batch)).to_bytes(4, "big")
    (result,) = await produce(handler, TP, records=bytes(batch))
    assert isinstance(result.error, CorruptMessageError)


async def test_nothing_is_taken_while_the_broker_may_not(bench: Bench) -> None:
    def refuse(leader: Leader, acks: int) -> None:
        assert leader is bench.manager.replicas[TP].core.leader()
        assert acks == -1
        raise NetworkError("out of touch")

    await bench.lead(1)
    handler = ProduceHandler(bench.manager.find, refuse)
    (result,) = await produce(handler, TP)
    assert isinstance(result.error, NetworkError)
    with pytest.raises(NetworkError):
        handler.append(TP, batch_of(b"of a group"))
    assert bench.manager.replicas[TP].log.log_end_offset == 0
