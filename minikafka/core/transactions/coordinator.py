"""The transactional ids of one partition of `__transaction_state`, on the broker that leads it.

Life: made when this broker begins to lead, it is given every record that was in the log then, in
order (`load`), and once all of that is committed it serves (`serve`). `end` when another leads, or
when a partition said so (TRANSACTION_COORDINATOR_FENCED); from then on nothing changes it. A bump
of the leader epoch under the same leader changes nothing here.

State: in which phase it is; what was loaded of ids that nobody has asked for since (`_loaded`) and
the others (`_transactions`), by name; the producer ids that it has to spare. Invariants: what it
knows is what the log says, to its end; of what is under way nothing is left in `_loaded`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum
from itertools import islice

from minikafka.core.transactions.effects import Effect, Reply, ReserveProducerId
from minikafka.core.transactions.producer_ids import SpareProducerIds
from minikafka.core.transactions.requests import InitRequest, Request, refusal
from minikafka.core.transactions.settings import TransactionSettings
from minikafka.core.transactions.transaction import Transaction
from minikafka.core.transactions.values import (
    Now,
    TransactionRecord,
    TransactionState,
    TransactionValue,
)
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    InvalidRequestError,
    InvalidTransactionTimeoutError,
    MinikafkaError,
    NotCoordinatorError,
)
from minikafka.model import TopicPartition


class Phase(Enum):
    LOADING = "loading"
    SERVING = "serving"
    ENDED = "ended"


class Coordinator:
    """See the module. Everybody may read `phase`."""

    def __init__(self, settings: TransactionSettings) -> None:
        self.phase = Phase.LOADING
        self._settings = settings
        self._ids = SpareProducerIds()
        self._loaded: dict[str, TransactionValue] = {}
        self._transactions: dict[str, Transaction] = {}

    # --- coming and going ------------------------------------------------------------------------

    def load(self, record: TransactionRecord) -> None:
        """One of those that were in the log; of an id, the last one counts."""
        assert self.phase is Phase.LOADING, self.phase
        if record.value is None:
            self._loaded.pop(record.transactional_id, None)
        else:
            self._loaded[record.transactional_id] = record.value

    def serve(self, now: Now) -> list[Effect]:
        """All of it has been loaded and is committed. What was decided is told again, what was left
        open goes on."""
        assert self.phase is Phase.LOADING, self.phase
        self.phase = Phase.SERVING
        effects: list[Effect] = [ReserveProducerId()]
        under_way = [name for name, each in self._loaded.items() if not each.state.is_quiet]
        for transactional_id in under_way:
            value = self._loaded.pop(transactional_id)
            effects += self._made(transactional_id).restore(value, now)
        return effects

    def end(self) -> list[Effect]:
        """Another broker coordinates now, or will: whoever waits is told so."""
        self.phase = Phase.ENDED
        transactions = list(self._transactions.values())
        self._transactions.clear()
        self._loaded.clear()
        return [effect for each in transactions for effect in each.unload(_not_here())]

    def on_producer_id(self, producer_id: int) -> None:
        """A fresh one, as was asked for (ReserveProducerId)."""
        self._ids.put(producer_id)

    # --- requests --------------------------------------------------------------------------------

    def handle(
        self, transactional_id: str, request: Request, token: object, now: Now
    ) -> list[Effect]:
        """Somebody asks; the answer is a Reply with this token, now or later."""
        try:
            self._check(transactional_id, request)
        except MinikafkaError as error:
            return [Reply(token, refusal(request, error.with_traceback(None)))]
        transaction = self._transactions.get(transactional_id) or self._woken(transactional_id, now)
        return self._after(transaction, transaction.handle(request, token, now))

    def _check(self, transactional_id: str, request: Request) -> None:
        """What is wrong with it whatever is known of the id, in the order in which it is told."""
        if not transactional_id:
            raise InvalidRequestError("the transactional id is empty")
        if isinstance(request, InitRequest):
            longest_ms = self._settings.max_timeout_ms
            if not 0 < request.timeout_ms <= longest_ms:
                raise InvalidTransactionTimeoutError(
                    f"a transaction timeout of {request.timeout_ms} ms: expected 1 to {longest_ms} "
                    "(transaction.max.timeout.ms)"
                )
        if self.phase is Phase.ENDED:
            raise _not_here()
        if self.phase is Phase.LOADING:
            raise CoordinatorLoadInProgressError("the coordinator still reads its records")

    def _woken(self, transactional_id: str, now: Now) -> Transaction:
        """Of an id that was quiet when it was loaded, or is new."""
        transaction = self._made(transactional_id)
        value = self._loaded.pop(transactional_id, None)
        if value is not None:
            nothing = transaction.restore(value, now)
            assert not nothing, (transactional_id, nothing)
        return transaction

    def _made(self, transactional_id: str) -> Transaction:
        made = Transaction(transactional_id, self._settings, self._ids)
        self._transactions[transactional_id] = made
        return made

    def _after(self, transaction: Transaction, effects: list[Effect]) -> list[Effect]:
        """An event of this id is over: is there anything to be remembered?"""
        if transaction.is_over:
            del self._transactions[transaction.transactional_id]
        return effects

    # --- the log, markers, time ------------------------------------------------------------------

    def on_appended(self, transactional_id: str, number: int, now: Now) -> list[Effect]:
        return self._tell(transactional_id, lambda each: each.on_appended(number, now))

    def on_refused(
        self, transactional_id: str, number: int, error: MinikafkaError, now: Now
    ) -> list[Effect]:
        return self._tell(transactional_id, lambda each: each.on_refused(number, error, now))

    def on_committed(self, transactional_id: str, number: int, now: Now) -> list[Effect]:
        return self._tell(transactional_id, lambda each: each.on_committed(number, now))

    def on_confirmed(
        self, transactional_id: str, partition: TopicPartition, now: Now
    ) -> list[Effect]:
        return self._tell(transactional_id, lambda each: each.on_confirmed(partition, now))

    def on_time(self, transactional_id: str, now: Now) -> list[Effect]:
        return self._tell(transactional_id, lambda each: each.on_time(now))

    def _tell(
        self, transactional_id: str, event: Callable[[Transaction], list[Effect]]
    ) -> list[Effect]:
        """What comes after the end changes nothing. Before it, who is told of is there."""
        if self.phase is Phase.ENDED:
            return []
        transaction = self._transactions[transactional_id]
        return self._after(transaction, event(transaction))

    def next_deadline_ms(self, transactional_id: str) -> int | None:
        """When `on_time` has something to do for this id; None: never."""
        transaction = self._transactions.get(transactional_id)
        return None if transaction is None else transaction.next_deadline_ms()

    def expire(self, now: Now, at_most: int) -> list[Effect]:
        """Forget ids that nobody has used for long enough: so many, and others the next time."""
        before_ms = now.timestamp_ms - self._settings.expiration_ms
        old = (
            name
            for name, each in self._loaded.items()
            if each.last_update_timestamp_ms <= before_ms
        )
        for name in list(islice(old, at_most)):
            self._woken(name, now)
        effects: list[Effect] = []
        for each in self._transactions.values():
            effects += each.expire(now)
            if len(effects) >= at_most:
                break
        return effects

    def value(self, transactional_id: str) -> TransactionValue | None:
        """What the log says of this id. For those who look, and for tests."""
        transaction = self._transactions.get(transactional_id)
        if transaction is None:
            return self._loaded.get(transactional_id)
        return transaction.value

    def count_states(self) -> Counter[TransactionState]:
        """How many ids are in which state."""
        counts = Counter(each.state for each in self._loaded.values())
        counts.update(
            each.value.state for each in self._transactions.values() if each.value is not None
        )
        return counts

    def awake(self) -> list[str]:
        """The ids that were asked for since they were loaded, or that are under way."""
        return list(self._transactions)

    def transactional_ids(self) -> list[str]:
        known = [name for name, each in self._transactions.items() if each.value is not None]
        return [*known, *self._loaded]


def _not_here() -> NotCoordinatorError:
    return NotCoordinatorError("another broker coordinates this transactional id now")
