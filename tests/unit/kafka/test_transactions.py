"""kafka/handlers/transactions.py: the messages of transactions, in every version that is served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from minikafka import turns
from minikafka.api import transactions as api
from minikafka.api.groups import (
    COORDINATES_TRANSACTIONS,
    FindCoordinatorRequest,
    FindCoordinatorResult,
    FoundCoordinator,
    OffsetCommitPartition,
    OffsetCommitPartitionResult,
    OffsetCommitResult,
)
from minikafka.errors import (
    BrokerNotAvailableError,
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidProducerEpochError,
    InvalidTransactionTimeoutError,
    InvalidTxnStateError,
    MinikafkaError,
    NotCoordinatorError,
    NotLeaderOrFollowerError,
    OperationNotAttemptedError,
    ProducerFencedError,
    TransactionAbortableError,
    TransactionalIdNotFoundError,
    UnknownTopicOrPartitionError,
)
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.handlers import transactions as handlers
from minikafka.kafka.requests import AddOffsetsToTxn, AddPartitionsToTxn
from minikafka.model import BrokerInfo, TopicPartition
from tests.helpers.kio_messages import plain
from tests.helpers.listeners import plaintext_at
from tests.helpers.waiting import until
from tests.unit.kafka.conftest import Client, Ground

T0, T1, U0 = TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("u", 0)
A = BrokerInfo(1, "A", "grpc", 1, plaintext_at("kafka-host", 9092))


class Transactions:
    """Notes what it is asked, gives the answer that is there for it, and hears everybody whose
    connection is not in `old`; who is `fenced` it fences. Its offsets are those of a group."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.heard: list[tuple[str, api.NewestOf, int]] = []
        self.old: set[int] = set()
        self.fenced: set[tuple[str, int, int]] = set()
        self.answers: dict[str, Any] = {}

    def fences(self, transactional_id: str, producer_id: int, producer_epoch: int) -> bool:
        return (transactional_id, producer_id, producer_epoch) in self.fenced

    def hears(self, transactional_id: str, kind: api.NewestOf, connection: int) -> bool:
        self.heard.append((transactional_id, kind, connection))
        return connection not in self.old

    async def prepare_offsets(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any) -> Any:
            self.asked.append(request)
            answer = self.answers[name]
            return answer(request) if callable(answer) else answer

        return call


@pytest.fixture
async def asked(ground: Ground) -> Transactions:
    service = Transactions()
    ground.broker.transactions = service  # type: ignore[attr-defined]
    ground.broker.groups = service  # type: ignore[attr-defined]
    await ground.start()
    return service


def versions(api_key: ApiKey) -> Any:
    served = APIS[api_key]
    return pytest.mark.parametrize("version", range(served.min_version, served.max_version + 1))


# --- finding the coordinator ---------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, 5))
async def test_who_coordinates_transactions_is_asked_of_transactions(
    ground: Ground, asked: Transactions, version: int
) -> None:
    values = {"key": "x", "key_type": 1, "coordinator_keys": ["x"]}
    for found, expected in (
        (FoundCoordinator("x", None, A), (0, 1, "kafka-host", 9092)),
        (FoundCoordinator("x", CoordinatorNotAvailableError("not yet")), (15, -1, "", -1)),
    ):
        asked.answers["find_coordinator"] = FindCoordinatorResult([found])
        client = await ground.connect()
        response = await client.ask(ApiKey.FIND_COORDINATOR, version, values)
        one = response.coordinators[0] if version >= 4 else response
        assert (one.error_code, one.node_id, one.host, one.port) == expected
    wanted = FindCoordinatorRequest(["x"], COORDINATES_TRANSACTIONS)
    assert asked.asked == [wanted, wanted]


# --- producers -----------------------------------------------------------------------------------

INIT: dict[str, Any] = {"transactional_id": "x", "transaction_timeout": 60_000}


@versions(ApiKey.INIT_PRODUCER_ID)
async def test_init_producer_id(ground: Ground, asked: Transactions, version: int) -> None:
    asked.answers["init_producer_id"] = api.ProducerIdentity(None, 2**40, 7)
    client = await ground.connect()
    values = INIT | {"producer_id": 2**40, "producer_epoch": 6}
    response = await client.ask(ApiKey.INIT_PRODUCER_ID, version, values)
    assert (response.error_code, response.producer_id, response.producer_epoch) == (0, 2**40, 7)
    known = (2**40, 6) if version >= 3 else (-1, -1)
    assert asked.asked == [api.InitProducerIdRequest("x", 60_000, *known)]
    assert asked.heard == [("x", api.NewestOf.COORDINATION, 1)]


@versions(ApiKey.INIT_PRODUCER_ID)
@pytest.mark.parametrize(
    ("error", "code", "first_known", "before"),
    [
        (ProducerFencedError(), 90, 4, 47),
        (TransactionAbortableError(), 120, 5, 48),
        (ConcurrentTransactionsError(), 51, 0, 0),
        (InvalidTransactionTimeoutError(), 50, 0, 0),
        (NotCoordinatorError(), 16, 0, 0),
    ],
)
async def test_an_init_that_is_refused(
    ground: Ground,
    asked: Transactions,
    version: int,
    error: MinikafkaError,
    code: int,
    first_known: int,
    before: int,
) -> None:
    asked.answers["init_producer_id"] = api.ProducerIdentity(error)
    client = await ground.connect()
    values = INIT | {"transaction_timeout": -5}
    response = await client.ask(ApiKey.INIT_PRODUCER_ID, version, values)
    assert response.error_code == (code if version >= first_known else before)
    assert (response.producer_id, response.producer_epoch) == (-1, -1)
    assert asked.asked[0].timeout_ms == -5


@pytest.mark.parametrize("version", [3, 5])
@pytest.mark.parametrize(
    "more",
    [
        {"transactional_id": ""},
        {"producer_id": 3},
        {"producer_epoch": 3},
        {"transactional_id": None, "producer_id": 3},
        {"transactional_id": None, "producer_epoch": 3},
    ],
)
async def test_an_init_that_cannot_be_meant_is_nobodys_word(
    ground: Ground, asked: Transactions, version: int, more: dict[str, Any]
) -> None:
    client = await ground.connect()
    response = await client.ask(ApiKey.INIT_PRODUCER_ID, version, INIT | more)
    assert (response.error_code, response.producer_id, response.producer_epoch) == (42, -1, -1)
    assert (asked.asked, asked.heard) == ([], [])


@versions(ApiKey.INIT_PRODUCER_ID)
async def test_an_idempotent_producer_needs_no_coordinator(
    ground: Ground, asked: Transactions, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[Any] = [(5, 0), BrokerNotAvailableError(), ConcurrentTransactionsError()]

    async def init_producer_id() -> tuple[int, int]:
        result = results.pop(0)
        if isinstance(result, MinikafkaError):
            raise result
        producer: tuple[int, int] = result
        return producer

    monkeypatch.setattr(ground.broker, "init_producer_id", init_producer_id, raising=False)
    client = await ground.connect()
    for expected in ((0, 5, 0), (6, -1, -1), (51, -1, -1)):
        values = INIT | {"transactional_id": None}
        response = await client.ask(ApiKey.INIT_PRODUCER_ID, version, values)
        assert (response.error_code, response.producer_id, response.producer_epoch) == expected
    assert (asked.asked, asked.heard) == ([], [])


def added(*topics: tuple[str, list[int]], transactional_id: str = "x") -> dict[str, Any]:
    return {
        "v3_and_below_transactional_id": transactional_id,
        "v3_and_below_producer_id": 9,
        "v3_and_below_producer_epoch": 2,
        "v3_and_below_topics": [{"name": name, "partitions": indexes} for name, indexes in topics],
    }


def codes_of_added(response: Any) -> dict[tuple[str, int], int]:
    return {
        (topic.name, each.partition_index): int(each.partition_error_code)
        for topic in response.results_by_topic_v3_and_below
        for each in topic.results_by_partition
    }


@versions(ApiKey.ADD_PARTITIONS_TO_TXN)
async def test_add_partitions(ground: Ground, asked: Transactions, version: int) -> None:
    errors = {T0: None, T1: ProducerFencedError(), U0: TransactionAbortableError()}
    asked.answers["add_partitions"] = errors
    client = await ground.connect()
    values = added(("t", [0, 1, 0]), ("none", []), ("u", [0]), ("t", [1]))
    response = await client.ask(ApiKey.ADD_PARTITIONS_TO_TXN, version, values)
    assert asked.asked == [api.AddPartitionsRequest("x", 9, 2, [T0, T1, U0])]
    assert asked.heard == [("x", api.NewestOf.COORDINATION, 1)]
    fenced = 90 if version >= 2 else 47
    assert codes_of_added(response) == {T0: 0, T1: fenced, U0: 48}


@versions(ApiKey.ADD_PARTITIONS_TO_TXN)
async def test_partitions_of_which_one_does_not_exist_are_not_added(
    ground: Ground, asked: Transactions, version: int
) -> None:
    asked.answers["add_partitions"] = {
        T0: OperationNotAttemptedError(),
        TopicPartition("t", -1): UnknownTopicOrPartitionError(),
    }
    client = await ground.connect()
    response = await client.ask(ApiKey.ADD_PARTITIONS_TO_TXN, version, added(("t", [0, -1])))
    assert codes_of_added(response) == {T0: 55, ("t", -1): 3}


@pytest.mark.parametrize("version", [0, 3])
@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (added(), {}),
        (added(("t", [])), {}),
        (added(("t", [0, 1]), transactional_id=""), {T0: 42, T1: 42}),
        (
            added(("t", [0]), ("__transaction_state", [3]), ("__consumer_offsets", [1])),
            {T0: 55, ("__transaction_state", 3): 29, ("__consumer_offsets", 1): 29},
        ),
    ],
    ids=["nothing", "no partition", "no id", "the brokers' own"],
)
async def test_partitions_that_nobody_may_add_are_not_asked_for(
    ground: Ground,
    asked: Transactions,
    version: int,
    values: dict[str, Any],
    codes: Mapping[tuple[str, int], int],
) -> None:
    client = await ground.connect()
    response = await client.ask(ApiKey.ADD_PARTITIONS_TO_TXN, version, values)
    assert codes_of_added(response) == codes
    assert (asked.asked, asked.heard) == ([], [])


OFFSETS = {"transactional_id": "x", "producer_id": 9, "producer_epoch": 2, "group_id": "g"}
END = {"transactional_id": "x", "producer_id": 9, "producer_epoch": 2, "committed": True}


@versions(ApiKey.ADD_OFFSETS_TO_TXN)
async def test_add_offsets(ground: Ground, asked: Transactions, version: int) -> None:
    client = await ground.connect()
    for error, code in (
        (None, 0),
        (ProducerFencedError(), 90 if version >= 2 else 47),
        (TransactionAbortableError(), 120 if version >= 4 else 48),
        (ConcurrentTransactionsError(), 51),
    ):
        asked.answers["add_offsets"] = error
        response = await client.ask(ApiKey.ADD_OFFSETS_TO_TXN, version, OFFSETS)
        assert response.error_code == code
        assert asked.asked.pop() == api.AddOffsetsRequest("x", 9, 2, "g")
        assert asked.heard.pop() == ("x", api.NewestOf.COORDINATION, 1)


@versions(ApiKey.END_TXN)
@pytest.mark.parametrize("commits", [True, False])
async def test_end(ground: Ground, asked: Transactions, version: int, commits: bool) -> None:
    client = await ground.connect()
    for error, code in (
        (None, 0),
        (ProducerFencedError(), 90 if version >= 2 else 47),
        (TransactionAbortableError(), 120 if version >= 4 else 48),
        (InvalidTxnStateError(), 48),
    ):
        identity = api.ProducerIdentity(error, 9, 3) if error is None else None
        asked.answers["end"] = identity or api.ProducerIdentity(error)
        response = await client.ask(ApiKey.END_TXN, version, END | {"committed": commits})
        assert response.error_code == code
        if version >= 5:
            expected = (-1, -1) if error else (9, 3)
            assert (response.producer_id, response.producer_epoch) == expected
        assert asked.asked.pop() == api.EndTransactionRequest("x", 9, 2, commits, version)
        assert asked.heard.pop() == ("x", api.NewestOf.COORDINATION, 1)


@pytest.mark.parametrize(
    ("api_key", "values"),
    [(ApiKey.ADD_OFFSETS_TO_TXN, OFFSETS), (ApiKey.END_TXN, END)],
)
@pytest.mark.parametrize("version", [0, 4])
async def test_an_empty_id_is_nobodys(
    ground: Ground, asked: Transactions, version: int, api_key: ApiKey, values: dict[str, Any]
) -> None:
    client = await ground.connect()
    response = await client.ask(api_key, version, values | {"transactional_id": ""})
    assert response.error_code == 42
    assert (asked.asked, asked.heard) == ([], [])


# --- offsets -------------------------------------------------------------------------------------


def offsets(*indexes: int, **more: Any) -> dict[str, Any]:
    partitions = [
        {
            "partition_index": index,
            "committed_offset": 7,
            "committed_leader_epoch": 4,
            "committed_metadata": None,
        }
        for index in indexes
    ]
    values = {
        "transactional_id": "x",
        "group_id": "g",
        "producer_id": 9,
        "producer_epoch": 2,
        "generation_id": 5,
        "member_id": "m",
        "group_instance_id": "i",
        "topics": [{"name": "t", "partitions": partitions}],
    }
    return values | more


@versions(ApiKey.TXN_OFFSET_COMMIT)
async def test_offsets_are_committed_with_the_transaction(
    ground: Ground, asked: Transactions, version: int
) -> None:
    client = await ground.connect()
    commits = [OffsetCommitPartition(each, 7, 4 if version >= 2 else -1, "") for each in (T0, T1)]
    member = (5, "m", "i") if version >= 3 else (-1, "", None)
    for error, code in (
        (None, 0),
        (CoordinatorLoadInProgressError(), 14 if version >= 2 else 15),
        (TransactionAbortableError(), 120 if version >= 4 else 48),
        (InvalidProducerEpochError(), 47),
        (ProducerFencedError(), 47),
    ):
        results = [OffsetCommitPartitionResult(T0), OffsetCommitPartitionResult(T1, error)]
        asked.answers["commit_offsets_in_transaction"] = OffsetCommitResult(results)
        response = await client.ask(ApiKey.TXN_OFFSET_COMMIT, version, offsets(0, 1))
        [topic] = response.topics
        codes = [(each.partition_index, int(each.error_code)) for each in topic.partitions]
        assert (topic.name, codes) == ("t", [(0, 0), (1, code)])
        request = asked.asked.pop()
        assert request == api.TxnOffsetCommitRequest(
            "x", 9, 2, "g", commits, *member, adds=version >= 5, knows_abortable=version >= 4
        )
        assert asked.heard.pop() == ("x", api.NewestOf.OFFSETS, 1)


@pytest.mark.parametrize("version", [0, 5])
async def test_offsets_of_nothing_or_of_no_id_are_not_asked_for(
    ground: Ground, asked: Transactions, version: int
) -> None:
    client = await ground.connect()
    response = await client.ask(ApiKey.TXN_OFFSET_COMMIT, version, offsets(topics=[]))
    assert response.topics == ()
    nameless = offsets(0, 1, transactional_id="")
    response = await client.ask(ApiKey.TXN_OFFSET_COMMIT, version, nameless)
    assert [int(each.error_code) for each in response.topics[0].partitions] == [42, 42]
    assert (asked.asked, asked.heard) == ([], [])


# --- whose word it is ----------------------------------------------------------------------------

FENCED = ProducerFencedError()
IDENTITY_OF_FENCED = api.ProducerIdentity(FENCED)
INIT_AGAIN = INIT | {"producer_id": 9, "producer_epoch": 2}
OF_A_PRODUCER = [
    (ApiKey.INIT_PRODUCER_ID, INIT, api.NewestOf.COORDINATION),
    (ApiKey.ADD_PARTITIONS_TO_TXN, added(("t", [0])), api.NewestOf.COORDINATION),
    (ApiKey.ADD_OFFSETS_TO_TXN, OFFSETS, api.NewestOf.COORDINATION),
    (ApiKey.END_TXN, END, api.NewestOf.COORDINATION),
    (ApiKey.TXN_OFFSET_COMMIT, offsets(0), api.NewestOf.OFFSETS),
]


@pytest.mark.parametrize(("api_key", "values", "kind"), OF_A_PRODUCER)
@pytest.mark.parametrize("version", [0, None])
async def test_what_comes_on_an_older_connection_is_not_done_and_closes_it(
    ground: Ground,
    asked: Transactions,
    api_key: ApiKey,
    values: dict[str, Any],
    kind: api.NewestOf,
    version: int | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    older, younger = await ground.connect(), await ground.connect()
    asked.answers["find_coordinator"] = FindCoordinatorResult([FoundCoordinator("x", None, A)])
    for client in (older, younger):  # both are there
        await client.ask(ApiKey.FIND_COORDINATOR, 1, {"key": "x", "key_type": 1})
    asked.asked.clear()
    asked.old = {1}
    version = APIS[api_key].max_version if version is None else version
    with caplog.at_level(logging.WARNING):
        older.send(api_key, version, values)
        await older.receive_end()
    assert "transactional id 'x' is used on a younger connection" in caplog.text
    assert asked.heard == [("x", kind, 1)]
    assert asked.asked == []
    younger.send(api_key, version, values)
    await until(lambda: len(asked.heard) == 2)
    assert asked.heard[1] == ("x", kind, 2)
    await until(lambda: len(asked.asked) == 1)


@pytest.mark.parametrize(
    ("api_key", "values", "answers"),
    [
        (ApiKey.INIT_PRODUCER_ID, INIT_AGAIN, {"init_producer_id": IDENTITY_OF_FENCED}),
        (ApiKey.ADD_PARTITIONS_TO_TXN, added(("t", [0])), {"add_partitions": {T0: FENCED}}),
        (ApiKey.ADD_OFFSETS_TO_TXN, OFFSETS, {"add_offsets": FENCED}),
        (ApiKey.END_TXN, END, {"end": IDENTITY_OF_FENCED}),
    ],
)
async def test_who_is_fenced_is_told_so_on_any_connection_and_speaks_on_none(
    ground: Ground,
    asked: Transactions,
    api_key: ApiKey,
    values: dict[str, Any],
    answers: dict[str, Any],
) -> None:
    asked.fenced, asked.old = {("x", 9, 2)}, {1}
    asked.answers |= answers
    client = await ground.connect()
    response = await client.ask(api_key, APIS[api_key].max_version, values)
    if api_key is ApiKey.ADD_PARTITIONS_TO_TXN:
        assert codes_of_added(response) == {("t", 0): FENCED.code}
    else:
        assert response.error_code == FENCED.code
    assert len(asked.asked) == 1
    assert asked.heard == []


async def test_the_offsets_of_who_is_fenced_are_not_taken_on_an_older_connection(
    ground: Ground, asked: Transactions
) -> None:
    """Who takes them need not know who has the transactional id."""
    asked.fenced, asked.old = {("x", 9, 2)}, {1}
    client = await ground.connect()
    client.send(ApiKey.TXN_OFFSET_COMMIT, 3, offsets(0))
    await client.receive_end()
    assert asked.heard == [("x", api.NewestOf.OFFSETS, 1)]
    assert asked.asked == []


async def test_connections_are_numbered_as_they_are_accepted(
    ground: Ground, asked: Transactions
) -> None:
    asked.answers["add_offsets"] = None
    clients: list[Client] = []
    for _ in range(5):
        clients.append(await ground.connect())
        if len(clients) == 3:
            clients[0].writer.close()
    for client in reversed(clients[1:]):
        await client.ask(ApiKey.ADD_OFFSETS_TO_TXN, 3, OFFSETS)
    assert [number for _, _, number in asked.heard] == [5, 4, 3, 2]


class Call:
    api, version, connection_number = ApiKey.ADD_PARTITIONS_TO_TXN, 3, 7


def noted_turns(asked: Transactions) -> list[str]:
    """Who has a turn: "heard", "others" as soon as anybody else could have one."""
    order: list[str] = []

    def hears(*_: object) -> bool:
        order.append("heard")
        asyncio.get_running_loop().call_soon(order.append, "others")
        return True

    asked.hears = hears  # type: ignore[method-assign]
    return order


async def test_nobody_else_has_a_turn_between_being_heard_and_the_deed(
    ground: Ground, asked: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a younger connection could speak in between, and the older deed come after it."""
    order = noted_turns(asked)
    monkeypatch.setattr(turns, "SLICE_S", 0.0)  # whoever may be interrupted is

    def add(request: api.AddPartitionsRequest) -> Any:
        order.append("done")
        return dict.fromkeys(request.partitions)

    asked.answers["add_partitions"] = add
    request = AddPartitionsToTxn(
        {
            "v3_and_below_transactional_id": "x",
            "v3_and_below_producer_id": 9,
            "v3_and_below_producer_epoch": 2,
            "v3_and_below_topics": [AddPartitionsToTxn({"name": "t", "partitions": [0, 1, 2]})],
        }
    )
    await handlers.add_partitions_to_txn(ground.broker, Call(), request)  # type: ignore[arg-type]
    assert order[:2] == ["heard", "done"]


async def test_a_topic_that_is_made_first_is_made_before_the_connection_is_asked_about(
    ground: Ground, asked: Transactions
) -> None:
    order = noted_turns(asked)

    async def prepare() -> None:
        await asyncio.sleep(0)
        order.append("prepared")

    def add(_: api.AddOffsetsRequest) -> None:
        order.append("done")

    asked.prepare_offsets = prepare  # type: ignore[method-assign]
    asked.answers["add_offsets"] = add
    request = AddOffsetsToTxn(dict(OFFSETS))
    await handlers.add_offsets_to_txn(ground.broker, Call(), request)  # type: ignore[arg-type]
    assert order[:3] == ["prepared", "heard", "done"]


# --- administration ------------------------------------------------------------------------------


def marker(producer_id: int, topics: dict[str, list[int]], **more: Any) -> dict[str, Any]:
    values = {
        "producer_id": producer_id,
        "producer_epoch": 2,
        "transaction_result": False,
        "topics": [{"name": name, "partition_indexes": each} for name, each in topics.items()],
        "coordinator_epoch": -1,
    }
    return values | more


def codes_of_markers(response: Any) -> dict[int, dict[tuple[str, int], int]]:
    return {
        each.producer_id: {
            (topic.name, partition.partition_index): int(partition.error_code)
            for topic in each.topics
            for partition in topic.partitions
        }
        for each in response.markers
    }


async def test_an_administrator_aborts_and_never_commits(
    ground: Ground, asked: Transactions
) -> None:
    asked.answers["abort_partitions"] = [
        None,
        NotLeaderOrFollowerError(),
        BrokerNotAvailableError(),
        InvalidProducerEpochError(),
    ]
    client = await ground.connect()
    markers = [
        marker(9, {"t": [0, 1]}, coordinator_epoch=4),
        marker(8, {"t": [0], "u": [0]}, transaction_result=True),
        marker(7, {"u": [0]}),
        marker(9, {"u": [0]}, producer_epoch=3),
        marker(6, {}),
    ]
    response = await client.ask(ApiKey.WRITE_TXN_MARKERS, 1, {"markers": markers})
    assert asked.asked == [
        [
            api.AbortPartition(T0, 9, 2, 4),
            api.AbortPartition(T1, 9, 2, 4),
            api.AbortPartition(U0, 7, 2, -1),
            api.AbortPartition(U0, 9, 3, -1),
        ]
    ]
    assert codes_of_markers(response) == {
        9: {T0: 0, T1: 6, U0: 47},
        8: {T0: 42, U0: 42},
        7: {U0: 6},
    }
    assert asked.heard == []


async def test_markers_of_which_none_aborts_are_asked_of_nobody(
    ground: Ground, asked: Transactions
) -> None:
    client = await ground.connect()
    response = await client.ask(ApiKey.WRITE_TXN_MARKERS, 1, {"markers": []})
    assert response.markers == ()
    commits = [marker(8, {"t": [0]}, transaction_result=True)]
    response = await client.ask(ApiKey.WRITE_TXN_MARKERS, 1, {"markers": commits})
    assert codes_of_markers(response) == {8: {T0: 42}}
    assert asked.asked == []


async def test_the_producers_of_partitions_are_told(ground: Ground, asked: Transactions) -> None:
    asked.answers["describe_producers"] = [
        api.DescribedProducers(T0, None, [api.ActiveProducer(9, 2, 41, 1_700_000_000_000, 4, 17)]),
        api.DescribedProducers(T1, BrokerNotAvailableError("out of touch")),
        api.DescribedProducers(U0, None, [api.ActiveProducer(8, 0, -1, -1, -1, -1)]),
    ]
    client = await ground.connect()
    topics = [
        {"name": "t", "partition_indexes": [0, 1, 0]},
        {"name": "u", "partition_indexes": [0]},
    ]
    response = await client.ask(ApiKey.DESCRIBE_PRODUCERS, 0, {"topics": topics})
    assert asked.asked == [[T0, T1, U0]]
    first, second = response.topics[0].partitions
    assert plain(first) == {
        "partition_index": 0,
        "error_code": 0,
        "error_message": None,
        "active_producers": [
            {
                "producer_id": 9,
                "producer_epoch": 2,
                "last_sequence": 41,
                "last_timestamp": 1_700_000_000_000,
                "coordinator_epoch": 4,
                "current_txn_start_offset": 17,
            }
        ],
    }
    assert (int(second.error_code), second.error_message) == (6, "out of touch")
    assert second.active_producers == ()
    assert response.topics[1].partitions[0].active_producers[0].last_timestamp == -1
    response = await client.ask(ApiKey.DESCRIBE_PRODUCERS, 0, {"topics": []})
    assert response.topics == ()
    assert len(asked.asked) == 1


async def test_transactions_are_described(ground: Ground, asked: Transactions) -> None:
    asked.answers["describe_transactions"] = [
        api.TransactionDescription("x", None, "Ongoing", 60_000, 1_700_000_000_000, 9, 2, [T0, T1]),
        api.TransactionDescription("y", TransactionalIdNotFoundError()),
        api.TransactionDescription("z", None, "Empty", 1_000, -1, 8, 0),
    ]
    client = await ground.connect()
    ids = {"transactional_ids": ["x", "y", "", "z", "x"]}
    response = await client.ask(ApiKey.DESCRIBE_TRANSACTIONS, 0, ids)
    assert asked.asked == [["x", "y", "z"]]
    nothing = ("", 0, 0, 0, 0, [])
    told = {
        each["transactional_id"]: (
            each["error_code"],
            each["transaction_state"],
            each["transaction_timeout"],
            each["transaction_start_time"],
            each["producer_id"],
            each["producer_epoch"],
            each["topics"],
        )
        for each in plain(response)["transaction_states"]
    }
    open_topics = [{"topic": "t", "partitions": [0, 1]}]
    assert told == {
        "": (42, *nothing),
        "x": (0, "Ongoing", 60_000, 1_700_000_000_000, 9, 2, open_topics),
        "y": (105, *nothing),
        "z": (0, "Empty", 1_000, -1, 8, 0, []),
    }
    response = await client.ask(ApiKey.DESCRIBE_TRANSACTIONS, 0, {"transactional_ids": []})
    assert response.transaction_states == ()
    assert len(asked.asked) == 1


@versions(ApiKey.LIST_TRANSACTIONS)
async def test_transactions_are_listed(ground: Ground, asked: Transactions, version: int) -> None:
    listed = [api.ListedTransaction("x", 9, "Ongoing")]
    asked.answers["list_transactions"] = api.ListTransactionsResult(None, listed, ["Nonsense"])
    client = await ground.connect()
    values = {
        "state_filters": ["Ongoing", "Nonsense"],
        "producer_id_filters": [9, -3],
        "duration_filter": 5_000,
    }
    response = await client.ask(ApiKey.LIST_TRANSACTIONS, version, values)
    longer_than_ms = 5_000 if version >= 1 else -1
    assert asked.asked.pop() == api.ListTransactionsRequest(
        ["Ongoing", "Nonsense"], [9, -3], longer_than_ms
    )
    assert (response.error_code, response.unknown_state_filters) == (0, ("Nonsense",))
    [found] = response.transaction_states
    told = (found.transactional_id, found.producer_id, found.transaction_state)
    assert told == ("x", 9, "Ongoing")
    loading = api.ListTransactionsResult(CoordinatorLoadInProgressError())
    asked.answers["list_transactions"] = loading
    values = {"state_filters": [], "producer_id_filters": []}
    values |= {"duration_filter": -2}
    response = await client.ask(ApiKey.LIST_TRANSACTIONS, version, values)
    assert (response.error_code, response.transaction_states) == (14, ())
    assert asked.asked.pop() == api.ListTransactionsRequest([], [], -1)
