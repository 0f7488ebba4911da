"""One transactional id on its coordinator: requests in, records and answers and markers out.

    rules.py      what is to be done about a request
    journal.py    what stands in the log, and what waits for it to be committed
    here          whose turn it is: requests behind a record on its way, held ones, deadlines; the
                  markers of a Prepare until all are confirmed

Pure: what it is told and the time come in, effects go out (effects.py). Rules:

- Memory is the log. A transition counts when its record is in the log; its answer and its markers
  leave when it is committed. A refusal leaves at once: it says that nothing was done.
- One decision. The markers of a Prepare are sent for that record alone, to each partition that it
  lists, until every one has confirmed or is known to be deleted; then comes its Complete.
- Time only aborts: a transaction that lasts too long, and what waits too long; it never commits.

State: the journal; requests that came while a record was on its way (`_queue`), in order; those
that are held until the Complete (`_held`); the partitions of a committed Prepare that have not
confirmed yet; deadlines. Invariants: a request is answered once; nothing is held outside of a
Prepare, except behind a record on its way.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from minikafka.core.transactions.effects import (
    Effect,
    Reply,
    ReserveProducerId,
    SendMarkers,
)
from minikafka.core.transactions.journal import Due, Journal, Waiting
from minikafka.core.transactions.moves import completed, marker_of
from minikafka.core.transactions.producer_ids import SpareProducerIds
from minikafka.core.transactions.requests import Answer, Request, Result, refusal
from minikafka.core.transactions.rules import (
    Circumstances,
    Hold,
    Refuse,
    Repeat,
    Tell,
    Write,
    decide,
    timed_out,
)
from minikafka.core.transactions.settings import TransactionSettings
from minikafka.core.transactions.values import Now, TransactionState, TransactionValue
from minikafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    MinikafkaError,
)
from minikafka.model import TopicPartition

# Why the coordinator writes a record that nobody asked for.
TIMEOUT, COMPLETE, FORGET = "timeout", "complete", "forget"


class Transaction:
    """See the module."""

    def __init__(
        self, transactional_id: str, settings: TransactionSettings, ids: SpareProducerIds
    ) -> None:
        self.transactional_id = transactional_id
        self._settings = settings
        self._ids = ids
        self._journal = Journal(transactional_id)
        self._queue: deque[Waiting] = deque()
        self._held: deque[Waiting] = deque()
        self._unconfirmed: frozenset[TopicPartition] | None = None  # None: no markers are out
        self._timeout_at_ms: int | None = None  # of an Ongoing
        self._retry_at_ms: int | None = None  # of what this coordinator could not write
        self._effects: list[Effect] = []

    @property
    def value(self) -> TransactionValue | None:
        """As it stands in the log."""
        return self._journal.value

    @property
    def held_count(self) -> int:
        return len(self._held)

    @property
    def is_over(self) -> bool:
        """Nothing is known and nobody waits: it need not be remembered."""
        return self.value is None and self._journal.is_committed and not self._queue

    def _done(self) -> list[Effect]:
        """The end of every event: what is to be done."""
        self.check()
        effects, self._effects = self._effects, []
        return effects

    def check(self) -> None:
        """The invariants."""
        journal, value = self._journal, self.value
        if value is not None:
            value.check(self._settings.max_epoch)
        prepares = value is not None and value.state.is_prepare
        assert prepares or self._unconfirmed is None, (self.transactional_id, value)
        assert prepares or not self._held, (self.transactional_id, value, list(self._held))
        assert journal.writing is not None or not self._queue, list(self._queue)

    # --- coming and going of the coordinator -----------------------------------------------------

    def restore(self, value: TransactionValue, now: Now) -> list[Effect]:
        """Become what the last coordinator wrote down, which is committed. What it decided is told
        to all partitions again; what it left open has the rest of its time."""
        self._journal.restore(value)
        if value.state.is_prepare:
            self._on_prepare_committed(now)
        elif value.state is TransactionState.ONGOING:
            rest_ms = value.start_timestamp_ms + value.timeout_ms - now.timestamp_ms
            self._timeout_at_ms = now.ms + min(max(rest_ms, 0), value.timeout_ms)
        return self._done()

    def unload(self, error: MinikafkaError) -> list[Effect]:
        """Another broker coordinates now: whoever waits is told `error`, and no more happens."""
        for each in (*self._journal.unload(), *self._held, *self._queue):
            self._refuse(each, error)
        self._held.clear()
        self._queue.clear()
        self._unconfirmed = self._timeout_at_ms = self._retry_at_ms = None
        return self._done()

    # --- requests --------------------------------------------------------------------------------

    def handle(self, request: Request, token: object, now: Now) -> list[Effect]:
        """Somebody asks for something; the answer is a Reply with this token, now or later."""
        self._queue.append(Waiting(request, token, self._journal.newest))
        self._go_on(now)
        return self._done()

    def _go_on(self, now: Now) -> None:
        """Decide what waits, in order, until a record is on its way."""
        while self._journal.writing is None and self._queue:
            self._decide(self._queue.popleft(), now)

    def _decide(self, waiting: Waiting, now: Now) -> None:
        match decide(self.value, waiting.request, self._circumstances(now)):
            case Refuse(result):
                self._look_for_ids(result)
                self._reply(waiting, result)
            case Tell(result):
                if not self._journal.when_committed(Due(waiting, result)):
                    self._reply(waiting, result)
            case Repeat(result):
                assert self.value is not None
                if not self._journal.when_committed(Due(waiting, result), waiting.above):
                    self._write(Write(self.value, result), waiting)
            case Hold():
                self._hold(waiting, now)
            case write:
                assert isinstance(write, Write), write
                self._write(write, waiting)

    def _circumstances(self, now: Now) -> Circumstances:
        return Circumstances(self._ids.next, self._settings.max_epoch, now.timestamp_ms)

    def _look_for_ids(self, result: Result) -> None:
        if isinstance(result, Answer) and isinstance(result.error, CoordinatorLoadInProgressError):
            self._effects.append(ReserveProducerId())

    def _write(self, write: Write, cause: object) -> None:
        if write.uses_fresh:
            self._ids.take()
            if not self._ids:
                self._effects.append(ReserveProducerId())
        self._effects.append(
            self._journal.write(write.value, cause, write.result, uses_fresh=write.uses_fresh)
        )

    def _hold(self, waiting: Waiting, now: Now) -> None:
        until_ms = waiting.held_until_ms
        if until_ms is None:
            until_ms = now.ms + self._settings.hold_ms
        if until_ms <= now.ms:
            self._refuse(waiting, _still_ending())
        else:
            self._held.append(replace(waiting, held_until_ms=until_ms))

    def _reply(self, waiting: Waiting, result: Result) -> None:
        self._effects.append(Reply(waiting.token, result))

    def _refuse(self, waiting: Waiting, error: MinikafkaError) -> None:
        self._reply(waiting, refusal(waiting.request, error))

    # --- the log ---------------------------------------------------------------------------------

    def on_appended(self, number: int, now: Now) -> list[Effect]:
        """The record is in the log: it counts from now on, whatever becomes of it."""
        written = self._journal.on_appended(number)
        self._retry_at_ms = None
        self._on_value(now)
        if isinstance(written.cause, Waiting):
            if written.result is None:
                self._hold(written.cause, now)
            else:
                self._journal.when_committed(Due(written.cause, written.result))
        self._go_on(now)
        return self._done()

    def _on_value(self, now: Now) -> None:
        """Another record is the last one."""
        value = self.value
        self._unconfirmed = None
        if value is None or value.state is not TransactionState.ONGOING:
            self._timeout_at_ms = None
        elif self._timeout_at_ms is None:
            self._timeout_at_ms = now.ms + value.timeout_ms
        if value is None or not value.state.is_prepare:
            self._queue.extendleft(reversed(self._held))
            self._held.clear()

    def on_refused(self, number: int, error: MinikafkaError, now: Now) -> list[Effect]:
        """The record is not in the log and will not be. `error` is what to answer."""
        writing = self._journal.on_refused(number)
        if writing.uses_fresh:
            assert writing.value is not None
            self._ids.put(_fresh_in(writing.value))
        if isinstance(writing.cause, Waiting):
            self._refuse(writing.cause, error)
        else:
            self._retry_at_ms = now.ms + self._settings.retry_ms
        self._go_on(now)
        return self._done()

    def on_committed(self, number: int, now: Now) -> list[Effect]:
        """The record is below the high watermark, and all before it are."""
        for each in self._journal.on_committed(number):
            for due in each.due:
                self._reply(due.waiting, due.result)
            if each.value is not None and each.value.state.is_prepare:
                assert each.value is self.value, (each.value, self.value)
                self._on_prepare_committed(now)
        return self._done()

    # --- markers ---------------------------------------------------------------------------------

    def _on_prepare_committed(self, now: Now) -> None:
        """The decision stands: tell it."""
        value = self.value
        assert value is not None
        self._unconfirmed = value.partitions
        if value.partitions:
            marker = marker_of(self.transactional_id, value)
            self._effects.append(SendMarkers(marker, tuple(sorted(value.partitions))))
        self._maybe_complete(now)

    def on_confirmed(self, partition: TopicPartition, now: Now) -> list[Effect]:
        """The marker is committed at this partition, or is past, or there is no such partition any
        more: it needs no further word."""
        assert self._unconfirmed is not None, (self.transactional_id, partition, self.value)
        assert partition in self._unconfirmed, (self.transactional_id, partition, self.value)
        self._unconfirmed -= {partition}
        self._maybe_complete(now)
        return self._done()

    def _maybe_complete(self, now: Now) -> None:
        if self._unconfirmed == frozenset() and self._journal.writing is None:
            assert self.value is not None
            done = completed(self.value, now.timestamp_ms)
            self._effects.append(self._journal.write(done, COMPLETE))

    # --- time ------------------------------------------------------------------------------------

    def next_deadline_ms(self) -> int | None:
        """When `on_time` has something to do, unless an event comes first; None: never."""
        candidates = [each.held_until_ms for each in self._held]
        if self._journal.writing is None:
            if self._timeout_at_ms is not None:
                candidates.append(max(self._timeout_at_ms, self._retry_at_ms or 0))
            elif self._unconfirmed == frozenset():
                candidates.append(self._retry_at_ms)
        return min((each for each in candidates if each is not None), default=None)

    def on_time(self, now: Now) -> list[Effect]:
        """Time has passed: do what is due. Calling it early does no harm."""
        for each in [held for held in self._held if _is_due(held.held_until_ms, now)]:
            self._held.remove(each)
            self._refuse(each, _still_ending())
        retries = self._retry_at_ms is None or _is_due(self._retry_at_ms, now)
        if self._journal.writing is None and retries:
            self._retry_at_ms = None
            if _is_due(self._timeout_at_ms, now):
                self._time_out(now)
            self._maybe_complete(now)
        return self._done()

    def _time_out(self, now: Now) -> None:
        assert self.value is not None
        try:
            write = timed_out(self.value, self._circumstances(now))
        except CoordinatorLoadInProgressError:
            self._effects.append(ReserveProducerId())
            self._retry_at_ms = now.ms + self._settings.retry_ms
        else:
            self._write(write, TIMEOUT)

    def expire(self, now: Now) -> list[Effect]:
        """Forget an id that nobody has used for transactional.id.expiration.ms."""
        value = self.value
        if (
            value is not None
            and value.state.is_quiet
            and self._journal.is_committed
            and now.timestamp_ms - value.last_update_timestamp_ms >= self._settings.expiration_ms
        ):
            self._effects.append(self._journal.write(None, FORGET))
        return self._done()


def _is_due(at_ms: int | None, now: Now) -> bool:
    return at_ms is not None and at_ms <= now.ms


def _fresh_in(value: TransactionValue) -> int:
    """The producer id that was taken for this record."""
    return value.next_producer_id if value.state.is_prepare else value.producer_id


def _still_ending() -> ConcurrentTransactionsError:
    return ConcurrentTransactionsError("the last transaction is still being ended")
