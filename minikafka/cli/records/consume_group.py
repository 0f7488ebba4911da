"""`minikafka consume --group`: records that a group shares out, committed when they are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikafka.errors import (
    IllegalGenerationError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
)
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.cli.records.consume import Options, Write
    from minikafka.client import AsyncConsumer
    from minikafka.client.values import ConsumerRecord
    from minikafka.local.discovery import Bootstrap
    from minikafka.model import TopicPartition

_POLL_MS = 500
_POLL_RECORDS = 4000
_BLOCK_MS = 15_000


async def consume_in_group(
    cluster: Bootstrap, options: Options, group_id: str, write: Write
) -> None:
    """Until the ends of now of what this member was assigned, `max_messages`, or Ctrl-C."""
    from minikafka.cli.kit.connection import open_admin, require_topic
    from minikafka.client import AsyncConsumer

    async with open_admin(cluster) as admin:
        known = await require_topic(admin, options.topic)
    partitions = [each.topic_partition for each in known.partitions]
    async with AsyncConsumer(
        cluster.addresses,
        auto_offset_reset="earliest" if options.from_beginning else "latest",
        isolation=options.isolation,
        max_block_ms=_BLOCK_MS,
    ) as consumer:
        ends = {} if options.follow else await consumer.end_offsets(partitions)
        consumer.subscribe(
            options.topic, group_id, auto_commit=False, client_id="minikafka-consume"
        )
        await _read(consumer, ends, options, write)


async def _read(
    consumer: AsyncConsumer, ends: dict[TopicPartition, int], options: Options, write: Write
) -> None:
    left = options.max_messages
    silent_ms = 0
    while True:
        limit = _POLL_RECORDS if left is None else min(left, _POLL_RECORDS)
        records = await consumer.poll(_POLL_MS, limit)
        if records:
            write(records)
            await _commit(consumer, records)
        silent_ms = 0 if records else silent_ms + _POLL_MS
        if left is not None:
            left -= len(records)
            if left == 0:
                return
        if options.follow:
            continue
        if consumer.in_group and await _at_the_ends(consumer, ends):
            return
        if silent_ms > options.timeout_s * 1000:
            raise RequestTimedOutError(
                f"nothing came for {options.timeout_s:g} s; `minikafka groups describe` shows "
                "who is in the group, `minikafka status` how the cluster is"
            )


async def _commit(consumer: AsyncConsumer, records: list[ConsumerRecord]) -> None:
    """After what was printed. If it is too late for that, others read it again."""
    from minikafka.model import TopicPartition

    offsets = {
        TopicPartition(record.topic, record.partition): record.offset + 1 for record in records
    }
    try:
        await consumer.commit(offsets)
    except (IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError) as error:
        tell(f"not committed, so it may be read again: {error}")


async def _at_the_ends(consumer: AsyncConsumer, ends: dict[TopicPartition, int]) -> bool:
    """A partition that was added meanwhile has nothing that was there at the start."""
    return all(
        [await consumer.position(each) >= ends.get(each, 0) for each in consumer.assignment()]
    )
