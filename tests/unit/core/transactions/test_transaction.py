"""core/transactions/transaction.py (and journal.py): what counts when, what leaves when."""

from __future__ import annotations

import pytest

from minikafka.core.transactions.effects import Append, Reply, ReserveProducerId, SendMarkers
from minikafka.core.transactions.producer_ids import SpareProducerIds
from minikafka.core.transactions.requests import (
    AddRequest,
    Answer,
    EndRequest,
    InitRequest,
    VerifyAnswer,
    VerifyRequest,
)
from minikafka.core.transactions.settings import TransactionSettings
from minikafka.core.transactions.transaction import Transaction
from minikafka.core.transactions.values import (
    Marker,
    Now,
    TransactionState,
    TransactionValue,
    TransactionVersion,
)
from minikafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    ProducerFencedError,
)
from minikafka.model import TopicPartition

A, B = TopicPartition("t", 0), TopicPartition("t", 1)
PID = 7
INIT = InitRequest(60_000)
REFUSED = CoordinatorNotAvailableError("the minimum of replicas is not in sync")
GONE = NotCoordinatorError("another broker")
COMMIT_MARKER = Marker("id", PID, 0, True, False)


def add(*partitions: TopicPartition, epoch: int = 0) -> AddRequest:
    return AddRequest(PID, epoch, frozenset(partitions))


def end(commits: bool = True, version: int = 4, epoch: int = 0) -> EndRequest:
    return EndRequest(PID, epoch, commits, version)


class Bench:
    """A transaction with a log: what it wants to append is in the log at once unless `holds_back`,
    and committed at once unless `lags`."""

    def __init__(self, max_epoch: int = 100) -> None:
        self.ms = 0
        self.ids = SpareProducerIds()
        self.ids.put(PID)
        settings = TransactionSettings(max_epoch=max_epoch)
        self.transaction = Transaction("id", settings, self.ids)
        self.log: list[TransactionValue | None] = []
        self.answers: dict[object, object] = {}
        self.sent: list[SendMarkers] = []
        self.reserved = 0
        self.lags = self.holds_back = False
        self.appends: list[int] = []
        self.refuses: Exception | None = None
        self.uncommitted: list[int] = []

    @property
    def now(self) -> Now:
        return Now(self.ms, 1_000_000 + self.ms)

    @property
    def state(self) -> TransactionState | None:
        value = self.transaction.value
        return None if value is None else value.state

    def do(self, effects) -> None:
        for effect in effects:
            match effect:
                case Reply(token, result):
                    assert token not in self.answers, token
                    self.answers[token] = result
                case SendMarkers():
                    self.sent.append(effect)
                case ReserveProducerId():
                    self.reserved += 1
                case Append(record, number):
                    assert record.transactional_id == "id"
                    self._append(record.value, number)

    def _append(self, value: TransactionValue | None, number: int) -> None:
        if self.refuses is not None:
            self.do(self.transaction.on_refused(number, self.refuses, self.now))
            return
        self.log.append(value)
        if self.holds_back:
            self.appends.append(number)
        else:
            self.appended(number)

    def appended(self, number: int) -> None:
        self.uncommitted.append(number)
        self.do(self.transaction.on_appended(number, self.now))
        if not self.lags:
            self.commit()

    def let_through(self) -> None:
        self.holds_back = False
        appends, self.appends = self.appends, []
        for number in appends:
            self.appended(number)

    def commit(self) -> None:
        if self.uncommitted:
            last = self.uncommitted[-1]
            self.uncommitted.clear()
            self.do(self.transaction.on_committed(last, self.now))

    def ask(self, request, token: object = None) -> object:
        """The answer, None while there is none."""
        token = object() if token is None else token
        self.do(self.transaction.handle(request, token, self.now))
        return self.answers.get(token)

    def confirm(self, *partitions: TopicPartition) -> None:
        for each in partitions:
            self.do(self.transaction.on_confirmed(each, self.now))

    def pass_to(self, ms: int) -> None:
        self.ms = ms
        self.do(self.transaction.on_time(self.now))


def error_of(answer: object) -> type | None:
    assert isinstance(answer, Answer), answer
    return None if answer.error is None else type(answer.error)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def ongoing(bench: Bench) -> Bench:
    assert bench.ask(INIT) == Answer(None, PID, 0)
    assert bench.ask(add(A, B)) == Answer()
    return bench


def test_a_transaction_from_its_beginning_to_its_end(ongoing: Bench) -> None:
    assert ongoing.ask(end()) == Answer()
    assert ongoing.sent == [SendMarkers(COMMIT_MARKER, (A, B))]
    ongoing.confirm(B)
    assert ongoing.state is TransactionState.PREPARE_COMMIT
    ongoing.confirm(A)
    assert [value.state.name for value in ongoing.log if value is not None] == [
        "EMPTY",
        "ONGOING",
        "PREPARE_COMMIT",
        "COMPLETE_COMMIT",
    ]
    assert ongoing.transaction.next_deadline_ms() is None


def test_answers_and_markers_leave_when_their_record_is_committed(ongoing: Bench) -> None:
    ongoing.lags = True
    assert ongoing.ask(end(), "end") is None
    assert ongoing.state is TransactionState.PREPARE_COMMIT
    assert ongoing.sent == []
    assert error_of(ongoing.ask(end())) is ConcurrentTransactionsError
    ongoing.commit()
    assert ongoing.answers["end"] == Answer()
    assert len(ongoing.sent) == 1


def test_nothing_counts_before_its_record_is_in_the_log(ongoing: Bench) -> None:
    ongoing.holds_back = True
    assert ongoing.ask(end(), "end") is None
    assert ongoing.ask(end(False), "other") is None
    assert ongoing.state is TransactionState.ONGOING
    ongoing.let_through()
    assert ongoing.answers["end"] == Answer()
    assert error_of(ongoing.answers["other"]) is not None
    assert [value.state.name for value in ongoing.log[2:]] == ["PREPARE_COMMIT"]


def test_a_record_that_is_refused_leaves_nothing_behind(ongoing: Bench) -> None:
    ongoing.refuses = REFUSED
    assert ongoing.ask(end()) == Answer(REFUSED)
    assert (ongoing.state, ongoing.sent) == (TransactionState.ONGOING, [])
    ongoing.refuses = None
    assert ongoing.ask(end(False)) == Answer()
    assert not ongoing.sent[0].marker.commits


def test_a_fence_that_is_refused_costs_no_epoch_and_no_id() -> None:
    bench = Bench(max_epoch=0)
    bench.ask(INIT)
    bench.ask(add(A))
    bench.ids.put(8)
    bench.refuses = REFUSED
    assert bench.ask(INIT) == Answer(REFUSED)
    assert bench.ids.next == 8
    bench.refuses = None
    assert bench.ask(INIT, "init") is None
    assert bench.transaction.value.producer_epoch == 1
    assert bench.ids.next is None
    bench.ids.put(9)
    bench.confirm(A)
    assert bench.answers["init"] == Answer(None, 9, 0)
    assert [value.producer_id for value in bench.log] == [7, 7, 7, 8, 9]


def test_another_id_is_asked_for_when_the_last_one_is_taken(bench: Bench) -> None:
    bench.ids.put(8)
    assert bench.ask(INIT) == Answer(None, 8, 0)
    assert bench.reserved == 0
    other = Transaction("other", TransactionSettings(), bench.ids)
    assert other.handle(INIT, "token", bench.now)[0] == ReserveProducerId()


def test_an_init_that_is_refused_gives_its_id_back() -> None:
    bench = Bench()
    bench.refuses = REFUSED
    assert bench.ask(INIT) == Answer(REFUSED)
    assert bench.ids.next == PID
    assert bench.transaction.is_over


def test_an_answer_that_needs_no_record_waits_for_those_that_it_rests_on(bench: Bench) -> None:
    bench.ask(INIT)
    bench.lags = True
    assert bench.ask(add(A), "first") is None
    assert bench.ask(add(B), "second") is None
    assert bench.ask(add(A), "again") is None
    assert bench.ask(VerifyRequest(PID, 0, frozenset({A})), "verify") is None
    assert bench.log[-1].partitions == {A, B}
    bench.do(bench.transaction.on_committed(bench.uncommitted.pop(0), bench.now))
    assert [bench.answers.get(token) for token in ("first", "second", "again")] == [
        Answer(),
        None,
        None,
    ]
    bench.commit()
    assert bench.answers["again"] == bench.answers["second"] == Answer()
    assert bench.answers["verify"] == VerifyAnswer({})


def test_what_is_repeated_is_written_once_more_before_it_is_said(ongoing: Bench) -> None:
    """A predecessor that does not know that it is one cannot have that committed."""
    assert ongoing.ask(VerifyRequest(PID, 0, frozenset({A}))) == VerifyAnswer({})  # is not
    assert ongoing.ask(end()) == Answer()
    ongoing.confirm(A, B)
    assert ongoing.state is TransactionState.COMPLETE_COMMIT
    before = list(ongoing.log)
    ongoing.lags = True
    assert ongoing.ask(end(), "one") is None
    assert ongoing.log == [*before, before[-1]]
    ongoing.commit()
    assert ongoing.answers["one"] == Answer()
    ongoing.refuses = REFUSED
    assert ongoing.ask(end()) == Answer(REFUSED)
    assert ongoing.state is TransactionState.COMPLETE_COMMIT


def test_those_that_repeat_themselves_while_it_is_written_share_it(ongoing: Bench) -> None:
    ongoing.lags = ongoing.holds_back = True
    count = len(ongoing.log)
    tokens = ["one", "two", "three"]
    for token in tokens:
        assert ongoing.ask(add(A), token) is None
    ongoing.let_through()
    assert len(ongoing.log) == count + 1
    ongoing.commit()
    assert [ongoing.answers[token] for token in tokens] == [Answer()] * 3


def test_who_begins_anew_is_held_until_what_was_open_has_ended(ongoing: Bench) -> None:
    assert ongoing.ask(INIT, "init") is None
    assert ongoing.sent == [SendMarkers(Marker("id", PID, 1, False, True), (A, B))]
    assert ongoing.ask(add(A), "add") is not None  # fenced
    assert ongoing.transaction.held_count == 1
    ongoing.confirm(A, B)
    assert ongoing.answers["init"] == Answer(None, PID, 2)
    assert ongoing.transaction.held_count == 0


def test_those_that_are_held_have_their_turn_in_order(ongoing: Bench) -> None:
    ongoing.ask(end())
    assert ongoing.ask(INIT, "first") is None
    assert ongoing.ask(InitRequest(60_000, PID, 0), "fenced") is None
    assert ongoing.ask(INIT, "second") is None
    ongoing.confirm(A, B)
    assert ongoing.answers["first"] == Answer(None, PID, 1)
    assert error_of(ongoing.answers["fenced"]) is ProducerFencedError
    assert ongoing.answers["second"] == Answer(None, PID, 2)


def test_the_next_transaction_is_held_and_not_told_to_come_again(ongoing: Bench) -> None:
    ongoing.ask(end())
    assert ongoing.ask(add(A), "next") is None
    ongoing.confirm(A, B)
    assert ongoing.answers["next"] == Answer()
    assert ongoing.state is TransactionState.ONGOING


def test_what_is_held_for_too_long_is_told_to_come_again(ongoing: Bench) -> None:
    ongoing.ask(end())
    ongoing.ask(add(A), "early")
    ongoing.ms = 200
    ongoing.ask(add(B), "late")
    assert ongoing.transaction.next_deadline_ms() == 500
    ongoing.pass_to(500)
    assert error_of(ongoing.answers["early"]) is ConcurrentTransactionsError
    assert "late" not in ongoing.answers
    assert ongoing.transaction.next_deadline_ms() == 700


def test_a_request_is_held_once_for_all(ongoing: Bench) -> None:
    ongoing.ask(end())
    ongoing.ask(add(A), "add")
    ongoing.ask(INIT, "init")  # fences what `add` begins
    ongoing.ms = 499
    ongoing.confirm(A, B)
    assert ongoing.answers["add"] == Answer()
    assert "init" not in ongoing.answers
    ongoing.pass_to(500)
    assert error_of(ongoing.answers["init"]) is ConcurrentTransactionsError
    ongoing.confirm(A)
    assert ongoing.state is TransactionState.COMPLETE_ABORT


def test_who_has_its_turn_too_late_to_be_held_is_told_at_once(ongoing: Bench) -> None:
    ongoing.ask(end())
    ongoing.ask(add(A), "add")
    ongoing.ask(INIT, "init")
    ongoing.ms = 500  # nobody has looked at the time yet
    ongoing.confirm(A, B)
    assert ongoing.answers["add"] == Answer()
    assert error_of(ongoing.answers["init"]) is ConcurrentTransactionsError
    assert ongoing.state is TransactionState.PREPARE_ABORT


def test_a_transaction_that_takes_too_long_is_aborted(ongoing: Bench) -> None:
    assert ongoing.transaction.next_deadline_ms() == 60_000
    ongoing.pass_to(59_999)
    assert ongoing.state is TransactionState.ONGOING
    ongoing.pass_to(60_000)
    assert ongoing.sent == [SendMarkers(Marker("id", PID, 1, False, True), (A, B))]
    ongoing.confirm(A, B)
    assert ongoing.ask(InitRequest(60_000, PID, 0)) == Answer(None, PID, 1)


def test_more_partitions_are_no_more_time(ongoing: Bench) -> None:
    ongoing.ms = 50_000
    ongoing.ask(add(TopicPartition("t", 2)))
    assert ongoing.transaction.next_deadline_ms() == 60_000


def test_a_timeout_that_is_refused_comes_again(ongoing: Bench) -> None:
    ongoing.refuses = REFUSED
    ongoing.pass_to(60_000)
    assert ongoing.transaction.next_deadline_ms() == 60_100
    ongoing.pass_to(60_050)
    assert ongoing.transaction.next_deadline_ms() == 60_100
    ongoing.refuses = None
    ongoing.pass_to(60_100)
    assert ongoing.state is TransactionState.PREPARE_ABORT


def test_a_timeout_waits_for_a_record_on_its_way(ongoing: Bench) -> None:
    ongoing.holds_back = True
    ongoing.ask(end(), "end")
    assert ongoing.transaction.next_deadline_ms() is None
    ongoing.pass_to(60_000)
    ongoing.let_through()
    assert ongoing.state is TransactionState.PREPARE_COMMIT


def test_a_timeout_without_an_id_to_spare_waits_for_one() -> None:
    bench = Bench(max_epoch=0)
    bench.ask(INIT)
    bench.ask(add(A))
    assert bench.reserved == 1
    bench.pass_to(60_000)
    assert (bench.reserved, bench.state) == (2, TransactionState.ONGOING)
    bench.ids.put(8)
    bench.pass_to(60_100)
    assert bench.transaction.value.next_producer_id == 8


def test_without_an_id_to_spare_one_is_asked_for(bench: Bench) -> None:
    bench.ids.take()
    assert error_of(bench.ask(INIT)) is CoordinatorLoadInProgressError
    assert bench.reserved == 1
    bench.ids.put(8)
    assert bench.ask(INIT) == Answer(None, 8, 0)


def test_a_complete_that_is_refused_is_written_again(ongoing: Bench) -> None:
    ongoing.ask(end())
    ongoing.ask(add(A), "next")
    ongoing.refuses = REFUSED
    ongoing.confirm(A, B)
    assert ongoing.state is TransactionState.PREPARE_COMMIT
    assert ongoing.transaction.next_deadline_ms() == 100
    ongoing.refuses = None
    ongoing.pass_to(99)
    assert "next" not in ongoing.answers
    ongoing.pass_to(100)
    assert ongoing.answers["next"] == Answer()


def test_a_transaction_without_partitions_is_complete_at_once(bench: Bench) -> None:
    bench.ask(INIT)
    bench.ask(add())
    assert bench.ask(end()) == Answer()
    assert (bench.state, bench.sent) == (TransactionState.COMPLETE_COMMIT, [])


# --- coming and going of the coordinator ---------------------------------------------------------


def value(state: TransactionState, start_timestamp_ms: int = 1_000_000) -> TransactionValue:
    return TransactionValue(PID, 0, 60_000, state, frozenset({A, B}), 1_000_000, start_timestamp_ms)


def test_what_was_decided_is_told_again(bench: Bench) -> None:
    bench.do(bench.transaction.restore(value(TransactionState.PREPARE_COMMIT), bench.now))
    assert bench.sent == [SendMarkers(COMMIT_MARKER, (A, B))]
    bench.confirm(A, B)
    assert bench.state is TransactionState.COMPLETE_COMMIT


@pytest.mark.parametrize(
    ("start_timestamp_ms", "deadline_ms"),
    [(1_000_000, 65_000), (955_000, 20_000), (900_000, 5_000), (2_000_000, 65_000)],
)
def test_what_was_open_has_the_rest_of_its_time(
    bench: Bench, start_timestamp_ms: int, deadline_ms: int
) -> None:
    """Whatever the wall clock says, between nothing and all of it."""
    now = Now(5_000, 1_000_000)
    effects = bench.transaction.restore(value(TransactionState.ONGOING, start_timestamp_ms), now)
    assert effects == []
    assert bench.transaction.next_deadline_ms() == deadline_ms


def test_of_what_has_ended_nothing_is_told(bench: Bench) -> None:
    quiet = TransactionValue(PID, 0, 60_000, TransactionState.COMPLETE_ABORT)
    assert bench.transaction.restore(quiet, bench.now) == []
    assert bench.transaction.next_deadline_ms() is None


def test_whoever_waits_is_told_that_another_broker_coordinates(ongoing: Bench) -> None:
    ongoing.lags = True
    ongoing.ask(end(), "uncommitted")
    ongoing.ask(add(A), "held")
    ongoing.do(ongoing.transaction.unload(GONE))
    assert ongoing.answers["uncommitted"] == ongoing.answers["held"] == Answer(GONE)
    assert ongoing.sent == []
    assert ongoing.transaction.next_deadline_ms() is None


def test_also_who_waits_for_the_log(ongoing: Bench) -> None:
    ongoing.holds_back = True
    ongoing.ask(end(), "written")
    ongoing.ask(VerifyRequest(PID, 0, frozenset({A})), "queued")
    ongoing.do(ongoing.transaction.unload(GONE))
    assert ongoing.answers["written"] == Answer(GONE)
    assert ongoing.answers["queued"] == VerifyAnswer({A: GONE})


def test_nobody_waits_for_what_the_coordinator_does_by_itself(ongoing: Bench) -> None:
    ongoing.holds_back = True
    ongoing.pass_to(60_000)
    before = dict(ongoing.answers)
    ongoing.do(ongoing.transaction.unload(GONE))
    assert ongoing.answers == before


# --- forgetting ----------------------------------------------------------------------------------


def test_an_id_that_nobody_uses_is_forgotten(bench: Bench) -> None:
    bench.ask(INIT)
    expired = Now(0, bench.now.timestamp_ms + TransactionSettings().expiration_ms)
    bench.do(bench.transaction.expire(expired._replace(timestamp_ms=expired.timestamp_ms - 1)))
    assert not bench.transaction.is_over
    bench.do(bench.transaction.expire(expired))
    assert bench.log[-1] is None
    assert bench.transaction.is_over
    bench.ids.put(8)
    assert bench.ask(INIT) == Answer(None, 8, 0)


def test_what_is_under_way_is_not_forgotten(ongoing: Bench) -> None:
    late = Now(0, 10**15)
    assert ongoing.transaction.expire(late) == []
    ongoing.ask(end())
    assert ongoing.transaction.expire(late) == []
    ongoing.lags = True
    ongoing.confirm(A, B)
    assert ongoing.transaction.expire(late) == []
    ongoing.commit()
    [append] = ongoing.transaction.expire(late)
    assert ongoing.transaction.expire(late) == []  # it is on its way
    ongoing.do(ongoing.transaction.on_refused(append.number, REFUSED, ongoing.now))
    assert ongoing.state is TransactionState.COMPLETE_COMMIT


def test_whoever_comes_while_an_id_is_being_forgotten_begins_anew(bench: Bench) -> None:
    bench.ask(INIT)
    bench.holds_back = True
    bench.do(bench.transaction.expire(Now(0, 10**15)))
    bench.ids.put(8)
    assert bench.ask(INIT, "init") is None
    assert not bench.transaction.is_over
    bench.let_through()
    assert bench.answers["init"] == Answer(None, 8, 0)


# --- races of the two versions of the protocol ---------------------------------------------------


def test_in_the_second_version_an_end_gives_the_next_epoch_and_its_repetition_too(
    ongoing: Bench,
) -> None:
    assert ongoing.ask(end(version=5)) == Answer(None, PID, 1)
    assert ongoing.sent == [SendMarkers(Marker("id", PID, 1, True, True), (A, B))]
    assert error_of(ongoing.ask(end(version=5))) is ConcurrentTransactionsError
    assert ongoing.ask(add(A, epoch=1), "next") is None
    ongoing.confirm(A, B)
    assert ongoing.answers["next"] == Answer()
    assert error_of(ongoing.ask(end(version=5))) is ProducerFencedError  # the next has begun
    assert ongoing.transaction.value.version is TransactionVersion.TV1


def test_the_assertions_see_a_record_of_nobody(bench: Bench) -> None:
    with pytest.raises(AssertionError, match="nobody writes record 3"):
        bench.transaction.on_appended(3, bench.now)
    with pytest.raises(AssertionError):
        bench.transaction.on_confirmed(A, bench.now)
