"""One replica of one partition: its role, and what it makes of every event.

Pure: an event (events.py) and the time come in through `step`, effects (effects.py) go out; the
runtime carries them out before the next event. All else that can be called answers a question and
changes nothing. What the core knows of the log (`LogState`) is changed at once where the core
decides (truncation), and after the fact where the file must come first (`BatchesAppended`).

State: the adopted State (None until the controller has addressed this incarnation), the role,
`term`, raised whenever the replica becomes a follower or cuts its log: what was promised in a term
refers to the records of that term (KAFKA-1148), and `leaderships`, raised whenever it begins to
lead: two questions asked under the same number are answered by one unbroken leadership.

Invariants: States are adopted in strictly rising partition_version (rule R3); role LEADER iff the
adopted State names this broker and the disk has not failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from reprlib import Repr
from typing import assert_never

from minikafka.core.replication.effects import Effect, RestartLog, Role, RoleChanged, TruncateLog
from minikafka.core.replication.events import (
    BatchesAppended,
    BatchesFollowed,
    BatchesReceived,
    CoordinatorAnswered,
    Diverged,
    Event,
    Flushed,
    IdleProducersDue,
    LagCheckDue,
    LogStartRaised,
    LogTruncated,
    MarkerReceived,
    OutOfRange,
    ProduceGivenUp,
    ProduceParked,
    ProposalAnswered,
    RecordsDeleted,
    Registered,
    ReplicaFetched,
    SettingsChanged,
    StateReceived,
    Stopped,
    StorageFailed,
    TransactionalProduceWaits,
    WaitGivenUp,
    outline,
)
from minikafka.core.replication.follower import Follower
from minikafka.core.replication.leader import AppendPlan, Leader
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.settings import PartitionSettings
from minikafka.core.replication.transactional import (
    MarkerPlan,
    TransactionalProduce,
    TransactionEnd,
)
from minikafka.errors import (
    KafkaStorageError,
    MinikafkaError,
    NotLeaderOrFollowerError,
)
from minikafka.model import (
    NO_LEADER,
    Assignment,
    BatchHeader,
    FollowerPosition,
    IsrProposal,
    OffsetAndEpoch,
    PartitionState,
    TopicPartition,
)

HISTORY_LENGTH = 16

_MAY_BE_QUIET = frozenset(
    {ReplicaFetched, BatchesFollowed, BatchesReceived, LagCheckDue, IdleProducersDue}
)
_MAY_BE_LARGE = frozenset({BatchesAppended, BatchesReceived, BatchesFollowed, LogTruncated})
_SHORT = Repr()
_SHORT.maxother = _SHORT.maxstring = 500


class Partition:
    """`eligible` maps live brokers that are not shutting down to their broker epochs; the runtime
    keeps it current, the core only reads it."""

    def __init__(
        self,
        topic_partition: TopicPartition,
        topic_id: str,
        broker_id: int,
        broker_epoch: int,
        log_state: LogState,
        settings: PartitionSettings,
        eligible: Mapping[int, int],
    ) -> None:
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.broker_id = broker_id
        self.broker_epoch = broker_epoch
        self.log_state = log_state
        self.settings = settings
        self.eligible = eligible
        self.state: PartitionState | None = None
        self.assignment = Assignment(())
        self.term = 0
        self.failed: str | None = None
        self.leaderships = 0
        self._leader: Leader | None = None
        self._follower: Follower | None = None
        # A list, though its oldest go: a deque, however short, is larger than all else in here.
        self.history: list[tuple[int, object]] = []

    # --- what it is ------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        if self.failed is not None:
            return Role.FAILED
        if self._leader is not None:
            return Role.LEADER
        return Role.NONE if self._follower is None else Role.FOLLOWER

    @property
    def leader_epoch(self) -> int:
        return -1 if self.state is None else self.state.leader_epoch

    @property
    def is_leader(self) -> bool:
        return self._leader is not None

    def require_leader(self) -> None:
        """NotLeaderOrFollowerError or KafkaStorageError unless this replica leads."""
        self._lead()

    def _lead(self) -> Leader:
        if self._leader is None:
            if self.failed is not None:
                raise self._storage_error()
            raise self._not_leader()
        return self._leader

    def _not_leader(self) -> MinikafkaError:
        where = "nobody leads it at the moment"
        if self.state is None:
            where = "the controller has not said yet who does"
        elif self.state.leader != NO_LEADER:
            where = f"broker {self.state.leader} does, since epoch {self.state.leader_epoch}"
        return NotLeaderOrFollowerError(
            f"broker {self.broker_id} does not lead {self.topic_partition}: {where}"
        )

    def _storage_error(self) -> MinikafkaError:
        return KafkaStorageError(
            f"the disk of {self.topic_partition} on broker {self.broker_id} failed: {self.failed}"
        )

    # --- what may be asked of a leader: who does not lead raises what `require_leader` does -------

    def plan_append(
        self,
        headers: Sequence[BatchHeader],
        acks: int,
        transaction: TransactionalProduce | None = None,
    ) -> AppendPlan:
        """How these batches are to be appended: see Leader.plan_append."""
        return self._lead().plan_append(headers, acks, transaction)

    def plan_marker(self, end: TransactionEnd) -> MarkerPlan:
        """What becomes of a marker: see Leader.plan_marker."""
        return self._lead().plan_marker(end)

    def check_leader_epoch(self, current_leader_epoch: int) -> None:
        """Fence who asks under another epoch: see Leader.check_leader_epoch."""
        self._lead().check_leader_epoch(current_leader_epoch)

    def check_replica_fetch(
        self, replica_id: int, position: FollowerPosition
    ) -> OffsetAndEpoch | None:
        """May a follower read from there? See Leader.check_replica_fetch."""
        return self._lead().check_replica_fetch(replica_id, position)

    def check_consumer_fetch(self, fetch_offset: int, current_leader_epoch: int) -> None:
        """May a consumer read from there? See Leader.check_consumer_fetch."""
        self._lead().check_consumer_fetch(fetch_offset, current_leader_epoch)

    def latest_offset(self, *, read_committed: bool = False) -> int:
        """What a consumer calls the end: see Leader.latest_offset."""
        return self._lead().latest_offset(read_committed=read_committed)

    def deletion_target(self, before_offset: int) -> int:
        """Below which offset records may be deleted: see Leader.deletion_target."""
        return self._lead().deletion_target(before_offset)

    def low_watermark(self) -> int:
        """Below it no in-sync replica has records: see Leader.low_watermark."""
        return self._lead().low_watermark

    def doubt(self, now_ms: int, silence_ms: int) -> str | None:
        """Why another may lead by now: see Leader.doubt."""
        return self._lead().doubt(now_ms, silence_ms)

    def first_leader_epoch(self) -> int:
        """With which epoch this unbroken leadership began."""
        return self._lead().first_own_epoch

    def maximal_isr(self) -> set[int]:
        """The in-sync replicas, and those whose addition is on its way."""
        return self._lead().isr.maximal

    def effective_min_insync(self) -> int:
        """How many in-sync replicas acks=all needs."""
        return self._lead().effective_min_insync

    def may_lag(self) -> bool:
        """Can a LagCheckDue have an effect now? See Leader.may_lag."""
        return self._leader is not None and self._leader.may_lag()

    @property
    def waiting_for_word_count(self) -> int:
        """How many batches wait for the word of a coordinator."""
        return 0 if self._leader is None else len(self._leader.opening)

    def followers(self) -> Iterator[tuple[int, int, int]]:
        """(broker id, log end offset or -1, when it was caught up or NEVER_MS), by broker id."""
        for broker_id, progress in sorted(self._lead().followers.items()):
            yield broker_id, progress.log_end_offset, progress.caught_up_ms

    @property
    def pending_proposal(self) -> IsrProposal | None:
        """What it proposes and has no answer to; None as well if it does not lead."""
        return None if self._leader is None else self._leader.isr.pending

    @property
    def parked_count(self) -> int:
        """How many produce requests wait for replication."""
        return 0 if self._leader is None else len(self._leader.parked)

    # --- what may be asked of a follower ---------------------------------------------------------

    def fetch_position(self) -> FollowerPosition | None:
        """Where to fetch from next, or None if this replica does not follow anyone."""
        return None if self._follower is None else self._follower.position()

    def awaits(self, position: FollowerPosition) -> bool:
        """Does a reply to a fetch from `position` still hold? If not, it is to be dropped."""
        return self._following(position) is not None

    def _following(self, position: FollowerPosition) -> Follower | None:
        if self._follower is None or not self._follower.answers(position):
            return None
        return self._follower

    def accepts(self, headers: Sequence[BatchHeader]) -> bool:
        """May these batches of the leader be appended? See Follower.accepts."""
        return self._follower is not None and self._follower.accepts(headers)

    # --- what happens to it ----------------------------------------------------------------------

    def step(self, event: Event, now_ms: int) -> list[Effect]:
        """Take an event in. Raises MinikafkaError where the event's kind says so, and what
        `require_leader` does where only a leader can take it; then nothing has changed."""
        kind = type(event)
        quiet = kind in _MAY_BE_QUIET and self._is_quiet(event)
        if not quiet:
            self._keep(now_ms, outline(event) if kind in _MAY_BE_LARGE else event)
        effects = self._take(event, now_ms)
        if quiet and effects:
            self._keep(now_ms, event)
        return effects

    def _keep(self, now_ms: int, event: object) -> None:
        history = self.history
        if len(history) == HISTORY_LENGTH:
            del history[0]
        history.append((now_ms, event))

    def _is_quiet(self, event: Event) -> bool:
        """Would it only drive what matters out of the history, if it has no effects?"""
        match event:
            case ReplicaFetched():
                leader = self._leader
                return leader is not None and leader.is_no_news(event.replica_id, event.position)
            case BatchesFollowed() | BatchesReceived():
                return not event.headers
            case _:
                return True

    def _take(self, event: Event, now_ms: int) -> list[Effect]:
        """The most frequent first; without patterns for the fields, which would take as long as
        the rest."""
        match event:
            case ReplicaFetched():
                return self._lead().record_replica_fetch(
                    event.replica_id, event.replica_broker_epoch, event.position, now_ms
                )
            case BatchesAppended():
                return self._lead().on_appended(event.headers, now_ms, event.markers)
            case ProduceParked():
                return self._lead().park(event.token, event.required_offset)
            case BatchesReceived():
                follower = self._following(event.position)
                return [] if follower is None else self._cut(follower.on_straddling(event.headers))
            case BatchesFollowed():
                return self._on_followed(event)
            case Flushed():
                return self._on_flushed(event.offset, now_ms)
            case LagCheckDue():
                return [] if self._leader is None else self._leader.check_lag(now_ms)
            case StateReceived():
                return self._adopt(event.state, event.assignment, now_ms)
            case ProposalAnswered():
                return self._on_proposal_answered(event, now_ms)
            case Diverged():
                follower = self._following(event.position)
                return [] if follower is None else self._cut(follower.on_diverging(event.end))
            case OutOfRange():
                follower = self._following(event.position)
                start, end = event.leader_log_start, event.leader_log_end
                return [] if follower is None else self._cut(follower.on_out_of_range(start, end))
            case SettingsChanged():
                return self._configure(event.settings, now_ms)
            case RecordsDeleted():
                return self._lead().delete_records(event.before_offset)
            case StorageFailed():
                return self._on_storage_failed(event.reason)
            case Stopped():
                return [] if self._leader is None else self._leader.end(event.error)
            case TransactionalProduceWaits() | WaitGivenUp() | CoordinatorAnswered():
                return self._on_waiting(event)
            case MarkerReceived():
                return self._lead().opening.on_marker(
                    event.producer_id, event.producer_epoch, raised=event.raised
                )
            case _:
                self._note(event)
                return []

    def _on_waiting(
        self, event: TransactionalProduceWaits | WaitGivenUp | CoordinatorAnswered
    ) -> list[Effect]:
        if isinstance(event, TransactionalProduceWaits):
            return self._lead().opening.wait(event.token, event.header, event.transaction)
        if self._leader is None:  # whoever waited has been told
            return []
        if isinstance(event, WaitGivenUp):
            return self._leader.opening.give_up(event.token, event.error)
        return self._leader.opening.answered(event.question, event.error)

    def _note(
        self, event: Registered | ProduceGivenUp | LogTruncated | LogStartRaised | IdleProducersDue
    ) -> None:
        """What is only noted: there is nothing to be done about it."""
        match event:
            case ProduceGivenUp(token):
                if self._leader is not None:
                    self._leader.parked.give_up(token)
            case Registered(broker_epoch):
                self.broker_epoch = broker_epoch
                if self._leader is not None:
                    self._leader.broker_epoch = broker_epoch
            case LogTruncated(log_end_offset, producers):
                self.log_state.truncated(log_end_offset)
                self.log_state.replace_producers(producers)
            case LogStartRaised(offset):
                self.log_state.raise_log_start(offset)
            case IdleProducersDue(now_timestamp_ms, idle_ms):
                self.log_state.producers.expire(now_timestamp_ms, idle_ms)
            case _:
                assert_never(event)

    # --- adopting a State ------------------------------------------------------------------------

    def _adopt(self, state: PartitionState, assignment: Assignment, now_ms: int) -> list[Effect]:
        held = self.state
        if held is not None and state.partition_version <= held.partition_version:
            known = state.partition_version == held.partition_version
            return self._reassign(assignment, now_ms) if known else []
        assert state.leader_epoch >= self.leader_epoch, self.explain("the leader epoch fell")
        self.state, self.assignment = state, assignment
        if self.failed is not None:
            return []
        if state.leader == self.broker_id:
            effects = self._become_leader(held, state, assignment, now_ms)
        else:
            effects = self._become_follower(state)
        if held is None or self._moved(held, state):
            effects.append(RoleChanged(self.role, state.leader, state.leader_epoch))
        return effects

    def _reassign(self, assignment: Assignment, now_ms: int) -> list[Effect]:
        if assignment == self.assignment:
            return []
        self.assignment = assignment
        return [] if self._leader is None else self._leader.reassign(assignment, now_ms)

    @staticmethod
    def _moved(held: PartitionState, state: PartitionState) -> bool:
        return (held.leader, held.leader_epoch) != (state.leader, state.leader_epoch)

    def _become_leader(
        self,
        held: PartitionState | None,
        state: PartitionState,
        assignment: Assignment,
        now_ms: int,
    ) -> list[Effect]:
        unbroken = (
            self._leader is not None
            and held is not None
            and held.partition_version + 1 == state.partition_version
        )
        if self._leader is None:
            self._follower = None
            self.leaderships += 1
            self._leader = Leader(
                self.topic_partition,
                self.topic_id,
                self.broker_id,
                self.broker_epoch,
                self.log_state,
                self.settings,
                self.eligible,
                self.leaderships,
            )
        return self._leader.adopt(state, assignment, now_ms, unbroken=unbroken)

    def _become_follower(self, state: PartitionState) -> list[Effect]:
        self.term += 1
        effects: list[Effect] = []
        if self._leader is not None:
            effects = self._leader.end(self._not_leader())
            self._leader = None
        self._follower = Follower(self.topic_partition, self.topic_id, self.log_state, state)
        return effects

    def _configure(self, settings: PartitionSettings, now_ms: int) -> list[Effect]:
        self.settings = settings
        if self._leader is None:
            return []
        self._leader.settings = settings
        return self._leader.advance_high_watermark(now_ms)

    # --- the log ---------------------------------------------------------------------------------

    def _cut(self, effects: list[Effect]) -> list[Effect]:
        if any(isinstance(effect, TruncateLog | RestartLog) for effect in effects):
            self.term += 1
        return effects

    def _on_followed(self, event: BatchesFollowed) -> list[Effect]:
        follower = self._follower
        assert follower is not None, self.explain("appended as a follower without being one")
        effects = follower.on_appended(event.headers, event.markers)
        return effects + follower.on_leader_offsets(
            event.leader_high_watermark, event.leader_log_start
        )

    def _on_flushed(self, offset: int, now_ms: int) -> list[Effect]:
        log_state = self.log_state
        offset = min(offset, log_state.log_end_offset)
        log_state.flushed_offset = max(log_state.flushed_offset, offset)
        return [] if self._leader is None else self._leader.advance_high_watermark(now_ms)

    def _on_storage_failed(self, reason: str) -> list[Effect]:
        if self.failed is not None:
            return []
        self.failed = reason
        self.term += 1
        effects: list[Effect] = []
        if self._leader is not None:
            effects = self._leader.end(self._storage_error())
        self._leader = self._follower = None
        return [*effects, RoleChanged(Role.FAILED, NO_LEADER, self.leader_epoch)]

    # --- everything else -------------------------------------------------------------------------

    def _on_proposal_answered(self, event: ProposalAnswered, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        if event.state is not None:
            effects = self._adopt(event.state, self.assignment, now_ms)
        if self._leader is not None and event.error is not None:
            effects += self._leader.on_proposal_refused(event.proposal, event.error, now_ms)
        return effects

    def check(self) -> None:
        """Assert the invariants that can be seen from here. Tests do after every event."""
        try:
            self.log_state.check()
            if self.state is not None and self.failed is None:
                leads = self.state.leader == self.broker_id
                assert leads == (self._leader is not None), "role and State disagree"
            if self._leader is not None:
                self._leader.check()
        except AssertionError as error:
            raise AssertionError(self.explain(str(error))) from error

    def explain(self, what: str) -> str:
        """`what`, with the last events of this partition."""
        events = "".join(f"\n  {now_ms:>10} {_SHORT.repr(event)}" for now_ms, event in self.history)
        where = f"{self.topic_partition} on broker {self.broker_id}"
        return f"{where}: {what}; last events (ms):{events}"
