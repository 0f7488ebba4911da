"""One replica at run time: the pure partition, its log file, and who waits for it.

Every event goes to the core; its effects are carried out here at once and in order (`apply`), so
nothing comes between a decision and its deed. A disk that fails fences this replica and no other.

A replica that has left the broker (`stopped`) does nothing any more, whoever still holds on to it:
an answer that was on its way, a flush that was under way.

flush.before.ack: `core.log_state.flushed_offset` is what counts. A log that was just opened counts
as not flushed at all, since what a killed process wrote need not be on the disk; the leader flushes
when it begins to lead and after appends, a follower before each fetch that acknowledges more.

Fetch sessions: the sessions of the followers that follow it here watch this replica
(follower_sessions.py), and hand the core their last fetch before what asks for it. While it
follows, it notes in `moved`, of the loop that fetches for it, that its position may have changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Protocol, cast

from minikafka.api.pieces import Piece
from minikafka.broker.counters import BrokerCounters
from minikafka.broker.ports import Buffer, PartitionLog
from minikafka.broker.replication.produced import rules_of
from minikafka.config import TopicConfig
from minikafka.core.replication.effects import (
    AppendWaiting,
    AskCoordinator,
    CompleteProduce,
    Effect,
    HighWatermarkAdvanced,
    ProposeIsr,
    RaiseLogStart,
    RefuseWaiting,
    RestartLog,
    RoleChanged,
    StoreEpochs,
    TransactionQuestion,
    TruncateLog,
)
from minikafka.core.replication.epochs import EpochCache
from minikafka.core.replication.events import (
    BatchesAppended,
    BatchesFollowed,
    CoordinatorAnswered,
    Event,
    Flushed,
    LagCheckDue,
    LogStartRaised,
    LogTruncated,
    ProduceGivenUp,
    ProduceParked,
    ProposalAnswered,
    ReplicaFetched,
    SettingsChanged,
    StateReceived,
    Stopped,
    StorageFailed,
)
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.partition import Partition
from minikafka.core.replication.settings import PartitionSettings
from minikafka.errors import KafkaStorageError, MinikafkaError, ResourceShortageError
from minikafka.model import (
    AbortedTransaction,
    Assignment,
    BatchHeader,
    EndMarker,
    IsrProposal,
    Markers,
    PartitionState,
    TopicPartition,
)
from minikafka.records.check import RecordRules
from minikafka.records.markers import markers_in

logger = logging.getLogger(__name__)

_shared_settings = lru_cache(maxsize=1024)(PartitionSettings)  # of all replicas that have the same

SHORTAGE_WAIT_S = 0.1  # before what lacked a file descriptor is tried again


class FetchWaiter:
    """A parked fetch: woken by any of the replicas that it waits for, or by time. Whoever wakes it
    has let go of it; `take_changed` says who did."""

    __slots__ = ("_changed", "_future")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None
        self._changed: dict[TopicPartition, None] = {}  # a set, in the order of the events

    def wake(self, topic_partition: TopicPartition) -> None:
        self._changed[topic_partition] = None
        self._end_wait()

    def _end_wait(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout_s: float) -> None:
        """Until it is woken, or has been since `take_changed`, or `timeout_s` is over."""
        if self._changed:
            return
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        timer = loop.call_later(timeout_s, self._end_wait)
        try:
            await self._future
        finally:
            timer.cancel()
            self._future = None

    def end(self) -> None:
        """The wait is over, with nothing changed."""
        self._end_wait()

    def take_changed(self) -> list[TopicPartition]:
        """Which replicas have woken it since this was asked last."""
        changed, self._changed = self._changed, {}
        return list(changed)


class ReplicaOwner(Protocol):
    """What a replica tells the rest of its broker (the ReplicaManager)."""

    def on_role_changed(self, replica: Replica) -> None: ...
    def on_isr_proposal(self, replica: Replica, proposal: IsrProposal) -> None: ...
    def on_storage_failed(self, replica: Replica) -> None: ...
    def on_transaction_question(self, replica: Replica, question: AskCoordinator) -> None: ...
    def on_woken(self, replica: Replica) -> None:
        """Something has happened to a replica that was at rest."""

    def on_bug(self, error: Exception) -> None:
        """Something failed by a bug; it has been logged, and the replica is fenced."""


class WaitingForWord(Protocol):
    """A batch of a transaction, the token of what waits (transactional.TransactionalAppend)."""

    def go_on(self, word: TransactionQuestion) -> None: ...
    def refuse(self, error: MinikafkaError) -> None: ...


class MarkerListener(Protocol):
    """Who keeps in memory what the transactions in this log mean (a shard of groups)."""

    def check_takes_markers(self) -> None:
        """Raises a retriable MinikafkaError while it cannot: then none may be appended."""

    def on_marker(self, producer_id: int, marker: EndMarker, offset: int) -> None:
        """One is in the log, at this offset; not committed yet."""


class FollowerWatch(Protocol):
    """What a follower's session hears of a replica that it follows (follower_sessions.Followed)."""

    @property
    def replica_id(self) -> int: ...
    @property
    def waiter(self) -> FetchWaiter | None:
        """Of the fetch of the session that waits."""

    def settle(self) -> None:
        """The core is about to ask when the follower was heard last: see to it that it knows."""

    def on_appended(self) -> None: ...
    def on_high_watermark(self) -> None: ...
    def on_changed(self) -> None:
        """State, assignment, role or log start: what was valid need not be."""


class _FencedByItsDisk:
    """See Replica.fenced_by_its_disk: one for all calls, and no generator, since every append and
    every read is in it."""

    __slots__ = ("_replica",)

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, KafkaStorageError) and not isinstance(error, ResourceShortageError):
            self._replica.fail_storage(error)


class Replica:
    """`now_ms` is the broker's monotonic clock."""

    def __init__(
        self,
        topic_partition: TopicPartition,
        topic_id: str,
        broker_id: int,
        broker_epoch: int,
        log: PartitionLog,
        config: TopicConfig,
        lag_time_max_ms: int,
        eligible: dict[int, int],
        owner: ReplicaOwner,
        now_ms: Callable[[], int],
        counters: BrokerCounters,
    ) -> None:
        recovered = log.recovered()
        self.topic_partition = topic_partition
        self.topic_id = topic_id
        self.log = log
        self.config = config
        self._rules: RecordRules | None = None  # made when somebody produces
        self._lag_time_max_ms = lag_time_max_ms
        self._owner = owner
        self._now_ms = now_ms
        self._counters = counters
        self.traffic = counters.begin(topic_partition.topic)
        self._leader_end_offset = -1  # while it follows: its leader's log end, as last heard
        self.core = Partition(
            topic_partition,
            topic_id,
            broker_id,
            broker_epoch,
            LogState(
                recovered.log_start_offset,
                recovered.log_end_offset,
                recovered.high_watermark,
                EpochCache(recovered.epochs),
                recovered.producers,
                recovered.log_start_offset,
            ),
            self._settings(config),
            eligible,
        )
        # Ordered sets: who has waited longest is woken first, in every run alike.
        self._consumer_waiters: dict[FetchWaiter, None] = {}
        self._watches: dict[int, FollowerWatch] = {}  # by follower
        self.moved: dict[TopicPartition, None] | None = None
        self.marker_listener: MarkerListener | None = None  # while it leads
        self._deletion_waiters: dict[FetchWaiter, None] = {}
        self.stopped = False
        self._fenced_by_its_disk = _FencedByItsDisk(self)
        self._at_rest = False
        self._flush: asyncio.Task[None] | None = None
        self._awaiting_flush: list[tuple[int, asyncio.Future[object]]] = []

    @property
    def rules(self) -> RecordRules:
        """What the topic asks of the records."""
        if self._rules is None:
            self._rules = rules_of(self.topic_partition, self.config)
        return self._rules

    def _settings(self, config: TopicConfig) -> PartitionSettings:
        return _shared_settings(
            config.min_insync_replicas, self._lag_time_max_ms, config.flushes_before_ack
        )

    # --- events from the controller --------------------------------------------------------------

    def adopt(self, state: PartitionState, assignment: Assignment) -> None:
        """Take over a State if it is newer than the one held (rule R3)."""
        if not self.stopped:
            self._take_state(StateReceived(state, assignment))

    def _take_state(self, event: StateReceived | ProposalAnswered) -> None:
        """What was fetched before a State does not count after it (rule R4)."""
        self.settle_watches()
        core = self.core
        before, assignment = core.state, core.assignment
        self.step(event)
        if core.state is not before or core.assignment is not assignment:
            self._tell_of_change()
        self._count_isr_change(before)
        self._maybe_flush_soon()

    def configure(self, config: TopicConfig) -> None:
        """New topic settings, applied without a restart."""
        self.config = config
        self._rules = None
        self.log.configure(config)
        self.settle_watches()
        self.step(SettingsChanged(self._settings(config)))
        self._maybe_flush_soon()

    def on_proposal_answered(
        self, proposal: IsrProposal, error: MinikafkaError | None, state: PartitionState | None
    ) -> None:
        """The controller's answer; its State counts whatever the error."""
        if not self.stopped:
            self._take_state(ProposalAnswered(proposal, error, state))

    def _count_isr_change(self, before: PartitionState | None) -> None:
        """The leader counts, so that the sum over all brokers is what happened."""
        after = self.core.state
        if before is None or after is None or not self.core.is_leader:
            return
        self._counters.isr_shrinks += bool(set(before.isr) - set(after.isr))
        self._counters.isr_expands += bool(set(after.isr) - set(before.isr))

    def check_lag(self) -> bool:
        """Look for followers that lag. True if there are none, and nothing is left to be looked at
        until something has happened to this replica: the owner hears of that (`on_woken`)."""
        if self.core.may_lag():
            self.settle_watches()
            self.step(LagCheckDue())
        self._at_rest = not self.core.may_lag()
        return self._at_rest

    def _wake_up(self) -> None:
        if self._at_rest:
            self._at_rest = False
            self._owner.on_woken(self)

    def raise_log_start(self, offset: int) -> None:
        """Retention has removed what lies below `offset`."""
        before = self.core.log_state.log_start_offset
        if offset <= before:
            return
        self.step(LogStartRaised(offset))
        if self.core.log_state.log_start_offset != before:
            self._tell_of_change()

    # --- appending -------------------------------------------------------------------------------

    def append_as_leader(
        self,
        buffers: list[Buffer],
        headers: Sequence[BatchHeader],
        markers: Markers | None = None,
    ) -> None:
        """Append planned batches (`Partition.plan_append`, `plan_marker`). Raises
        KafkaStorageError, or what the log refuses them with (then nothing was changed)."""
        self.core.require_leader()
        self._append(buffers, headers)
        try:
            self.settle_watches()
            self.step(BatchesAppended(headers, markers))
            for watch in self._watches.values():
                watch.on_appended()
            if markers and self.marker_listener is not None:
                for header in headers:
                    marker = markers[header.base_offset]
                    self.marker_listener.on_marker(header.producer_id, marker, header.base_offset)
            self._maybe_flush_soon()
        except Exception as error:
            raise self.fail(error, "what was appended could not be counted") from error

    def _append(self, buffers: list[Buffer], headers: Sequence[BatchHeader]) -> None:
        try:
            with self.fenced_by_its_disk():
                self.log.append(buffers, headers)
        except MinikafkaError:
            raise
        except Exception as error:
            raise self.fail(error, "its log failed") from error

    def on_coordinator_answered(
        self, question: TransactionQuestion, error: MinikafkaError | None
    ) -> None:
        """The coordinator's word on what the core has asked; None: yes."""
        if not self.stopped:
            self.step(CoordinatorAnswered(question, error))

    def park(self, required_offset: int) -> asyncio.Future[object]:
        """Wait until everything below `required_offset` is committed; the future yields None or the
        error to answer with."""
        token: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.step(ProduceParked(token, required_offset))
        return token

    def give_up(self, token: asyncio.Future[object]) -> None:
        """Nobody waits any more for what `park` gave."""
        self.step(ProduceGivenUp(token))

    def append_as_follower(
        self,
        records: bytes,
        headers: Sequence[BatchHeader],
        leader_high_watermark: int,
        leader_log_start: int,
    ) -> None:
        """Append the leader's batches, exactly as they came, and take over its offsets. A disk that
        fails fences the replica; nothing is counted then. Raises what the log refuses them with."""
        try:
            markers = markers_in([records], headers)
            if headers:
                self._append([records], headers)
                self.traffic.replication_bytes_in += len(records)
            if self.moved is not None:
                self.moved[self.topic_partition] = None
            self._wake_up()
            event = BatchesFollowed(headers, leader_high_watermark, leader_log_start, markers)
            effects = self.core.step(event, self._now_ms())
        except MinikafkaError:
            if self.core.failed is None:
                raise
            return
        except Exception as error:
            self.fail(error, "what was appended could not be counted")
            return
        self.apply(effects)

    def note_leader_end(self, offset: int) -> None:
        """Where the leader's log ended when it answered last."""
        self._leader_end_offset = offset

    @property
    def lag(self) -> int:
        """How many records this follower is behind, by its leader's last answer; 0 if it leads."""
        if self.core.is_leader:
            return 0
        return max(0, self._leader_end_offset - self.core.log_state.log_end_offset)

    def read(self, offset: int, max_bytes: int, end_offset: int) -> bytes:
        """As `PartitionLog.read`. A disk that fails fences the replica; KafkaStorageError."""
        with self.fenced_by_its_disk():
            return self.log.read(offset, max_bytes, end_offset)

    def pieces(
        self, offset: int, max_bytes: int, end_offset: int, lend_from_bytes: int
    ) -> list[Piece]:
        """As `PartitionLog.pieces`. A disk that fails, now or when a range is sent, fences the
        replica; KafkaStorageError."""
        with self.fenced_by_its_disk():
            return self.log.pieces(
                offset, max_bytes, end_offset, lend_from_bytes, self.fail_storage
            )

    def size_of(self, offset: int, max_bytes: int, end_offset: int) -> int:
        """As `PartitionLog.size_of`, with what a disk that fails does to `read`."""
        with self.fenced_by_its_disk():
            return self.log.size_of(offset, max_bytes, end_offset)

    def aborted(self, offset: int, max_bytes: int, end_offset: int) -> Sequence[AbortedTransaction]:
        """As `PartitionLog.aborted`, with what a disk that fails does to `read`."""
        with self.fenced_by_its_disk():
            return self.log.aborted(offset, max_bytes, end_offset)

    def fenced_by_its_disk(self) -> _FencedByItsDisk:
        """A KafkaStorageError in here fences the replica, and is raised on. Not a shortage."""
        return self._fenced_by_its_disk

    # --- flush.before.ack ------------------------------------------------------------------------

    @property
    def must_flush(self) -> bool:
        """Is there something that counts for nothing until it is on the disk?"""
        flushed_offset = self.core.log_state.flushed_offset
        return (
            self.config.flushes_before_ack and flushed_offset < self.core.log_state.log_end_offset
        )

    async def flush(self) -> None:
        """Bring what is in the log now to the disk. A disk that fails fences the replica; no error
        is raised then. ResourceShortageError: not now."""
        try:
            offset = await self.log.flush()
        except ResourceShortageError:
            raise
        except KafkaStorageError as error:
            self.fail_storage(error)
            return
        self._on_flushed(offset)

    def _on_flushed(self, offset: int) -> None:
        if self.stopped:
            return
        self.step(Flushed(offset))
        flushed_offset = self.core.log_state.flushed_offset
        waiting, self._awaiting_flush = self._awaiting_flush, []
        for end_offset, token in waiting:
            if end_offset > flushed_offset:
                self._awaiting_flush.append((end_offset, token))
            elif not token.done():
                token.set_result(None)

    def _maybe_flush_soon(self) -> None:
        """The leader's log is flushed in the background, one fsync for many appends."""
        if self._flush is None and self.must_flush and self.core.is_leader:
            self._flush = asyncio.get_running_loop().create_task(self._flush_as_leader())

    async def _flush_as_leader(self) -> None:
        """Until all is on the disk, what is appended meanwhile included. That there is nothing left
        and that the task is over is one step: nobody can append in between."""
        try:
            while self.must_flush and self.core.is_leader:
                try:
                    await self.flush()
                except ResourceShortageError as error:
                    logger.warning("%s", error)
                    await asyncio.sleep(SHORTAGE_WAIT_S)
        except Exception as error:
            self.fail(error, "the flush of its log failed")
        finally:
            self._flush = None

    def when_flushed(self, end_offset: int) -> asyncio.Future[object]:
        """Wait until what this leader has appended below `end_offset` is on its own disk; the
        future yields None or the error to answer with. For acks=1."""
        token: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if end_offset <= self.core.log_state.flushed_offset:
            token.set_result(None)
        else:
            self._awaiting_flush.append((end_offset, token))
        return token

    def _fail_awaiting_flush(self, error: MinikafkaError) -> None:
        waiting, self._awaiting_flush = self._awaiting_flush, []
        for _, token in waiting:
            if not token.done():
                token.set_result(error)

    # --- waiting ---------------------------------------------------------------------------------

    def add_consumer_waiter(self, waiter: FetchWaiter) -> None:
        self._consumer_waiters[waiter] = None

    def add_deletion_waiter(self, waiter: FetchWaiter) -> None:
        self._deletion_waiters[waiter] = None

    def waiting_fetches(self) -> Iterator[FetchWaiter]:
        """Of consumers and of followers."""
        yield from self._consumer_waiters
        for watch in self._watches.values():
            if watch.waiter is not None:
                yield watch.waiter

    @property
    def parked_count(self) -> int:
        """Produce requests that wait for replication."""
        return self.core.parked_count

    def on_follower_fetched(self, event: ReplicaFetched, fetched_ms: int) -> None:
        """A follower has told how far it is, its log start among other things, in a fetch that
        arrived at `fetched_ms`. Raises StaleBrokerEpochError."""
        self._wake_up()
        self.apply(self.core.step(event, fetched_ms))
        self._wake(self._deletion_waiters)

    # --- the sessions of its followers -----------------------------------------------------------

    def watch(self, watch: FollowerWatch) -> None:
        """This session follows it now, instead of one of the same follower before."""
        self._watches[watch.replica_id] = watch

    def unwatch(self, watch: FollowerWatch) -> None:
        if self._watches.get(watch.replica_id) is watch:
            del self._watches[watch.replica_id]

    def settle_watches(self) -> None:
        """Before the core is asked when its followers were heard last."""
        for watch in self._watches.values():
            watch.settle()

    def _tell_of_change(self) -> None:
        for watch in self._watches.values():
            watch.on_changed()

    def discard_waiter(self, waiter: FetchWaiter) -> None:
        self._consumer_waiters.pop(waiter, None)
        self._deletion_waiters.pop(waiter, None)

    def _wake(self, waiters: dict[FetchWaiter, None]) -> None:
        for waiter in waiters:
            waiter.wake(self.topic_partition)
        waiters.clear()

    def wake_all(self) -> None:
        self._wake(self._consumer_waiters)
        self._wake(self._deletion_waiters)
        for watch in self._watches.values():
            watch.on_changed()
            if watch.waiter is not None:
                watch.waiter.wake(self.topic_partition)

    # --- events in, effects carried out ----------------------------------------------------------

    def step(self, event: Event) -> None:
        """Hand the core an event, and carry out what it asks for. Raises what `Partition.step`
        does for such an event."""
        if self.moved is not None:
            self.moved[self.topic_partition] = None
        self._wake_up()
        self.apply(self.core.step(event, self._now_ms()))

    def apply(self, effects: Sequence[Effect]) -> None:
        """Carry out effects in order. If one cannot be carried out, whatever the reason, the rest
        is void: the replica is fenced instead, since the core believes what its log is not. Whoever
        waits for an answer gets it all the same."""
        for effect in effects:
            try:
                self._apply_one(effect)
            except Exception as error:
                self.fail(error, f"{type(effect).__name__} could not be carried out")
                for late in effects:
                    if isinstance(late, CompleteProduce):
                        self._complete(late)
                    elif isinstance(late, RefuseWaiting):
                        cast("WaitingForWord", late.token).refuse(late.error)
                return

    def _apply_one(self, effect: Effect) -> None:
        match effect:
            case CompleteProduce():
                self._complete(effect)
            case HighWatermarkAdvanced(high_watermark):
                self.log.set_high_watermark(high_watermark)
                self._wake(self._consumer_waiters)
                for watch in self._watches.values():
                    watch.on_high_watermark()
            case StoreEpochs(entries):
                self.log.store_epochs(entries)
            case TruncateLog(offset, committed_lost):
                self._truncate(offset, committed_lost)
            case RestartLog(offset):
                logger.warning("%s: restarting the log at %d", self.topic_partition, offset)
                self.log.restart_at(offset)
            case RaiseLogStart(offset):
                self.log.advance_log_start(offset)
                self._tell_of_change()
            case ProposeIsr(proposal):
                self._owner.on_isr_proposal(self, proposal)
            case RoleChanged():
                if self._awaiting_flush:
                    self._fail_if_not_leader()
                self.wake_all()
                self._owner.on_role_changed(self)
            case AskCoordinator():
                self._owner.on_transaction_question(self, effect)
            case AppendWaiting(word, tokens):
                self._append_waiting(word, cast("Sequence[WaitingForWord]", tokens))
            case RefuseWaiting(token, error):
                cast("WaitingForWord", token).refuse(error)

    def _append_waiting(self, word: TransactionQuestion, waiting: Sequence[WaitingForWord]) -> None:
        """All in order; from the first on that cannot be appended, all are refused alike."""
        refused: MinikafkaError | None = None
        for each in waiting:
            if refused is None:
                try:
                    each.go_on(word)
                    continue
                except MinikafkaError as error:
                    refused = error.with_traceback(None)
                except Exception as bug:
                    refused = self.fail(bug, "what waited for a word could not be appended")
            each.refuse(refused)

    def _fail_if_not_leader(self) -> None:
        """Who waits for the leader's disk waits in vain: the records may be cut."""
        try:
            self.core.require_leader()
        except MinikafkaError as error:
            self._fail_awaiting_flush(error)

    def _truncate(self, offset: int, committed_lost: bool) -> None:
        if committed_lost:
            logger.error(
                "%s: cutting committed records from %d on: there was an unclean election",
                self.topic_partition,
                offset,
            )
        else:
            logger.info("%s: truncating to %d", self.topic_partition, offset)
        self.log.truncate_to(offset)
        self.step(LogTruncated(self.log.log_end_offset, self.log.load_producers()))

    @staticmethod
    def _complete(effect: CompleteProduce) -> None:
        token = effect.token
        assert isinstance(token, asyncio.Future)
        if not token.done():
            token.set_result(effect.error)

    def fail(self, error: Exception, what: str) -> KafkaStorageError:
        """Fence this replica, and no other, for a failure of any kind in what it did; returns what
        callers are to be told. A bug is logged with where it happened."""
        if not isinstance(error, KafkaStorageError):
            logger.critical("%s: %s", self.topic_partition, what, exc_info=error)
            self._owner.on_bug(error)
            error = KafkaStorageError(
                f"{self.topic_partition}: {what}: {error!r}; this replica is offline until the "
                "broker is restarted, and its log has the details"
            )
        self.fail_storage(error)
        return error

    def fail_storage(self, error: KafkaStorageError) -> None:
        """Fence this replica: its disk failed. Once; later failures say nothing new."""
        if self.stopped:
            return
        self._wake_up()
        effects = self.core.step(StorageFailed(str(error)), self._now_ms())
        if effects:
            logger.error("%s: fenced, its disk failed: %s", self.topic_partition, error)
            self.apply(effects)
            self._owner.on_storage_failed(self)

    def stop(self, error: MinikafkaError) -> None:
        """The replica leaves this broker (its topic is deleted, or the broker ends). Whoever waits
        is told `error`."""
        self.step(Stopped(error))
        self._fail_awaiting_flush(error)
        self.stopped = True
        if self._flush is not None:
            self._flush.cancel()
        self.wake_all()
