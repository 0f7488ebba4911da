"""Produce requests at a leader: each partition is judged on its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from minikafka.api.requests import ProducePartition, ProduceRequest, ProduceResult
from minikafka.broker.replication import produced
from minikafka.broker.replication.produce import ProduceHandler
from minikafka.broker.replication.produced import INLINE_BYTES, RecordChecker
from minikafka.core.replication.effects import TransactionQuestion
from minikafka.core.replication.events import ReplicaFetched
from minikafka.core.replication.partition import Partition
from minikafka.errors import (
    BrokerNotAvailableError,
    ConcurrentTransactionsError,
    CoordinatorNotAvailableError,
    InvalidProducerIdMappingError,
    InvalidRecordError,
    InvalidRequiredAcksError,
    InvalidTxnStateError,
    KafkaStorageError,
    MinikafkaError,
    NetworkError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    RecordListTooLargeError,
    RequestTimedOutError,
    TransactionalIdAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import FollowerPosition, TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.compression import Codec
from minikafka.records.header import (
    HEADER_BYTES,
    TIMESTAMP_TYPE_LOG_APPEND,
    crc_of,
    parse_header,
)
from minikafka.records.read import iter_records
from tests.helpers.brokers import batch_of
from tests.helpers.core_builders import leader_of
from tests.helpers.replicas import TOPIC_ID, TP, Bench, partition, settle

OTHER, NOWHERE = TopicPartition("u", 0), TopicPartition("nowhere", 0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


@pytest.fixture
def handler(bench: Bench) -> ProduceHandler:
    return ProduceHandler(
        bench.manager.find, lambda leader, acks: None, RecordChecker(lambda: 5_000)
    )


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
    replica.apply(replica.core.step(ReplicaFetched(2, 200, at), bench.clock()))


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
    assert bench.manager.replicas[TP].core.log_state.high_watermark == 0


async def test_a_time_out_settles_only_what_is_open(bench: Bench, handler: ProduceHandler) -> None:
    await bench.lead(1, 2)
    await bench.update(partition(1, tp=OTHER, isr=(1,)))
    timed_out, done = await produce(handler, TP, OTHER, timeout_ms=1)
    assert isinstance(timed_out.error, RequestTimedOutError)
    assert timed_out.base_offset == -1
    assert (done.error, done.base_offset) == (None, 0)
    acknowledge(bench, 1)  # committed after all: nobody waits any more
    assert bench.manager.replicas[TP].parked_count == 0


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
    ((token, _),) = leader_of(bench.manager.replicas[TP].core).parked.waiting()
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
    assert "record 1 of the batch without a key: t-0 is compacted" in str(result.error)
    assert [place for place, _ in result.error.record_errors] == [1]
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
    assert isinstance(result.error, InvalidRecordError)


async def test_nothing_is_taken_while_the_broker_may_not(bench: Bench) -> None:
    def refuse(core: Partition, acks: int) -> None:
        assert core is bench.manager.replicas[TP].core
        assert acks == -1
        raise NetworkError("out of touch")

    await bench.lead(1)
    handler = ProduceHandler(bench.manager.find, refuse, RecordChecker(lambda: 5_000))
    (result,) = await produce(handler, TP)
    assert isinstance(result.error, NetworkError)
    with pytest.raises(NetworkError):
        handler.append(TP, batch_of(b"of a group"))
    assert bench.manager.replicas[TP].log.log_end_offset == 0


class Held:
    """A thread that does nothing until it is told."""

    def __init__(self) -> None:
        self.work: list[tuple[Callable[[], None], asyncio.Future[None]]] = []

    async def __call__(self, function: Callable[[], None]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.work.append((function, done))
        await done

    def let_go(self) -> None:
        function, done = self.work.pop(0)
        try:
            function()
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)


class TestRecordsThatTakeAWhile:
    @pytest.fixture
    def held(self) -> Held:
        return Held()

    @pytest.fixture
    def handler(self, bench: Bench, held: Held) -> ProduceHandler:
        checker = RecordChecker(lambda: 5_000, held)
        return ProduceHandler(bench.manager.find, lambda leader, acks: None, checker)

    @staticmethod
    def large(key: bytes | None = b"k") -> bytes:
        """Few bytes that hold more than is looked at on the loop."""
        builder = BatchBuilder()
        builder.append(key, bytes(2 * INLINE_BYTES))
        return builder.build(Codec.ZSTD)

    @staticmethod
    def send(
        handler: ProduceHandler, records: bytes, source: object, acks: int = 1
    ) -> asyncio.Future[Sequence[ProduceResult]]:
        request = ProduceRequest(acks, 20_000, [ProducePartition(TP, records)], source)
        return asyncio.ensure_future(handler.produce(request))

    async def test_are_looked_at_off_the_loop(
        self, bench: Bench, handler: ProduceHandler, held: Held
    ) -> None:
        await bench.lead(1)
        large = self.send(handler, self.large(), "a connection")
        await settle()
        assert bench.manager.replicas[TP].log.log_end_offset == 0
        held.let_go()
        (result,) = await large
        assert (result.error, result.base_offset) == (None, 0)

    async def test_are_appended_before_what_came_after_them_from_there(
        self, bench: Bench, handler: ProduceHandler, held: Held
    ) -> None:
        await bench.lead(1)
        large = self.send(handler, self.large(), "a connection")
        small = self.send(handler, batch_of(b"x"), "a connection")
        other = self.send(handler, batch_of(b"y"), "another")
        assert (await other)[0].base_offset == 0
        assert not small.done()
        await settle()
        held.let_go()
        assert [(await each)[0].base_offset for each in (large, small)] == [1, 2]
        third = self.send(handler, batch_of(b"z"), "a connection")
        assert (await third)[0].base_offset == 3

    async def test_two_of_one_source_keep_their_order_whichever_is_seen_first(
        self, bench: Bench, handler: ProduceHandler, held: Held
    ) -> None:
        await bench.lead(1)
        first, second = (self.send(handler, self.large(), "a connection") for _ in range(2))
        await settle()
        held.work.reverse()
        held.let_go()
        await settle()
        assert not second.done()
        held.let_go()
        assert [(await each)[0].base_offset for each in (first, second)] == [0, 1]

    async def test_that_are_wrong_are_refused_and_nobody_waits_for_them(
        self, bench: Bench, handler: ProduceHandler, held: Held
    ) -> None:
        bench.overrides = {"t": {"cleanup.policy": "compact"}}
        await bench.lead(1)
        keyless = self.send(handler, self.large(key=None), "a connection")
        after = self.send(handler, self.large(), "a connection")
        await settle()
        held.let_go()
        assert isinstance((await keyless)[0].error, InvalidRecordError)
        held.let_go()
        assert (await after)[0].base_offset == 0

    async def test_of_a_connection_that_goes_hold_nobody_up(
        self, bench: Bench, handler: ProduceHandler, held: Held
    ) -> None:
        await bench.lead(1)
        gone = self.send(handler, self.large(), "a connection")
        after = self.send(handler, batch_of(b"x"), "a connection")
        await settle()
        gone.cancel()
        assert (await after)[0].base_offset == 0

    async def test_a_leader_that_is_none_any_more_takes_none(
        self, bench: Bench, handler: ProduceHandler, held: Held
    ) -> None:
        await bench.lead(1)
        large = self.send(handler, self.large(), "a connection")
        await settle()
        await bench.update(partition(2, 4, version=9))
        held.let_go()
        assert isinstance((await large)[0].error, NotLeaderOrFollowerError)

    async def test_more_than_may_be_in_a_batch_is_an_invalid_record(
        self,
        bench: Bench,
        handler: ProduceHandler,
        held: Held,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(produced, "MAX_DECOMPRESSED_BYTES", INLINE_BYTES)
        monkeypatch.setattr(produced.checked, "__defaults__", (INLINE_BYTES,))
        await bench.lead(1)
        large = self.send(handler, self.large(), "a connection")
        await settle()
        held.let_go()
        error = (await large)[0].error
        assert isinstance(error, InvalidRecordError)
        assert f"more than {INLINE_BYTES} bytes" in str(error)


async def test_a_request_for_very_many_partitions_is_done_in_slices(
    bench: Bench, handler: ProduceHandler
) -> None:
    await bench.lead(1)
    others = [TopicPartition("nowhere", number) for number in range(2_000)]
    many = handler.produce(
        ProduceRequest(1, 0, [ProducePartition(tp, batch_of(b"x")) for tp in (*others, TP)], "a")
    )
    turns = 0
    after = handler.produce(ProduceRequest(1, 0, [ProducePartition(TP, batch_of(b"y"))], "a"))
    while not after.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 7
    *unknown, known = await many
    assert all(isinstance(each.error, UnknownTopicOrPartitionError) for each in unknown)
    assert (known.error, known.base_offset) == (None, 0)
    assert (await after)[0].base_offset == 1


async def test_what_is_larger_than_a_segment_is_refused(
    bench: Bench, handler: ProduceHandler
) -> None:
    bench.overrides = {"t": {"segment.bytes": "200"}}
    await bench.lead(1)
    (result,) = await produce(handler, TP, records=batch_of(bytes(300)))
    assert isinstance(result.error, RecordListTooLargeError)
    assert bench.manager.replicas[TP].log.log_end_offset == 0


def of_transaction(producer_id: int = 1, sequence: int = 0) -> bytes:
    builder = BatchBuilder()
    builder.append(None, b"v")
    return builder.build(
        producer_id=producer_id, producer_epoch=0, base_sequence=sequence, transactional=True
    )


async def test_a_batch_of_a_transaction_needs_an_id_acks_of_all_and_its_coordinator(
    bench: Bench, handler: ProduceHandler
) -> None:
    replica = await bench.lead(1)

    async def refused(acks: int, records: bytes, **fields: object) -> MinikafkaError | None:
        items = [ProducePartition(TP, records)]
        request = ProduceRequest(acks, 20, items, **fields)  # type: ignore[arg-type]
        (result,) = await handler.produce(request)
        assert result.base_offset == -1
        return result.error

    one = of_transaction()
    assert isinstance(await refused(-1, one), TransactionalIdAuthorizationFailedError)
    assert isinstance(await refused(1, one, transactional_id="t"), InvalidRequiredAcksError)
    assert isinstance(await refused(0, one, transactional_id="t"), InvalidRequiredAcksError)
    assert isinstance(await refused(-1, one + one, transactional_id="t"), InvalidRecordError)
    # There is no coordinator here.
    assert isinstance(await refused(-1, one, transactional_id="t"), InvalidTxnStateError)
    assert replica.core.log_state.log_end_offset == 0


class Silent:
    """Coordinators that do not answer, or say no to begin with."""

    def __init__(self, *errors: MinikafkaError) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def is_in_transaction(self, question: TransactionQuestion) -> None:
        self.asked += 1
        if not self.errors:
            await asyncio.get_running_loop().create_future()
        raise self.errors.pop(0)


@pytest.mark.parametrize(
    ("adds", "error"), [(False, NotEnoughReplicasError), (True, ConcurrentTransactionsError)]
)
async def test_what_waits_for_a_word_in_vain_is_to_be_sent_again(
    bench: Bench, handler: ProduceHandler, adds: bool, error: type[MinikafkaError]
) -> None:
    replica = await bench.lead(1)
    coordinators = Silent(CoordinatorNotAvailableError("not now"))
    bench.manager.words.coordinators = coordinators
    request = ProduceRequest(
        -1,
        100,
        [ProducePartition(TP, of_transaction())],
        transactional_id="t",
        adds_to_transaction=adds,
    )
    (result,) = await handler.produce(request)
    assert isinstance(result.error, error)
    assert coordinators.asked == 2
    assert replica.core.waiting_for_word_count == 0
    assert replica.core.log_state.log_end_offset == 0


async def test_a_request_of_a_transaction_has_one_producer(
    bench: Bench, handler: ProduceHandler
) -> None:
    await bench.lead(1)
    items = [
        ProducePartition(TP, of_transaction()),
        ProducePartition(TP, of_transaction(producer_id=2)),
    ]
    first, second = await handler.produce(ProduceRequest(-1, 20, items, transactional_id="t"))
    assert isinstance(first.error, InvalidTxnStateError)
    assert isinstance(second.error, InvalidProducerIdMappingError)


async def test_a_topic_may_give_the_time_of_appending_and_a_codec(
    bench: Bench, handler: ProduceHandler
) -> None:
    bench.overrides = {"t": {"message.timestamp.type": "LogAppendTime", "compression.type": "gzip"}}
    await bench.lead(1)
    (result,) = await produce(handler, TP)
    assert (result.error, result.log_append_time_ms) == (None, 5_000)
    stored = bench.manager.replicas[TP].log.read(0, 1_000, 1)
    header = parse_header(stored)
    assert header.attributes == TIMESTAMP_TYPE_LOG_APPEND | Codec.GZIP
    assert [r.timestamp_ms for r in iter_records(stored, header)] == [5_000]
    bench.overrides = {"t": {"compression.type": "uncompressed"}}
    await bench.manager.reload_configs()
    (result,) = await produce(handler, TP)
    assert (result.error, result.log_append_time_ms) == (None, -1)
