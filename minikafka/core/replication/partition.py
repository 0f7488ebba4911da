"""One replica of one partition: its role, and what it makes of every event.

Pure: an event and the time come in, effects go out (`core.effects`); the runtime carries them out
before the next event. The mirror of the log (`ReplicaLog`) is changed at once where the core
decides (truncation), and after the fact where the file must come first (`on_appended`).

State: the adopted State (None until the controller has addressed this incarnation), the role, and
`term`, raised whenever the replica becomes a follower or cuts its log: what was promised in a term
refers to the records of that term (KAFKA-1148).

Invariants: States are adopted in strictly rising partition_version (rule R3); role LEADER iff the
adopted State names this broker and the disk has not failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from minikafka.core.replication.effects import Effect, RestartLog, Role, RoleChanged, TruncateLog
from minikafka.core.replication.follower import Follower
from minikafka.core.replication.leader import Leader, PartitionSettings
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.core.replication.replica_log import ReplicaLog
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


class Partition:
    """`eligible` maps live brokers that are not shutting down to their broker epochs; the runtime
    keeps it current, the core only reads it."""

    def __init__(
        self,
        topic_partition: TopicPartition,
        topic_id: str,
        broker_id: int,
        broker_epoch: int,
        log: ReplicaLog,
        settings: PartitionSettings,
        eligible: Mapping[int, int],
    ) -> None:
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.broker_id = broker_id
        self.broker_epoch = broker_epoch
        self.log = log
        self.settings = settings
        self.eligible = eligible
        self.state: PartitionState | None = None
        self.assignment = Assignment(())
        self.term = 0
        self.failed: str | None = None
        self._leader: Leader | None = None
        self._follower: Follower | None = None
        self.history: deque[str] = deque(maxlen=HISTORY_LENGTH)

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

    def leader(self) -> Leader:
        """The leading side; NotLeaderOrFollowerError or KafkaStorageError if there is none."""
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

    # --- adopting a State ------------------------------------------------------------------------

    def adopt(self, state: PartitionState, assignment: Assignment, now_ms: int) -> list[Effect]:
        """Take over a State if it is newer than the held one; else do nothing (rule R3). With the
        held one only the assignment may be new: the State came without it, in an answer."""
        held = self.state
        if held is not None and state.partition_version <= held.partition_version:
            known = state.partition_version == held.partition_version
            return self._reassign(assignment, now_ms) if known else []
        self._note(f"adopt {state} with {assignment.replicas}")
        assert state.leader_epoch >= self.leader_epoch, self.explain("the leader epoch fell")
        self.state, self.assignment = state, assignment
        if self.failed is not None:
            return []
        if state.leader == self.broker_id:
            effects = self._lead(held, state, assignment, now_ms)
        else:
            effects = self._follow(state)
        if held is None or self._moved(held, state):
            effects.append(RoleChanged(self.role, state.leader, state.leader_epoch))
        self.check()
        return effects

    def _reassign(self, assignment: Assignment, now_ms: int) -> list[Effect]:
        if assignment == self.assignment:
            return []
        self._note(f"assigned to {assignment.replicas}")
        self.assignment = assignment
        return [] if self._leader is None else self._leader.reassign(assignment, now_ms)

    @staticmethod
    def _moved(held: PartitionState, state: PartitionState) -> bool:
        return (held.leader, held.leader_epoch) != (state.leader, state.leader_epoch)

    def _lead(
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
            self._leader = Leader(
                self.topic_partition,
                self.topic_id,
                self.broker_id,
                self.broker_epoch,
                self.log,
                self.settings,
                self.eligible,
            )
        return self._leader.adopt(state, assignment, now_ms, unbroken=unbroken)

    def _follow(self, state: PartitionState) -> list[Effect]:
        self.term += 1
        effects: list[Effect] = []
        if self._leader is not None:
            effects = self._leader.fail_all_parked(self._not_leader())
            self._leader = None
        self._follower = Follower(self.topic_partition, self.topic_id, self.log, state)
        return effects

    def reregister(self, broker_epoch: int) -> None:
        """The broker has a new incarnation without a restart (its session had expired). Roles stay
        as they are until the controller addresses the new incarnation."""
        self.broker_epoch = broker_epoch
        if self._leader is not None:
            self._leader.broker_epoch = broker_epoch

    def configure(self, settings: PartitionSettings, now_ms: int) -> list[Effect]:
        """New settings: they hold from now on (a smaller minimum may commit what waited)."""
        self.settings = settings
        if self._leader is None:
            return []
        self._leader.settings = settings
        return self._leader.advance_high_watermark(now_ms)

    # --- following -------------------------------------------------------------------------------

    def fetch_position(self) -> FollowerPosition | None:
        """Where to fetch from next, or None if this replica does not follow anyone."""
        return None if self._follower is None else self._follower.position()

    def follower_for(self, position: FollowerPosition) -> Follower | None:
        """The following side, if a reply to a fetch from `position` still holds; else None, and the
        reply is to be dropped."""
        if self._follower is None or not self._follower.answers(position):
            return None
        return self._follower

    def on_diverging(self, position: FollowerPosition, end: OffsetAndEpoch) -> list[Effect]:
        follower = self.follower_for(position)
        return [] if follower is None else self._cut(follower.on_diverging(end))

    def on_out_of_range(
        self, position: FollowerPosition, leader_log_start: int, leader_log_end: int
    ) -> list[Effect]:
        follower = self.follower_for(position)
        if follower is None:
            return []
        return self._cut(follower.on_out_of_range(leader_log_start, leader_log_end))

    def on_straddling(
        self, position: FollowerPosition, headers: Sequence[BatchHeader]
    ) -> list[Effect]:
        """The leader's batches are about to be appended: see Follower.on_straddling."""
        follower = self.follower_for(position)
        return [] if follower is None else self._cut(follower.on_straddling(headers))

    def _cut(self, effects: list[Effect]) -> list[Effect]:
        if any(isinstance(effect, TruncateLog | RestartLog) for effect in effects):
            self.term += 1
            self._note(f"cut: {effects}")
        self.check()
        return effects

    def on_follower_appended(
        self,
        headers: Sequence[BatchHeader],
        leader_high_watermark: int,
        leader_log_start: int,
    ) -> list[Effect]:
        """The leader's batches (perhaps none) are in the log; these are the leader's offsets."""
        follower = self._follower
        assert follower is not None, self.explain("appended as a follower without being one")
        effects = follower.on_appended(headers)
        return effects + follower.on_leader_offsets(leader_high_watermark, leader_log_start)

    def restore_producers(self, log_end_offset: int, producers: ProducerStateTable) -> None:
        """After TruncateLog was carried out: the file's true end (a batch that straddles the cut is
        gone whole) and the producers that are left."""
        self.log.truncated(log_end_offset)
        self.log.producers = producers
        self.check()

    # --- everything else -------------------------------------------------------------------------

    def on_proposal_answered(
        self,
        proposal: IsrProposal,
        error: MinikafkaError | None,
        state: PartitionState | None,
        now_ms: int,
    ) -> list[Effect]:
        """The controller's answer to an ISR proposal: its State is adopted by R3 whatever else."""
        effects: list[Effect] = []
        if state is not None:
            effects = self.adopt(state, self.assignment, now_ms)
        if self._leader is not None and error is not None:
            effects += self._leader.on_proposal_refused(proposal, error, now_ms)
        return effects

    def on_storage_failure(self, reason: str) -> list[Effect]:
        """The disk under this replica failed or is full: no append and no fetch any more in this
        incarnation (KAFKA-10778)."""
        if self.failed is not None:
            return []
        self._note(f"storage failed: {reason}")
        self.failed = reason
        self.term += 1
        effects: list[Effect] = []
        if self._leader is not None:
            effects = self._leader.fail_all_parked(self._storage_error())
        self._leader = self._follower = None
        return [*effects, RoleChanged(Role.FAILED, NO_LEADER, self.leader_epoch)]

    def on_log_start_raised(self, offset: int) -> None:
        """Retention has removed what lies below `offset`."""
        self.log.raise_log_start(offset)

    def check(self) -> None:
        """Assert the invariants that can be seen from here."""
        self.log.check()
        if self.state is not None and self.failed is None:
            leads = self.state.leader == self.broker_id
            assert leads == (self._leader is not None), self.explain("role and State disagree")

    def explain(self, what: str) -> str:
        """`what`, with the last events of this partition."""
        events = "\n  ".join(self.history)
        where = f"{self.topic_partition} on broker {self.broker_id}"
        return f"{where}: {what}; last events:\n  {events}"

    def _note(self, event: str) -> None:
        self.history.append(event)
