"""What `minikafka groups` shows and does: documents of groups, and plans for their offsets."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minikafka.cli.connection import require_topics
from minikafka.cli.output import tell
from minikafka.core.groups.consumer_protocol import CONSUMER_PROTOCOL_TYPE, decode_assignment
from minikafka.errors import (
    GroupIdNotFoundError,
    InvalidRequestError,
    NonEmptyGroupError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import TopicPartition

if TYPE_CHECKING:
    from minikafka.api.groups import CommittedOffset, GroupDescription, GroupMember
    from minikafka.client import AsyncAdmin, AsyncConsumer

Wanted = Sequence[tuple[str, list[int] | None]]  # topic, and some of its partitions or all
Plan = dict[TopicPartition, tuple[int | None, int]]  # what is committed, what is to be


async def require_groups(admin: AsyncAdmin, names: Sequence[str]) -> list[GroupDescription]:
    """Raises GroupIdNotFoundError, with the names that are spelt like it, for a group that is not
    there; any other error of the first group that has one."""
    described = await admin.describe_groups(names)
    for group in described:
        if group.error is not None:
            raise group.error
        if group.state == "Dead":
            known = [each.group_id for each in await admin.list_groups()]
            near = difflib.get_close_matches(group.group_id, known, n=3, cutoff=0.6)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else "`minikafka groups list` has all"
            )
            raise GroupIdNotFoundError(f"there is no group {group.group_id!r}; {hint}")
    return described


async def describe_groups(admin: AsyncAdmin, names: Sequence[str]) -> list[dict[str, Any]]:
    """A document a group (none named: all), as docs/cli.md has them."""
    wanted = list(names) or [each.group_id for each in await admin.list_groups()]
    described = await require_groups(admin, wanted)
    committed = {each.group_id: await admin.group_offsets(each.group_id) for each in described}
    owners = {each.group_id: _owners(each) for each in described}
    partitions = {
        each
        for group in described
        for each in [*committed[group.group_id], *owners[group.group_id]]
    }
    ends = await _log_ends(admin, sorted(partitions))
    return [
        _document(group, committed[group.group_id], owners[group.group_id], ends)
        for group in described
    ]


async def _log_ends(
    admin: AsyncAdmin, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """The high watermarks, as far as leaders answer: what a consumer can read up to."""
    if not partitions:
        return {}
    statuses = await admin.describe_partitions(partitions)
    return {each.topic_partition: each.high_watermark for each in statuses if each.error is None}


def assigned_to(group: GroupDescription, member: GroupMember) -> list[TopicPartition]:
    """What a member of a group of consumers reads; nothing for other kinds of groups."""
    if group.protocol_type != CONSUMER_PROTOCOL_TYPE:
        return []
    try:
        return sorted(decode_assignment(member.assignment))
    except InvalidRequestError:
        return []


def _owners(group: GroupDescription) -> dict[TopicPartition, GroupMember]:
    return {each: member for member in group.members for each in assigned_to(group, member)}


def _document(
    group: GroupDescription,
    committed: Mapping[TopicPartition, CommittedOffset],
    owners: Mapping[TopicPartition, GroupMember],
    ends: Mapping[TopicPartition, int],
) -> dict[str, Any]:
    partitions = []
    for each in sorted({*committed, *owners}):
        offset, end, owner = committed.get(each), ends.get(each), owners.get(each)
        lag = None if offset is None or end is None else max(end - offset.offset, 0)
        partitions.append(
            {
                "topic": each.topic,
                "partition": each.partition,
                "current_offset": None if offset is None else offset.offset,
                "log_end_offset": end,
                "lag": lag,
                "member_id": None if owner is None else owner.member_id,
                "host": None if owner is None else owner.client_host,
                "client_id": None if owner is None else owner.client_id,
                "metadata": None if offset is None else offset.metadata,
            }
        )
    return {
        "group": group.group_id,
        "state": group.state,
        "protocol_type": group.protocol_type,
        "protocol": group.protocol_name,
        "lag": sum(each["lag"] or 0 for each in partitions),
        "members": [
            {
                "member_id": member.member_id,
                "instance_id": member.instance_id,
                "client_id": member.client_id,
                "host": member.client_host,
                "partitions": [
                    {"topic": each.topic, "partition": each.partition}
                    for each in assigned_to(group, member)
                ],
            }
            for member in group.members
        ],
        "partitions": partitions,
    }


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
