"""The throttle of `minikafka reassign`: Kafka's properties, set before replicas move and taken away
after.

A rate for all brokers, and for each topic the replicas that it counts for: those to be added fetch
under it, those from before are read from under it. Both are ordinary properties (`minikafka
configs` shows them), and stay until they are taken away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from minikafka.cli.kit.output import human_bytes
from minikafka.errors import UsageError
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.client import AsyncAdmin
    from minikafka.model import TopicPartition

FOLLOWERS = "follower.replication.throttled.replicas"
LEADERS = "leader.replication.throttled.replicas"
RATES = ("follower.replication.throttled.rate", "leader.replication.throttled.rate")
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def read_rate(text: str) -> int:
    """Bytes a second: `5000000`, `5MB`, `5 MB/s`. Raises UsageError."""
    parts = re.fullmatch(r"\s*([0-9]{1,18})\s*([A-Za-z]*?)(/s)?\s*", text)
    if parts is None or parts[2].lower() not in _UNITS or int(parts[1]) == 0:
        raise UsageError(
            f"--throttle {text!r}: expected bytes a second, such as 5000000, 500kB or 5MB"
        )
    return int(parts[1]) * _UNITS[parts[2].lower()]


async def set_throttle(
    admin: AsyncAdmin,
    targets: Mapping[TopicPartition, Sequence[int] | None],
    bytes_per_s: int,
    wait: bool,
) -> None:
    """For these moves, and for those of the same topics that are under way; told on standard
    error. `wait`: the caller lifts it when they are over."""
    topics = sorted({each.topic for each in targets})
    for topic in (await admin.metadata(topics)).topics:
        followers, leaders = set[str](), set[str]()
        for each in topic.partitions:
            target = targets.get(each.topic_partition) or each.assignment.target
            origin, number = each.assignment.origin, each.topic_partition.partition
            followers |= {f"{number}:{broker}" for broker in target if broker not in origin}
            leaders |= {f"{number}:{broker}" for broker in origin}
        if followers:
            await admin.alter_topic_config(
                topic.name, {FOLLOWERS: _text(followers), LEADERS: _text(leaders)}
            )
    await admin.alter_broker_config(None, dict.fromkeys(RATES, str(bytes_per_s)))
    until = "until `minikafka reassign --unthrottle`"
    if wait:
        until = f"until all is moved (or, if this command is broken off, {until})"
    tell(f"throttled to {human_bytes(bytes_per_s)} a second at each broker, {until}")


def _text(replicas: Iterable[str]) -> str:
    return ",".join(sorted(replicas, key=lambda text: [int(part) for part in text.split(":")]))


async def lift_throttle(admin: AsyncAdmin, topics: Sequence[str] = ()) -> list[str]:
    """Of these topics, or of all; the rate goes with the last of them. Returns the topics that had
    one."""
    lifted, left = [], []
    for topic in (await admin.metadata()).topics:
        values = {each.name: each.value for each in await admin.describe_topic_configs(topic.name)}
        if not (values[FOLLOWERS] or values[LEADERS]):
            continue
        if topics and topic.name not in topics:
            left.append(topic.name)
            continue
        await admin.alter_topic_config(topic.name, {FOLLOWERS: None, LEADERS: None})
        lifted.append(topic.name)
    if not left:
        await admin.alter_broker_config(None, dict.fromkeys(RATES, None))
    return lifted
