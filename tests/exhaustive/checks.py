"""What must hold in every state of the world (replication.md section 7, by number).

Pure functions over values; each answers None or says what is violated. The ledger is the content of
every offset that was ever below any high watermark, from offset 0: it only grows. A member of the
ISR is *intact* while its disk is the one that its mark in the State names.

Of one replica alone, nos. 8, 12, 14 and 15 are checked where it makes a step (replica.py); of a
State that is written, nos. 1, 3 and 14 (term.py); no. 19 in heal.py. Nos. 16 to 18 are not visible
here: there are no producer ids, no transactions and no compaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from minikafka.model import NO_LEADER, broker_name
from tests.exhaustive.values import Broker, Record, State, ZooKeeper, agree, disk_name

Ledger = tuple[Record, ...]


def is_intact(member: int, state: State, broker: Broker) -> bool:
    """Is this the disk with which the member was admitted?"""
    mark = dict(state.marks).get(member, "")
    return mark.rpartition("@")[0] == disk_name(broker.storage)


def check_world(brokers: Sequence[Broker], zookeeper: ZooKeeper, ledger: Ledger) -> str | None:
    """All that can be seen in one state."""
    for number, broker in enumerate(brokers, 1):
        committed = broker.log[: broker.high_watermark]
        if not agree(committed, ledger[: broker.high_watermark]):
            name = broker_name(number)
            return f"no. 11: {name} calls {committed} committed, it was {ledger}"
    for (one, mine), (other, yours) in combinations(enumerate(brokers, 1), 2):
        if (found := _disagreement(mine, yours)) is not None:
            return f"{found} ({broker_name(one)} and {broker_name(other)})"
    state = zookeeper.state
    return None if state is None else _check_isr(brokers, state, ledger)


def _check_isr(brokers: Sequence[Broker], state: State, ledger: Ledger) -> str | None:
    """Nos. 4 and 6 in one: every intact member of the ISR, the leader among them, holds everything
    that anybody has ever called committed."""
    for member in state.isr:
        broker = brokers[member - 1]
        if is_intact(member, state, broker) and not agree(broker.log[: len(ledger)], ledger):
            what = "the leader" if member == state.leader else "in the ISR"
            return (
                f"nos. 4, 6: {broker_name(member)} is {what} with {broker.log}, "
                f"but {ledger} is committed"
            )
    if not state.isr and not any(broker.storage for broker in brokers):
        return "no. 3: the ISR is empty, though no disk was lost"
    if state.leader == NO_LEADER:
        return None
    leader = brokers[state.leader - 1]
    if leader.lead is None or leader.state is None:
        return None
    if leader.state.leader_epoch != state.leader_epoch:
        return None
    maximal = {*leader.state.isr, *leader.lead.additions}
    if not maximal >= set(state.isr):
        return f"no. 7: the leader counts {maximal}, the ISR is {state.isr}"
    if leader.lead.first_own_offset <= leader.high_watermark < len(ledger):
        return "no. 9: the latest offset that a consumer is told fell"
    return None


def _disagreement(mine: Broker, yours: Broker) -> str | None:
    """Nos. 2 and 5: one leader an epoch; where two logs have an epoch at an offset in common, they
    are equal up to there; and they agree below both high watermarks."""
    if mine.lead is not None and yours.lead is not None:
        assert mine.state is not None
        assert yours.state is not None
        if mine.state.leader_epoch == yours.state.leader_epoch:
            return f"no. 2: two lead epoch {mine.state.leader_epoch}"
    committed = min(mine.high_watermark, yours.high_watermark)
    equal = True
    for offset, (one, other) in enumerate(zip(mine.log, yours.log, strict=False)):
        if one is None or other is None:
            continue
        if one[0] == other[0] and (one != other or not equal):
            return f"no. 5: the logs share epoch {one[0]} at {offset} and differ up to there"
        equal = equal and one == other
        if offset < committed and not equal:
            return f"no. 5: the logs differ at {offset}, below both high watermarks"
    return None


def check_commit(leader: Broker, min_insync: int) -> str | None:
    """D5: a leader commits only what enough in-sync replicas hold."""
    if leader.lead is None or leader.state is None:
        return "no. 11: a follower commits what no leader has committed"
    if len(leader.state.isr) < min_insync:
        return f"D5: commits with the ISR {leader.state.isr}; {min_insync} are needed"
    return None


def check_acknowledged(
    payloads: Sequence[int], leader: Broker, brokers: Sequence[Broker], min_insync: int
) -> str | None:
    """No. 10: what is acknowledged is on every intact member of the committed ISR, and those are
    enough."""
    if not payloads:
        return None
    state = leader.state
    assert state is not None
    if len(state.isr) < min_insync:
        return f"no. 10: {payloads} acknowledged by {state.isr}; {min_insync} are needed"
    for payload in payloads:
        held = [
            offset for offset, record in enumerate(leader.log) if record and record[1] == payload
        ]
        if not held:
            return f"no. 10: {payload} is acknowledged and not in the leader's log"
        for member in state.isr:
            broker = brokers[member - 1]
            if not is_intact(member, state, broker):
                continue
            there = slice(held[0], held[0] + 1)
            if not agree(broker.log[there], leader.log[there]):
                return f"no. 10: {payload} is acknowledged, {broker_name(member)} lacks it"
    return None


def check_writes(
    before: State, writes: Sequence[State], brokers: Sequence[Broker], *, batch: bool
) -> str | None:
    """What must hold of each State that is written, seeing who is how. `batch`: they follow from
    the live brokers as they are, not from what a leader knew of them."""
    old = before
    for new in writes:
        found = _check_joiners(old, new, brokers)
        if found is None and batch:
            found = _check_rest(old, new, brokers)
        if found is not None:
            return found
        old = new
    return None


def _check_rest(old: State, new: State, brokers: Sequence[Broker]) -> str | None:
    """No. 3: no failure takes the last member out of the ISR that still has its log."""
    if any(is_intact(member, old, brokers[member - 1]) for member in old.isr) and not any(
        is_intact(member, new, brokers[member - 1]) for member in new.isr
    ):
        return f"no. 3: {old.isr} is left as {new.isr}, and nobody in it has its log"
    return None


def _check_joiners(old: State, new: State, brokers: Sequence[Broker]) -> str | None:
    """No. 13, when a State is written: who joins under a leader has all that the leader had when
    its epoch began. (That a joiner has all that is committed is nos. 4 and 6.)"""
    if new.leader != old.leader or new.leader == NO_LEADER:
        return None
    leader = brokers[new.leader - 1]
    if leader.lead is None or leader.state is None:
        return None
    if leader.state.leader_epoch != new.leader_epoch:
        return None
    start = leader.lead.epoch_start
    for joiner in set(new.isr) - set(old.isr):
        broker = brokers[joiner - 1]
        if is_intact(joiner, new, broker) and not agree(broker.log[:start], leader.log[:start]):
            return f"no. 13: {broker_name(joiner)} joins with less than the epoch began with"
    return None
