"""transactions.py: the transactions of a producer, against a coordinator that is played."""

import asyncio

import pytest

from minikafka.api.transactions import (
    EndTransactionRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)
from minikafka.client.producing.producer import AsyncProducer
from minikafka.client.producing.transactions import Phase
from minikafka.client.values import GroupMembership
from minikafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    IllegalGenerationError,
    InvalidProducerEpochError,
    InvalidRecordError,
    InvalidTransactionTimeoutError,
    NetworkError,
    NotCoordinatorError,
    NotEnoughReplicasError,
    ProducerFencedError,
    RequestTimedOutError,
    TransactionAbortableError,
    UnknownServerError,
    UsageError,
)
from minikafka.model import TRANSACTIONAL, TopicPartition
from tests.unit.client.fake_cluster import FakeCluster, Fault, pass_time
from tests.unit.client.fake_transactions import Said, committed

T0 = TopicPartition("t", 0)


def producer_of(cluster, **options):
    options.setdefault("uniform", lambda: 0.5)
    options.setdefault("transactional_id", "orders")
    return AsyncProducer(cluster.bootstrap, connect=cluster.connect, **options)


@pytest.fixture
def cluster():
    cluster = FakeCluster()
    cluster.create("t", 2)
    return cluster


@pytest.fixture
async def producer(cluster):
    async with producer_of(cluster) as producer:
        await producer.init_transactions()
        yield producer


def ends(cluster):
    return [each for each in cluster.coordination.asked if isinstance(each, EndTransactionRequest)]


def fail_once(error, append=False):
    """A rule: the first batch that arrives has this fate."""
    left = [Fault(append=append, error=error)]
    return lambda *_: left.pop() if left else None


async def test_a_transaction_counts_as_a_whole_and_the_next_has_another_epoch(cluster, producer):
    producer.begin()
    deliveries = [
        await producer.send("t", b"a", partition=0),
        await producer.send("t", b"b", None, 1),
    ]
    await producer.flush()
    assert [each.done() for each in deliveries] == [True, True]
    assert committed(cluster.partition("t")) == []
    await producer.commit()
    assert committed(cluster.partition("t")) == [b"a"]
    assert committed(cluster.partition("t", 1)) == [b"b"]
    producer.begin()
    await producer.send("t", b"c", partition=0)
    await producer.commit()
    assert committed(cluster.partition("t")) == [b"a", b"c"]
    headers = [header for header, _ in cluster.partition("t").batches]
    assert [(each.producer_epoch, each.base_sequence) for each in headers] == [
        (0, 0),
        (1, -1),
        (1, 0),
        (2, -1),
    ]
    assert all(each.attributes & TRANSACTIONAL for each in headers)
    assert [(each.producer_epoch, each.commits, each.version) for each in ends(cluster)] == [
        (0, True, 5),
        (1, True, 5),
    ]


async def test_requests_say_of_which_transactions_they_are(cluster, producer):
    seen = []
    for channel in cluster.channels:
        original = channel.produce
        channel.produce = lambda request, original=original: (
            seen.append(request) or original(request)
        )
    producer.begin()
    await producer.send("t", b"a", partition=0)
    await producer.commit()
    [request] = seen
    assert (request.transactional_id, request.adds_to_transaction) == ("orders", True)


async def test_what_is_aborted_does_not_count(cluster, producer):
    producer.begin()
    await producer.send("t", b"a", partition=0)
    await producer.flush()
    await producer.abort()
    producer.begin()
    await producer.send("t", b"b", partition=0)
    await producer.commit()
    assert committed(cluster.partition("t")) == [b"b"]


async def test_a_block_commits_or_aborts(cluster, producer):
    async with producer.transaction():
        await producer.send("t", b"a", partition=0)

    async def fail() -> None:
        async with producer.transaction():
            await producer.send("t", b"b", partition=0)
            await producer.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with producer.transaction():
        await producer.send("t", b"c", partition=0)
        await producer.abort()
    async with producer.transaction():
        await producer.send("t", b"d", partition=0)
    assert committed(cluster.partition("t")) == [b"a", b"d"]
    assert producer._transactions.phase is Phase.READY


async def test_a_transaction_without_records_asks_nobody(cluster, producer):
    producer.begin()
    await producer.commit()
    producer.begin()
    await producer.abort()
    assert ends(cluster) == []
    async with producer.transaction():
        await producer.send("t", b"a", partition=0)
    assert committed(cluster.partition("t")) == [b"a"]


@pytest.mark.parametrize(
    "options",
    [{"transactional_id": ""}, {"acks": 1}, {"idempotence": False}, {"transaction_timeout_ms": 0}],
)
async def test_options_that_cannot_be(cluster, options):
    with pytest.raises(UsageError):
        producer_of(cluster, **options)


async def test_each_call_has_its_time(cluster):
    async with producer_of(cluster) as producer:
        for call in (producer.begin, lambda: producer.send_nowait("t", b"a")):
            with pytest.raises(UsageError, match="init_transactions"):
                call()
        for call in (producer.commit, producer.abort):
            with pytest.raises(UsageError, match="init_transactions"):
                await call()
        await producer.init_transactions()
        with pytest.raises(UsageError, match="once"):
            await producer.init_transactions()
        for call in (
            producer.commit,
            producer.abort,
            lambda: producer.send("t", b"a"),
            lambda: producer.send_offsets({T0: 1}, Member()),
        ):
            with pytest.raises(UsageError, match="begin"):
                await call()
        producer.begin()
        with pytest.raises(UsageError, match="commit or abort"):
            producer.begin()
        await producer.send("t", b"a", partition=0)
        committing = asyncio.ensure_future(producer.commit())
        await pass_time(0)
        for call in (producer.commit, producer.abort):
            with pytest.raises(UsageError, match="under way"):
                await call()
        with pytest.raises(UsageError, match="committed"):
            await producer.send("t", b"b")
        await committing
    assert committed(cluster.partition("t")) == [b"a"]


async def test_without_a_transactional_id_there_are_no_transactions(cluster):
    async with producer_of(cluster, transactional_id=None) as producer:
        with pytest.raises(UsageError, match="transactional_id"):
            await producer.init_transactions()
        with pytest.raises(UsageError, match="transactional_id"):
            producer.begin()
        await (await producer.send("t", b"a", partition=0))
    assert cluster.partition("t").values() == [b"a"]


async def test_after_a_record_that_failed_only_the_abort_is_left(cluster, producer):
    producer.begin()
    cluster.faults.append(fail_once(InvalidRecordError("bad")))
    bad = await producer.send("t", b"a", partition=0)
    good = await producer.send("t", b"b", partition=1)
    with pytest.raises(InvalidRecordError, match="bad"):
        await producer.commit()
    with pytest.raises(InvalidRecordError):
        await bad
    assert good.done()
    with pytest.raises(TransactionAbortableError, match="only be aborted: bad"):
        await producer.send("t", b"c")
    with pytest.raises(InvalidRecordError, match="bad"):
        await producer.commit()
    with pytest.raises(TransactionAbortableError):
        await producer.send_offsets({T0: 1}, Member())
    with pytest.raises(TransactionAbortableError):
        producer.begin()
    await producer.abort()
    async with producer.transaction():
        await producer.send("t", b"d", partition=0)
    assert committed(cluster.partition("t")) == [b"d"]
    assert committed(cluster.partition("t", 1)) == []
    assert producer.buffered_bytes == 0


async def test_one_failed_record_takes_along_what_was_not_sent(cluster, producer):
    cluster.answer_s = 0.5
    producer.begin()
    cluster.faults.append(fail_once(InvalidRecordError("bad")))
    first = await producer.send("t", b"a", partition=0)
    await pass_time(0.1)
    waiting = [await producer.send("t", b"%d" % n, partition=0) for n in range(3)]
    elsewhere = await producer.send("t", b"x", partition=1)
    await pass_time(0.6)
    assert first.done()
    for each in waiting:
        with pytest.raises(TransactionAbortableError):
            await each
    assert elsewhere.done()
    assert producer.buffered_bytes == 0
    await producer.abort()
    assert cluster.partition("t").values() == []


async def test_a_block_whose_record_fails_is_aborted_and_says_why(cluster, producer):
    cluster.faults.append(fail_once(InvalidRecordError("bad")))
    with pytest.raises(InvalidRecordError):
        async with producer.transaction():
            await producer.send("t", b"a", partition=0)
    assert producer._transactions.phase is Phase.READY
    assert [each.commits for each in ends(cluster)] == [False]


async def test_records_are_retried_under_the_same_epoch_and_written_once(cluster, producer):
    faults = [
        Fault(error=NotEnoughReplicasError()),
        Fault(append=True, disconnect=True),
        Fault(error=ConcurrentTransactionsError("the last one is still being ended")),
    ]
    cluster.faults.append(lambda *_: faults.pop(0) if faults else None)
    async with producer.transaction():
        for n in range(5):
            await producer.send("t", b"%d" % n, partition=0)
            await pass_time(0.01)
    assert committed(cluster.partition("t")) == [b"0", b"1", b"2", b"3", b"4"]
    assert {header.producer_epoch for _, sent in cluster.produced for _, header in sent} == {0}


async def test_a_batch_that_is_too_large_is_split_within_its_epoch(cluster, producer):
    cluster.max_batch_bytes = 3_000
    values = [b"%03d" % n * 100 for n in range(40)]
    async with producer.transaction():
        for value in values:
            producer_send = await producer.send("t", value, partition=0)
    assert producer_send.done()
    assert committed(cluster.partition("t")) == values
    sequences = [
        (header.base_sequence, header.record_count)
        for header, _ in cluster.partition("t").batches[:-1]
    ]
    expected, at = [], 0
    for _, count in sequences:
        expected.append((at, count))
        at += count
    assert sequences == expected
    assert len(sequences) > 5


async def test_a_record_that_expires_fails_the_transaction(cluster):
    async with producer_of(cluster, delivery_timeout_ms=1_000) as producer:
        await producer.init_transactions()
        producer.begin()
        cluster.faults.append(lambda *_: Fault(error=NotEnoughReplicasError("two of three")))
        await producer.send("t", b"a", partition=0)
        with pytest.raises(NotEnoughReplicasError, match="two of three"):
            await producer.commit()
        cluster.faults.clear()
        await producer.abort()
        async with producer.transaction():
            await producer.send("t", b"b", partition=0)
    assert committed(cluster.partition("t")) == [b"b"]


async def test_what_arrives_after_the_abort_is_fenced(cluster, producer):
    cluster.coordination.broker_id = 2
    producer._transactions._coordinator.forget()
    producer.begin()
    await producer.send("t", b"a", partition=0)
    await producer.flush()
    cluster.pause(1)
    late = await producer.send("t", b"late", partition=0)
    await pass_time(0.01)
    await producer.abort()
    with pytest.raises(TransactionAbortableError):
        await late
    producer.begin()
    await producer.send("t", b"next", partition=0)
    cluster.resume(1)
    await producer.commit()
    assert committed(cluster.partition("t")) == [b"next"]
    epochs = [header.producer_epoch for header, _ in cluster.partition("t").batches]
    assert epochs == [0, 1, 1, 2]  # a, its marker, next, its marker


async def test_an_abort_waits_for_no_answer_and_holds_no_place_for_it(cluster):
    async with producer_of(cluster, max_in_flight=1) as producer:
        await producer.init_transactions()
        left = [Fault(append=True, hang=True)]
        cluster.faults.append(lambda *_: left.pop() if left else None)
        producer.begin()
        assert not producer._barred  # records are taken without a look at the transaction
        never = await producer.send("t", b"a", partition=0)
        await pass_time(0.01)
        assert producer.buffered_bytes > 0
        await producer.abort()
        assert (never.done(), producer.buffered_bytes) == (True, 0)
        began_s = asyncio.get_running_loop().time()
        async with producer.transaction():
            await producer.send("t", b"b", partition=0)
        assert asyncio.get_running_loop().time() - began_s < 1
    assert committed(cluster.partition("t")) == [b"b"]


@pytest.mark.parametrize(
    "error", [ProducerFencedError("another"), InvalidProducerEpochError("old")]
)
async def test_who_was_fenced_is_dead(cluster, producer, error):
    producer.begin()
    cluster.faults.append(fail_once(error))
    delivery = await producer.send("t", b"a", partition=0)
    with pytest.raises(type(error)):
        await producer.commit()
    with pytest.raises(type(error)):
        await delivery
    for call in (
        producer.commit,
        producer.abort,
        lambda: producer.send("t", b"b"),
        producer.init_transactions,
    ):
        with pytest.raises(type(error)):
            await call()
    with pytest.raises(type(error)):
        producer.begin()
    assert ends(cluster) == []


async def test_another_producer_of_the_id_fences_this_one(cluster, producer):
    producer.begin()
    await producer.send("t", b"old", partition=0)
    await producer.flush()
    async with producer_of(cluster) as other:
        await other.init_transactions()
        with pytest.raises(ProducerFencedError):
            await producer.commit()
        async with other.transaction():
            await other.send("t", b"new", partition=0)
        with pytest.raises(ProducerFencedError):
            await producer.abort()
    assert committed(cluster.partition("t")) == [b"new"]


async def test_the_coordinator_is_asked_again_while_it_is_busy_or_elsewhere(cluster, producer):
    busy = [ConcurrentTransactionsError(), CoordinatorLoadInProgressError(), NotCoordinatorError()]
    cluster.coordination.script(EndTransactionRequest, *(Said(each) for each in busy))
    async with producer.transaction():
        await producer.send("t", b"a", partition=0)
    assert committed(cluster.partition("t")) == [b"a"]
    assert len(ends(cluster)) == 4
    assert len({(each.producer_epoch, each.commits) for each in ends(cluster)}) == 1


async def test_init_is_asked_again_too_and_tells_what_is_wrong(cluster):
    async with producer_of(cluster, transaction_timeout_ms=7_000) as producer:
        wrong = Said(InvalidTransactionTimeoutError("at most 5000"))
        cluster.coordination.script(InitProducerIdRequest, wrong)
        with pytest.raises(InvalidTransactionTimeoutError):
            await producer.init_transactions()
        lost = Said(NetworkError("the connection broke"), done=True)
        cluster.coordination.script(
            InitProducerIdRequest, Said(ConcurrentTransactionsError()), lost
        )
        await producer.init_transactions()
        async with producer.transaction():
            await producer.send("t", b"a", partition=0)
    assert cluster.coordination.ids["orders"].timeout_ms == 7_000
    assert committed(cluster.partition("t")) == [b"a"]


@pytest.mark.parametrize("commits", [True, False])
async def test_an_end_without_an_answer_is_repeated_the_same(cluster, producer, commits):
    lost = Said(NetworkError("the connection broke"), done=True)
    cluster.coordination.script(EndTransactionRequest, lost, Said(ConcurrentTransactionsError()))
    producer.begin()
    await producer.send("t", b"a", partition=0)
    await producer.flush()
    await (producer.commit() if commits else producer.abort())
    assert [(each.producer_epoch, each.commits) for each in ends(cluster)] == [(0, commits)] * 3
    async with producer.transaction():
        await producer.send("t", b"b", partition=0)
    assert committed(cluster.partition("t")) == ([b"a", b"b"] if commits else [b"b"])


async def test_an_end_that_is_not_answered_in_time_is_pinned(cluster):
    async with producer_of(cluster, max_block_ms=1_000) as producer:
        await producer.init_transactions()
        producer.begin()
        await producer.send("t", b"a", partition=0)
        await producer.flush()
        cluster.pause(1)
        with pytest.raises(RequestTimedOutError, match="transactional id 'orders'"):
            await producer.commit()
        with pytest.raises(UsageError, match="call the same again"):
            await producer.abort()
        with pytest.raises(UsageError, match="call the same again"):
            producer.begin()
        with pytest.raises(UsageError, match="call the same again"):
            await producer.send("t", b"b")
        cluster.resume(1)
        await pass_time(0.1)  # the first one is carried out only now
        await producer.commit()
        async with producer.transaction():
            await producer.send("t", b"c", partition=0)
    assert committed(cluster.partition("t")) == [b"a", b"c"]


async def test_a_commit_that_fails_for_an_unknown_reason_can_be_repeated(cluster, producer):
    odd = Said(UnknownServerError("a bug"), done=True)
    cluster.coordination.script(EndTransactionRequest, odd)
    producer.begin()
    await producer.send("t", b"a", partition=0)
    with pytest.raises(UnknownServerError):
        await producer.commit()
    with pytest.raises(UsageError, match="call the same again"):
        await producer.abort()
    await producer.commit()
    assert committed(cluster.partition("t")) == [b"a"]


async def test_a_commit_that_is_cancelled_while_it_waits_for_records_leaves_all_open(
    cluster, producer
):
    cluster.answer_s = 5
    producer.begin()
    await producer.send("t", b"a", partition=0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(producer.commit(), 1)
    await producer.send("t", b"b", partition=0)
    await producer.commit()
    assert committed(cluster.partition("t")) == [b"a", b"b"]


async def test_a_commit_that_is_cancelled_while_it_is_asked_for_can_only_be_repeated(
    cluster, producer
):
    producer.begin()
    await producer.send("t", b"a", partition=0)
    await producer.flush()
    cluster.pause(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(producer.commit(), 1)
    cluster.resume(1)
    with pytest.raises(UsageError, match="call the same again"):
        await producer.abort()
    await producer.commit()
    assert committed(cluster.partition("t")) == [b"a"]


async def test_a_transaction_that_timed_out_is_aborted_and_the_next_one_goes_on(cluster, producer):
    producer.begin()
    await producer.send("t", b"a", partition=0)
    await producer.flush()
    coordination = cluster.coordination
    coordination.end_open(coordination.ids["orders"], False)
    with pytest.raises(TransactionAbortableError):
        await producer.commit()
    with pytest.raises(TransactionAbortableError):
        await producer.commit()  # asks nobody
    await producer.abort()
    assert [each.commits for each in ends(cluster)] == [True, False]
    async with producer.transaction():
        await producer.send("t", b"b", partition=0)
    assert committed(cluster.partition("t")) == [b"b"]


async def test_a_block_that_timed_out_is_aborted_by_itself(cluster, producer):
    coordination = cluster.coordination

    async def take_too_long() -> None:
        async with producer.transaction():
            await producer.send("t", b"a", partition=0)
            await producer.flush()
            coordination.end_open(coordination.ids["orders"], False)

    with pytest.raises(TransactionAbortableError):
        await take_too_long()
    async with producer.transaction():
        await producer.send("t", b"b", partition=0)
    assert committed(cluster.partition("t")) == [b"b"]


async def test_a_block_that_cannot_be_aborted_raises_its_own_error(cluster, producer):
    async def fail() -> None:
        async with producer.transaction():
            await producer.send("t", b"a", partition=0)
            await producer.flush()
            cluster.coordination.script(EndTransactionRequest, Said(ProducerFencedError("other")))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await fail()
    assert "ProducerFencedError" in caught.value.__notes__[0]


async def test_closing_aborts_what_is_open(cluster):
    async with producer_of(cluster) as producer:
        await producer.init_transactions()
        producer.begin()
        await producer.send("t", b"a", partition=0)
        await producer.flush()
    assert [each.commits for each in ends(cluster)] == [False]
    assert committed(cluster.partition("t")) == []


async def test_closing_does_not_wait_for_a_coordinator_longer_than_it_is_told_to(cluster, caplog):
    producer = producer_of(cluster)
    await producer.start()
    await producer.init_transactions()
    producer.begin()
    await producer.send("t", b"a", partition=0)
    await producer.flush()
    cluster.pause(1)
    began_s = asyncio.get_running_loop().time()
    await producer.close(500)
    assert asyncio.get_running_loop().time() - began_s < 1
    assert "left open until it times out" in caplog.text


class Member:
    """A consumer in a group, as `send_offsets` sees it."""

    def __init__(self, commits_itself=False):
        self.commits_itself = commits_itself

    def membership(self):
        return GroupMembership("readers", 3, "m-1", None, self.commits_itself)


async def test_offsets_are_part_of_the_transaction(cluster, producer):
    producer.begin()
    await producer.send_offsets({T0: 5}, Member())
    [request] = [
        each for each in cluster.coordination.asked if isinstance(each, TxnOffsetCommitRequest)
    ]
    assert (request.group_id, request.generation_id, request.member_id) == ("readers", 3, "m-1")
    assert (request.producer_epoch, request.adds, request.instance_id) == (0, True, None)
    assert cluster.coordination.offsets == {}
    await producer.commit()  # without a record
    assert cluster.coordination.offsets == {("readers", T0): 5}
    producer.begin()
    await producer.send_offsets({T0: 9}, Member())
    await producer.abort()
    assert cluster.coordination.offsets == {("readers", T0): 5}
    async with producer.transaction():
        await producer.send_offsets({}, Member())
    assert [each.commits for each in ends(cluster)] == [True, False]


async def test_offsets_are_sent_again_while_the_coordinator_is_busy(cluster, producer):
    cluster.coordination.offset_errors = [
        ConcurrentTransactionsError(),
        CoordinatorLoadInProgressError(),
    ]
    async with producer.transaction():
        await producer.send_offsets({T0: 5}, Member())
    assert cluster.coordination.offsets == {("readers", T0): 5}


async def test_offsets_that_fail_leave_only_the_abort(cluster, producer):
    cluster.coordination.offset_errors = [IllegalGenerationError("a rebalance")]
    producer.begin()
    await producer.send("t", b"a", partition=0)
    with pytest.raises(IllegalGenerationError):
        await producer.send_offsets({T0: 5}, Member())
    with pytest.raises(IllegalGenerationError, match="a rebalance"):
        await producer.commit()
    await producer.abort()
    assert committed(cluster.partition("t")) == []
    assert cluster.coordination.offsets == {}


async def test_offsets_of_one_who_was_fenced(cluster, producer):
    cluster.coordination.offset_errors = [ProducerFencedError("another")]
    producer.begin()
    with pytest.raises(ProducerFencedError):
        await producer.send_offsets({T0: 5}, Member())
    with pytest.raises(ProducerFencedError):
        await producer.abort()


async def test_a_consumer_that_commits_by_itself_is_refused(cluster, producer):
    producer.begin()
    with pytest.raises(UsageError, match="auto_commit=False"):
        await producer.send_offsets({T0: 5}, Member(commits_itself=True))
    await producer.abort()
