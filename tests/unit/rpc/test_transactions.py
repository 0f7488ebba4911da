"""rpc/transactions.py: what clients and administrators ask about transactions, over gRPC."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given

from minikafka.api import groups
from minikafka.api import transactions as requests
from minikafka.broker.counters import RequestCounters
from minikafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    InvalidProducerIdMappingError,
    NetworkError,
    NotLeaderOrFollowerError,
    ProducerFencedError,
    TransactionalIdNotFoundError,
    UnknownServerError,
)
from minikafka.model import BrokerInfo, TopicPartition
from minikafka.rpc.generated import transaction_pb2 as wire
from minikafka.rpc.mirror import from_wire, to_wire
from tests.unit.rpc.conftest import Loopback
from tests.unit.rpc.test_groups import plain, strategy

T0 = TopicPartition("t", 0)
MIRRORED: list[tuple[type[Any], type[Message]]] = [
    (requests.InitProducerIdRequest, wire.InitProducerRequest),
    (requests.ProducerIdentity, wire.InitProducerResponse),
    (requests.EndTransactionRequest, wire.EndTransactionRequest),
    (requests.ProducerIdentity, wire.EndTransactionResponse),
    (requests.ListTransactionsRequest, wire.ListTransactionsRequest),
    (requests.ListTransactionsResult, wire.ListTransactionsResponse),
    (requests.TransactionDescription, wire.TransactionDescription),
    (requests.DescribedProducers, wire.DescribedProducers),
    (requests.AbortPartition, wire.AbortPartition),
]


@pytest.mark.parametrize(("kind", "message"), MIRRORED)
def test_requests_and_results_come_back_as_they_went(
    kind: type[Any], message: type[Message]
) -> None:
    @given(strategy(kind))
    def check(value: Any) -> None:
        sent = message.FromString(to_wire(value, message).SerializeToString())
        assert plain(from_wire(sent, kind)) == plain(value)

    check()


class FakeTransactions:
    """Gives `answer`, or raises it; keeps what was asked, by method."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any) -> Any:
            self.asked.append((name, request))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return call


def serve(loopback: Loopback, answer: Any) -> FakeTransactions:
    transactions = FakeTransactions(answer)
    loopback.service.transactions = transactions  # type: ignore[attr-defined]
    return transactions


ASKED: list[tuple[str, Any, Any]] = [
    (
        "find_coordinator",
        groups.FindCoordinatorRequest(("orders",), groups.COORDINATES_TRANSACTIONS),
        groups.FindCoordinatorResult(
            (groups.FoundCoordinator("orders", None, BrokerInfo(1, "A", "host", 9)),)
        ),
    ),
    (
        "init_producer_id",
        requests.InitProducerIdRequest("orders", 60_000, 7, 3),
        requests.ProducerIdentity(None, 7, 4),
    ),
    (
        "end",
        requests.EndTransactionRequest("orders", 7, 4, True, 5),
        requests.ProducerIdentity(ConcurrentTransactionsError("not yet")),
    ),
    (
        "list_transactions",
        requests.ListTransactionsRequest(("Ongoing", "Odd"), (7,), 1_000),
        requests.ListTransactionsResult(
            CoordinatorLoadInProgressError("reads"),
            (requests.ListedTransaction("orders", 7, "Ongoing"),),
            ("Odd",),
        ),
    ),
    (
        "describe_transactions",
        ["orders", "bills"],
        (
            requests.TransactionDescription("orders", None, "Ongoing", 60_000, 5, 7, 4, (T0,)),
            requests.TransactionDescription("bills", TransactionalIdNotFoundError("none")),
        ),
    ),
    (
        "describe_producers",
        (T0,),
        (
            requests.DescribedProducers(
                T0, None, (requests.ActiveProducer(7, 4, 11, 1_700_000_000_000, 2, 5),)
            ),
            requests.DescribedProducers(T0, NotLeaderOrFollowerError("elsewhere")),
        ),
    ),
    (
        "abort_partitions",
        (requests.AbortPartition(T0, 7, 4, -1), requests.AbortPartition(T0, 8, 0, 2)),
        [None, InvalidProducerIdMappingError("nothing is open")],
    ),
]


@pytest.mark.parametrize(("name", "request_", "answer"), ASKED)
async def test_every_method_reaches_the_service(
    loopback: Loopback, name: str, request_: Any, answer: Any
) -> None:
    await loopback.start()
    transactions = serve(loopback, answer)
    told = await getattr(loopback.channel().transactions, name)(request_)
    assert plain(told) == plain(answer)
    [(asked, received)] = transactions.asked
    assert asked == name
    assert plain(received) == plain(request_)


async def test_a_request_that_fails_as_a_whole_raises_or_has_its_error_in_the_result(
    loopback: Loopback,
) -> None:
    await loopback.start()
    stub = loopback.channel().transactions
    serve(loopback, RuntimeError("a bug"))
    for ask, argument in (
        (stub.describe_transactions, ["orders"]),
        (stub.describe_producers, [T0]),
        (stub.abort_partitions, [requests.AbortPartition(T0, 7, 4, -1)]),
    ):
        with pytest.raises(UnknownServerError):
            await ask(argument)  # type: ignore[operator]
    identity = await stub.init_producer_id(requests.InitProducerIdRequest("orders", 1))
    assert isinstance(identity.error, UnknownServerError)
    serve(loopback, ProducerFencedError("another has it"))
    identity = await stub.end(requests.EndTransactionRequest("orders", 7, 4, False, 5))
    assert isinstance(identity.error, ProducerFencedError)


async def test_a_broker_that_is_not_there_is_a_network_error(
    loopback: Loopback, free_port: int
) -> None:
    stub = loopback.channel(f"127.0.0.1:{free_port}").transactions
    with pytest.raises(NetworkError):
        await stub.end(requests.EndTransactionRequest("orders", 7, 4, False, 5))


async def test_requests_are_counted_by_kafkas_names(loopback: Loopback) -> None:
    counters = RequestCounters()
    await loopback.start(counters=counters)
    serve(loopback, requests.ProducerIdentity(None, 7, 4))
    stub = loopback.channel().transactions
    await stub.init_producer_id(requests.InitProducerIdRequest("orders", 1))
    await stub.end(requests.EndTransactionRequest("orders", 7, 4, False, 5))
    assert {"InitProducerId", "EndTxn"} <= set(counters.kinds)
