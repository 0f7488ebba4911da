"""Each anomaly, in a history that has it and nothing else; and a good history, which has none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.integration.torment.checker import FINAL, RULES, Anomaly, Facts, count, judge
from tests.integration.torment.history import (
    FAILED,
    NEVER,
    NOTHING,
    OK,
    UNKNOWN,
    Commit,
    Committed,
    End,
    Operation,
    Poll,
    Seek,
    Send,
)

P = "t-0"
FOLLOWER = "follower"


def send(number: int, offset: int, **changes: object) -> Send:
    """`p:<number>`, sent at time `number`, acknowledged half a second later."""
    start = float(number)
    sent = Send("p", P, f"p:{number}", start, start + 0.5, OK, offset)
    return replace(sent, **changes)  # type: ignore[arg-type]


def seek(by: str, offset: int = 0) -> Seek:
    return Seek(by, P, 0.0, offset)


def poll(by: str, first: int, *values: str, high_watermark: int = 1_000) -> Poll:
    records = [(first + index, value) for index, value in enumerate(values)]
    return Poll(by, P, 50.0, 51.0, records, high_watermark)


LOG = ("p:0", "p:1", "p:2", "p:3")


def history(
    sends: Iterable[Send] = (),
    reads: Iterable[Operation] | None = None,
    log: Iterable[Operation] | None = None,
) -> list[Operation]:
    """Four records sent, followed and read back, except for what is given instead."""
    everything = list(sends) or [send(number, number) for number in range(4)]
    followed = [seek(FOLLOWER), poll(FOLLOWER, 0, *LOG)] if reads is None else list(reads)
    final = [seek(FINAL), poll(FINAL, 0, *LOG)] if log is None else list(log)
    return [*everything, *followed, *final]


def verdict(operations: Iterable[Operation]) -> list[Anomaly]:
    return judge(Facts.of(operations, [FOLLOWER]))


def kinds(operations: Iterable[Operation]) -> set[str]:
    return {anomaly.kind for anomaly in verdict(operations)}


def sends_with(*changed: Send) -> list[Send]:
    by_value = {each.value: each for each in [send(number, number) for number in range(4)]}
    return list((by_value | {each.value: each for each in changed}).values())


def both(*values: str) -> dict[str, list[Operation]]:
    """The follower and the final read were given the same."""
    return {
        "reads": [seek(FOLLOWER), poll(FOLLOWER, 0, *values)],
        "log": [seek(FINAL), poll(FINAL, 0, *values)],
    }


def test_a_history_without_an_anomaly_has_none() -> None:
    assert verdict(history()) == []


def test_an_acknowledged_record_that_is_not_in_the_log_is_lost() -> None:
    found = verdict(history(sends_with(send(4, 4))))
    assert [anomaly.kind for anomaly in found] == ["lost"]
    assert "p:4 was acknowledged at offset 4" in found[0].message


def test_a_record_in_another_partition_than_it_was_sent_to_is_lost_and_a_phantom_there() -> None:
    assert kinds(history(sends_with(send(3, 3, partition="t-1")))) == {"lost", "phantom"}


@pytest.mark.parametrize("outcome", [UNKNOWN, FAILED])
def test_what_was_not_acknowledged_may_be_missing(outcome: str) -> None:
    assert verdict(history(sends_with(send(4, -1, outcome=outcome)))) == []


def test_what_has_an_unknown_outcome_may_be_there() -> None:
    assert verdict(history(sends_with(send(3, -1, outcome=UNKNOWN)))) == []


def test_a_record_may_be_acknowledged_without_an_offset_but_not_be_lost() -> None:
    assert verdict(history(sends_with(send(2, -1)))) == []
    assert kinds(history(sends_with(send(4, -1)))) == {"lost"}


def test_a_record_that_a_follower_was_never_given_is_unseen() -> None:
    assert kinds(history(reads=[seek(FOLLOWER), poll(FOLLOWER, 0, *LOG[:3])])) == {"unseen"}
    assert kinds(history(reads=[])) == {"unseen"}


def test_a_record_of_an_idempotent_producer_at_two_offsets_is_a_duplicate() -> None:
    assert kinds(history(**both(*LOG, "p:3"))) == {"duplicate"}


def test_two_records_at_one_offset_are_inconsistent_whoever_says_so() -> None:
    acknowledged_twice = sends_with(send(4, 3, outcome=OK))
    assert "inconsistent offset" in kinds(history(acknowledged_twice, **both(*LOG, "p:4")))
    read_otherwise = [seek("other"), poll("other", 0, "p:0", "p:2")]
    assert "inconsistent offset" in kinds([*history(), *read_otherwise])


def test_a_record_that_is_not_in_the_log_in_the_end_was_read_before_it_was_committed() -> None:
    reader = [seek("other", 4), poll("other", 4, "p:4")]
    unknown = sends_with(send(4, -1, outcome=UNKNOWN))
    assert kinds([*history(unknown), *reader]) == {"uncommitted read"}


def test_a_record_at_the_high_watermark_was_read_too_early() -> None:
    early = [seek(FOLLOWER), poll(FOLLOWER, 0, *LOG, high_watermark=3)]
    assert kinds(history(reads=early)) == {"beyond high watermark"}
    in_time = [seek(FOLLOWER), poll(FOLLOWER, 0, *LOG, high_watermark=4)]
    assert verdict(history(reads=in_time)) == []
    untold = [seek(FOLLOWER), poll(FOLLOWER, 0, *LOG, high_watermark=-1)]
    assert verdict(history(reads=untold)) == []


def test_an_offset_that_a_consumer_is_given_again_is_non_monotonic() -> None:
    again = [seek(FOLLOWER), poll(FOLLOWER, 0, *LOG), poll(FOLLOWER, 3, "p:3")]
    assert kinds(history(reads=again)) == {"non-monotonic poll"}


def commit(offset: int, start: float, end: float, outcome: str = OK, by: str = "m") -> Commit:
    return Commit(by, P, start, end, offset, outcome)


def told(offset: int, start: float, end: float) -> Committed:
    return Committed("m", P, start, end, offset)


def read_by_member() -> list[Operation]:
    return [seek("m"), poll("m", 0, *LOG)]


def test_a_member_is_told_the_last_commit_that_succeeded() -> None:
    good = [commit(2, 60, 61), commit(4, 62, 63), told(4, 64, 65)]
    assert verdict([*history(), *read_by_member(), *good]) == []
    for older in (2, NOTHING):
        gone = [commit(2, 60, 61), commit(4, 62, 63), told(older, 64, 65)]
        assert kinds([*history(), *read_by_member(), *gone]) == {"commit lost"}


def test_a_commit_that_was_under_way_or_of_unknown_outcome_may_be_what_a_member_is_told() -> None:
    for other in (commit(3, 62.5, 66), commit(3, 60, 61, UNKNOWN)):
        found = [commit(2, 60, 61), commit(4, 62, 63), other]
        for offset in (3, 4):
            assert verdict([*history(), *read_by_member(), *found, told(offset, 64, 65)]) == []
        assert kinds([*history(), *read_by_member(), *found, told(2, 64, 65)]) == {"commit lost"}


def test_a_commit_that_certainly_failed_or_came_later_is_not_what_a_member_is_told() -> None:
    for other in (commit(3, 64, 65, FAILED), commit(3, 66, 67)):
        found = [commit(2, 60, 61), other, told(3, 64, 65)]
        assert kinds([*history(), *read_by_member(), *found]) == {"commit lost"}


def test_what_a_group_has_committed_a_member_of_it_was_given() -> None:
    two_members = [seek("m"), poll("m", 0, *LOG[:2]), seek("n", 2), poll("n", 2, *LOG[2:])]
    commits = [commit(2, 60, 61), commit(4, 62, 63, by="n")]
    assert verdict([*history(), *two_members, *commits]) == []
    assert kinds([*history(), *two_members[:2], *commits]) == {"unread by group"}
    uncommitted = [commit(2, 60, 61), commit(4, 62, 63, FAILED, by="n")]
    assert verdict([*history(), *two_members[:2], *uncommitted]) == []


def test_a_consumer_may_seek_back() -> None:
    back = [seek(FOLLOWER), poll(FOLLOWER, 0, *LOG), seek(FOLLOWER, 2), poll(FOLLOWER, 2, "p:2")]
    assert verdict(history(reads=back)) == []


def test_offsets_that_a_consumer_jumps_over_are_a_gap() -> None:
    jump = [
        seek(FOLLOWER),
        poll(FOLLOWER, 0, "p:0"),
        poll(FOLLOWER, 2, "p:2", "p:3"),
        seek(FOLLOWER, 1),
        poll(FOLLOWER, 1, "p:1"),
    ]
    assert kinds(history(reads=jump)) == {"gap"}
    assert kinds([*history(), seek("late", 1), poll("late", 2, "p:2")]) == {"gap"}


def test_a_later_record_at_a_lower_offset_is_a_non_monotonic_send() -> None:
    swapped = sends_with(send(1, 2), send(2, 1))
    assert kinds(history(swapped, **both("p:0", "p:2", "p:1", "p:3"))) == {
        "non-monotonic send",
        "order",
    }


def test_records_of_one_producer_in_another_order_are_told_even_if_it_never_heard_where() -> None:
    unheard = sends_with(*(send(number, -1, outcome=UNKNOWN) for number in (1, 2)))
    assert kinds(history(unheard, **both("p:0", "p:2", "p:1", "p:3"))) == {"order"}


def test_an_end_that_goes_back_for_one_client_is_told_and_for_two_is_not() -> None:
    ends = [End("c", P, 1.0, 2.0, 4), End("c", P, 3.0, 4.0, 3)]
    assert kinds([*history(), *ends]) == {"end went back"}
    assert verdict([*history(), ends[0], replace(ends[1], by="d")]) == []


def test_a_record_without_any_outcome_is_told() -> None:
    silent = sends_with(send(4, -1, outcome=UNKNOWN, error=NEVER))
    assert kinds(history(silent)) == {"no outcome"}


def test_a_record_that_nobody_sent_is_a_phantom() -> None:
    assert kinds(history(**both(*LOG, "q:0"))) == {"phantom"}
    assert kinds(history(**both(*LOG, "damaged b'p:4'"))) == {"phantom"}


def test_a_record_that_had_certainly_failed_is_a_phantom() -> None:
    failed = sends_with(send(3, -1, outcome=FAILED, error="NOT_ENOUGH_REPLICAS: no"))
    assert kinds(history(failed)) == {"phantom"}


def test_a_record_that_was_read_before_it_was_sent_is_a_phantom() -> None:
    assert kinds(history(sends_with(send(3, 3, start=60.0, end=61.0)))) == {"phantom"}


def test_a_history_that_was_not_read_back_proves_nothing() -> None:
    assert kinds(history(log=[])) == {"lost"}


def test_every_rule_has_been_shown_to_fail() -> None:
    """The kinds that the tests above have seen; a new rule needs a test here."""
    assert {rule.__name__ for rule in RULES} == {
        "lost",
        "unseen",
        "duplicates",
        "inconsistent_offsets",
        "uncommitted_reads",
        "beyond_high_watermark",
        "polls_out_of_step",
        "non_monotonic_sends",
        "order",
        "ends_went_back",
        "commits_lost",
        "unread_by_group",
        "no_outcomes",
        "phantoms",
    }


def test_a_weak_producer_may_lose_repeat_and_reorder_and_is_counted() -> None:
    weak = [
        Send("w", P, f"w:{number}", 1.0, 2.0, OK, offset, once=False)
        for number, offset in ((0, 4), (1, 5), (2, 6))
    ]
    operations = [*weak, *history(sends_with(), **both(*LOG, "w:1", "w:1", "w:0"))]
    assert verdict(operations) == []
    counts = count(Facts.of(operations, [FOLLOWER]))
    assert (counts.weak_acknowledged, counts.weak_lost, counts.weak_duplicated) == (3, 1, 1)
    assert (counts.sends, counts.acknowledged, counts.records_in_log) == (7, 4, 7)


def test_the_outcomes_are_counted() -> None:
    operations = history(
        sends_with(
            send(3, -1, outcome=UNKNOWN, error="REQUEST_TIMED_OUT: late"),
            send(4, -1, outcome=UNKNOWN, error="REQUEST_TIMED_OUT: later"),
            send(5, -1, outcome=FAILED, error="NOT_ENOUGH_REPLICAS: no"),
        )
    )
    counts = count(Facts.of(operations, [FOLLOWER]))
    assert (counts.acknowledged, counts.failed) == (3, 1)
    assert (counts.unknown, counts.unknown_written) == (2, 1)
    assert (counts.polls, counts.records_read) == (1, 4)
    assert counts.errors == {"REQUEST_TIMED_OUT": 2, "NOT_ENOUGH_REPLICAS": 1}
