"""A replica while it leads: appends, follower positions, high watermark, ISR proposals, acks.

State: the adopted State and assignment, follower progress, the ISR tracker, `epoch_start` (the log
end when this epoch began), `first_own_offset` and `first_own_epoch` (the log end and the epoch when
this unbroken leadership began), and the produce requests that wait for replication (parked.py).

Invariants: the high watermark never falls and never exceeds the log end; the maximal ISR contains
ZooKeeper's ISR while this leadership is the current one (no. 7); at most one proposal is in flight
(replication.md sections 3 and 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from minikafka.core.replication.effects import (
    CompleteProduce,
    Effect,
    HighWatermarkAdvanced,
    ProposeIsr,
    RaiseLogStart,
    StoreEpochs,
)
from minikafka.core.replication.high_watermark import committed_offset
from minikafka.core.replication.isr import FollowerProgress, IsrTracker
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.parked import ParkedProduces
from minikafka.core.replication.producer_state import (
    NO_COORDINATOR_EPOCH,
    NO_PRODUCER_ID,
    ProducedBatch,
)
from minikafka.core.replication.settings import PartitionSettings
from minikafka.core.replication.transactional import (
    MarkerPlan,
    OpeningTransactions,
    TransactionalProduce,
    TransactionEnd,
    planned_marker,
)
from minikafka.errors import (
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidRecordError,
    InvalidRequiredAcksError,
    MinikafkaError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    OffsetNotAvailableError,
    OffsetOutOfRangeError,
    StaleBrokerEpochError,
    TransactionalIdAuthorizationFailedError,
    UnknownLeaderEpochError,
)
from minikafka.model import (
    TRANSACTIONAL,
    UNKNOWN_BROKER_EPOCH,
    Assignment,
    BatchHeader,
    FollowerPosition,
    IsrProposal,
    Markers,
    OffsetAndEpoch,
    PartitionState,
    TopicPartition,
    broker_name,
)

ALL_COMMITTED = -1  # DeleteRecords: up to the high watermark
JOIN_RETRY_MS = 1000  # how long a replica that was found ineligible is not proposed again
OUTSIDER_SILENCE_MS = 5000  # how long the high watermark waits for a silent replica about to join


class AppendPlan(NamedTuple):
    """How batches are to be appended: their headers with final offsets and this leader's epoch. Or,
    for the repetition of a batch that an idempotent producer had appended already, `duplicate`. Or
    the batch has to wait for the word of its transaction's coordinator: `waits`."""

    headers: tuple[BatchHeader, ...]
    duplicate: ProducedBatch | None = None
    waits: bool = False


class Leader:
    """The leading replica's side of a partition: a part of `Partition`, which alone calls it."""

    def __init__(
        self,
        topic_partition: TopicPartition,
        topic_id: str,
        broker_id: int,
        broker_epoch: int,
        log_state: LogState,
        settings: PartitionSettings,
        eligible: Mapping[int, int],
        leadership: int = 0,
    ) -> None:
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.broker_id = broker_id
        self.broker_epoch = broker_epoch
        self.log_state = log_state
        self.settings = settings
        self.eligible = eligible  # broker id -> epoch of live brokers that do not shut down
        self.state = PartitionState(broker_id, 0, (broker_id,), 0, -1)
        self.assignment = Assignment((broker_id,))
        self.followers: dict[int, FollowerProgress] = {}
        self.isr = IsrTracker(())
        self.epoch_start = log_state.log_end_offset
        self.first_own_offset = log_state.log_end_offset
        self.first_own_epoch = -1
        self.parked = ParkedProduces()
        self.opening = OpeningTransactions(topic_partition, leadership, self._coordinator_epoch)

    # --- adopting a State ------------------------------------------------------------------------

    def adopt(
        self, state: PartitionState, assignment: Assignment, now_ms: int, *, unbroken: bool
    ) -> list[Effect]:
        """Lead under this State. `unbroken`: it follows directly on the one held, and this replica
        led then, too, so that positions and lag clocks hold on (rule R4)."""
        effects: list[Effect] = []
        if not unbroken:
            self.followers.clear()
            self.first_own_offset = self.log_state.log_end_offset
            self.first_own_epoch = state.leader_epoch
        if not unbroken or state.leader_epoch > self.state.leader_epoch:
            self._forget_outsiders(state)
            self.epoch_start = self.log_state.log_end_offset
            if self.log_state.epochs.assign(state.leader_epoch, self.log_state.log_end_offset):
                effects.append(StoreEpochs(tuple(self.log_state.epochs.entries())))
        self.state = state
        self.isr.adopt(state.isr)
        return effects + self.reassign(assignment, now_ms)

    def _forget_outsiders(self, state: PartitionState) -> None:
        """Who is outside the ISR counts again with what it fetches under the new epoch (R4 holds
        for the members). One that has just left has left for a reason: its log may have failed, so
        that it fetches no more, and the high watermark would wait for it as for one that is about
        to join. And one that is being added may have been dropped before, without this leader's
        having heard of it, and be about to delete its log: only with a State newer than the drop
        does it fetch under the new epoch."""
        for broker_id, progress in self.followers.items():
            if broker_id not in state.isr:
                progress.forget_position()

    def reassign(self, assignment: Assignment, now_ms: int) -> list[Effect]:
        """The replicas under this State."""
        self.assignment = assignment
        self._settle_followers(now_ms)
        effects: list[Effect] = []
        if len(self.state.isr) < self.effective_min_insync:
            effects = self.fail_all_parked(self._too_few_after_append())
        return effects + self.advance_high_watermark(now_ms)

    def _settle_followers(self, now_ms: int) -> None:
        replicas = set(self.assignment.replicas).union(self.state.isr)
        replicas.discard(self.broker_id)
        for gone in set(self.followers) - replicas:
            del self.followers[gone]
        for broker_id in replicas - set(self.followers):
            progress = self.followers[broker_id] = FollowerProgress()
            if broker_id in self.state.isr:
                progress.caught_up_ms = now_ms

    @property
    def effective_min_insync(self) -> int:
        """min.insync.replicas, but never more than there are replicas; those that are being added
        count once their reassignment is complete."""
        assignment = self.assignment
        replicas = assignment.origin if assignment.adding else assignment.replicas
        return min(self.settings.min_insync_replicas, max(1, len(replicas)))

    # --- appending -------------------------------------------------------------------------------

    def plan_append(
        self,
        headers: Sequence[BatchHeader],
        acks: int,
        transaction: TransactionalProduce | None = None,
    ) -> AppendPlan:
        """Fence, check the minimum of in-sync replicas, assign offsets. Changes nothing.

        Raises NotEnoughReplicasError (acks -1 only), what ProducerStateTable.check raises, and
        InvalidRecordError where an idempotent producer's batch is not the only one: each must be
        checked against the batch before it, and a repetition is answered as a whole. For a batch of
        a transaction also InvalidRequiredAcksError, and
        TransactionalIdAuthorizationFailedError without `transaction`.
        """
        if acks == -1 and len(self.isr.committed) < self.effective_min_insync:
            raise self._too_few()
        if len(headers) > 1 and any(header.producer_id != NO_PRODUCER_ID for header in headers):
            raise InvalidRecordError(
                "a produce request of an idempotent producer holds one batch a partition; "
                f"this one holds {len(headers)}"
            )
        next_offset = self.log_state.log_end_offset
        planned: list[BatchHeader] = []
        for header in headers:
            if header.attributes & TRANSACTIONAL:
                plan = self._plan_transactional(header, acks, transaction)
                if plan is not None:
                    return plan
            elif (duplicate := self.log_state.producers.check(header)) is not None:
                return AppendPlan((), duplicate)
            planned.append(
                header._replace(base_offset=next_offset, leader_epoch=self.state.leader_epoch)
            )
            next_offset += header.last_offset_delta + 1
        return AppendPlan(tuple(planned))

    def _plan_transactional(
        self, header: BatchHeader, acks: int, transaction: TransactionalProduce | None
    ) -> AppendPlan | None:
        """None: it may be appended."""
        if transaction is None:
            raise TransactionalIdAuthorizationFailedError(
                "the record batch is of a transaction, and its request names no transactional id"
            )
        if acks != -1:
            raise InvalidRequiredAcksError(
                f"acks is {acks}; records of a transaction take acks=all"
            )
        producers = self.log_state.producers
        admitted = self.opening.admit(header, producers, transaction)
        if not admitted and header.producer_id in self.opening:
            return AppendPlan((), waits=True)  # what comes before it is not in the log yet
        duplicate = producers.check(header, from_zero=transaction.adds)
        if duplicate is not None:
            return AppendPlan((), duplicate)
        return None if admitted else AppendPlan((), waits=True)

    def _coordinator_epoch(self, producer_id: int) -> int:
        known = self.log_state.producers.get(producer_id)
        return NO_COORDINATOR_EPOCH if known is None else known.coordinator_epoch

    def plan_marker(self, end: TransactionEnd) -> MarkerPlan:
        """What becomes of a marker, once the guard of its producer has been taken (`opening`).
        Changes nothing. Raises NotEnoughReplicasError, and what `planned_marker` raises."""
        if len(self.isr.committed) < self.effective_min_insync:
            raise self._too_few()
        log_state = self.log_state
        return planned_marker(
            log_state.producers, end, log_state.log_end_offset, self.state.leader_epoch
        )

    def _too_few(self) -> MinikafkaError:
        return NotEnoughReplicasError(
            f"{self.topic_partition} has {len(self.isr.committed)} in-sync replicas; "
            f"acks=all needs {self.effective_min_insync} (min.insync.replicas)"
        )

    def on_appended(
        self, headers: Sequence[BatchHeader], now_ms: int, markers: Markers | None = None
    ) -> list[Effect]:
        """The planned batches are in the log."""
        self.log_state.appended(headers, markers)
        return self.advance_high_watermark(now_ms)

    def park(self, token: object, required_offset: int) -> list[Effect]:
        """A produce with acks=all that is appended below `required_offset`: answered when that much
        is committed, which may be now."""
        if required_offset <= self.log_state.high_watermark:
            return [self._complete(token)]
        self.parked.park(token, required_offset)
        return []

    def fail_all_parked(self, error: MinikafkaError) -> list[Effect]:
        """Leadership is over, or the disk is, or too few are in sync: nobody waits any longer."""
        return [CompleteProduce(token, error) for token in self.parked.settle_all()]

    def end(self, error: MinikafkaError) -> list[Effect]:
        """Leadership is over: nobody waits any longer, neither for replicas nor for a word."""
        return self.fail_all_parked(error) + self.opening.refuse_all(error)

    def _complete(self, token: object) -> Effect:
        enough = len(self.isr.committed) >= self.effective_min_insync
        return CompleteProduce(token, None if enough else self._too_few_after_append())

    def _too_few_after_append(self) -> MinikafkaError:
        return NotEnoughReplicasAfterAppendError(
            f"{self.topic_partition} has only {len(self.isr.committed)} in-sync replicas now; "
            f"{self.effective_min_insync} are needed (min.insync.replicas); "
            "the record was appended and may yet be committed"
        )

    # --- the high watermark ----------------------------------------------------------------------

    def advance_high_watermark(self, now_ms: int) -> list[Effect]:
        """Recompute it after an append, a fetch, a flush or an adoption; it never falls."""
        own_end = self.log_state.log_end_offset
        if self.settings.flush_before_ack:
            own_end = min(own_end, self.log_state.flushed_offset)
        offset = committed_offset(
            own_end,
            self.broker_id,
            self.isr,
            self.followers,
            self.effective_min_insync,
            lambda broker_id, progress: self._is_about_to_join(broker_id, progress, now_ms),
        )
        if offset is None or offset <= self.log_state.high_watermark:
            return []
        self.log_state.commit(offset)
        effects: list[Effect] = [HighWatermarkAdvanced(offset)]
        return effects + [self._complete(token) for token in self.parked.settle_up_to(offset)]

    def _is_about_to_join(self, broker_id: int, progress: FollowerProgress, now_ms: int) -> bool:
        """Does the high watermark wait for this replica outside the ISR? Only while it is heard:
        what keeps it from fetching (its log has failed, say) keeps it from joining, too."""
        patience_ms = min(OUTSIDER_SILENCE_MS, self.settings.replica_lag_time_max_ms)
        return (
            self.is_eligible(broker_id, progress)
            and now_ms - progress.last_fetch_ms <= patience_ms
            and self._caught_up(progress, now_ms)
        )

    def _caught_up(self, progress: FollowerProgress, now_ms: int) -> bool:
        return progress.caught_up(
            self.log_state.log_end_offset, now_ms, self.settings.replica_lag_time_max_ms
        )

    def is_eligible(self, broker_id: int, progress: FollowerProgress) -> bool:
        """May this replica, in the incarnation that fetches, become a member of the ISR?"""
        return (
            progress.broker_epoch != UNKNOWN_BROKER_EPOCH
            and self.eligible.get(broker_id) == progress.broker_epoch
        )

    # --- leading without ZooKeeper ---------------------------------------------------------------

    def doubt(self, now_ms: int, silence_ms: int) -> str | None:
        """Why another may lead by now, where ZooKeeper cannot be asked; None: nobody does, as far
        as the followers can tell.

        A clean successor is a member of the ISR, and stops to follow when it takes over. So while
        every other member has fetched within `silence_ms` (under this epoch, or the fetch would not
        have counted), none of them was in office `silence_ms` ago. Who is in sync alone has no such
        witness; the only replica of all needs none.
        """
        witnesses = self.isr.maximal - {self.broker_id}
        silent = [
            broker_name(member)
            for member in sorted(witnesses)
            # One whose addition is on its way may have left the assignment: nobody knows of it.
            if (progress := self.followers.get(member)) is None
            or now_ms - progress.last_fetch_ms > silence_ms
        ]
        if silent:
            return f"{','.join(silent)} of the ISR have not fetched for more than {silence_ms} ms"
        if not witnesses and self.assignment.replicas != (self.broker_id,):
            return "no other replica is in sync that could tell"
        return None

    # --- deleting records ------------------------------------------------------------------------

    def deletion_target(self, before_offset: int) -> int:
        """Below which offset records are forgotten that are deleted before this one (-1: all that
        are committed). OffsetOutOfRangeError above the high watermark."""
        high_watermark = self.log_state.high_watermark
        target = high_watermark if before_offset == ALL_COMMITTED else before_offset
        if not 0 <= target <= high_watermark:
            raise OffsetOutOfRangeError(
                f"records of {self.topic_partition} can be deleted up to the high watermark, "
                f"{high_watermark}, not up to {before_offset}"
            )
        return target

    def delete_records(self, before_offset: int) -> list[Effect]:
        """Forget the records below `before_offset`, which `deletion_target` allowed."""
        if not self.log_state.raise_log_start(before_offset):
            return []
        return [RaiseLogStart(self.log_state.log_start_offset)]

    @property
    def low_watermark(self) -> int:
        """Below it no member of the committed ISR has records any more; -1 while one of them has
        not told."""
        starts = [
            self.followers[member].log_start_offset
            for member in self.isr.committed
            if member != self.broker_id
        ]
        return (
            min(self.log_state.log_start_offset, *starts)
            if starts
            else self.log_state.log_start_offset
        )

    # --- fetches ---------------------------------------------------------------------------------

    def check_leader_epoch(self, current_leader_epoch: int) -> None:
        """Fence a fetcher of another epoch (-1: not checked, for consumers only)."""
        mine = self.state.leader_epoch
        if 0 <= current_leader_epoch < mine:
            raise FencedLeaderEpochError(
                f"{self.topic_partition} is at leader epoch {mine}; {current_leader_epoch} is old"
            )
        if current_leader_epoch > mine:
            raise UnknownLeaderEpochError(
                f"{self.topic_partition} is at leader epoch {mine} here; "
                f"{current_leader_epoch} is not known yet"
            )

    def check_replica_fetch(
        self, replica_id: int, position: FollowerPosition
    ) -> OffsetAndEpoch | None:
        """Validate a follower's position (rule R7); changes nothing. None: it may read from there.
        An OffsetAndEpoch: its log diverges, it must cut back by that epoch and its end.

        Raises FencedLeaderEpochError, UnknownLeaderEpochError, OffsetOutOfRangeError.
        """
        if position.current_leader_epoch < 0:
            raise FencedLeaderEpochError(
                f"broker {replica_id} fetched {self.topic_partition} without a leader epoch; "
                f"it must follow epoch {self.state.leader_epoch}"
            )
        self.check_leader_epoch(position.current_leader_epoch)
        if replica_id not in self.followers:
            raise UnknownLeaderEpochError(
                f"broker {replica_id} is no replica of {self.topic_partition} here"
            )
        fetch_offset = position.fetch_offset
        if fetch_offset < self.log_state.log_start_offset:
            raise self._out_of_range(fetch_offset)
        if position.last_fetched_epoch >= 0:
            end = self.log_state.epochs.end_of(
                position.last_fetched_epoch, self.log_state.log_end_offset
            )
            assert end is not None, "a leader's log has at least the epoch that it leads"
            if end.leader_epoch < position.last_fetched_epoch or end.offset < fetch_offset:
                return end
            if self._cannot_compare(position):
                raise OffsetOutOfRangeError(
                    f"{self.topic_partition} begins at {fetch_offset} here: what broker "
                    f"{replica_id} has below can no longer be compared, it must begin anew there"
                )
        if fetch_offset > self.log_state.log_end_offset:
            raise self._out_of_range(fetch_offset)
        return None

    def _cannot_compare(self, position: FollowerPosition) -> bool:
        """A follower ends where this log begins, with records of an epoch of which retention has
        left nothing here: another record may have been committed in the place of any of them."""
        earliest_epoch, log_start = (
            self.log_state.epochs.earliest_epoch,
            self.log_state.log_start_offset,
        )
        assert earliest_epoch is not None, "a leader's log has at least the epoch that it leads"
        return (
            position.last_fetched_epoch < earliest_epoch
            and position.log_start_offset < log_start == position.fetch_offset
        )

    def record_replica_fetch(
        self, replica_id: int, replica_broker_epoch: int, position: FollowerPosition, now_ms: int
    ) -> list[Effect]:
        """Count a position that `check_replica_fetch` found valid. Once per fetch that arrives.

        Raises StaleBrokerEpochError for a fetch of an older incarnation than one heard already.
        """
        progress = self.followers[replica_id]
        if replica_broker_epoch < progress.broker_epoch:
            raise StaleBrokerEpochError(
                f"broker {replica_id} fetched with broker epoch {replica_broker_epoch} after "
                f"{progress.broker_epoch}: an older incarnation"
            )
        progress.log_start_offset = position.log_start_offset
        progress.record_fetch(
            position.fetch_offset, replica_broker_epoch, self.log_state.log_end_offset, now_ms
        )
        effects = self.advance_high_watermark(now_ms)
        return effects + self._maybe_expand(now_ms)

    def check_consumer_fetch(self, fetch_offset: int, current_leader_epoch: int) -> None:
        """Validate a consumer's fetch; it may then read below the high watermark."""
        self.check_leader_epoch(current_leader_epoch)
        if not self.log_state.log_start_offset <= fetch_offset <= self.log_state.log_end_offset:
            raise self._out_of_range(fetch_offset)

    def latest_offset(self, *, read_committed: bool = False) -> int:
        """The offset that a consumer calls the end. OffsetNotAvailableError while a new leader's
        high watermark may be behind what its predecessor showed (KIP-207)."""
        if self.log_state.high_watermark < self.first_own_offset:
            raise OffsetNotAvailableError(
                f"the new leader of {self.topic_partition} does not know yet what is committed"
            )
        log_state = self.log_state
        return log_state.last_stable_offset if read_committed else log_state.high_watermark

    def _out_of_range(self, offset: int) -> MinikafkaError:
        return OffsetOutOfRangeError(
            f"offset {offset} of {self.topic_partition} is not within "
            f"{self.log_state.log_start_offset} to {self.log_state.log_end_offset}"
        )

    def is_no_news(self, replica_id: int, position: FollowerPosition) -> bool:
        """Does a fetch tell only that the follower is still where it was?"""
        progress = self.followers.get(replica_id)
        return progress is not None and progress.log_end_offset == position.fetch_offset

    # --- the ISR ---------------------------------------------------------------------------------

    def _maybe_expand(self, now_ms: int) -> list[Effect]:
        """Propose every replica that has come into sync, if nothing else is in flight."""
        if self.isr.pending is not None or len(self.isr.committed) > len(self.followers):
            return []
        joiners = [
            broker_id
            for broker_id, progress in self.followers.items()
            if broker_id not in self.isr.committed and self._may_join(broker_id, progress, now_ms)
        ]
        if not joiners:
            return []
        names = ",".join(broker_name(broker_id) for broker_id in sorted(joiners))
        return self._propose({*self.isr.committed, *joiners}, f"{names} caught up")

    def _may_join(self, broker_id: int, progress: FollowerProgress, now_ms: int) -> bool:
        return (
            progress.log_end_offset >= max(self.log_state.high_watermark, self.epoch_start)
            and broker_id in self.assignment.replicas
            and self.is_eligible(broker_id, progress)
            and now_ms - progress.refused_ms >= JOIN_RETRY_MS
        )

    def may_lag(self) -> bool:
        """Unless every replica is known to be where this log ends, and all of it is committed: who
        is there is in sync, however long ago it was heard."""
        log_end_offset = self.log_state.log_end_offset
        return self.log_state.high_watermark != log_end_offset or any(
            progress.log_end_offset != log_end_offset for progress in self.followers.values()
        )

    def check_lag(self, now_ms: int) -> list[Effect]:
        """Propose to drop the members that are not caught up; on the schedule's word only. And who
        waits for a replica outside that has fallen silent need not wait for the next append."""
        effects = self.advance_high_watermark(now_ms)
        return effects + self._propose_removals(now_ms)

    def _propose_removals(self, now_ms: int) -> list[Effect]:
        if self.isr.pending is not None:
            return []
        laggards = {
            member
            for member in self.isr.committed
            if member != self.broker_id and not self._caught_up(self.followers[member], now_ms)
        }
        if not laggards:
            return []
        names = ",".join(broker_name(broker_id) for broker_id in sorted(laggards))
        lag_ms = self.settings.replica_lag_time_max_ms
        return self._propose(
            set(self.isr.committed) - laggards, f"{names} behind for more than {lag_ms} ms"
        )

    def _propose(self, members: set[int], reason: str) -> list[Effect]:
        order = [*self.assignment.replicas, *sorted(members.difference(self.assignment.replicas))]
        proposal = IsrProposal(
            self.topic_partition,
            self.topic_id,
            self.state.leader_epoch,
            self.state.partition_version,
            tuple((member, self._epoch_of(member)) for member in order if member in members),
            reason,
        )
        self.isr.propose(proposal)
        return [ProposeIsr(proposal)]

    def _epoch_of(self, member: int) -> int:
        if member == self.broker_id:
            return self.broker_epoch
        return self.followers[member].broker_epoch

    def on_proposal_refused(
        self, proposal: IsrProposal, error: MinikafkaError, now_ms: int
    ) -> list[Effect]:
        """The controller's answer brought no newer State. An addition that it found ineligible is
        not simply forgotten, since a delayed copy of the proposal may still be applied: the
        committed ISR is proposed as it stands, and the version that this makes voids all copies.
        Until this broker has heard what the controller knows, it would propose the same with every
        fetch: so it waits a while. Anything else is tried again as it was."""
        if proposal != self.isr.pending:
            return []
        if isinstance(error, IneligibleReplicaError):
            for member, _ in proposal.isr:
                if member not in self.isr.committed and member in self.followers:
                    self.followers[member].refused_ms = now_ms
            return self._propose(set(self.isr.committed), "the addition was refused")
        return [ProposeIsr(proposal)]

    # --- invariants ------------------------------------------------------------------------------

    def check(self) -> None:
        """Assert what can be seen from here."""
        assert self.isr.committed == self.state.isr, (self.isr, self.state)
        members = set(self.assignment.replicas).union(self.state.isr) - {self.broker_id}
        assert set(self.followers) == members, (self.followers, members)
        pending = self.isr.pending
        if pending is not None:
            assert pending.partition_version == self.state.partition_version, pending
        assert self.first_own_offset <= self.epoch_start <= self.log_state.log_end_offset, (
            self.first_own_offset,
            self.epoch_start,
            self.log_state,
        )
        self.parked.check(self.log_state.high_watermark)
        self.opening.check()
