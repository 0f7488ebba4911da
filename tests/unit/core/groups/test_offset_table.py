"""core/groups/offset_table.py: records and markers in the order of the log, and what they mean."""

from __future__ import annotations

from minikafka.core.groups.effects import OffsetAndMetadata
from minikafka.core.groups.offset_table import OffsetTable
from minikafka.model import TopicPartition

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def value(offset: int, record_offset: int) -> OffsetAndMetadata:
    return OffsetAndMetadata(offset, -1, "", 0, record_offset=record_offset)


def offsets(table: OffsetTable) -> dict[str, int]:
    return {each.topic: known.offset for each, known in table.committed.items()}


def test_what_is_staged_counts_when_the_marker_that_commits_it_is_committed() -> None:
    table = OffsetTable()
    table.stage(7, A, value(5, 0))
    assert (offsets(table), table.staged(), table.any_staged) == ({}, {A}, True)
    table.end(7, 1, commits=True)
    assert (offsets(table), table.staged(), table.any_staged) == ({}, {A}, True)
    table.settle(1)
    assert (offsets(table), table.staged(), table.any_staged) == ({"a": 5}, set(), False)
    assert table.committed[A].record_offset == 0, "where it was written, not where it was committed"


def test_what_is_aborted_goes_and_an_empty_table_is_nothing() -> None:
    table = OffsetTable()
    assert not table
    table.stage(7, A, value(5, 0))
    table.end(7, 1, commits=False)
    assert table, "until that is committed, its end is no more than on its way"
    table.settle(1)
    assert not table


def test_a_marker_of_a_producer_that_has_staged_nothing_ends_nothing() -> None:
    table = OffsetTable()
    table.stage(7, A, value(5, 0))
    table.end(8, 1, commits=True)
    table.settle(1)
    assert (offsets(table), table.staged()) == ({}, {A})


def test_of_two_values_the_one_of_the_higher_record_counts_whenever_it_is_committed() -> None:
    for plain, staged, counts in [(0, 1, "staged"), (1, 0, "plain")]:
        table = OffsetTable()
        table.stage(7, A, value(5, staged))
        table.put(A, value(6, plain))
        table.end(7, 2, commits=True)
        table.settle(2)
        assert offsets(table) == {"a": 5 if counts == "staged" else 6}


def test_of_two_transactions_the_one_that_wrote_last_counts_not_the_one_that_ended_last() -> None:
    table = OffsetTable()
    table.stage(7, A, value(5, 0))
    table.stage(8, A, value(6, 1))
    table.end(8, 2, commits=True)
    table.end(7, 3, commits=True)
    table.settle(2)
    table.settle(3)
    assert offsets(table) == {"a": 6}


def test_the_last_value_that_a_transaction_wrote_counts() -> None:
    table = OffsetTable()
    table.stage(7, A, value(5, 0))
    table.stage(7, A, value(6, 1))
    table.end(7, 2, commits=True)
    table.settle(2)
    assert offsets(table) == {"a": 6}


def test_a_tombstone_takes_what_lies_below_it_staged_or_ending_and_nothing_above() -> None:
    table = OffsetTable({A: value(1, 0), B: value(1, 1)})
    table.stage(7, A, value(5, 2))
    table.stage(7, B, value(5, 3))
    table.end(7, 4, commits=True)
    table.stage(8, A, value(6, 5))
    table.stage(9, A, value(7, 7))
    table.forget(A, 6)
    assert (offsets(table), table.staged()) == ({"b": 1}, {A, B})
    table.settle(4)
    table.end(8, 8, commits=True)
    table.settle(8)
    assert offsets(table) == {"b": 5}
    table.end(9, 9, commits=True)
    table.settle(9)
    assert offsets(table) == {"b": 5, "a": 7}


def test_a_tombstone_leaves_no_transaction_behind_that_has_nothing_staged() -> None:
    table = OffsetTable()
    table.stage(7, A, value(5, 0))
    table.stage(8, A, value(5, 1))
    table.end(8, 2, commits=True)
    table.forget(A, 3)
    assert (table.any_staged, bool(table)) == (False, False)


def test_the_next_transaction_of_a_producer_is_not_ended_by_the_marker_of_the_last() -> None:
    table = OffsetTable()
    table.stage(7, A, value(5, 0))
    table.end(7, 1, commits=True)
    table.stage(7, A, value(6, 2))
    table.settle(1)
    assert (offsets(table), table.staged()) == ({"a": 5}, {A})


def test_tables_are_equal_when_all_that_they_hold_is() -> None:
    def table(ends: bool) -> OffsetTable:
        made = OffsetTable({A: value(1, 0)})
        made.stage(7, B, value(5, 1))
        if ends:
            made.end(7, 2, commits=True)
        return made

    assert table(True) == table(True)
    assert table(True) != table(False)
    assert OffsetTable() != OffsetTable({A: value(1, 0)})
    assert OffsetTable() != {}
