"""A record is found by its time, whatever codec it is in, and however many there are."""

from __future__ import annotations

import random

import pytest

from minikafka.errors import CorruptMessageError
from minikafka.records.build import BatchBuilder
from minikafka.records.compact import filter_batch
from minikafka.records.compression import Codec
from minikafka.records.header import TIMESTAMP_TYPE_LOG_APPEND, parse_header, restated, stamp
from minikafka.records.read import iter_records
from minikafka.records.seek import Found, first_from, newest_of

BASE = 40


def build(times: list[int], codec: Codec = Codec.NONE, value: bytes = b"v") -> bytes:
    builder = BatchBuilder()
    for timestamp_ms in times:
        builder.append(b"k", value, (), timestamp_ms)
    batch = builder.build(codec)
    return stamp(BASE, len(batch), 1) + batch[16:]


def first(batch: bytes, timestamp_ms: int, from_offset: int = 0) -> Found | None:
    return first_from(batch, parse_header(batch), timestamp_ms, from_offset)


def newest(batch: bytes, from_offset: int = 0) -> Found | None:
    return newest_of(batch, parse_header(batch), from_offset)


@pytest.mark.parametrize("codec", list(Codec))
def test_the_first_record_at_or_after_a_time(codec: Codec) -> None:
    batch = build([100, 300, 200, 300], codec)
    assert first(batch, 0) == first(batch, 100) == (40, 100)
    assert first(batch, 101) == first(batch, 300) == (41, 300)
    assert first(batch, 101, from_offset=42) == (42, 200)
    assert first(batch, 201, from_offset=42) == (43, 300)
    assert first(batch, 301) is None
    assert first(batch, 0, from_offset=44) is None


@pytest.mark.parametrize("codec", list(Codec))
def test_the_first_record_with_the_largest_time(codec: Codec) -> None:
    batch = build([100, 300, 200, 300], codec)
    assert newest(batch) == (41, 300)
    assert newest(batch, from_offset=42) == (43, 300)
    assert newest(build([-1, -1], codec)) is None


def test_records_without_a_time_are_at_none() -> None:
    assert first(build([-1, 5, -1]), 0) == (41, 5)


@pytest.mark.parametrize("least", [0, 999, 1_000, 2_400])
def test_more_records_are_late_than_are_named(least: int) -> None:
    batch = build([*range(2_500)])
    assert first(batch, 0, BASE + least) == (BASE + least, least)


def test_records_over_many_pieces() -> None:
    draw = random.Random(3)
    times = [draw.randrange(10**6) for _ in range(300)]
    batch = build(times, Codec.ZSTD, bytes(20_000))
    for wanted in (0, 500_000, 900_000, max(times)):
        place = next(index for index, each in enumerate(times) if each >= wanted)
        assert first(batch, wanted) == (BASE + place, times[place])
    assert newest(batch) == (BASE + times.index(max(times)), max(times))


def test_a_batch_of_which_compaction_has_left_some() -> None:
    whole = build([100, 300, 200, 250])
    batch = bytes(
        filter_batch(whole, parse_header(whole), lambda record: record.offset != 41, 0) or b""
    )
    assert first(batch, 150) == (42, 200)
    assert newest(batch) == (43, 250)
    assert newest(batch, from_offset=44) is None
    assert first(batch, 900) is None


def test_the_time_of_appending_is_that_of_every_record() -> None:
    whole = build([100, 300])
    header = parse_header(whole)
    changed, fields = restated(header, TIMESTAMP_TYPE_LOG_APPEND, 777, whole[61:])
    batch = stamp(BASE, changed.size_bytes, 1) + fields + whole[61:]
    assert first(batch, 500) == (40, 777)
    assert first(batch, 500, from_offset=41) == (41, 777)
    assert first(batch, 500, from_offset=42) is None
    assert first(batch, 778) is None
    assert newest(batch) == (40, 777)
    assert newest(batch, from_offset=41) == (41, 777)


def test_records_that_cannot_be_read_are_corrupt() -> None:
    batch = build([1, 2])
    for spoilt in (batch[:-3], batch[:61] + b"\xff" * (len(batch) - 61)):
        for find in (lambda data: first(data, 2), newest):
            with pytest.raises(CorruptMessageError):
                find(spoilt)


def test_it_finds_what_reading_everything_finds() -> None:
    draw = random.Random(11)
    for _ in range(300):
        codec = draw.choice(list(Codec))
        batch = build([draw.randrange(-1, 20) for _ in range(draw.randrange(1, 12))], codec)
        records = list(iter_records(batch, parse_header(batch)))
        wanted, least = draw.randrange(20), BASE + draw.randrange(-1, 12)
        above = [record for record in records if record.offset >= least]
        late = [(r.offset, r.timestamp_ms) for r in above if r.timestamp_ms >= wanted]
        assert first(batch, wanted, least) == (late[0] if late else None)
        best = max(above, key=lambda r: r.timestamp_ms, default=None)
        known = best is not None and best.timestamp_ms >= 0
        assert newest(batch, least) == ((best.offset, best.timestamp_ms) if known else None)
