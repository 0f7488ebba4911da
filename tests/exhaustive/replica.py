"""One broker of the model: the real core.partition, built from a value, given one event, read back.

Purpose: `ReplicaStep.step(broker id, broker, event)` is a pure function of values, so the search
may remember what it came to: each step of the core is computed once for each state of one broker,
however many states of the world contain it. What the runtime does around the core (fences of
UpdateState, effects on the disk) is done here as tests/scenarios/node.py does it.

State: none but the settings. Invariants checked here, of one replica: the core's own assertions;
nos. 8 (a leader's high watermark never falls), 12 (no cut below it), 14 (what is outdated changes
nothing), 15 (epoch cache); the mirror of the log is what lies on the disk; what changes the epochs
says so (StoreEpochs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from minikafka.core.replication.effects import (
    CompleteProduce,
    Effect,
    HighWatermarkAdvanced,
    ProposeIsr,
    RaiseLogStart,
    RestartLog,
    RoleChanged,
    StoreEpochs,
    TruncateLog,
)
from minikafka.core.replication.epochs import EpochCache
from minikafka.core.replication.events import (
    BatchesAppended,
    BatchesFollowed,
    Diverged,
    LagCheckDue,
    LogStartRaised,
    LogTruncated,
    OutOfRange,
    ProduceParked,
    ProposalAnswered,
    Registered,
    ReplicaFetched,
    StateReceived,
)
from minikafka.core.replication.events import Event as PartitionEvent
from minikafka.core.replication.follower import Follower
from minikafka.core.replication.isr import NEVER_MS, FollowerProgress, IsrTracker
from minikafka.core.replication.leader import Leader
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.partition import Partition
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.core.replication.settings import PartitionSettings
from minikafka.errors import (
    FencedLeaderEpochError,
    MinikafkaError,
    OffsetOutOfRangeError,
)
from minikafka.model import BatchHeader, EpochEntry, FollowerPosition, OffsetAndEpoch
from tests.exhaustive.values import (
    TOPIC_ID,
    TP,
    Answer,
    Broker,
    Fetch,
    Lead,
    Position,
    Progress,
    Record,
    Reply,
    UpdateStateBatch,
    assignment,
    of_state,
    start_of,
    to_state,
)
from tests.helpers.core_builders import leader_of

NOW_MS = 0  # time stands still; what is long ago was never
LAG_MS = 10_000


class Produce(NamedTuple):
    payload: int
    acks: int


class Age(NamedTuple):
    """More than replica.lag.time.max.ms has passed since these followers were heard, and the
    leader looks for laggards."""

    followers: tuple[int, ...]


class Retain(NamedTuple):
    """Retention deletes all that it may: what is committed."""


class Register(NamedTuple):
    broker_epoch: int


class Step(NamedTuple):
    """What a step came to: the broker after it, a reply to a fetch, payloads acknowledged, and what
    it violates (None: nothing)."""

    broker: Broker
    reply: Reply | None = None
    acknowledged: tuple[int, ...] = ()
    violation: str | None = None


class ReplicaStep:
    """`min_insync` and the number of replicas are the same throughout a search."""

    def __init__(self, replicas: int, min_insync: int) -> None:
        self.assignment = assignment(replicas)
        self.settings = PartitionSettings(min(min_insync, replicas), LAG_MS, False)

    def step(self, broker_id: int, broker: Broker, event: Any) -> Step:
        """Never raises: a failed assertion is a violation."""
        live = LiveReplica(self, broker_id, broker)
        try:
            reply = live.handle(event)
            after = live.value()
            _check(broker, after)
        except AssertionError as failed:
            return Step(broker, violation=f"assertion in the core: {failed}")
        except MinikafkaError:
            return Step(broker)  # refused, and nothing changed
        if is_refused(self.settings.min_insync_replicas, broker, event) and after != broker:
            return Step(broker, violation="section 3: it appends what it must refuse")
        if after != broker and is_outdated(broker, event):
            return Step(broker, violation=f"no. 14: it changes something: {event}")
        return Step(after, reply, tuple(live.acknowledged), live.violation)

    def position(self, broker_id: int, broker: Broker) -> tuple[int, Position] | None:
        """Whom this broker fetches from, and where; None if it follows nobody."""
        partition = LiveReplica(self, broker_id, broker).partition
        found = partition.fetch_position()
        if found is None or partition.state is None:
            return None
        return partition.state.leader, (
            found.fetch_offset,
            found.last_fetched_epoch,
            found.current_leader_epoch,
            found.log_start_offset,
        )


class LiveReplica:
    """The core of one broker between two values."""

    def __init__(self, replica_step: ReplicaStep, broker_id: int, broker: Broker) -> None:
        self.replica_step = replica_step
        self.broker_id = broker_id
        self.broker = broker
        self.records: list[Record | None] = list(broker.log)
        self.disk_high_watermark = broker.high_watermark
        self.disk_epochs = broker.epochs
        self.controller_epoch_seen = broker.controller_epoch_seen
        self.acknowledged: list[int] = []
        self.violation: str | None = None
        self.eligible = dict(broker.eligible)
        log = LogState(
            start_of(broker.log),
            len(broker.log),
            broker.high_watermark,
            EpochCache(EpochEntry(*entry) for entry in broker.epochs),
            ProducerStateTable(),
            len(broker.log),
        )
        self.partition = partition = Partition(
            TP, TOPIC_ID, broker_id, broker.broker_epoch, log, replica_step.settings, self.eligible
        )
        if broker.state is None:
            return
        partition.state = to_state(broker.state)
        partition.assignment = replica_step.assignment
        if broker.lead is None:
            partition._follower = Follower(TP, TOPIC_ID, log, partition.state)
        else:
            partition._leader = self._leader(broker.lead)

    def _leader(self, lead: Lead) -> Leader:
        partition = self.partition
        leader = Leader(
            TP,
            TOPIC_ID,
            self.broker_id,
            partition.broker_epoch,
            partition.log_state,
            partition.settings,
            self.eligible,
        )
        assert partition.state is not None
        leader.state, leader.assignment = partition.state, partition.assignment
        leader.followers = {
            follower: FollowerProgress(
                caught_up_ms=NOW_MS if progress.caught_up else NEVER_MS,
                broker_epoch=progress.broker_epoch,
                log_end_offset=progress.log_end_offset,
                last_fetch_ms=NOW_MS if progress.heard else NEVER_MS,
                leader_end_at_last_fetch=progress.leader_end_at_last_fetch,
                refused_ms=NOW_MS if progress.refused else NEVER_MS,
            )
            for follower, progress in lead.followers
        }
        leader.isr = IsrTracker(partition.state.isr, set(lead.additions), lead.pending)
        leader.epoch_start, leader.first_own_offset = lead.epoch_start, lead.first_own_offset
        for token, end in lead.parked:
            leader.parked.park(token, end)
        return leader

    # --- back to a value ---

    def value(self) -> Broker:
        partition, broker = self.partition, self.broker
        log = partition.log_state
        partition.check()
        epochs = tuple((entry.leader_epoch, entry.start_offset) for entry in log.epochs.entries())
        assert log.log_end_offset == len(self.records), "the mirror is not what lies on the disk"
        assert log.log_start_offset == start_of(self.records), "the log starts elsewhere"
        assert log.high_watermark == self.disk_high_watermark, "a high watermark moved silently"
        assert epochs == self.disk_epochs, "the epochs on the disk are others"
        return broker._replace(
            broker_epoch=partition.broker_epoch,
            log=tuple(self.records),
            high_watermark=log.high_watermark,
            epochs=epochs,
            controller_epoch_seen=self.controller_epoch_seen,
            eligible=tuple(sorted(self.eligible.items())),
            state=None if partition.state is None else of_state(partition.state),
            lead=self._lead_value() if partition.is_leader else None,
        )

    def _lead_value(self) -> Lead:
        leader = leader_of(self.partition)
        assert leader.broker_epoch == self.partition.broker_epoch
        assert leader.state is self.partition.state
        assert leader.isr.committed == leader.state.isr
        return Lead(
            tuple(
                (
                    follower,
                    Progress(
                        progress.caught_up_ms == NOW_MS,
                        progress.broker_epoch,
                        progress.log_end_offset,
                        progress.last_fetch_ms == NOW_MS,
                        progress.leader_end_at_last_fetch,
                        progress.refused_ms == NOW_MS,
                    ),
                )
                for follower, progress in sorted(leader.followers.items())
            ),
            tuple(sorted(leader.isr.additions)),
            None if leader.isr.pending is None else replace(leader.isr.pending, reason=""),
            leader.epoch_start,
            leader.first_own_offset,
            tuple(leader.parked.waiting()),
        )

    # --- events ---

    def handle(self, event: Any) -> Reply | None:
        match event:
            case Fetch():
                return self.on_fetch(event)
            case UpdateStateBatch():
                self.on_message(event)
            case Reply():
                self.on_reply(event)
            case Produce():
                self.produce(event)
            case Answer():
                self.on_answer(event)
            case Age(followers):
                self.age(followers)
            case Retain():
                offset = self.partition.log_state.high_watermark
                self.step(LogStartRaised(offset))
                self.forget_below(offset)
            case Register(broker_epoch):
                self.step(Registered(broker_epoch))
        return None

    def on_message(self, message: UpdateStateBatch) -> None:
        """The fences are the runtime's (ReplicaManager._fence)."""
        if message_is_fenced(self.broker, message):
            return
        self.controller_epoch_seen = message.controller_epoch
        self.eligible.clear()
        self.eligible.update(message.eligible)
        if message.state is not None:
            state = to_state(message.state)
            self.step(StateReceived(state, self.replica_step.assignment))

    def produce(self, event: Produce) -> None:
        header = BatchHeader(0, 70, 0, event.payload, 0, 0, 0, 0, -1, -1, -1, 1)
        (planned,) = self.partition.plan_append([header], event.acks).headers
        self.records.append((planned.leader_epoch, event.payload))
        self.step(BatchesAppended([planned]))
        if event.acks == -1:
            self.step(ProduceParked(event.payload, planned.next_offset))

    def on_fetch(self, fetch: Fetch) -> Reply | None:
        """A refusal that tells the follower nothing is no reply. One batch at a time, so that
        followers stand everywhere in between."""
        partition, position = self.partition, fetch.position
        log = partition.log_state
        offsets = (log.log_start_offset, log.high_watermark, log.log_end_offset)
        try:
            end = partition.check_replica_fetch(fetch.replica_id, _position(position))
        except FencedLeaderEpochError:
            assert partition.state is not None
            return Reply("fenced", position, state=of_state(partition.state))
        except OffsetOutOfRangeError:
            return Reply("range", position, offsets=offsets)
        if end is not None:
            return Reply("diverging", position, end=(end.offset, end.leader_epoch))
        self.step(ReplicaFetched(fetch.replica_id, fetch.broker_epoch, _position(position)))
        offsets = (log.log_start_offset, log.high_watermark, log.log_end_offset)
        batches = tuple(r for r in self.records[position[0] : position[0] + 1] if r is not None)
        return Reply("data", position, offsets=offsets, batches=batches)

    def on_reply(self, reply: Reply) -> None:
        partition, position = self.partition, _position(reply.position)
        if reply.kind == "fenced":
            if self.broker.state is not None and not partition.is_leader:
                assert reply.state is not None
                state = to_state(reply.state)
                self.step(StateReceived(state, partition.assignment))
        elif reply.kind == "range":
            self.step(OutOfRange(position, reply.offsets[0], reply.offsets[2]))
        elif reply.kind == "diverging":
            self.step(Diverged(position, OffsetAndEpoch(*reply.end)))
        else:
            if not partition.awaits(position):
                return
            headers = [
                _header(reply.position[0] + index, record)
                for index, record in enumerate(reply.batches)
            ]
            assert partition.accepts(headers), f"a leader sent what does not follow on: {reply}"
            self.records += reply.batches
            offsets = reply.offsets
            self.step(BatchesFollowed(headers, offsets[1], offsets[0]))

    def on_answer(self, answer: Answer) -> None:
        """To a late proposal of the process before this one, perhaps: then there is no replica yet
        that it could reach."""
        if self.broker.state is None:
            return
        error = None if answer.error is None else answer.error("refused")
        state = None if answer.state is None else to_state(answer.state)
        self.step(ProposalAnswered(answer.proposal, error, state))

    def age(self, followers: tuple[int, ...]) -> None:
        leader = leader_of(self.partition)
        for follower in followers:
            progress = leader.followers[follower]
            progress.caught_up_ms = progress.last_fetch_ms = progress.refused_ms = NEVER_MS
        self.step(LagCheckDue())

    # --- events and effects ---

    def step(self, event: PartitionEvent) -> None:
        self.apply(self.partition.step(event, NOW_MS))

    def apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case StoreEpochs(entries):
                    self.disk_epochs = tuple((e.leader_epoch, e.start_offset) for e in entries)
                case TruncateLog(offset, committed_lost):
                    if committed_lost:
                        self.violation = f"no. 12: cuts committed records from {offset} on"
                    del self.records[offset:]
                    self.disk_high_watermark = min(self.disk_high_watermark, offset)
                    self.step(LogTruncated(len(self.records), ProducerStateTable()))
                case HighWatermarkAdvanced(high_watermark):
                    self.disk_high_watermark = high_watermark
                case CompleteProduce(token, error):
                    if error is None:
                        assert isinstance(token, int)
                        self.acknowledged.append(token)
                case ProposeIsr() | RoleChanged():
                    pass  # what is pending is in the partition, and so is the role
                case RestartLog(offset):
                    self.records = [None] * offset
                    self.disk_high_watermark = offset
                case RaiseLogStart(offset):
                    self.forget_below(offset)

    def forget_below(self, offset: int) -> None:
        """The log's own file of epochs begins there, too."""
        self.records[:offset] = [None] * offset
        entries = self.partition.log_state.epochs.entries()
        self.disk_epochs = tuple((e.leader_epoch, e.start_offset) for e in entries)


def message_is_fenced(broker: Broker, message: UpdateStateBatch) -> bool:
    """The runtime's fences: an older controller, or a message to an older incarnation (R6)."""
    return (
        message.controller_epoch < broker.controller_epoch_seen
        or message.target_broker_epoch < broker.broker_epoch
    )


def is_outdated(broker: Broker, event: Any) -> bool:
    """No. 14: is this a message of an older controller, to an older incarnation, or of an older
    incarnation of a follower than the leader has heard?"""
    if isinstance(event, UpdateStateBatch):
        return (
            event.controller_epoch < broker.controller_epoch_seen
            or event.target_broker_epoch < broker.broker_epoch
        )
    if isinstance(event, Fetch) and broker.lead is not None:
        progress = dict(broker.lead.followers).get(event.replica_id)
        return progress is not None and event.broker_epoch < progress.broker_epoch
    return False


def is_refused(min_insync: int, broker: Broker, event: Any) -> bool:
    """Section 3: with too few in sync, acks=all appends nothing."""
    if not isinstance(event, Produce) or event.acks != -1 or broker.state is None:
        return False
    return len(broker.state.isr) < min_insync


def _position(position: Position) -> FollowerPosition:
    return FollowerPosition(TP, TOPIC_ID, *position)


def _header(offset: int, record: Record) -> BatchHeader:
    return BatchHeader(offset, 70, record[0], record[1], 0, 0, 0, 0, -1, -1, -1, 1)


def _check(before: Broker, after: Broker) -> None:
    """Nos. 8 and 15, of one replica."""
    if before.lead is not None and after.lead is not None:
        assert after.high_watermark >= before.high_watermark, "no. 8: a high watermark fell"
    derived: list[tuple[int, int]] = []
    for offset in range(start_of(after.log), len(after.log)):
        record = after.log[offset]
        assert record is not None, "the log has a hole"
        leader_epoch = record[0]
        if not derived or derived[-1][0] != leader_epoch:
            assert not derived or derived[-1][0] < leader_epoch, "no. 15: an epoch in the log fell"
            derived.append((leader_epoch, offset))
    leading = after.epochs[len(derived) :]
    assert after.epochs[: len(derived)] == tuple(derived), f"no. 15: {after.epochs}, {derived}"
    assert len(leading) <= 1, f"no. 15: more than one epoch without a record: {after.epochs}"
    if leading:
        assert leading[0][1] == len(after.log), f"no. 15: {after.epochs}"
