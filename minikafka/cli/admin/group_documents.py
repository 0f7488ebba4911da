"""What `minikafka groups` shows and does: documents of groups, and plans for their offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minikafka.cli.kit.connection import require_topics
from minikafka.errors import (
    GroupIdNotFoundError,
    InvalidRequestError,
    NonEmptyGroupError,
    UnknownTopicOrPartitionError,
)
from minikafka.local.telling import tell
from minikafka.model import TopicPartition
from minikafka.watching.groups import (
    require_groups,
)

if TYPE_CHECKING:
    from minikafka.client import AsyncAdmin, AsyncConsumer

Wanted = Sequence[tuple[str, list[int] | None]]  # topic, and some of its partitions or all
Plan = dict[TopicPartition, tuple[int | None, int]]  # what is committed, what is to be


def lag_rows(document: Mapping[str, Any]) -> list[list[object]]:
    """A row a partition, and one for each member that has none."""
    keys = ("topic", "partition", "current_offset", "log_end_offset", "lag")
    who = ("member_id", "host", "client_id")
    rows = [
        [document["group"], *_shown(each[key] for key in (*keys, *who))]
        for each in document["partitions"]
    ]
    for member in document["members"]:
        if not member["partitions"]:
            nothing = ["-"] * len(keys)
            rows.append([document["group"], *nothing, *_shown(member[key] for key in who)])
    return rows


def member_rows(document: Mapping[str, Any]) -> list[list[object]]:
    return [
        [
            document["group"],
            member["member_id"],
            member["host"],
            member["client_id"],
            len(member["partitions"]),
            ",".join(f"{each['topic']}-{each['partition']}" for each in member["partitions"])
            or "-",
        ]
        for member in document["members"]
    ]


def _shown(values: Any) -> list[object]:
    return ["-" if value is None else value for value in values]


# --- offsets -------------------------------------------------------------------------------------


async def _partitions_of(admin: AsyncAdmin, wanted: Wanted) -> list[TopicPartition]:
    """All of these; UnknownTopicOrPartitionError for what is not there."""
    metadata = await require_topics(admin, sorted({topic for topic, _ in wanted}))
    counts = {topic.name: len(topic.partitions) for topic in metadata.topics}
    chosen: dict[TopicPartition, None] = {}
    for topic, numbers in wanted:
        for number in range(counts[topic]) if numbers is None else numbers:
            if number >= counts[topic]:
                raise UnknownTopicOrPartitionError(
                    f"topic {topic} has no partition {number}: it has {counts[topic]}, numbered "
                    "from 0"
                )
            chosen[TopicPartition(topic, number)] = None
    return sorted(chosen)


async def forget_offsets(admin: AsyncAdmin, name: str, wanted: Wanted) -> list[dict[str, Any]]:
    """Raises the error of the first partition that has one."""
    await require_groups(admin, [name])
    committed = await admin.group_offsets(name)
    chosen = [
        each
        for each in committed
        for topic, numbers in wanted
        if each.topic == topic and (numbers is None or each.partition in numbers)
    ]
    if not chosen:
        raise InvalidRequestError(f"group {name} has committed no offset there")
    results = await admin.delete_group_offsets(name, sorted(set(chosen)))
    for error in results.values():
        if error is not None:
            raise error
    return [{"topic": each.topic, "partition": each.partition} for each in results]


async def plan_reset(
    admin: AsyncAdmin,
    consumer: AsyncConsumer,
    name: str,
    wanted: Wanted | None,
    target: tuple[str, int],
) -> Plan:
    """What each partition's offset is and would be (`wanted` None: wherever the group has offsets).
    Raises NonEmptyGroupError while the group has members."""
    [group] = await admin.describe_groups([name])
    if group.error is not None:
        raise group.error
    if group.members:
        raise NonEmptyGroupError(
            f"group {name} has {len(group.members)} members ({group.state}): end them first, since "
            "they would commit over it"
        )
    committed = await admin.group_offsets(name)
    if wanted is None:
        if not committed:
            raise GroupIdNotFoundError(f"group {name!r} has no offsets: name topics with --topic")
        partitions = sorted(committed)
    else:
        partitions = await _partitions_of(admin, wanted)
    current = {each: value.offset for each, value in committed.items()}
    return await _new_offsets(consumer, partitions, current, target)


async def _new_offsets(
    consumer: AsyncConsumer,
    partitions: Sequence[TopicPartition],
    current: Mapping[TopicPartition, int],
    target: tuple[str, int],
) -> Plan:
    what, number = target
    starts = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    plan: Plan = {}
    found = {}
    if what == "--to-datetime":
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, number))
    for each in partitions:
        if what == "--to-earliest":
            new = starts[each]
        elif what == "--to-latest":
            new = ends[each]
        elif what == "--to-offset":
            new = number
        elif what == "--to-datetime":
            at = found[each]
            new = ends[each] if at is None else at
        elif each not in current:
            tell(f"{each}: the group has no offset that could be shifted; it is left out")
            continue
        else:
            new = current[each] + number
        nearest = min(max(new, starts[each]), ends[each])
        if nearest != new:
            tell(f"{each}: offset {new} is not there ({starts[each]} to {ends[each]} are)")
        plan[each] = (current.get(each), nearest)
    return plan
