"""Why a partition's state changed, as far as what was seen says so. Pure.

ZooKeeper holds what leader and ISR are, not why. A reason is told only where what was seen beside
the change bears it out: a process that ended or is paused, a registration that is gone or new, a
lag that the leader told of. Otherwise the word is "unknown".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from minikafka.dashboard.history import BrokerView, PartitionView
from minikafka.model import NO_LEADER, TopicPartition, broker_name

RECENT_MS = 60_000  # a broker that came longer ago than this has not "just" come back
_BEHIND_MS = 500  # the lag that the leader tells of when a follower has not caught up for long


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a follower was behind, at the last look."""

    records: int
    lag_ms: int


@dataclass(frozen=True, slots=True)
class Witness:
    """What was seen at the time of a change. `came_ms`: when a broker came (again), by id; those
    that were there from the start are not in it."""

    now_ms: int
    brokers: Mapping[int, BrokerView]
    came_ms: Mapping[int, int]
    lag: Callable[[TopicPartition, int], Lag | None]

    def name(self, broker_id: int) -> str:
        known = self.brokers.get(broker_id)
        return known.name if known is not None else broker_name(broker_id)

    def is_live(self, broker_id: int) -> bool:
        known = self.brokers.get(broker_id)
        return known is not None and known.status == "live"

    def just_came(self, broker_id: int) -> bool:
        came_ms = self.came_ms.get(broker_id)
        return came_ms is not None and self.now_ms - came_ms <= RECENT_MS


@dataclass(frozen=True, slots=True)
class Reason:
    """`left_alive`: brokers that left though they seemed well; when one of them ends soon, it was
    shutting down."""

    text: str
    left_alive: frozenset[int] = frozenset()


def why(before: PartitionView | None, after: PartitionView, witness: Witness) -> Reason:
    """The reason of one change. `before` is None for a partition that is new."""
    if before is None or before.topic_id != after.topic_id:
        return Reason("created")
    alive: set[int] = set()
    parts = [
        _why_removed(before, after, member, witness, alive)
        for member in before.isr
        if member not in after.isr
    ]
    if before.leader != after.leader:
        parts += _why_moved(before, after, witness)
    # A leader that was not in the ISR has not caught up with anybody.
    added = [each for each in after.isr if each not in (*before.isr, after.leader)]
    back = [each for each in added if witness.just_came(each)]
    if back:
        parts.append(f"{_names(back, witness)} came back and caught up")
    if len(back) < len(added):
        parts.append(f"{_names([e for e in added if e not in back], witness)} caught up")
    if (before.replicas, before.adding, before.removing) != (
        after.replicas,
        after.adding,
        after.removing,
    ):
        parts.append("reassignment")
    return Reason("; ".join(dict.fromkeys(parts)) or "unknown", frozenset(alive))


def _why_removed(
    before: PartitionView,
    after: PartitionView,
    member: int,
    witness: Witness,
    alive: set[int],
) -> str:
    name = witness.name(member)
    gone = _why_gone(member, witness)
    if gone:
        return gone
    if member not in after.replicas:
        return f"{name} is no longer a replica"
    if _is_another_incarnation(before, member, witness):
        return f"{name} restarted"
    lag = witness.lag(before.key, member)
    if before.leader == after.leader and lag is not None and lag.lag_ms >= _BEHIND_MS:
        return f"{name} fell behind ({lag.records} records, {lag.lag_ms / 1000:.1f} s)"
    alive.add(member)
    if member not in witness.brokers:
        return "unknown"
    return f"unknown: {name} is alive"


def _why_moved(before: PartitionView, after: PartitionView, witness: Witness) -> list[str]:
    if after.leader == NO_LEADER:
        gone = _why_gone(before.leader, witness)
        return [*([gone] if gone else []), "no in-sync replica is alive"]
    if after.leader not in before.isr:
        return ["unclean election: the new leader was not in sync"]
    if before.leader == NO_LEADER:
        return [f"{witness.name(after.leader)} came back"]
    if before.leader in after.isr:
        if witness.is_live(before.leader) and after.leader == after.replicas[0]:
            return ["preferred replica elected"]
        gone = _why_gone(before.leader, witness)
        return [gone or "unknown: the leader before is alive and in sync"]
    return []  # the leader left the ISR: said already


def _is_another_incarnation(before: PartitionView, member: int, witness: Witness) -> bool:
    """Whether the broker of today is not the one that was admitted to the ISR."""
    admitted = dict(before.admitted).get(member)
    broker = witness.brokers.get(member)
    return admitted is not None and broker is not None and broker.broker_epoch > admitted


def _why_gone(broker_id: int, witness: Witness) -> str:
    """In words, if the broker is seen not to be well."""
    broker = witness.brokers.get(broker_id)
    name = witness.name(broker_id)
    if broker is None:
        return ""
    if broker.process == "paused":
        return f"{name} is paused"
    if broker.process == "ended" or not broker.registered:
        return f"{name} died"
    return ""


def _names(broker_ids: list[int], witness: Witness) -> str:
    names = [witness.name(each) for each in broker_ids]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
