"""transaction_admin.py: listing, describing and ending transactions, against brokers in memory."""

import time

import pytest

from minikafka.api.transactions import (
    AbortPartition,
    ActiveProducer,
    DescribedProducers,
    ListTransactionsResult,
    TransactionDescription,
)
from minikafka.client.administering.admin import AsyncAdmin
from minikafka.client.administering.transaction_admin import OpenTransaction
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    InvalidProducerEpochError,
    InvalidRequestError,
    LeaderNotAvailableError,
    NotLeaderOrFollowerError,
    TransactionalIdNotFoundError,
)
from minikafka.model import TopicPartition
from tests.unit.client.fake_cluster import FakeCluster

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
LONG_AGO_MS = 1_000_000_000_000


def describe(transactional_id, producer_id, state, *partitions):
    return TransactionDescription(
        transactional_id, None, state, 60_000, 5, producer_id, 0, partitions
    )


def opened(producer_id, at_ms=LONG_AGO_MS, first_offset=7):
    return ActiveProducer(producer_id, 3, 11, at_ms, 0, first_offset)


@pytest.fixture
def cluster():
    cluster = FakeCluster()
    cluster.create("t", 2)
    return cluster


@pytest.fixture
async def admin(cluster):
    async with AsyncAdmin(cluster.bootstrap, connect=cluster.connect, uniform=lambda: 0.5) as admin:
        yield admin


def play(cluster, producers=(), listed=None):
    """`producers` by partition; `listed`: by broker, what it coordinates."""
    by_partition = dict(producers)
    cluster.coordination.answers["producers"] = lambda broker, each: DescribedProducers(
        each, None, by_partition.get(each, ())
    )
    cluster.coordination.answers["list"] = listed or {}


async def test_transactions_of_all_brokers_are_listed_by_name(cluster, admin):
    play(
        cluster,
        listed={
            1: [describe("b", 1, "Ongoing"), describe("d", 2, "Empty")],
            3: [describe("a", 3, "CompleteCommit")],
        },
    )
    found = await admin.list_transactions()
    assert [(each.transactional_id, each.producer_id, each.state) for each in found] == [
        ("a", 3, "CompleteCommit"),
        ("b", 1, "Ongoing"),
        ("d", 2, "Empty"),
    ]
    assert [each.transactional_id for each in await admin.list_transactions((), [3])] == ["a"]


async def test_a_broker_that_loads_is_asked_again_and_a_wrong_state_is_told(cluster, admin):
    loading = ListTransactionsResult(CoordinatorLoadInProgressError("reads"))
    listed = {2: loading}
    play(cluster, listed=listed)
    with pytest.raises(CoordinatorLoadInProgressError):
        await admin.list_transactions()
    assert cluster.calls.count("list_transactions") > 6
    listed[2] = ListTransactionsResult(None, (), ["Odd"])
    with pytest.raises(InvalidRequestError, match="Odd"):
        await admin.list_transactions(["Odd"])


async def test_ids_are_described_in_the_order_asked_for(cluster, admin):
    play(cluster, listed={1: [describe("a", 1, "Ongoing", T0)]})
    unknown, known = await admin.describe_transactions(["b", "a"])
    assert isinstance(unknown.error, TransactionalIdNotFoundError)
    assert (unknown.transactional_id, known.state) == ("b", "Ongoing")


async def test_producers_are_described_by_the_leaders(cluster, admin):
    play(cluster, {T0: [opened(1)]})
    first, second = await admin.describe_producers([T0, T1])
    assert (first.producers, second.producers) == ([opened(1)], ())
    cluster.move("t", -1, 1)
    _, second = await admin.describe_producers([T0, T1])
    assert isinstance(second.error, LeaderNotAvailableError)
    with pytest.raises(LeaderNotAvailableError, match="t-1"):
        await admin.open_transactions([T0, T1])


async def test_what_no_coordinator_will_end_hangs(cluster, admin):
    cluster.configs["1"] = {"transaction.max.timeout.ms": "1000"}
    now_ms = int(time.time() * 1000)
    play(
        cluster,
        {
            T0: [opened(1), opened(2), opened(3), opened(4, first_offset=-1), opened(5, now_ms)],
            T1: [opened(1)],
        },
        {
            1: [describe("of-1", 1, "Ongoing", T1)],  # and not of t-0
            2: [describe("of-2", 2, "PrepareAbort", T0), describe("of-3", 3, "CompleteAbort")],
        },
    )
    hanging = await admin.find_hanging_transactions()
    assert hanging == [OpenTransaction(T0, opened(1)), OpenTransaction(T0, opened(3))]
    assert await admin.find_hanging_transactions([T1]) == []
    owners = {each.producer.producer_id: each.owner for each in await admin.open_transactions([T0])}
    assert owners == {1: None, 2: "of-2", 3: None, 5: None}


async def test_what_was_ended_while_we_looked_does_not_hang(cluster, admin):
    play(cluster)
    answers = [(opened(1), opened(2)), (opened(2),)]
    cluster.coordination.answers["producers"] = lambda _broker, each: DescribedProducers(
        each, None, answers.pop(0)
    )
    hanging = await admin.find_hanging_transactions([T0], max_age_ms=0)
    assert hanging == [OpenTransaction(T0, opened(2))]
    assert answers == []


async def test_an_abort_goes_to_the_leader_and_raises_its_error(cluster, admin):
    cluster.coordination.answers["abort"] = None
    await admin.abort_transaction(T1, 7, 3)
    assert cluster.coordination.asked == [AbortPartition(T1, 7, 3, -1)]
    cluster.coordination.answers["abort"] = InvalidProducerEpochError("past that")
    with pytest.raises(InvalidProducerEpochError, match="past that"):
        await admin.abort_transaction(T1, 7, 3, 2)
    cluster.coordination.answers["abort"] = NotLeaderOrFollowerError("elsewhere")
    with pytest.raises(NotLeaderOrFollowerError):
        await admin.abort_transaction(T1, 7, 3)
    assert len(cluster.coordination.asked) == 4  # once more, at who leads by then
