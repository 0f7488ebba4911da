"""broker/transactions/: coordinators, their markers and what leaders ask, over whole brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka.api.groups import FindCoordinatorRequest
from minikafka.api.transactions import (
    AbortPartition,
    AddOffsetsRequest,
    AddPartitionsRequest,
    CheckPartitionsRequest,
    EndTransactionRequest,
    InitProducerIdRequest,
    ListTransactionsRequest,
    MarkerToWrite,
    WriteMarkersRequest,
)
from minikafka.broker.transactions import markers
from minikafka.core.transactions.values import TransactionState
from minikafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorNotAvailableError,
    FencedLeaderEpochError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidRequestError,
    InvalidTopicError,
    InvalidTransactionTimeoutError,
    InvalidTxnStateError,
    MessageTooLargeError,
    NotCoordinatorError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OperationNotAttemptedError,
    ProducerFencedError,
    StaleBrokerEpochError,
    TransactionAbortableError,
    TransactionalIdNotFoundError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, TopicPartition
from tests.helpers.brokers import BrokerCluster
from tests.helpers.transaction_client import TV1, TV2, TransactionClient, committed
from tests.helpers.waiting import until

SETTINGS = {
    "transaction.state.log.num.partitions": "4",
    "offsets.topic.num.partitions": "4",
    "transaction.max.timeout.ms": "60000",
}
T0, T1 = TopicPartition("t", 0), TopicPartition("u", 0)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[BrokerCluster]:
    cluster = BrokerCluster(tmp_path, SETTINGS)
    yield cluster
    await cluster.close()


async def three(cluster: BrokerCluster) -> None:
    """Brokers 1, 2, 3; topic t is led by 1, u by 2."""
    await cluster.start(1, 2, 3)
    await cluster.create_topic("t", [1, 2, 3])
    await cluster.create_topic("u", [2, 3, 1])


async def reads(cluster: BrokerCluster, leader: int, where: TopicPartition, *values: bytes) -> None:
    """Until a reader of committed records sees exactly these."""

    async def seen() -> bool:
        return await committed(cluster, leader, where) == list(values)

    await until(seen)


async def test_who_is_fenced_is_known_where_the_id_is_coordinated(cluster: BrokerCluster) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    assert await client.init() is None
    known = (client.producer_id, client.producer_epoch)
    service, coordinator = await client.service(), await client.coordinator()
    assert not service.fences("orders", *known)
    assert await TransactionClient(cluster, "orders").init() is None
    assert service.fences("orders", *known)
    assert not service.fences("orders", known[0], known[1] + 1)
    assert not service.fences("others", *known)
    elsewhere = cluster.service(coordinator % 3 + 1).transactions
    assert not elsewhere.fences("orders", *known)


@pytest.mark.parametrize("version", [TV1, TV2])
async def test_a_transaction_over_two_partitions_counts_when_it_is_committed(
    cluster: BrokerCluster, version: int
) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders", version)
    assert await client.init() is None
    if version == TV1:
        assert await client.add(T0, T1) is None
    assert await client.produce_once(1, T0, b"a", b"b") is None
    assert await client.produce_once(2, T1, b"c") is None
    assert await committed(cluster, 1, T0) == []
    assert await client.end() is None
    await reads(cluster, 1, T0, b"a", b"b")
    await reads(cluster, 2, T1, b"c")
    if version == TV1:
        assert await client.add(T0) is None
    assert await client.produce_once(1, T0, b"x") is None
    assert await client.end(commits=False) is None
    if version == TV1:
        assert await client.add(T0) is None
    assert await client.produce_once(1, T0, b"d") is None
    assert await client.end() is None
    await reads(cluster, 1, T0, b"a", b"b", b"d")


async def test_what_was_not_added_is_not_appended(cluster: BrokerCluster) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    await client.init()
    assert isinstance(await client.produce_once(1, T0, b"a"), TransactionAbortableError)
    assert await client.add(T1) is None
    assert isinstance(await client.produce_once(1, T0, b"a"), TransactionAbortableError)
    assert await client.produce_once(2, T1, b"b") is None
    assert await client.end() is None
    await reads(cluster, 2, T1, b"b")
    assert cluster.running[1].broker.replicas.replicas[T0].core.log_state.log_end_offset == 0


async def test_who_was_fenced_writes_nothing_any_more(cluster: BrokerCluster) -> None:
    await three(cluster)
    old, new = TransactionClient(cluster, "orders"), TransactionClient(cluster, "orders")
    await old.init()
    assert await old.add(T0) is None
    assert await old.produce_once(1, T0, b"old") is None
    assert await new.init() is None  # aborts what the old one has open
    assert (new.producer_id, new.producer_epoch) == (old.producer_id, 2)
    assert isinstance(await old.produce_once(1, T0, b"late"), InvalidProducerEpochError)
    assert isinstance(await old.add(T0), ProducerFencedError)
    assert isinstance(await old.end(), ProducerFencedError)
    assert isinstance(await old.init(goes_on=True), ProducerFencedError)
    assert await new.add(T0) is None
    assert await new.produce_once(1, T0, b"new") is None
    assert await new.end() is None
    await reads(cluster, 1, T0, b"new")


async def test_a_coordinator_whose_successor_is_known_says_nothing_from_memory(
    cluster: BrokerCluster,
) -> None:
    """It may be told of its end later than the partition was told of the next one's."""
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    await client.init()
    assert await client.add(T0) is None
    service = cluster.service(await client.coordinator())
    own_epoch = service.transaction_shards.of_id("orders").partition.leader_epoch
    request = CheckPartitionsRequest(
        "orders", client.producer_id, client.producer_epoch, [T0], adds=False
    )
    for epoch, answer in ((-1, None), (own_epoch, None), (own_epoch + 1, NotCoordinatorError)):
        asked = replace(request, coordinator_epoch=epoch)
        [checked] = (await service.check_partitions(asked)).partitions
        assert (None if checked.error is None else type(checked.error)) is answer


async def test_a_transaction_that_takes_too_long_is_aborted(cluster: BrokerCluster) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    client.timeout_ms = 100
    await client.init()
    assert await client.add(T0) is None
    assert await client.produce_once(1, T0, b"a") is None
    shard = cluster.service(await client.coordinator()).transaction_shards.of_id("orders")

    def over() -> bool:
        value = shard.coordinator.value("orders")
        return value is not None and value.state is TransactionState.COMPLETE_ABORT

    await until(over)
    assert isinstance(await client.end(), ProducerFencedError)
    assert await client.end(commits=False) is None
    assert await client.init(goes_on=True) is None
    await reads(cluster, 1, T0)


@pytest.mark.parametrize("version", [TV1, TV2])
async def test_the_next_coordinator_ends_what_the_last_one_decided(
    cluster: BrokerCluster, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders", version)
    await client.init()
    assert await client.add(T0, T1) is None
    coordinator = await client.coordinator()
    leader = next(each for each in (1, 2) if each != coordinator)
    where = T0 if leader == 1 else T1
    assert await client.produce_once(leader, where, b"a") is None

    async def lost(*_: object) -> None:
        raise StaleBrokerEpochError("this message gets lost")

    channel = cluster.service(coordinator).markers
    monkeypatch.setattr(channel, "_exchange", lost)
    assert await client.end() is None  # decided; nobody is told
    assert await committed(cluster, leader, where) == []
    await cluster.kill(coordinator)
    await reads(cluster, leader, where, b"a")
    if version == TV1:
        assert await client.add(where) is None
    assert await client.produce_once(leader, where, b"b") is None
    assert await client.end() is None
    await reads(cluster, leader, where, b"a", b"b")


async def test_the_next_coordinator_goes_on_with_what_is_open(cluster: BrokerCluster) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    await client.init()
    assert await client.add(T0, T1) is None
    coordinator = await client.coordinator()
    leader, where = (1, T0) if coordinator != 1 else (2, T1)
    assert await client.produce_once(leader, where, b"a") is None
    await cluster.kill(coordinator)
    assert await client.end() is None
    await reads(cluster, leader, where, b"a")


async def test_the_topic_is_created_when_a_coordinator_is_first_asked_for(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    request = FindCoordinatorRequest(["a", "", "b"], 1)
    found = (await cluster.service(1).transactions.find_coordinator(request)).coordinators
    assert [each.key for each in found] == ["a", "", "b"]
    assert all(each.error is None for each in found)
    partitions = cluster.service(1)._metadata.topics[TRANSACTIONS_TOPIC]
    assert len(partitions) == 4
    entries = await cluster.service(1).describe_topic_configs(TRANSACTIONS_TOPIC)
    values = {each.name: each.value for each in entries}
    assert values["cleanup.policy"] == "compact"
    assert values["min.insync.replicas"] == "2"


async def test_bad_requests_get_the_error_that_names_what_is_wrong(cluster: BrokerCluster) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    await client.init()
    service = await client.service()

    async def init(*fields: object) -> object:
        return (await service.init_producer_id(InitProducerIdRequest(*fields))).error  # type: ignore[arg-type]

    assert isinstance(await init("", 1000), InvalidRequestError | NotCoordinatorError)
    assert isinstance(await init("orders", 0), InvalidTransactionTimeoutError)
    assert isinstance(await init("orders", 60_001), InvalidTransactionTimeoutError)
    assert isinstance(await init("orders", 2**31 - 1), InvalidTransactionTimeoutError)
    assert isinstance(await init("orders", 1000, 5, -1), InvalidRequestError)
    assert isinstance(await init("orders", 1000, -1, 5), InvalidRequestError)
    assert isinstance(await init("orders", 1000, -2, -2), ProducerFencedError)
    assert isinstance(await init("orders", 1000, 12345, 0), ProducerFencedError)
    assert isinstance(await init("o" * 40_000, 1000), InvalidRequestError)

    nowhere, internal = TopicPartition("t", 9), TopicPartition(OFFSETS_TOPIC, 0)
    request = AddPartitionsRequest("orders", client.producer_id, 0, [T0, nowhere, internal, T0])
    errors = await service.add_partitions(request)
    assert {key: type(error) for key, error in errors.items()} == {
        T0: OperationNotAttemptedError,
        nowhere: UnknownTopicOrPartitionError,
        internal: InvalidTopicError,
    }
    request = AddPartitionsRequest("orders", client.producer_id + 1, 0, [T0])
    [error] = (await service.add_partitions(request)).values()
    assert isinstance(error, InvalidProducerIdMappingError)
    request = AddPartitionsRequest("orders", client.producer_id, 7, [T0])
    [error] = (await service.add_partitions(request)).values()
    assert isinstance(error, ProducerFencedError)
    assert await service.add_partitions(AddPartitionsRequest("orders", 0, 0, [])) == {}

    wrong = AddOffsetsRequest("orders", client.producer_id, 7, "g")
    assert isinstance(await service.add_offsets(wrong), CoordinatorNotAvailableError)
    await service.prepare_offsets()
    assert isinstance(await service.add_offsets(wrong), ProducerFencedError)
    nothing = EndTransactionRequest("orders", client.producer_id, 0, True, TV1)
    assert isinstance((await service.end(nothing)).error, InvalidTxnStateError)

    coordinator = await client.coordinator()
    elsewhere = next(each for each in (1, 2, 3) if each != coordinator)
    other = cluster.service(elsewhere).transactions
    assert isinstance((await other.end(nothing)).error, NotCoordinatorError)
    [told] = await other.describe_transactions(["orders"])
    assert isinstance(told.error, NotCoordinatorError)


async def test_transactions_are_listed_and_described(cluster: BrokerCluster) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    await client.init()
    await client.add(T0)
    await client.produce_once(1, T0, b"a")
    service = await client.service()

    async def listed(**asked: object) -> list[tuple[str, str]]:
        result = await service.list_transactions(ListTransactionsRequest(**asked))  # type: ignore[arg-type]
        assert result.error is None
        return [(each.transactional_id, each.state) for each in result.transactions]

    assert await listed() == [("orders", "Ongoing")]
    assert await listed(states=["Ongoing", "nonsense"]) == [("orders", "Ongoing")]
    assert await listed(states=["Empty"]) == []
    assert await listed(states=["nonsense"]) == []
    assert await listed(producer_ids=[client.producer_id]) == [("orders", "Ongoing")]
    assert await listed(producer_ids=[client.producer_id + 1]) == []
    assert await listed(longer_than_ms=3_600_000) == []
    [orders, unknown, empty] = await service.describe_transactions(["orders", "nobody", ""])
    assert (orders.state, orders.partitions) == ("Ongoing", [T0])
    assert (orders.producer_id, orders.producer_epoch) == (client.producer_id, 0)
    assert orders.start_timestamp_ms > 0
    assert isinstance(unknown.error, TransactionalIdNotFoundError | NotCoordinatorError)
    assert isinstance(empty.error, InvalidRequestError)
    [producers] = await cluster.service(1).transactions.describe_producers([T0])
    [producer] = producers.producers
    assert (producer.producer_id, producer.last_sequence) == (client.producer_id, 0)
    assert producer.open_first_offset == 0

    async def at_a_follower() -> bool:
        [there] = await cluster.service(2).transactions.describe_producers([T0])
        return there == producers

    await until(at_a_follower)
    [nowhere] = await cluster.service(1).transactions.describe_producers([TopicPartition("t", 99)])
    assert nowhere.error is not None
    assert nowhere.producers == ()


async def test_what_hangs_is_aborted_by_an_administrator(cluster: BrokerCluster) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    await client.init()
    await client.add(T0)
    await client.produce_once(1, T0, b"a")
    service = cluster.service(1).transactions
    wrong = AbortPartition(T0, client.producer_id + 1, 0, -1)
    right = AbortPartition(T0, client.producer_id, 0, -1)
    [error, done] = await service.abort_partitions([wrong, right])
    assert isinstance(error, InvalidProducerIdMappingError)
    assert done is None
    [again] = await service.abort_partitions([right])
    assert isinstance(again, InvalidProducerIdMappingError)
    assert await committed(cluster, 1, T0) == []
    [elsewhere] = await cluster.service(2).transactions.abort_partitions([right])
    assert isinstance(elsewhere, NotLeaderOrFollowerError)


async def test_a_marker_is_taken_by_the_leadership_that_it_was_sent_to(
    cluster: BrokerCluster,
) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    await client.init()
    await client.add(T0)
    await client.produce_once(1, T0, b"a")
    own = cluster.service(1)._incarnation()
    core = cluster.running[1].broker.replicas.replicas[T0].core

    def message(
        number: int, leader_epoch: int, target: tuple[int, int] = own, sender: int = 3
    ) -> object:
        marker = MarkerToWrite(T0, "orders", client.producer_id, 0, False, False, leader_epoch, 0)
        return WriteMarkersRequest(sender, 10**9, *target, number, [marker])

    service = cluster.service(1)
    old = await service.write_markers(message(1, core.leader_epoch - 1))  # type: ignore[arg-type]
    assert isinstance(old.partitions[0].error, FencedLeaderEpochError)
    assert core.log_state.producers.get(client.producer_id).is_open  # type: ignore[union-attr]
    for stale in (
        message(1, core.leader_epoch),
        message(2, core.leader_epoch, (1, 0)),
        message(2, core.leader_epoch, sender=9),
    ):
        with pytest.raises(StaleBrokerEpochError):
            await service.write_markers(stale)  # type: ignore[arg-type]
    taken = await service.write_markers(message(2, core.leader_epoch))  # type: ignore[arg-type]
    assert taken.partitions[0].error is None
    assert not core.log_state.producers.get(client.producer_id).is_open  # type: ignore[union-attr]


async def test_one_partition_without_replicas_keeps_no_other_waiting(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its marker is tried again until the replicas are back."""
    monkeypatch.setattr(markers, "ANSWER_S", 0.05)
    await three(cluster)
    client = TransactionClient(cluster, "orders", TV2)
    await client.init()
    await client.produce_once(1, T0, b"a")
    await client.produce_once(2, T1, b"b")
    replica = cluster.running[1].broker.replicas.replicas[T0]

    def too_few(_: object) -> None:
        raise NotEnoughReplicasError("as if")

    with monkeypatch.context() as patched:
        patched.setattr(replica.core, "plan_marker", too_few)
        assert await client.end() is None
        await reads(cluster, 2, T1, b"b")
        assert await committed(cluster, 1, T0) == []
        service = await client.service()
        again = EndTransactionRequest(
            "orders", client.producer_id, client.producer_epoch, True, TV2
        )
        assert isinstance((await service.end(again)).error, ConcurrentTransactionsError)
    await reads(cluster, 1, T0, b"a")


async def test_what_is_open_can_end_however_many_partitions_it_has(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    await client.init()
    shard = cluster.service(await client.coordinator()).transaction_shards.of_id("orders")
    assert await client.add(T0) is None
    monkeypatch.setattr("minikafka.broker.transactions.shard.ROOM_BYTES", 10**9)
    assert isinstance(await client.add(T1), MessageTooLargeError)
    value = shard.coordinator.value("orders")
    assert value is not None
    assert value.partitions == {T0}
    assert await client.produce_once(1, T0, b"a") is None
    assert await client.end() is None
    await reads(cluster, 1, T0, b"a")


async def test_ids_that_nobody_uses_are_forgotten(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "transactional.id.expiration.ms": "1",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "20",
    }
    cluster = BrokerCluster(tmp_path, settings)
    try:
        await cluster.start(1)
        client = TransactionClient(cluster, "orders")
        await client.init()
        shard = cluster.service(1).transaction_shards.of_id("orders")
        await until(lambda: shard.coordinator.value("orders") is None)
        first = client.producer_id
        assert await client.init() is None
        assert (client.producer_id != first, client.producer_epoch) == (True, 0)
    finally:
        await cluster.close()


async def test_a_coordinator_that_cannot_write_says_so_in_time(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minikafka.broker.transactions.coordinator.ANSWER_TIMEOUT_S", 0.1)
    await three(cluster)
    client = TransactionClient(cluster, "orders")
    await client.init()
    service = await client.service()
    shard = cluster.service(await client.coordinator()).transaction_shards.of_id("orders")
    committing = asyncio.Event()

    def late(_: object, on_committed: object) -> None:
        committing.set()

    with monkeypatch.context() as patched:
        patched.setattr(shard._partition, "write", late)
        request = AddPartitionsRequest("orders", client.producer_id, 0, [T0])
        [error] = (await service.add_partitions(request)).values()
        assert committing.is_set()
        assert isinstance(error, CoordinatorNotAvailableError)
