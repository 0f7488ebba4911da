"""Where the replicas of a topic go, and whether a topic may be called what it is called.

Placement is Kafka's (replication.md section 2, Topics): first replicas round-robin from a random
start; followers at a distance from the first that grows by one each time round, so that the
partitions of one leader have their followers on different brokers; with racks, brokers alternate
between racks and the replicas of a partition are in distinct racks as far as there are racks.

Pure: random numbers are arguments. Errors are what a person reads who created a topic.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from minikafka.errors import (
    InvalidPartitionsError,
    InvalidReplicaAssignmentError,
    InvalidReplicationFactorError,
    InvalidTopicError,
)
from minikafka.model import Assignment, BrokerInfo

MAX_NAME_LENGTH = 249
MAX_PARTITIONS = 10_000
_LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]+")


def validate_topic_name(name: str, existing: Iterable[str]) -> None:
    """Raises InvalidTopicError for a name that is not legal, or that metrics could not tell from
    that of another topic ('.' and '_' are one there). An equal name is no collision."""
    if not name:
        raise InvalidTopicError("the topic name is empty")
    if name in (".", ".."):
        raise InvalidTopicError(f"a topic cannot be called {name!r}")
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidTopicError(
            f"the topic name has {len(name)} characters: expected at most {MAX_NAME_LENGTH}"
        )
    if not _LEGAL_NAME.fullmatch(name):
        raise InvalidTopicError(
            f"topic name {name!r} is illegal: expected only ASCII letters, digits, '.', '_', '-'"
        )
    folded = name.replace(".", "_")
    for other in sorted(existing):
        if other != name and other.replace(".", "_") == folded:
            raise InvalidTopicError(f"topic name {name} collides with the existing topic {other}")


def is_legal_name(name: str) -> bool:
    """May a topic be called so, whatever others there are?"""
    return (
        name not in (".", "..")
        and len(name) <= MAX_NAME_LENGTH
        and _LEGAL_NAME.fullmatch(name) is not None
    )


def validate_counts(num_partitions: int, replication_factor: int, live_brokers: int) -> None:
    """Raises InvalidPartitionsError or InvalidReplicationFactorError."""
    if num_partitions < 1:
        raise InvalidPartitionsError(
            f"Number of partitions must be larger than 0, not {num_partitions}."
        )
    if num_partitions > MAX_PARTITIONS:
        raise InvalidPartitionsError(
            f"{num_partitions} partitions are too many: expected at most {MAX_PARTITIONS}."
        )
    if replication_factor < 1:
        raise InvalidReplicationFactorError(
            f"Replication factor must be larger than 0, not {replication_factor}."
        )
    if replication_factor > live_brokers:
        raise InvalidReplicationFactorError(
            f"Replication factor: {replication_factor} larger than available brokers: "
            f"{live_brokers}."
        )


def explicit_assignments(
    assignments: Mapping[int, Sequence[int]], live: Collection[int]
) -> dict[int, Assignment]:
    """The assignments that someone chose. Raises InvalidReplicaAssignmentError unless partitions
    are numbered from 0 without gap, each has the same number of distinct, live replicas."""
    if sorted(assignments) != list(range(len(assignments))) or not assignments:
        raise InvalidReplicaAssignmentError(
            f"partitions {sorted(assignments)} are assigned: expected 0, 1, 2 and so on, all"
        )
    return {p: chosen_replicas(p, assignments[p], len(assignments[0]), live) for p in assignments}


def chosen_replicas(
    partition: int, replicas: Sequence[int], replication_factor: int, live: Collection[int]
) -> Assignment:
    """One assignment that someone chose, checked as in explicit_assignments."""
    what = f"partition {partition}: replicas {list(replicas)}"
    if len(replicas) != replication_factor or not replicas:
        raise InvalidReplicaAssignmentError(
            f"{what} are {len(replicas)}: expected {max(replication_factor, 1)}, as the others have"
        )
    if len(set(replicas)) != len(replicas):
        raise InvalidReplicaAssignmentError(f"{what} name a broker twice")
    unknown = sorted(set(replicas) - set(live))
    if unknown:
        raise InvalidReplicaAssignmentError(
            f"{what}: no live broker {', '.join(map(str, unknown))}: expected some of "
            f"{', '.join(map(str, sorted(live)))}"
        )
    return Assignment(tuple(replicas))


def place_replicas(
    brokers: Collection[BrokerInfo],
    partitions: range,
    replication_factor: int,
    start: int,
    shift: int,
) -> dict[int, Assignment]:
    """Assignments for the partition numbers of `partitions` on at least `replication_factor` live
    brokers. `start` (where partition 0 would have its first replica) and `shift` (the first
    follower's distance from it, less one) are random numbers of any size.

    Raises InvalidReplicaAssignmentError if some brokers have a rack and some have none.
    """
    assert 1 <= replication_factor <= len(brokers)
    ring = _ring(brokers)
    racks = {broker.broker_id: broker.rack for broker in brokers}
    placed = {}
    for partition in partitions:
        laps, position = divmod(partition, len(ring))
        first = (start + position) % len(ring)
        distance = (shift + laps) % max(len(ring) - 1, 1)
        followers = [
            ring[(first + 1 + (distance + step) % (len(ring) - 1)) % len(ring)]
            for step in range(len(ring) - 1)
        ]
        chosen = _spread([ring[first], *followers], racks, replication_factor)
        placed[partition] = Assignment(tuple(chosen))
    return placed


def ring_index(brokers: Collection[BrokerInfo], broker_id: int) -> int:
    """Where a broker stands in the order of placement; 0 if it does not live."""
    ring = _ring(brokers)
    return ring.index(broker_id) if broker_id in ring else 0


def _ring(brokers: Collection[BrokerInfo]) -> list[int]:
    """Broker ids in order; with racks, one of each rack in turn."""
    by_rack: dict[str | None, list[int]] = {}
    for broker in sorted(brokers, key=lambda b: b.broker_id):
        by_rack.setdefault(broker.rack, []).append(broker.broker_id)
    if None in by_rack and len(by_rack) > 1:
        raise InvalidReplicaAssignmentError(
            f"brokers {', '.join(map(str, by_rack[None]))} have no rack, others have one: expected "
            "broker.rack on all brokers or on none"
        )
    shelves = [by_rack[rack] for rack in sorted(by_rack, key=lambda rack: rack or "")]
    longest = max(len(shelf) for shelf in shelves)
    return [shelf[turn] for turn in range(longest) for shelf in shelves if turn < len(shelf)]


def _spread(candidates: Sequence[int], racks: Mapping[int, str | None], count: int) -> list[int]:
    """The first `count` candidates, passing over those whose rack has one more replica already
    than some rack could have."""
    chosen: list[int] = []
    rounds = 0
    while len(chosen) < count:
        rounds += 1
        for candidate in candidates:
            used = sum(racks[other] == racks[candidate] for other in chosen)
            if candidate not in chosen and used < rounds and len(chosen) < count:
                chosen.append(candidate)
    return chosen
