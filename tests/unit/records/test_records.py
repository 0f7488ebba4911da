"""Building and reading batches: round trips, limits of varints, malformed input."""

from __future__ import annotations

import contextlib
from struct import Struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.errors import CorruptMessageError, InvalidRecordError
from minikafka.records.build import BatchBuilder, encode_varint, record_size_bound
from minikafka.records.compression import Codec
from minikafka.records.header import (
    HEADER_BYTES,
    TIMESTAMP_TYPE_LOG_APPEND,
    parse_header,
    stamp,
    verify_crc,
)
from minikafka.records.read import Record, iter_records
from tests.helpers.amounts import amount

_OPTIONAL_BYTES = st.none() | st.binary(max_size=200)
_RECORDS = st.lists(
    st.tuples(
        _OPTIONAL_BYTES,
        _OPTIONAL_BYTES,
        st.lists(st.tuples(st.text(max_size=10), _OPTIONAL_BYTES), max_size=3),
        st.integers(-1, 2**62),
    ),
    min_size=1,
    max_size=30,
)


def built(records: list[tuple], codec: Codec = Codec.NONE) -> bytes:
    builder = BatchBuilder()
    for record in records:
        builder.append(*record)
    return builder.build(codec)


def read(batch: bytes) -> list[Record]:
    return list(iter_records(batch, parse_header(batch)))


@given(_RECORDS, st.sampled_from(Codec), st.integers(0, 2**62))
@settings(max_examples=amount(200), deadline=None)
def test_what_is_built_is_read_back(records: list[tuple], codec: Codec, base_offset: int) -> None:
    data = built(records, codec)
    data = stamp(base_offset, len(data), 3) + data[16:]
    header = parse_header(data)
    verify_crc(data, 0, header)
    assert header.max_timestamp_ms == max(timestamp_ms for *_, timestamp_ms in records)
    assert header.base_timestamp_ms == records[0][3]
    assert header.attributes == codec
    assert list(iter_records(memoryview(data), header)) == [
        Record(base_offset + index, timestamp_ms, key, value, tuple(headers))
        for index, (key, value, headers, timestamp_ms) in enumerate(records)
    ]


@pytest.mark.parametrize("length", [0, 1, 63, 64, 127, 128, 8191, 8192, 8193, 20000, 1 << 20])
def test_every_length_of_varint_works_for_keys_and_values(length: int) -> None:
    records = [(b"k" * length, b"v" * length, (), 0), (None, b"v" * length, (), length)]
    assert [(record.key, record.value) for record in read(built(records))] == [
        (key, value) for key, value, *_ in records
    ]


def test_more_records_than_a_two_byte_varint_counts() -> None:
    data = built([(None, b"", (), 5)] * 9000)
    assert [record.offset for record in read(data)] == list(range(9000))


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_are_those_of_protocol_buffers_sint64(value: int) -> None:
    encoded = encode_varint(value)
    zigzag = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(encoded))
    assert (zigzag >> 1) ^ -(zigzag & 1) == value
    assert all(byte & 0x80 for byte in encoded[:-1])
    assert not encoded[-1] & 0x80
    assert len(encoded) <= 10


@given(_RECORDS)
def test_the_size_is_exact_and_the_bound_is_one(records: list[tuple]) -> None:
    builder = BatchBuilder()
    for key, value, headers, timestamp_ms in records:
        before = builder.size_bytes
        builder.append(key, value, headers, timestamp_ms)
        assert builder.size_bytes - before <= record_size_bound(key, value, headers)
    assert builder.size_bytes == len(builder.build())


def test_an_empty_batch_is_not_built() -> None:
    with pytest.raises(InvalidRecordError, match="at least one"):
        BatchBuilder().build()


def test_log_append_time_overrides_the_producers_timestamps() -> None:
    data = built([(None, b"a", (), 5), (None, b"b", (), 9)])
    header = parse_header(data)
    header = header._replace(attributes=TIMESTAMP_TYPE_LOG_APPEND, max_timestamp_ms=77)
    assert [record.timestamp_ms for record in iter_records(data, header)] == [77, 77]


def with_body(body: bytes, count: int = 1) -> bytes:
    """A batch of `count` records whose encoded records are `body`, with offsets up to 1."""
    data = bytearray(built([(None, b"x", (), 0)] * 2)[:HEADER_BYTES] + body)
    Struct(">i").pack_into(data, 8, len(data) - 12)
    Struct(">i").pack_into(data, 57, count)
    return bytes(data)


GOOD = bytes.fromhex("0e 00 00 00 01 02 76 00")


def test_a_good_body_is_read() -> None:
    assert read(with_body(GOOD)) == [Record(0, 0, None, b"v", ())]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b"", 1),  # nothing
        (GOOD, 2),  # fewer than promised
        (GOOD, 2**31 - 1),
        (GOOD + b"\x00", 1),  # more than promised
        (GOOD * 2, 1),
        (b"\x0f" + GOOD[1:], 1),  # negative length
        (b"\x00" + GOOD[1:], 1),
        (b"\x02\x00", 1),  # a record of nothing but attributes
        (b"\x0c" + GOOD[1:], 1),  # one byte short
        (b"\x10" + GOOD[1:] + b"\x00", 1),  # one byte over
        (b"\xfe\xff\xff\xff\x0f" + GOOD[1:], 1),  # 2 GiB
        (b"\xff" * 11, 1),  # an endless varint
        (bytes.fromhex("0e 00 00 00 05 02 76 00"), 1),  # key of length -3
        (bytes.fromhex("0e 00 00 00 01 03 76 00"), 1),  # value of length -2
        (bytes.fromhex("0e 00 00 00 01 fe 76 00"), 1),  # value beyond the record
        (bytes.fromhex("0e 00 00 04 01 02 76 00"), 1),  # offset delta above the batch's
        (bytes.fromhex("0e 00 00 01 01 02 76 00"), 1),  # offset delta below 0
        (bytes.fromhex("0e 00 00 00 01 02 76 01"), 1),  # -1 headers
        (bytes.fromhex("0e 00 00 00 01 02 76 02"), 1),  # a header that is not there
        (bytes.fromhex("12 00 00 00 01 02 76 02 01 01"), 1),  # header without a key
        (bytes.fromhex("14 00 00 00 01 02 76 02 02 ff 01"), 1),  # header key not UTF-8
        (bytes.fromhex("14 00 00 00 01 02 76 02 02 68 03"), 1),  # header value of length -2
        (bytes.fromhex("14 00 00 00 01 02 76 fe ff ff 0f"), 1),  # very many headers
    ],
)
def test_a_malformed_record_is_corrupt(body: bytes, count: int) -> None:
    with pytest.raises(CorruptMessageError, match="malformed record"):
        read(with_body(body, count))


@given(_RECORDS, st.sampled_from(Codec), st.data())
@settings(max_examples=amount(300), deadline=None)
def test_damaged_batches_raise_only_what_is_promised(
    records: list[tuple], codec: Codec, data: st.DataObject
) -> None:
    batch = bytearray(built(records, codec))
    for _ in range(data.draw(st.integers(1, 4))):
        batch[data.draw(st.integers(HEADER_BYTES, len(batch) - 1))] = data.draw(st.integers(0, 255))
    header = parse_header(batch)
    with contextlib.suppress(CorruptMessageError):
        assert len(list(iter_records(batch, header))) == header.record_count
