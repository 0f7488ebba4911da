"""The leader-epoch cache, by example and against a plain list of records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.core.replication.epochs import EpochCache
from minikafka.model import EpochEntry, OffsetAndEpoch
from tests.helpers.core_builders import entries


def cache_of(*pairs: tuple[int, int]) -> EpochCache:
    return EpochCache(entries(*pairs))


def test_an_empty_cache_knows_nothing():
    cache = EpochCache()
    assert cache.entries() == []
    assert cache.latest_epoch is None
    assert cache.earliest_epoch is None
    assert cache.end_of(0, 10) is None
    assert cache.epoch_at(0) is None
    assert not cache.starts_after(0)
    assert not cache.truncate_from_end(0)
    assert not cache.truncate_from_start(5)


def test_epoch_zero_is_an_epoch_like_any_other():
    cache = cache_of((0, 0))
    assert cache.latest_epoch == cache.earliest_epoch == 0
    assert cache.end_of(0, 7) == OffsetAndEpoch(7, 0)
    assert cache.epoch_at(3) == 0


def test_the_latest_epoch_keeps_its_start_when_it_is_assigned_again():
    cache = cache_of((0, 0), (2, 5))
    assert not cache.assign(2, 9)
    assert cache.entries() == list(entries((0, 0), (2, 5)))


def test_the_latest_epoch_moves_back_when_it_is_found_to_begin_earlier():
    cache = cache_of((0, 0), (2, 5))
    assert cache.assign(2, 3)
    assert cache.entries() == list(entries((0, 0), (2, 3)))


@pytest.mark.parametrize(
    ("assigned", "left"),
    [
        ((3, 8), [(0, 0), (1, 4), (3, 8)]),  # an idle epoch that started there is replaced
        ((3, 4), [(0, 0), (3, 4)]),
        ((1, 9), [(0, 0), (1, 9)]),
        ((0, 9), [(0, 9)]),
        ((5, 0), [(5, 0)]),
    ],
)
def test_a_new_entry_removes_those_that_contradict_it(assigned, left):
    cache = cache_of((0, 0), (1, 4), (2, 8))
    assert cache.assign(*assigned)
    assert cache.entries() == list(entries(*left))


def test_an_epoch_ends_where_the_next_begins_and_the_last_at_the_log_end():
    cache = cache_of((1, 0), (4, 5))
    assert cache.end_of(1, 9) == OffsetAndEpoch(5, 1)
    assert cache.end_of(4, 9) == OffsetAndEpoch(9, 4)


def test_an_unknown_epoch_is_answered_with_the_largest_one_below_it():
    cache = cache_of((1, 0), (4, 5))
    assert cache.end_of(3, 9) == OffsetAndEpoch(5, 1)
    assert cache.end_of(7, 9) == OffsetAndEpoch(9, 4)


def test_an_epoch_below_all_that_are_known_ends_where_the_first_begins():
    assert cache_of((3, 5), (4, 8)).end_of(1, 9) == OffsetAndEpoch(5, 1)


def test_an_offset_before_the_first_entry_has_no_epoch():
    cache = cache_of((3, 5), (4, 8))
    assert [cache.epoch_at(offset) for offset in (4, 5, 7, 8)] == [None, 3, 3, 4]


def test_truncation_drops_entries_that_start_at_the_cut():
    cache = cache_of((0, 0), (1, 4), (2, 8))
    assert cache.truncate_from_end(4)
    assert cache.entries() == list(entries((0, 0)))
    assert not cache.truncate_from_end(4)


def test_an_idle_entry_goes_with_a_truncation_to_the_log_end():
    cache = cache_of((0, 0), (5, 8))
    assert cache.truncate_from_end(8)
    assert cache.entries() == list(entries((0, 0)))


def test_the_entry_that_covers_the_log_start_begins_there_then():
    cache = cache_of((0, 0), (1, 4), (2, 8))
    assert cache.truncate_from_start(6)
    assert cache.entries() == list(entries((1, 6), (2, 8)))
    assert not cache.truncate_from_start(6)
    assert not cache.truncate_from_start(5)


def test_an_entry_that_begins_at_the_log_start_only_loses_those_before_it():
    cache = cache_of((0, 0), (1, 4))
    assert cache.truncate_from_start(4)
    assert cache.entries() == list(entries((1, 4)))


def test_starts_after_looks_at_the_last_entry():
    cache = cache_of((0, 0), (2, 8))
    assert cache.starts_after(7)
    assert not cache.starts_after(8)


def test_caches_are_equal_when_their_entries_are_and_show_them():
    assert cache_of((0, 0)) == cache_of((0, 0))
    assert cache_of((0, 0)) != cache_of((0, 1))
    assert cache_of() != entries()
    assert repr(cache_of((0, 3))) == f"EpochCache([{EpochEntry(0, 3)!r}])"


class NaiveEpochs:
    """The same, from a list of (offset, epoch) of every record, and the epoch that leads."""

    def __init__(self) -> None:
        self.records: list[tuple[int, int]] = []
        self.leading: tuple[int, int] | None = None  # (epoch, start)
        self.start = self.end = 0

    @property
    def starts(self) -> list[tuple[int, int]]:
        found: dict[int, int] = {}
        for offset, epoch in self.records:
            found.setdefault(epoch, offset)
        if self.leading is not None:
            found.setdefault(*self.leading)
        return sorted(found.items())

    @property
    def latest(self) -> int:
        return max((epoch for epoch, _ in self.starts), default=-1)

    def append(self, epoch: int) -> None:
        self.records.append((self.end, epoch))
        self.end += 1
        self.leading = None

    def lead(self, epoch: int) -> None:
        if epoch > self.latest:
            self.leading = (epoch, self.end)

    def cut_end(self, offset: int) -> None:
        self.records = [record for record in self.records if record[0] < offset]
        if self.leading is not None and self.leading[1] >= offset:
            self.leading = None
        self.end = min(self.end, offset)

    def cut_start(self, offset: int) -> None:
        latest = self.latest
        self.records = [record for record in self.records if record[0] >= offset]
        if not self.records and latest >= 0:
            self.leading = (latest, offset)
        self.start = offset

    def end_of(self, epoch: int) -> OffsetAndEpoch | None:
        known = [e for e, _ in self.starts]
        if not known:
            return None
        below = [e for e in known if e <= epoch]
        chosen = max(below) if below else epoch
        after = [start for e, start in self.starts if e > chosen]
        return OffsetAndEpoch(min(after, default=self.end), chosen)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "lead", "cut_end", "cut_start"]),
        st.integers(min_value=0, max_value=3),
        st.floats(min_value=0, max_value=1),
    ),
    max_size=40,
)


@given(OPERATIONS)
def test_it_agrees_with_a_list_of_all_records(operations):
    cache, naive = EpochCache(), NaiveEpochs()
    for kind, step, share in operations:
        epoch = max(0, naive.latest) + step
        offset = naive.start + round(share * (naive.end - naive.start))
        if kind == "append":
            if epoch > naive.latest:
                cache.assign(epoch, naive.end)
            naive.append(epoch)
        elif kind == "lead":
            cache.assign(epoch, naive.end)
            naive.lead(epoch)
        elif kind == "cut_end":
            cache.truncate_from_end(offset)
            naive.cut_end(offset)
        else:
            cache.truncate_from_start(offset)
            naive.cut_start(offset)
        assert [(e.leader_epoch, e.start_offset) for e in cache.entries()] == naive.starts
        assert not cache.starts_after(naive.end)
        for asked in range(naive.latest + 2):
            assert cache.end_of(asked, naive.end) == naive.end_of(asked)
        for record_offset, record_epoch in naive.records:
            assert cache.epoch_at(record_offset) == record_epoch
