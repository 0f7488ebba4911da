"""Taking records out of batches: what stays is as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.errors import CorruptMessageError
from minikafka.model import BatchHeader
from minikafka.records.build import BatchBuilder
from minikafka.records.compact import empty_batch, filler_batch, filter_batch
from minikafka.records.compression import Codec
from minikafka.records.header import (
    DELETE_HORIZON,
    STAMP_BYTES,
    TIMESTAMP_TYPE_LOG_APPEND,
    delete_horizon_ms,
    parse_header,
    split,
    stamp,
    verify_crc,
)
from minikafka.records.read import Record, decompressed, iter_keys, iter_records

HORIZON_MS = 5_000_000
CODECS = list(Codec)


def batch_of(
    records: list[tuple[int, bytes | None, bytes | None]], codec: int = 0, base_offset: int = 100
) -> bytes:
    """A batch of (timestamp, key, value), each with a header, as it stands in a log."""
    builder = BatchBuilder()
    for timestamp_ms, key, value in records:
        builder.append(key, value, [("name", b"content")], timestamp_ms)
    data = builder.build(Codec(codec), 7, 3, 11)
    return stamp(base_offset, len(data), 4) + data[STAMP_BYTES:]


def read(batch: bytes) -> tuple[BatchHeader, list[Record]]:
    [header] = split(batch)
    verify_crc(batch, 0, header)
    return header, list(iter_records(batch, header))


def compacted(batch: bytes, offsets: set[int], is_marker: bool = False) -> bytes | None:
    result = filter_batch(
        batch,
        parse_header(batch),
        lambda record: record.offset in offsets,
        HORIZON_MS,
        is_marker=is_marker,
    )
    return None if result is None else bytes(result)


THREE = [(1000, b"a", b"1"), (1200, b"b", b"2"), (1100, b"c", b"3")]


@pytest.mark.parametrize("codec", CODECS)
def test_records_that_stay_keep_offset_timestamp_headers_and_the_batch_its_fields(
    codec: Codec,
) -> None:
    batch = batch_of(THREE, codec)
    before, records = read(batch)
    result = compacted(batch, {100, 102})
    assert result is not None
    after, kept = read(result)
    assert kept == [records[0], records[2]]
    assert after == before._replace(
        size_bytes=after.size_bytes, crc=after.crc, max_timestamp_ms=1100, record_count=2
    )
    assert (after.producer_id, after.producer_epoch, after.base_sequence) == (7, 3, 11)
    assert (after.base_offset, after.last_offset, after.leader_epoch) == (100, 102, 4)


def test_a_batch_that_loses_nothing_is_the_same_object() -> None:
    batch = batch_of(THREE)
    keep_all = filter_batch(batch, parse_header(batch), lambda record: True, HORIZON_MS)
    assert keep_all is batch


def test_a_batch_that_loses_all_is_none() -> None:
    assert compacted(batch_of(THREE), set()) is None


@pytest.mark.parametrize("codec", CODECS)
def test_a_tombstone_gets_a_delete_horizon_once_and_timestamps_stay(codec: Codec) -> None:
    batch = batch_of([(1000, b"a", b"1"), (1200, b"b", None)], codec)
    _, records = read(batch)
    first = compacted(batch, {100, 101})
    assert first is not None
    header, kept = read(first)
    assert kept == records
    assert header.attributes == codec | DELETE_HORIZON
    assert (delete_horizon_ms(header), header.max_timestamp_ms) == (HORIZON_MS, 1200)
    again = filter_batch(first, header, lambda record: True, 9 * HORIZON_MS)
    assert again is first
    only = compacted(first, {101})
    assert only is not None
    header, kept = read(only)
    assert kept == records[1:]
    assert delete_horizon_ms(header) == HORIZON_MS


def test_a_batch_without_tombstones_gets_no_horizon_unless_it_is_a_marker() -> None:
    batch = batch_of(THREE)
    assert delete_horizon_ms(parse_header(batch)) is None
    marked = compacted(batch, {100, 101, 102}, is_marker=True)
    assert marked is not None
    header, records = read(marked)
    assert delete_horizon_ms(header) == HORIZON_MS
    assert records == read(batch)[1]


def test_the_time_of_appending_stays() -> None:
    batch = batch_of([(1000, b"a", b"1"), (2000, b"b", None)])
    header = parse_header(batch)
    header = header._replace(attributes=header.attributes | TIMESTAMP_TYPE_LOG_APPEND)
    result = filter_batch(batch, header, lambda record: record.offset == 101, HORIZON_MS)
    assert result is not None
    after, [record] = read(bytes(result))
    assert (after.max_timestamp_ms, record.timestamp_ms) == (2000, 2000)


def test_an_emptied_batch_is_a_header_that_says_where_the_log_goes_on() -> None:
    marked = compacted(batch_of([(1000, b"a", None)], Codec.ZSTD), {100})
    assert marked is not None
    header = parse_header(marked)
    empty = empty_batch(header)
    assert len(empty) == 61
    after, records = read(empty)
    assert records == []
    assert after == header._replace(
        size_bytes=61, crc=after.crc, attributes=0, base_timestamp_ms=-1, record_count=0
    )


def test_a_filler_covers_offsets_that_nobody_has_records_for() -> None:
    header, records = read(filler_batch(10, 15, 3))
    assert records == []
    assert (header.base_offset, header.next_offset, header.leader_epoch) == (10, 15, 3)
    assert (header.producer_id, header.max_timestamp_ms) == (-1, -1)


@given(
    records=st.lists(
        st.tuples(
            st.integers(0, 2**41), st.none() | st.binary(max_size=300), st.none() | st.binary()
        ),
        min_size=1,
        max_size=20,
    ),
    kept=st.sets(st.integers(100, 119)),
    codec=st.sampled_from(CODECS),
)
def test_whatever_is_taken_out_the_rest_reads_as_before(
    records: list[tuple[int, bytes | None, bytes | None]], kept: set[int], codec: Codec
) -> None:
    batch = batch_of(records, codec)
    before, all_records = read(batch)
    expected = [record for record in all_records if record.offset in kept]
    result = compacted(batch, kept)
    if result is None:
        assert expected == []
        return
    header, found = read(result)
    assert found == expected
    assert (header.base_offset, header.last_offset) == (before.base_offset, before.last_offset)
    assert header.max_timestamp_ms == max(record.timestamp_ms for record in expected)


@given(
    records=st.lists(
        st.tuples(
            st.integers(0, 2**41), st.none() | st.binary(max_size=99), st.none() | st.binary()
        ),
        min_size=1,
        max_size=8,
    )
)
def test_keys_are_those_of_the_records(
    records: list[tuple[int, bytes | None, bytes | None]],
) -> None:
    batch = batch_of(records)
    header, expected = read(batch)
    found = list(iter_keys(decompressed(batch, header), header))
    assert [(each.offset, each.timestamp_ms, each.key, each.tombstone) for each in found] == [
        (each.offset, each.timestamp_ms, each.key, each.value is None) for each in expected
    ]


@given(st.binary(max_size=80), st.integers(0, 5))
def test_records_that_cannot_be_read_are_corrupt(data: bytes, count: int) -> None:
    header = parse_header(batch_of(THREE))._replace(record_count=count)
    try:
        found = list(iter_keys(data, header))
    except CorruptMessageError:
        return
    assert len(found) == count
