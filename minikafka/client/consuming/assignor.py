"""Who reads which partition: Kafka's range assignor (protocol "range").

Of each topic, the members that read it, in order, get a run of consecutive partitions each, the
first ones one more if it does not come out even. So that members who join Kafka's own clients in
one group agree, the order is theirs: by instance id where both have one, else by member id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cmp_to_key

from minikafka.api.groups import JoinedMember
from minikafka.core.groups.consumer_protocol import decode_subscription
from minikafka.model import TopicPartition

RANGE = "range"


def subscribed_topics(members: Sequence[JoinedMember]) -> set[str]:
    """All topics that somebody reads."""
    return {topic for each in members for topic in decode_subscription(each.metadata).topics}


def assign_range(
    members: Sequence[JoinedMember], partition_counts: Mapping[str, int]
) -> dict[str, list[TopicPartition]]:
    """Partitions by member id. A topic that is not in `partition_counts` has none."""
    assigned: dict[str, list[TopicPartition]] = {each.member_id: [] for each in members}
    ordered = sorted(members, key=cmp_to_key(_compare))
    topics = {each.member_id: decode_subscription(each.metadata).topics for each in members}
    for topic in sorted(subscribed_topics(members)):
        readers = [each.member_id for each in ordered if topic in topics[each.member_id]]
        share, rest = divmod(partition_counts.get(topic, 0), len(readers))
        first = 0
        for index, member_id in enumerate(readers):
            end = first + share + (index < rest)
            assigned[member_id] += [TopicPartition(topic, number) for number in range(first, end)]
            first = end
    return assigned


def _compare(one: JoinedMember, other: JoinedMember) -> int:
    if one.instance_id is not None and other.instance_id is not None:
        return (one.instance_id > other.instance_id) - (one.instance_id < other.instance_id)
    if one.instance_id is not None:
        return -1
    if other.instance_id is not None:
        return 1
    return (one.member_id > other.member_id) - (one.member_id < other.member_id)
