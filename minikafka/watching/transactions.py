"""Transactions that are open, and the partitions at which each is what readers of committed records
wait for: the one that began first there holds the last stable offset."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minikafka.client.administering.transaction_admin import ENDS_BY_ITSELF
from minikafka.model import TopicPartition

if TYPE_CHECKING:
    from minikafka.api.transactions import ActiveProducer, TransactionDescription
    from minikafka.client import AsyncAdmin

MOST_SHOWN = 100  # transactions that are looked at more closely, and partitions
LONG_MS = 10_000


async def describe_open_transactions(admin: AsyncAdmin) -> dict[str, Any]:
    """A document: `open` counts all, `transactions` has at most MOST_SHOWN of them, the oldest
    first, those that are open for long before others. One without a transactional id is in no
    coordinator's list: it hangs. Raises what AsyncAdmin.list_transactions raises."""
    listed = {each.transactional_id: each for each in await _list(admin)}
    names = list(listed)
    if len(names) > MOST_SHOWN:
        long = [each.transactional_id for each in await _list(admin, LONG_MS)]
        names = list(dict.fromkeys([*long, *names]))[:MOST_SHOWN]
    described = [
        each
        for each in await admin.describe_transactions(names)
        if each.error is None and each.state in ENDS_BY_ITSELF
    ]
    described.sort(key=lambda each: (each.start_timestamp_ms, each.transactional_id))
    partitions = dict.fromkeys(where for each in described for where in each.partitions)
    first = await _first_at(admin, list(partitions)[:MOST_SHOWN])
    documents = [_document(each, first) for each in described]
    known = {each.producer_id for each in listed.values()}
    documents += _unlisted(known, first)
    return {"open": len(listed), "transactions": documents}


async def _list(admin: AsyncAdmin, longer_than_ms: int = -1) -> Sequence[Any]:
    return await admin.list_transactions(ENDS_BY_ITSELF, longer_than_ms=longer_than_ms)


async def _first_at(
    admin: AsyncAdmin, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, ActiveProducer]:
    """Of each partition whose leader answers: whose transaction began first there."""
    found = {}
    for each in await admin.describe_producers(partitions) if partitions else ():
        open_here = [producer for producer in each.producers if producer.open_first_offset >= 0]
        if each.error is None and open_here:
            found[each.topic_partition] = min(open_here, key=lambda one: one.open_first_offset)
    return found


def _document(
    found: TransactionDescription, first: dict[TopicPartition, ActiveProducer]
) -> dict[str, Any]:
    return {
        "transactional_id": found.transactional_id,
        "producer_id": found.producer_id,
        "producer_epoch": found.producer_epoch,
        "state": found.state,
        "started_ms": found.start_timestamp_ms if found.start_timestamp_ms >= 0 else None,
        "timeout_ms": found.timeout_ms,
        "partitions": len(found.partitions),
        "holds_back": [
            _held(where, first[where])
            for where in sorted(found.partitions)
            if where in first and first[where].producer_id == found.producer_id
        ],
    }


def _unlisted(known: set[int], first: dict[TopicPartition, ActiveProducer]) -> list[dict[str, Any]]:
    """What no coordinator knows, once it is too old to have begun just now."""
    before_ms = time.time() * 1000 - LONG_MS
    held: dict[int, list[TopicPartition]] = {}
    for where, producer in first.items():
        if producer.producer_id not in known and producer.last_timestamp_ms < before_ms:
            held.setdefault(producer.producer_id, []).append(where)
    return [
        {
            "transactional_id": None,
            "producer_id": producer_id,
            "producer_epoch": first[partitions[0]].producer_epoch,
            "state": "hangs",
            "started_ms": None,
            "timeout_ms": None,
            "partitions": len(partitions),
            "holds_back": [_held(where, first[where]) for where in sorted(partitions)],
        }
        for producer_id, partitions in sorted(held.items())
    ]


def _held(where: TopicPartition, producer: ActiveProducer) -> dict[str, Any]:
    return {
        "topic": where.topic,
        "partition": where.partition,
        "from_offset": producer.open_first_offset,
    }
