"""Open transactions, and who holds readers of committed records back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

from minikafka.api.transactions import (
    ActiveProducer,
    DescribedProducers,
    ListedTransaction,
    TransactionDescription,
)
from minikafka.client import AsyncAdmin
from minikafka.errors import NotLeaderOrFollowerError, TransactionalIdNotFoundError
from minikafka.model import TopicPartition
from minikafka.watching.transactions import LONG_MS, MOST_SHOWN, describe_open_transactions

A, B, C = (TopicPartition("t", number) for number in range(3))


def producer(producer_id: int, first: int, timestamp_ms: int = 0) -> ActiveProducer:
    return ActiveProducer(producer_id, 0, 5, timestamp_ms, -1, first)


class FakeAdmin:
    """Knows transactions (with the time for which they are open) and producers."""

    def __init__(self, *transactions: TransactionDescription) -> None:
        self.known = {each.transactional_id: each for each in transactions}
        self.open_for_ms: dict[str, int] = {}
        self.producers: dict[TopicPartition, DescribedProducers] = {}
        self.described: list[str] = []

    def at(self, where: TopicPartition, *producers: ActiveProducer) -> None:
        self.producers[where] = DescribedProducers(where, None, producers)

    async def list_transactions(
        self, states: Iterable[str], *, longer_than_ms: int = -1
    ) -> list[ListedTransaction]:
        return [
            ListedTransaction(name, each.producer_id, each.state)
            for name, each in sorted(self.known.items())
            if each.state in states and self.open_for_ms.get(name, 0) > longer_than_ms
        ]

    async def describe_transactions(self, names: Iterable[str]) -> list[TransactionDescription]:
        self.described = list(names)
        return [self.known[each] for each in self.described]

    async def describe_producers(
        self, partitions: Iterable[TopicPartition]
    ) -> list[DescribedProducers]:
        return [self.producers.get(each, DescribedProducers(each)) for each in partitions]


async def look(admin: FakeAdmin) -> dict[str, Any]:
    return await describe_open_transactions(cast("AsyncAdmin", admin))


def transaction(
    name: str, producer_id: int, started_ms: int, *partitions: TopicPartition
) -> TransactionDescription:
    return TransactionDescription(
        name, None, "Ongoing", 60_000, started_ms, producer_id, 3, partitions
    )


async def test_who_began_first_at_a_partition_holds_it_back() -> None:
    admin = FakeAdmin(transaction("late", 1, 200, B, A), transaction("early", 2, 100, A, C))
    admin.at(A, producer(1, 40), producer(9, -1), producer(2, 30))
    admin.at(B, producer(1, 7))
    admin.producers[C] = DescribedProducers(C, NotLeaderOrFollowerError("moved"), ())
    found = await look(admin)
    assert found == {
        "open": 2,
        "transactions": [
            {
                "transactional_id": "early",
                "producer_id": 2,
                "producer_epoch": 3,
                "state": "Ongoing",
                "started_ms": 100,
                "timeout_ms": 60_000,
                "partitions": 2,
                "holds_back": [{"topic": "t", "partition": 0, "from_offset": 30}],
            },
            {
                "transactional_id": "late",
                "producer_id": 1,
                "producer_epoch": 3,
                "state": "Ongoing",
                "started_ms": 200,
                "timeout_ms": 60_000,
                "partitions": 2,
                "holds_back": [{"topic": "t", "partition": 1, "from_offset": 7}],
            },
        ],
    }


async def test_what_no_coordinator_knows_is_told_once_it_is_old() -> None:
    now_ms = int(time.time() * 1000)
    admin = FakeAdmin(transaction("x", 1, 5, A, B, C))
    admin.at(A, producer(1, 9), producer(77, 3, now_ms - LONG_MS - 1_000))
    admin.at(B, producer(1, 9), producer(77, 2, now_ms - LONG_MS - 1_000))
    admin.at(C, producer(1, 9), producer(78, 3, now_ms))  # has begun since the list was made
    known, hanging = (await look(admin))["transactions"]
    assert known["holds_back"] == []
    assert (hanging["transactional_id"], hanging["producer_id"]) == (None, 77)
    assert [each["from_offset"] for each in hanging["holds_back"]] == [3, 2]


async def test_what_ended_between_two_questions_is_left_out() -> None:
    ended = transaction("ended", 1, -1)
    admin = FakeAdmin(transaction("x", 2, 5), ended)
    listed = await admin.list_transactions(["Ongoing"])
    assert len(listed) == 2

    async def describe(names: Iterable[str]) -> Sequence[TransactionDescription]:
        ended.error = TransactionalIdNotFoundError("gone")
        return [admin.known[each] for each in names]

    admin.describe_transactions = describe  # type: ignore[assignment,method-assign]
    found = await look(admin)
    assert [each["transactional_id"] for each in found["transactions"]] == ["x"]


async def test_of_very_many_those_that_are_open_for_long_are_looked_at() -> None:
    names = [f"id-{number:04}" for number in range(10 * MOST_SHOWN)]
    admin = FakeAdmin(*(transaction(name, number, 5) for number, name in enumerate(names)))
    admin.open_for_ms = {names[-1]: LONG_MS + 1, names[500]: LONG_MS + 1}
    found = await look(admin)
    assert found["open"] == len(names)
    assert len(found["transactions"]) == len(admin.described) == MOST_SHOWN
    assert {names[-1], names[500]} <= set(admin.described)
