"""Rules of the protocol, switched off one at a time: the search must notice.

Purpose: a model that finds nothing proves something only if it can find. Each `Mutation` takes one
rule out of the real core (or out of what the runtime does around it), and says in which bounds the
search then finds which violation.

State: none outlives `applied`, which puts everything back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from minikafka.core.control import alter_partition, brokers, election, elections, proposals
from minikafka.core.control.controller import Controller
from minikafka.core.control.incarnation import Standing, marked_epoch
from minikafka.core.replication import leader as leader_module
from minikafka.core.replication.epochs import EpochCache
from minikafka.core.replication.follower import Follower
from minikafka.core.replication.isr import IsrTracker
from minikafka.core.replication.leader import Leader
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.partition import Partition
from minikafka.errors import IneligibleReplicaError
from tests.exhaustive import checks
from tests.exhaustive import replica as replica_module
from tests.exhaustive import term as term_module
from tests.exhaustive.machine import Bounds, Event
from tests.exhaustive.values import Budget

Patches = Sequence[tuple[Any, str, Any]]


@dataclass(frozen=True)
class Mutation:
    """`rule` is what is switched off; `breaks` is how the violation begins that is found first, one
    of the shortest. `opening`: events that come first, where it lies too deep for a quick test.
    `why_not`: why nothing is found, to the end of the search: another rule does the same. `heals`
    is false where nothing is violated but no. 19, and the search has to let every state heal."""

    name: str
    rule: str
    patches: Patches
    bounds: Bounds
    start: str = "fresh"
    opening: tuple[Event, ...] = ()
    breaks: str = ""
    why_not: str = ""
    heals: bool = True


@contextmanager
def applied(patches: Patches) -> Iterator[None]:
    """With the rule switched off."""
    if not patches:
        yield
        return
    (where, name, wrong), *rest = patches
    with patch.object(where, name, wrong), applied(rest):
        yield


# --- the fetch path ------------------------------------------------------------------------------

_check_replica_fetch = Leader.check_replica_fetch
_record_replica_fetch = Leader.record_replica_fetch


def _ignore_leader_epoch(self: Leader, current_leader_epoch: int) -> None:
    """Whatever epoch a fetch is of, it counts."""


def _ignore_last_fetched_epoch(self: Leader, replica_id: int, position: Any) -> Any:
    return _check_replica_fetch(self, replica_id, position._replace(last_fetched_epoch=-1))


def _match_by_offset(self: Follower, position: Any) -> bool:
    return bool(position.fetch_offset == self.log_state.log_end_offset)


def _ignore_older_incarnation(
    self: Leader, replica_id: int, broker_epoch: int, position: Any, now_ms: int
) -> Any:
    known = self.followers[replica_id].broker_epoch
    return _record_replica_fetch(self, replica_id, max(broker_epoch, known), position, now_ms)


# --- adopting States -----------------------------------------------------------------------------

_lead = Partition._become_leader
_follow = Partition._become_follower
_adopt = Partition._adopt


def _keep_positions(self: Partition, held: Any, state: Any, *rest: Any) -> Any:
    """As Kafka: a leader that leads again keeps what it knew, whatever came in between."""
    if self.is_leader and held is not None:
        held = replace(held, partition_version=state.partition_version - 1)
    return _lead(self, held, state, *rest)


def _adopt_older(self: Partition, state: Any, *rest: Any) -> Any:
    if self.state is not None and state.partition_version < self.state.partition_version:
        self.state = None
    return _adopt(self, state, *rest)


def _cut_to_high_watermark(self: Partition, state: Any) -> Any:
    effects = _follow(self, state)
    assert self._follower is not None
    return effects + self._follower._truncate(self.log_state.high_watermark)


_leader_adopt = Leader.adopt
_truncated = LogState.truncated


def _record_epoch_later(self: Leader, *arguments: Any, unbroken: bool) -> Any:
    with patch.object(EpochCache, "assign", _never):
        return _leader_adopt(self, *arguments, unbroken=unbroken)


def _answer_for_latest_at_once(self: Leader, *arguments: Any, unbroken: bool) -> Any:
    effects = _leader_adopt(self, *arguments, unbroken=unbroken)
    self.first_own_offset = 0
    return effects


def _keep_idle_epoch(self: LogState, offset: int) -> bool:
    return offset < self.log_end_offset and _truncated(self, offset)


# --- ISR and high watermark ----------------------------------------------------------------------

_may_join = Leader._may_join
_committed_offset = leader_module.committed_offset
_on_proposal_refused = Leader.on_proposal_refused


def _no_additions(self: IsrTracker, members: Any) -> set[int]:
    return set()


def _count_removal_at_once(own_end: int, leader: int, isr: IsrTracker, *rest: Any) -> Any:
    if isr.pending is not None:
        staying = {member for member, _ in isr.pending.isr}
        left = tuple(member for member in isr.committed if member in staying)
        isr = IsrTracker(left, isr.additions, isr.pending)
    return _committed_offset(own_end, leader, isr, *rest)


def _no_minimum(
    own_end: int, leader: int, isr: Any, followers: Any, min_insync: int, waits: Any
) -> Any:
    return _committed_offset(own_end, leader, isr, followers, 0, waits)


def _join_before_epoch_start(self: Leader, *arguments: Any) -> bool:
    with patch.object(self, "epoch_start", 0):
        return _may_join(self, *arguments)


def _skip_unknown_positions(
    own_end: int, leader: int, isr: Any, followers: Any, min_insync: int, waits: Any
) -> Any:
    known = [followers[m].log_end_offset for m in isr.maximal if m != leader]
    return min([own_end, *(end for end in known if end >= 0)])


def _no_outsiders(
    own_end: int, leader: int, isr: Any, followers: Any, min_insync: int, waits: Any
) -> Any:
    return _committed_offset(own_end, leader, isr, followers, min_insync, _never)


_plan_append = Leader.plan_append


def _append_whoever_is_in_sync(
    self: Leader, headers: Any, acks: int, transaction: Any = None
) -> Any:
    return _plan_append(self, headers, 1, transaction)


def _forget_refused(self: Leader, proposal: Any, error: Any, now_ms: int) -> Any:
    if proposal == self.isr.pending and isinstance(error, IneligibleReplicaError):
        self.isr.adopt(self.isr.committed)
        return []
    return _on_proposal_refused(self, proposal, error, now_ms)


# --- the controller ------------------------------------------------------------------------------

_on_brokers = Controller.on_brokers
_ineligible = alter_partition._ineligible


def _dead_before_bounced(self: Controller, brokers: Any) -> Any:
    known = self.context.brokers
    alive = {broker_id: known[broker_id] for broker_id in known if broker_id in brokers}
    if alive != known:
        yield from _on_brokers(self, alive)
    return (yield from _on_brokers(self, brokers))


def _ignore_joiner_incarnation(view: Any, member: int, broker_epoch: int) -> Any:
    broker = view.brokers.get(member)
    return _ineligible(view, member, broker_epoch if broker is None else broker.broker_epoch)


def _ignore_storage(mark: str | None, broker: Any) -> Standing:
    same = marked_epoch(mark) == broker.broker_epoch
    return Standing.SAME if same else Standing.RETURNED


def _fence_controllers_only(broker: Any, message: Any) -> bool:
    return bool(message.controller_epoch < broker.controller_epoch_seen)


def _fence_incarnations_only(broker: Any, message: Any) -> bool:
    return bool(message.target_broker_epoch < broker.broker_epoch)


def _always(*_: Any) -> bool:
    return True


_for_leaderless = elections.for_leaderless
_after_failures = brokers.after_failures
_judge = proposals.judge


def _elect_anybody(view: Any, *, unclean: bool) -> Any:
    decision = _for_leaderless(view, unclean=True)
    return None if decision is None else replace(decision, unclean=False)


def _drop_the_last(view: Any) -> Any:
    decision = _after_failures(view)
    return replace(decision, isr=()) if decision is not None and decision.leader == -1 else decision


def _judge_stale_proposals(view: Any, proposer: int, proposal: Any) -> Any:
    state = view.state
    fresh = replace(
        proposal, leader_epoch=state.leader_epoch, partition_version=state.partition_version
    )
    return _judge(view, proposer, fresh)


def _nothing(*_: Any) -> None:
    return None


def _never(*_: Any) -> bool:
    return False


# What is outdated would be noticed at once (no. 14): off, so that its consequence is seen.
_UNNOTICED = (replica_module, "is_outdated", _never)
# Who joins with too little would be noticed at once (no. 13): off, for the same reason.
_JOINS_UNNOTICED = (checks, "_check_joiners", _nothing)


def _bounds(
    replicas: int, min_insync: int = 1, acks: tuple[int, ...] = (-1,), **kinds: int
) -> Bounds:
    budget = Budget(records=0, crashes=0)._replace(**kinds)
    return Bounds(replicas, min_insync, budget, acks)


MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "fetch-epoch",
        "R7: a fetch of another leader epoch is fenced",
        [(Leader, "check_leader_epoch", _ignore_leader_epoch), (Follower, "accepts", _always)],
        _bounds(3, records=1, crashes=1, elections=1, late=1),
        start="preferred-waiting",
        opening=(("produce", 2), ("fetch", 3), ("reply", 3), ("late", "fetch", 3), ("elect",)),
        breaks="nos. 4, 6",
    ),
    Mutation(
        "last-fetched-epoch",
        "R7: a position counts only if the last fetched epoch validates",
        [(Leader, "check_replica_fetch", _ignore_last_fetched_epoch)],
        _bounds(2, records=2, crashes=1),
        breaks="no. 11",
    ),
    Mutation(
        "comparable",
        "R7: a position does not count if retention has taken what it could be compared with",
        [(Leader, "_cannot_compare", _never)],
        _bounds(2, records=2, crashes=1, retentions=1),
        breaks="nos. 4, 6",
    ),
    Mutation(
        "reply-by-offset",
        "R7: a reply counts only if offset, last epoch and leader epoch are still the same",
        [(Follower, "answers", _match_by_offset)],
        _bounds(2, records=2, crashes=1, late=1),
        breaks="no. 12",
    ),
    Mutation(
        "continuity",
        "R4: after a gap in the versions a leader forgets all positions",
        [(Partition, "_become_leader", _keep_positions)],
        _bounds(3, records=1, crashes=1, elections=1),
        start="preferred-waiting",
        breaks="no. 10",
    ),
    Mutation(
        "maximal-isr",
        "R5: a proposed addition counts at once",
        [(IsrTracker, "_added", _no_additions)],
        _bounds(2, records=2, lags=2),
        breaks="no. 7",
    ),
    Mutation(
        "removal-at-once",
        "R5: a proposed removal counts still",
        [(leader_module, "committed_offset", _count_removal_at_once)],
        _bounds(2, records=1, lags=1),
        breaks="no. 10",
    ),
    Mutation(
        "order",
        "R3: a State is adopted only if it is newer",
        [(Partition, "_adopt", _adopt_older)],
        _bounds(2, records=2, crashes=0, lags=1, late=1),
        breaks="no. 7",
    ),
    Mutation(
        "target-incarnation",
        "R6: a broker rejects what the controller tells an older incarnation of it",
        [(replica_module, "message_is_fenced", _fence_controllers_only), _UNNOTICED],
        _bounds(2, records=2, crashes=1, losses=1, late=1, lags=1),
        breaks="no. 9",
    ),
    Mutation(
        "controller-epoch",
        "no. 14: a broker rejects what an older controller tells it",
        [(replica_module, "message_is_fenced", _fence_incarnations_only)],
        _bounds(2, records=1, crashes=1, failovers=1),
        breaks="no. 14",
    ),
    Mutation(
        "joiner-incarnation",
        "R6: only the incarnation that the leader saw may join (KIP-903)",
        [(alter_partition, "_ineligible", _ignore_joiner_incarnation), _JOINS_UNNOTICED],
        _bounds(2, records=1, crashes=1, losses=1, lags=1),
        breaks="nos. 4, 6",
    ),
    Mutation(
        "older-incarnation-fetch",
        "R6: a fetch of an older incarnation of a follower does not count (KAFKA-15221)",
        [(Leader, "record_replica_fetch", _ignore_older_incarnation), _UNNOTICED],
        _bounds(2, records=1, crashes=1, losses=1, late=1),
        start="alone",
        breaks="nos. 4, 6",
    ),
    Mutation(
        "epoch-start",
        "a replica joins only with what the leader had when its epoch began (KAFKA-7128)",
        [(Leader, "_may_join", _join_before_epoch_start), _JOINS_UNNOTICED],
        _bounds(3, records=1, crashes=1, losses=1),
        breaks="nos. 4, 6",
    ),
    Mutation(
        "min-insync",
        "D5: nothing is committed with fewer than min.insync.replicas in the ISR",
        [(leader_module, "committed_offset", _no_minimum)],
        _bounds(2, 2, (1,), records=1, crashes=1),
        breaks="D5",
    ),
    Mutation(
        "truncate-by-epoch",
        "KIP-101: a follower cuts by epoch, not to its own high watermark",
        [(Partition, "_become_follower", _cut_to_high_watermark)],
        _bounds(3, records=1, crashes=1),
        breaks="nos. 4, 6",
    ),
    Mutation(
        "one-batch",
        "dead and bounced brokers fail in one batch",
        [(Controller, "on_brokers", _dead_before_bounced)],
        _bounds(2, records=1, crashes=2, losses=1),
        breaks="no. 3",
    ),
    Mutation(
        "storage-identity",
        "a member that comes back with another disk has lost its log",
        [(election, "standing", _ignore_storage)],
        _bounds(2, records=1, crashes=1, losses=1, lags=1),
        breaks="nos. 4, 6",
    ),
    Mutation(
        "controller-fence",
        "R1: every write checks the controller epoch (KAFKA-6082)",
        [(term_module, "passes_fence", _always)],
        _bounds(2, records=1, crashes=1, failovers=1, lags=1),
        breaks="assertion in the controller: no. 14",
    ),
    Mutation(
        "version",
        "R3: a proposal is judged by the epoch and the version that it was made over",
        [(proposals, "judge", _judge_stale_proposals)],
        _bounds(2, records=1, crashes=1, lags=1, late=1),
        breaks="no. 7",
    ),
    Mutation(
        "last-members-stay",
        "if nobody in sync is left, all stay in the ISR whose log is not lost",
        [(brokers, "after_failures", _drop_the_last)],
        _bounds(2, records=1, crashes=2),
        breaks="no. 3",
    ),
    Mutation(
        "clean-election",
        "only a member of the ISR is elected",
        [(elections, "for_leaderless", _elect_anybody)],
        _bounds(2, records=1, crashes=2, lags=1),
        breaks="nos. 4, 6",
    ),
    Mutation(
        "unknown-position",
        "a member of whom nothing is known holds the high watermark",
        [(leader_module, "committed_offset", _skip_unknown_positions)],
        _bounds(3, records=1, crashes=1),
        breaks="no. 10",
    ),
    Mutation(
        "latest-offset",
        "a new leader does not tell the latest offset before it knows it (KIP-207)",
        [(Leader, "adopt", _answer_for_latest_at_once)],
        _bounds(3, records=1, crashes=1),
        breaks="no. 9",
    ),
    Mutation(
        "produce-gate",
        "with fewer than min.insync.replicas in sync, acks=all appends nothing",
        [(Leader, "plan_append", _append_whoever_is_in_sync)],
        _bounds(2, 2, records=1, crashes=1),
        breaks="section 3",
    ),
    Mutation(
        "epoch-before-records",
        "a leader records its epoch before it serves (KAFKA-7415)",
        [(Leader, "adopt", _record_epoch_later)],
        _bounds(2, records=1, crashes=2),
        breaks="assertion in the core: the epochs on the disk are others",
    ),
    Mutation(
        "idle-epoch",
        "truncation drops idle epochs, also when the log itself is not shortened",
        [(LogState, "truncated", _keep_idle_epoch)],
        _bounds(2, records=1, crashes=2),
        breaks="no. 19",
        heals=False,
    ),
    Mutation(
        "refused-addition",
        "a refused addition is voided by a no-op proposal, not forgotten (race 8)",
        [(Leader, "on_proposal_refused", _forget_refused)],
        _bounds(2, records=2, lags=2, late=1, shutdowns=1, failovers=1),
        breaks="no. 7",
    ),
    Mutation(
        "outsiders",
        "the high watermark waits for a replica that is caught up but outside",
        [(leader_module, "committed_offset", _no_outsiders)],
        _bounds(2, records=2, crashes=1, lags=1),
        why_not="it only helps a fast follower to join: R5 and no. 13 keep it safe without",
    ),
    Mutation(
        "leader-eligibility",
        "a leader proposes only an incarnation that it was told of",
        [(Leader, "is_eligible", _always)],
        _bounds(2, records=1, crashes=1, losses=1, lags=1),
        why_not="the controller judges the incarnation again",
    ),
    Mutation(
        "proposer-incarnation",
        "the controller hears only the incarnation of the leader that lives",
        [(brokers.Brokers, "check_incarnation", _nothing)],
        _bounds(2, records=1, crashes=1, late=1),
        start="alone",
        why_not="where the leader's end is known, the version has moved on; where not, it is live",
    ),
    Mutation(
        "controller-epoch-alone",
        "a broker rejects what an older controller tells it, no. 14 not being checked",
        [(replica_module, "message_is_fenced", _fence_incarnations_only), _UNNOTICED],
        _bounds(2, records=1, crashes=1, failovers=1),
        why_not="States are ordered by version (R3), and the controller judges who is eligible",
    ),
)
