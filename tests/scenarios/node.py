"""One broker of a scenario: its disk, which outlives it, and its process around the real core.

The process does what the runtime does, without a loop: it adopts what the controller says, fetches
from its leader, answers the fetches of others, carries out effects on its disk, and sends its ISR
proposals until they are answered. Time and messages come from the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minikafka.api.requests import UpdateStateRequest
from minikafka.core.control.controller import Controller
from minikafka.core.replication.effects import (
    CompleteProduce,
    Effect,
    HighWatermarkAdvanced,
    ProposeIsr,
    RaiseLogStart,
    RestartLog,
    Role,
    RoleChanged,
    StoreEpochs,
    TruncateLog,
)
from minikafka.core.replication.epochs import EpochCache
from minikafka.core.replication.events import (
    BatchesAppended,
    BatchesFollowed,
    Diverged,
    Event,
    LagCheckDue,
    LogTruncated,
    OutOfRange,
    ProduceParked,
    ProposalAnswered,
    ReplicaFetched,
    StateReceived,
)
from minikafka.core.replication.isr import LagCheckSchedule
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.partition import Partition
from minikafka.core.replication.producer_state import ProducerStateTable
from minikafka.errors import (
    BrokerNotAvailableError,
    FencedLeaderEpochError,
    InconsistentTopicIdError,
    MinikafkaError,
    NotControllerError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
)
from minikafka.model import (
    BatchHeader,
    EpochEntry,
    FollowerPosition,
    IsrProposal,
    OffsetAndEpoch,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)

if TYPE_CHECKING:
    from tests.scenarios.harness import Cluster

TP = TopicPartition("t", 0)
SILENCE_MS = 2_000


@dataclass(frozen=True)
class Stored:
    """One batch of one record, as it lies on a disk."""

    header: BatchHeader
    payload: str

    @property
    def epoch(self) -> int:
        return self.header.leader_epoch


@dataclass
class Disk:
    """What a process leaves behind. `damaged`: it may lack what the broker had acknowledged."""

    storage_id: str
    topic_id: str | None = None
    start: int = 0
    batches: list[Stored] = field(default_factory=list)
    high_watermark: int = 0
    epochs: tuple[EpochEntry, ...] = ()
    damaged: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.batches)

    def at(self, offset: int) -> Stored | None:
        return self.batches[offset - self.start] if self.start <= offset < self.end else None

    def cut(self, offset: int) -> None:
        del self.batches[max(0, offset - self.start) :]
        self.start = min(self.start, offset)
        self.high_watermark = min(self.high_watermark, offset)

    def forget_below(self, offset: int) -> None:
        del self.batches[: max(0, offset - self.start)]
        self.start = max(self.start, offset)

    def producers(self) -> ProducerStateTable:
        table = ProducerStateTable()
        for stored in self.batches:
            table.update(stored.header)
        return table

    def recover(self) -> LogState:
        """The mirror of what is there; epochs that begin above the end are cut."""
        epochs = EpochCache(self.epochs)
        epochs.truncate_from_end(self.end + 1)
        return LogState(
            self.start, self.end, self.high_watermark, epochs, self.producers(), self.end
        )


@dataclass(frozen=True)
class Fetch:
    replica_id: int
    broker_epoch: int
    position: FollowerPosition


@dataclass(frozen=True)
class Reply:
    """To a fetch: an error, an answer that the log diverges, or data with the leader's offsets."""

    position: FollowerPosition
    error: MinikafkaError | None = None
    state: PartitionState | None = None
    diverging: OffsetAndEpoch | None = None
    offsets: tuple[int, int, int] = (-1, -1, -1)  # log start, high watermark, log end
    batches: tuple[Stored, ...] = ()


@dataclass(frozen=True)
class Proposed:
    broker_id: int
    broker_epoch: int
    proposal: IsrProposal


@dataclass(frozen=True)
class Answer:
    proposal: IsrProposal
    error: MinikafkaError | None
    state: PartitionState | None


@dataclass(frozen=True)
class Deleted:
    """To the controller that asked for it."""

    controller_id: int
    replicas: tuple[tuple[TopicPartition, str], ...]


@dataclass(frozen=True)
class Produce:
    payload: str
    acks: int
    producer: tuple[int, int, int]  # id, epoch, sequence; -1 each without


class Node:
    """A broker. `broker_epoch` is -1 until it is registered; `up` and `paused` are its process."""

    def __init__(self, cluster: Cluster, broker_id: int, name: str) -> None:
        self.cluster = cluster
        self.broker_id = broker_id
        self.name = name
        self.disk = Disk(f"disk-{name}")
        self.up = False
        self.dirty = False
        self.last_heard_ms = 0
        self.begin()

    def begin(self) -> None:
        """A new process: it knows nothing but its disk."""
        self.broker_epoch = -1
        self.paused = False
        self.partition: Partition | None = None
        self.eligible: dict[int, int] = {}
        self.controller_seen = (0, -1)  # controller epoch, broker id
        self.last_message = (0, -1)  # controller epoch, number
        self.controller: Controller | None = None
        self.proposal: IsrProposal | None = None
        self.proposed = False
        self.fetching: FollowerPosition | None = None
        lag_ms = self.cluster.settings.replica_lag_time_max_ms
        self.schedule = LagCheckSchedule(lag_ms, self.cluster.now_ms)

    @property
    def running(self) -> bool:
        return self.up and not self.paused

    @property
    def role(self) -> Role:
        return Role.NONE if self.partition is None else self.partition.role

    # --- events and effects ---

    def step(self, event: Event) -> None:
        assert self.partition is not None
        self.apply(self.partition.step(event, self.cluster.now_ms))

    def apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self._apply_one(effect)

    def _apply_one(self, effect: Effect) -> None:
        assert self.partition is not None
        match effect:
            case StoreEpochs(entries):
                self.disk.epochs = entries
            case TruncateLog(offset, committed_lost):
                self.cluster.on_cut(self, offset, committed_lost)
                self.disk.cut(offset)
                self.step(LogTruncated(self.disk.end, self.disk.producers()))
            case RestartLog(offset):
                self.disk.batches, self.disk.start = [], offset
                self.disk.high_watermark = offset
            case RaiseLogStart(offset):
                self.disk.forget_below(offset)
            case HighWatermarkAdvanced(high_watermark):
                self.disk.high_watermark = high_watermark
                self.cluster.on_high_watermark(self, high_watermark)
            case ProposeIsr(proposal):
                self.proposal, self.proposed = proposal, False
            case CompleteProduce(token, error):
                self.cluster.on_produced(self, str(token), error)
            case RoleChanged():
                self.fetching = None

    # --- the controller speaks ---

    def on_state(self, request: UpdateStateRequest) -> Deleted | None:
        """Fence by controller epoch, target incarnation and number, then adopt and delete."""
        if request.controller_epoch < self.controller_seen[0]:
            return None
        if request.target_broker_epoch < self.broker_epoch:
            return None
        number = (request.controller_epoch, request.number)
        if number < self.last_message:
            return None
        self.last_message = number
        self.controller_seen = (request.controller_epoch, request.controller_id)
        self.eligible.clear()
        self.eligible.update(
            (broker.broker_id, broker.broker_epoch)
            for broker in request.brokers
            if broker.broker_id not in request.shutting_down
        )
        for metadata in request.partitions:
            self._adopt(metadata)
        done = [drop[:2] for drop in request.drops if self._drop(*drop[1:])]
        return Deleted(request.controller_id, tuple(done)) if done else None

    def _drop(self, topic_id: str, partition_version: int) -> bool:
        held = None if self.partition is None else self.partition.state
        if held is not None and held.partition_version > partition_version:
            return False
        if self.disk.topic_id == topic_id:
            self.cluster.on_deleted(self)
            self.disk = Disk(self.disk.storage_id, damaged=self.disk.damaged)
            self.partition = self.proposal = self.fetching = None
        return True

    def _adopt(self, metadata: PartitionMetadata) -> None:
        state, assignment = metadata.state, metadata.assignment
        held = self.partition is not None and self.partition.topic_id == metadata.topic_id
        if not held and self.broker_id not in (*assignment.replicas, *state.isr):
            return
        if self.partition is None or self.partition.topic_id != metadata.topic_id:
            self._open(metadata.topic_id)
        assert self.partition is not None
        self.step(StateReceived(state, assignment))
        self.cluster.on_adopted(self)

    def _open(self, topic_id: str) -> None:
        if self.disk.topic_id != topic_id:
            self.disk = Disk(self.disk.storage_id, topic_id, damaged=self.disk.damaged)
        self.fetching = None
        self.partition = Partition(
            TP,
            topic_id,
            self.broker_id,
            self.broker_epoch,
            self.disk.recover(),
            self.cluster.settings,
            self.eligible,
        )
        self.disk.high_watermark = self.partition.log_state.high_watermark

    # --- following ---

    def next_fetch(self) -> tuple[int, Fetch] | None:
        """(leader, fetch) if this replica follows and no fetch of it is out."""
        if self.partition is None or self.fetching is not None:
            return None
        position = self.partition.fetch_position()
        if position is None or self.partition.state is None:
            return None
        self.fetching = position
        fetch = Fetch(self.broker_id, self.broker_epoch, position)
        return self.partition.state.leader, fetch

    def on_reply(self, reply: Reply) -> None:
        """Take what still holds of an answer. Late and duplicate ones come here, too."""
        if self.fetching == reply.position:
            self.fetching = None
        partition = self.partition
        if partition is None:
            return
        log_start, high_watermark, log_end = reply.offsets
        if isinstance(reply.error, FencedLeaderEpochError) and reply.state is not None:
            if partition.role is Role.FOLLOWER:
                self.step(StateReceived(reply.state, partition.assignment))
        elif isinstance(reply.error, OffsetOutOfRangeError):
            self.step(OutOfRange(reply.position, log_start, log_end))
        elif reply.diverging is not None:
            self.step(Diverged(reply.position, reply.diverging))
        elif reply.error is None:
            if not partition.awaits(reply.position):
                return
            headers = [stored.header for stored in reply.batches]
            assert partition.accepts(headers), (self.name, reply)
            self.disk.batches += reply.batches
            self.step(BatchesFollowed(headers, high_watermark, log_start))

    # --- leading ---

    def on_fetch(self, fetch: Fetch) -> Reply:
        position = fetch.position
        state = None if self.partition is None else self.partition.state
        try:
            return self._answer(fetch)
        except FencedLeaderEpochError as error:
            return Reply(position, error, state)
        except OffsetOutOfRangeError as error:
            log = self.disk
            return Reply(position, error, offsets=(log.start, log.high_watermark, log.end))
        except MinikafkaError as error:
            return Reply(position, error)

    def _answer(self, fetch: Fetch) -> Reply:
        position, partition = fetch.position, self.partition
        if partition is None:
            raise NotLeaderOrFollowerError
        if partition.topic_id != position.topic_id:
            raise InconsistentTopicIdError
        diverging = partition.check_replica_fetch(fetch.replica_id, position)
        if diverging is not None:
            return Reply(position, diverging=diverging)
        self.step(ReplicaFetched(fetch.replica_id, fetch.broker_epoch, position))
        log, begin = partition.log_state, position.fetch_offset - self.disk.start
        return Reply(  # one batch at a time: so followers stand everywhere in between
            position,
            offsets=(log.log_start_offset, log.high_watermark, log.log_end_offset),
            batches=tuple(self.disk.batches[begin : begin + 1]),
        )

    def produce(self, request: Produce) -> None:
        """Append and, with acks=all (-1), wait. The cluster is told what becomes of it."""
        try:
            if self.partition is None:
                raise NotLeaderOrFollowerError
            self.partition.require_leader()
            self._check_leads(self.partition, request.acks)
            producer_id, producer_epoch, sequence = request.producer
            header = BatchHeader(0, 70, 0, 0, 0, 0, 0, 0, producer_id, producer_epoch, sequence, 1)
            plan = self.partition.plan_append([header], request.acks)
        except MinikafkaError as error:
            self.cluster.on_produced(self, request.payload, error)
            return
        if plan.duplicate is not None:
            end_offset = plan.duplicate.last_offset + 1
        else:
            (planned,) = plan.headers
            self.disk.batches.append(Stored(planned, request.payload))
            end_offset = planned.next_offset
        self.cluster.on_appended(request, end_offset - 1)
        if plan.headers:
            self.step(BatchesAppended(plan.headers))
        if request.acks == -1:
            self.step(ProduceParked(request.payload, end_offset))

    def _check_leads(self, partition: Partition, acks: int) -> None:
        """As the runtime does (broker/service.py): out of touch with ZooKeeper for longer than a
        session lasts, only acks=all is taken, and only if no follower is missing."""
        now_ms, cluster = self.cluster.now_ms, self.cluster
        cut_off = not cluster.reaches(self.name, "ZK")
        if not cut_off or now_ms - self.last_heard_ms <= cluster.session_ms:
            return
        doubt = partition.doubt(now_ms, SILENCE_MS) if acks == -1 else "not acks=all"
        if doubt is not None:
            raise BrokerNotAvailableError(doubt)

    def check_lag(self) -> None:
        if self.partition is not None and self.partition.is_leader:
            self.step(LagCheckDue())

    def next_proposal(self) -> tuple[int, Proposed] | None:
        """(controller, proposal) if one is wanted still and not on its way."""
        if self.proposal is None or self.proposed or self.partition is None:
            return None
        if self.partition.pending_proposal != self.proposal:
            self.proposal = None
            return None
        self.proposed = True
        return self.controller_seen[1], Proposed(self.broker_id, self.broker_epoch, self.proposal)

    def on_answer(self, answer: Answer) -> None:
        """A refusal for want of a controller means: the same again, later."""
        self.proposed = False
        if self.partition is None or self.partition.topic_id != answer.proposal.topic_id:
            return
        if isinstance(answer.error, NotControllerError):
            return
        self.step(ProposalAnswered(answer.proposal, answer.error, answer.state))
