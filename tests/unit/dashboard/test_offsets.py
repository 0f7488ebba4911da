"""dashboard/offsets.py: samples of offsets, and rates from them."""

from __future__ import annotations

import pytest

from minikafka.dashboard.offsets import Offsets, Sample
from minikafka.model import TopicPartition
from tests.helpers.dashboard import sample

KEY = TopicPartition("orders", 0)
OTHER = TopicPartition("orders", 1)


def test_a_sample_is_kept_when_something_moved() -> None:
    offsets = Offsets()
    assert offsets.record(0, {KEY: sample(1, A=1), OTHER: sample(1, A=1)}) == [KEY, OTHER]
    assert offsets.record(500, {KEY: sample(1, A=1), OTHER: sample(2, A=2)}) == [OTHER]
    later = Sample(0, 1, 1, ((1, 1, 250),))
    assert offsets.record(1_000, {KEY: later}) == [], "a lag in time alone is no move"
    assert offsets.latest(KEY) == later


def test_a_series_shows_where_offsets_stood_still() -> None:
    offsets = Offsets()
    for at_ms, end in ((0, 1), (500, 1), (1_000, 1), (1_500, 5), (2_000, 5)):
        offsets.record(at_ms, {KEY: sample(end, A=end)})
    series = [(at_ms, each.log_end_offset) for at_ms, each in offsets.series(KEY)]
    assert series == [(0, 1), (1_000, 1), (1_500, 5), (2_000, 5)]
    assert offsets.series(OTHER) == []


def test_the_offsets_of_a_moment_are_the_last_ones_told_until_then() -> None:
    offsets = Offsets()
    offsets.record(1_000, {KEY: sample(1, A=1)})
    offsets.record(2_000, {KEY: sample(5, A=5)})
    assert offsets.at(999) == {}
    assert offsets.at(1_999)[KEY].log_end_offset == 1
    assert offsets.at(2_000)[KEY].log_end_offset == 5


def test_the_oldest_samples_are_forgotten() -> None:
    offsets = Offsets(limit=100)
    for at_ms in range(300):
        offsets.record(at_ms, {KEY: sample(at_ms, A=at_ms)})
    series = offsets.series(KEY)
    assert (len(series), series[0][0], series[-1][0]) == (100, 200, 299)


@pytest.mark.slow
def test_with_many_partitions_each_keeps_fewer() -> None:
    offsets = Offsets()
    keys = [TopicPartition("t", number) for number in range(2_000)]
    for at_ms in range(80):
        offsets.record(at_ms, {key: sample(at_ms, A=at_ms) for key in keys})
    assert len(offsets.series(keys[0])) == 60


def test_a_rate_is_of_the_last_seconds() -> None:
    offsets = Offsets()
    for at_ms in range(0, 10_001, 500):
        offsets.record(at_ms, {KEY: sample(at_ms * 2, A=at_ms * 2)})
    assert offsets.rate(KEY, 10_000) == 2_000
    assert offsets.rate(KEY, 20_000) == 0, "it has come to rest"
    assert offsets.rate(OTHER, 10_000) == 0


def test_one_sample_or_a_log_that_was_cut_has_no_rate() -> None:
    offsets = Offsets()
    offsets.record(1_000, {KEY: sample(50, A=50)})
    assert offsets.rate(KEY, 1_000) == 0
    offsets.record(1_500, {KEY: sample(40, A=40)})
    assert offsets.rate(KEY, 1_500) == 0


def test_a_deleted_topic_is_forgotten() -> None:
    offsets = Offsets()
    offsets.record(0, {KEY: sample(1, A=1), TopicPartition("other", 0): sample(1, A=1)})
    offsets.forget_topic("orders")
    assert list(offsets.now()) == [TopicPartition("other", 0)]
