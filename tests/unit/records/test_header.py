"""The v2 batch from outside: layout, CRC, splitting, stamping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.errors import CorruptMessageError, InvalidRecordError
from minikafka.model import BatchHeader
from minikafka.records.build import BatchBuilder
from minikafka.records.header import (
    CONTROL,
    HEADER_BYTES,
    STAMP_BYTES,
    TRANSACTIONAL,
    is_control,
    is_transactional,
    parse_header,
    split,
    stamp,
    verify_crc,
)

# Written by hand from the layout, field by field; the CRC by a separate bitwise CRC-32C below.
FIELDS_UNDER_CRC = bytes.fromhex(
    "0000"  # attributes: no codec, create time
    "00000001"  # last offset delta 1
    "000001890a5c8000"  # base timestamp
    "000001890a5c8005"  # max timestamp
    "000000000000002a"  # producer id 42
    "0007"  # producer epoch 7
    "00000064"  # base sequence 100
    "00000002"  # two records
    # record 0: length 8, attributes, timestamp delta 0, offset delta 0, key "k", value "v", none
    "10" "00" "00" "00" "02" "6b" "02" "76" "00"
    # record 1: length 13, attributes, delta 5, offset delta 1, key null, value "ab", header h=None
    "16" "00" "0a" "02" "01" "04" "6162" "02" "02" "68" "01"
)  # fmt: skip


def crc32c_bit_by_bit(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def hand_written() -> bytes:
    crc = crc32c_bit_by_bit(FIELDS_UNDER_CRC).to_bytes(4)
    rest = (7).to_bytes(4) + b"\x02" + crc + FIELDS_UNDER_CRC
    return (1234).to_bytes(8) + len(rest).to_bytes(4) + rest


def produced(count: int = 1, **options: int) -> bytes:
    builder = BatchBuilder()
    for _ in range(count):
        builder.append(None, b"v", (), 1000)
    return builder.build(**options)  # type: ignore[arg-type]


def patched(data: bytes, position: int, replacement: bytes) -> bytes:
    return data[:position] + replacement + data[position + len(replacement) :]


def test_the_reference_crc_agrees_with_the_published_check_value() -> None:
    assert crc32c_bit_by_bit(b"123456789") == 0xE3069283


def test_a_hand_written_batch_is_decoded_field_by_field() -> None:
    data = hand_written()
    header = parse_header(data)
    assert header == BatchHeader(
        base_offset=1234,
        size_bytes=len(data),
        leader_epoch=7,
        crc=crc32c_bit_by_bit(FIELDS_UNDER_CRC),
        attributes=0,
        last_offset_delta=1,
        base_timestamp_ms=0x1890A5C8000,
        max_timestamp_ms=0x1890A5C8005,
        producer_id=42,
        producer_epoch=7,
        base_sequence=100,
        record_count=2,
    )
    assert (header.last_offset, header.next_offset) == (1235, 1236)
    verify_crc(data, 0, header)


def test_the_builder_writes_the_hand_written_bytes() -> None:
    builder = BatchBuilder()
    builder.append(b"k", b"v", (), 0x1890A5C8000)
    builder.append(None, b"ab", [("h", None)], 0x1890A5C8005)
    data = builder.build(producer_id=42, producer_epoch=7, base_sequence=100)
    assert stamp(1234, len(data), 7) + data[STAMP_BYTES:] == hand_written()


def test_a_stamp_changes_offset_and_epoch_and_leaves_the_crc_right() -> None:
    data = produced(3)
    stamped = b"".join([stamp(99, len(data), 5), memoryview(data)[STAMP_BYTES:]])
    header = parse_header(stamped)
    assert (header.base_offset, header.leader_epoch, header.size_bytes) == (99, 5, len(data))
    verify_crc(stamped, 0, header)


@given(st.lists(st.integers(1, 5), max_size=6), st.sampled_from([bytes, bytearray, memoryview]))
def test_split_finds_every_batch_in_any_kind_of_buffer(counts: list[int], kind: type) -> None:
    batches = [produced(count) for count in counts]
    headers = split(kind(b"".join(batches)))
    assert [header.record_count for header in headers] == counts
    assert [header.size_bytes for header in headers] == [len(batch) for batch in batches]


@given(st.data())
def test_a_flipped_bit_under_the_crc_is_noticed(data: st.DataObject) -> None:
    batch = bytearray(produced(2))
    position = data.draw(st.integers(17, len(batch) - 1))
    batch[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptMessageError, match="CRC-32C"):
        verify_crc(batch, 0, parse_header(batch))


@pytest.mark.parametrize("size", range(1, HEADER_BYTES + 9))
def test_a_batch_that_is_cut_off_anywhere_is_corrupt(size: int) -> None:
    batch = produced()
    assert size < len(batch) or size >= HEADER_BYTES
    with pytest.raises(CorruptMessageError):
        split(produced() + batch[: min(size, len(batch) - 1)])


@pytest.mark.parametrize("magic", [0, 1, 3, 255])
def test_other_magics_are_refused_with_the_one_that_is_right(magic: int) -> None:
    with pytest.raises(CorruptMessageError, match="only 2 is supported"):
        split(patched(produced(), 16, bytes([magic])))


@pytest.mark.parametrize("length", [-1, 0, 48, -(2**31)])
def test_impossible_lengths_are_corrupt(length: int) -> None:
    with pytest.raises(CorruptMessageError, match="the least is 49"):
        split(patched(produced(), 8, length.to_bytes(4, signed=True)))


def test_a_huge_length_is_corrupt_and_allocates_nothing() -> None:
    with pytest.raises(CorruptMessageError, match="are there"):
        split(patched(produced(), 8, (2**31 - 1).to_bytes(4)))


@pytest.mark.parametrize(("position", "name"), [(23, "last offset delta"), (57, "record count")])
def test_negative_counts_are_invalid_records(position: int, name: str) -> None:
    with pytest.raises(InvalidRecordError, match=name):
        split(patched(produced(), position, b"\xff\xff\xff\xff"))


def test_attributes_tell_control_and_transactional_batches() -> None:
    header = parse_header(produced(control=True, transactional=True))
    assert header.attributes == CONTROL | TRANSACTIONAL
    assert is_control(header)
    assert is_transactional(header)
    plain = parse_header(produced())
    assert not is_control(plain)
    assert not is_transactional(plain)


@given(st.binary(max_size=200))
def test_garbage_never_does_more_than_raise(garbage: bytes) -> None:
    try:
        headers = split(garbage)
    except (CorruptMessageError, InvalidRecordError):
        return
    assert sum(header.size_bytes for header in headers) == len(garbage)
