"""The transactions of one producer: its state machine, and what it asks of coordinators (TV2 of
KIP-890: each end gives the epoch of the next transaction).

State: where the transaction is (`Phase`), the producer id and epoch of the present one, the end
that is under way, why it failed. Invariants:

- records are taken in OPEN only, and sent under the epoch of the transaction that they were taken
  in; each transaction begins with sequence 0 everywhere;
- after a record or an offset failed (FAILED) nothing but the abort is left, and nothing is sent;
- an end whose answer did not come (ENDING) is repeated, the same one, and nothing else is done
  before it is answered: the coordinator knows a repetition, and says what came of it;
- who was fenced is dead: whatever is called raises what said so.

A transaction in which nothing was sent ends here: the coordinator has not heard of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum

from minikafka.api.groups import OffsetCommitPartition
from minikafka.api.transactions import (
    EndTransactionRequest,
    InitProducerIdRequest,
    ProducerIdentity,
    TxnOffsetCommitRequest,
)
from minikafka.client.consuming.coordinator import Coordinator
from minikafka.client.consuming.group import CommitFailure
from minikafka.client.metadata import Cluster
from minikafka.client.producing.coordinator import TransactionCoordinator
from minikafka.client.producing.sender import Sender
from minikafka.client.values import GroupMembership
from minikafka.errors import (
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    MinikafkaError,
    ProducerFencedError,
    TransactionAbortableError,
    TransactionalIdAuthorizationFailedError,
    UsageError,
)
from minikafka.model import TopicPartition

END_VERSION = 5  # of Kafka's EndTxn: TV2
_INTERRUPTED_ABORT_S = 1.0

_DEADLY = (
    ProducerFencedError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    TransactionalIdAuthorizationFailedError,
)

_logger = logging.getLogger(__name__)


class Phase(Enum):
    """NEW: without a producer id. FLUSHING: a commit waits for the records. ENDING: the coordinator
    is asked, and may have decided."""

    NEW = "new"
    READY = "ready"
    OPEN = "open"
    FLUSHING = "flushing"
    FAILED = "failed"
    ENDING = "ending"


_INSTEAD = {
    Phase.NEW: "the producer has no transactions yet: await init_transactions() first",
    Phase.READY: "no transaction is open: begin() first",
    Phase.OPEN: "a transaction is open: commit or abort it first",
    Phase.FLUSHING: "the transaction is being committed",
    Phase.ENDING: "the end of the transaction has no answer yet: call the same again",
}


class Transactions:
    """Of one producer, on its event loop. `timeout_ms`: after which the coordinator aborts one that
    is open. `max_block_ms` bounds each question to a coordinator, with all its retries.
    `on_open(False)`: no records are to be taken from now on."""

    def __init__(
        self,
        cluster: Cluster,
        sender: Sender,
        transactional_id: str,
        timeout_ms: int,
        max_block_ms: float,
        on_open: Callable[[bool], None],
    ) -> None:
        self.phase = Phase.NEW
        self._cluster = cluster
        self._sender = sender
        self._transactional_id = transactional_id
        self._timeout_ms = timeout_ms
        self._max_block_ms = max_block_ms
        self._on_open = on_open
        self._coordinator = TransactionCoordinator(cluster, transactional_id)
        self._identity = (-1, -1)  # producer id, producer epoch
        self._end: EndTransactionRequest | None = None
        self._failure: BaseException | None = None
        self._death: MinikafkaError | None = None
        self._asking = False

    # --- what the user calls ---------------------------------------------------------------------

    async def init(self) -> None:
        with self._alone():
            if self.phase is not Phase.NEW:
                raise UsageError("the producer has its transactions: they are initialised once")
            request = InitProducerIdRequest(self._transactional_id, self._timeout_ms)
            answer = await self._coordinator.call(
                lambda service: service.init_producer_id(request), self._max_block_ms
            )
            self._raise_error_of(answer)
            self._become(answer)

    def begin(self) -> None:
        with self._alone():
            self._require(Phase.READY)
            self._failure = None
            self._sender.sent = False
            self._move(Phase.OPEN)

    async def commit(self) -> None:
        with self._alone():
            if self._end is None or not self._end.commits:
                if self.phase is Phase.FAILED and isinstance(self._failure, MinikafkaError):
                    raise self._failure.with_traceback(None)
                self._require(Phase.OPEN)
                await self._flush()
                self._prepare(commits=True)
            await self._finish()

    async def abort(self) -> None:
        with self._alone():
            if self._end is None or self._end.commits:
                self._require(Phase.OPEN, Phase.FAILED)
                self._sender.drop(TransactionAbortableError("the transaction is aborted"))
                self._prepare(commits=False)
            await self._finish()

    async def send_offsets(
        self, offsets: Mapping[TopicPartition, int], membership: GroupMembership
    ) -> None:
        with self._alone():
            self._require(Phase.OPEN)
            if membership.commits_itself:
                raise UsageError(
                    "the consumer commits its offsets itself, transaction or not: subscribe with "
                    "auto_commit=False"
                )
            if not offsets:
                return
            self._sender.sent = True
            try:
                await self._stage(offsets, membership)
            except BaseException as error:
                self.on_failed(error)
                raise

    async def complete(self) -> None:
        """The block of a transaction has come to its end."""
        if self.phase is Phase.READY:
            return  # ended in the block
        try:
            await self.commit()
        except BaseException as error:
            if self.phase in (Phase.OPEN, Phase.FAILED):
                await self.abandon(error)
            raise

    async def abandon(self, error: BaseException) -> None:
        """The block of a transaction has failed. That it cannot be aborted is noted with `error`,
        which is what the user is to hear."""
        if self.phase is Phase.READY:
            return
        interrupted = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
        try:
            async with asyncio.timeout(_INTERRUPTED_ABORT_S if interrupted else None):
                await self.abort()
        except (MinikafkaError, TimeoutError) as problem:
            error.add_note(f"and the transaction was not aborted: {problem!r}")

    async def close(self, timeout_ms: float | None) -> None:
        """Abort what is open, so that readers need not wait for its timeout."""
        if self._death is not None or self.phase not in (Phase.OPEN, Phase.FAILED):
            return
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                await self.abort()
        except (MinikafkaError, TimeoutError) as problem:
            if self._death is not None:
                return  # whoever has the id now has aborted it
            _logger.warning(
                "a transaction of %s is left open until it times out: %r",
                self._transactional_id,
                problem,
            )

    def check_open(self) -> None:
        """Raises what keeps a record from being taken."""
        if self._death is not None:
            raise self._death.with_traceback(None)
        self._require(Phase.OPEN)

    def on_failed(self, error: BaseException) -> None:
        """A record or an offset of the open transaction failed: all of it has to."""
        if self.phase not in (Phase.OPEN, Phase.FLUSHING) or self._death is not None:
            return
        self._failure = error
        if isinstance(error, _DEADLY):
            self._death = error
        self._move(Phase.FAILED)
        self._sender.drop_soon(self._only_abort())

    # --- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._death is not None:
            raise self._death.with_traceback(None)
        if self._asking:
            raise UsageError("another call about the transaction is under way: await it first")
        self._asking = True
        try:
            yield
        finally:
            self._asking = False

    def _require(self, *phases: Phase) -> None:
        if self.phase in phases:
            return
        if self.phase is Phase.FAILED:
            raise self._only_abort()
        raise UsageError(_INSTEAD[self.phase])

    def _only_abort(self) -> MinikafkaError:
        if self._death is not None:
            return self._death
        return TransactionAbortableError(
            f"the transaction has failed and can only be aborted: {self._failure}"
        )

    def _move(self, phase: Phase) -> None:
        self.phase = phase
        self._on_open(phase is Phase.OPEN)

    async def _flush(self) -> None:
        """All records have their outcome. Raises what one failed with; back to OPEN if the wait is
        cancelled."""
        self._move(Phase.FLUSHING)
        try:
            await self._sender.flush()
        except BaseException:
            if self.phase is Phase.FLUSHING:
                self._move(Phase.OPEN)
            raise
        if self.phase is not Phase.FLUSHING:
            assert self._failure is not None, self.phase
            raise self._failure.with_traceback(None)

    def _prepare(self, *, commits: bool) -> None:
        self._move(Phase.ENDING)
        self._end = EndTransactionRequest(
            self._transactional_id, *self._identity, commits, END_VERSION
        )

    async def _finish(self) -> None:
        """Have the end that is under way answered."""
        request = self._end
        assert request is not None
        assert self.phase is Phase.ENDING, self.phase
        if not self._sender.sent:
            self._end = None
            self._move(Phase.READY)
            return
        answer = await self._coordinator.call(
            lambda service: service.end(request), self._max_block_ms
        )
        undecided = (TransactionAbortableError, InvalidTxnStateError)
        if isinstance(answer.error, undecided) and request.commits:
            self._failure, self._end = answer.error, None
            self._move(Phase.FAILED)
        elif isinstance(answer.error, InvalidTxnStateError):
            self._death = answer.error  # an abort is always right: somebody else is at work here
        self._raise_error_of(answer)
        self._end = None
        self._become(answer)

    def _become(self, identity: ProducerIdentity) -> None:
        self._identity = (identity.producer_id, identity.producer_epoch)
        self._sender.become(*self._identity)
        self._move(Phase.READY)

    def _raise_error_of(self, answer: ProducerIdentity) -> None:
        if isinstance(answer.error, _DEADLY):
            self._death = answer.error
        if answer.error is not None:
            raise answer.error.with_traceback(None)

    async def _stage(
        self, offsets: Mapping[TopicPartition, int], membership: GroupMembership
    ) -> None:
        partitions = []
        for each, offset in offsets.items():
            view = self._cluster.leader(each)
            leader_epoch = -1 if view is None else view.leader_epoch
            partitions.append(OffsetCommitPartition(each, offset, leader_epoch))
        request = TxnOffsetCommitRequest(
            self._transactional_id,
            *self._identity,
            membership.group_id,
            partitions,
            membership.generation_id,
            membership.member_id,
            membership.instance_id,
            adds=True,
        )
        result = await Coordinator(self._cluster, membership.group_id).call(
            lambda groups: groups.commit_offsets_in_transaction(request),
            self._max_block_ms,
            CommitFailure(asyncio.get_running_loop().time),
        )
        for committed in result.partitions:
            if committed.error is not None:
                raise committed.error
