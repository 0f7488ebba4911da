"""Groups with what each member reads and how far behind it is."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minikafka.core.groups.consumer_protocol import CONSUMER_PROTOCOL_TYPE, decode_assignment
from minikafka.errors import (
    GroupIdNotFoundError,
    InvalidRequestError,
)
from minikafka.model import TopicPartition

if TYPE_CHECKING:
    from minikafka.api.groups import CommittedOffset, GroupDescription, GroupMember
    from minikafka.client import AsyncAdmin


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
