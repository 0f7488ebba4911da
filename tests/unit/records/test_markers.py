"""Transaction markers: built, read again, and found among other batches."""

from __future__ import annotations

import pytest

from minikafka.errors import CorruptMessageError
from minikafka.model import NO_MARKERS, EndMarker
from minikafka.records.build import BatchBuilder
from minikafka.records.compact import empty_batch
from minikafka.records.header import (
    is_control,
    is_transactional,
    parse_header,
    split,
    stamp,
    verify_crc,
)
from minikafka.records.markers import build_marker, markers_in, read_marker


def at_offset(batch: bytes, offset: int) -> bytes:
    return stamp(offset, len(batch), 0) + batch[16:]


@pytest.mark.parametrize("marker", [EndMarker(True, 0), EndMarker(False, 7)])
def test_a_marker_is_read_as_it_was_built(marker):
    batch = build_marker(5, 3, marker, 1_000)
    header = parse_header(batch)
    verify_crc(batch, 0, header)
    assert len(batch) == 78
    assert is_control(header)
    assert is_transactional(header)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (5, 3, -1)
    assert (header.record_count, header.max_timestamp_ms) == (1, 1_000)
    assert read_marker(batch, header) == marker


def test_the_bytes_of_an_abort_are_those_of_kafka():
    """Key and value as `EndTransactionMarker` of Apache Kafka writes them."""
    batch = build_marker(5, 3, EndMarker(False, 258), 1_000)
    assert batch[61:].hex() == "2000000008000000000c00000000010200"


def test_a_marker_that_has_lost_its_record_says_nothing():
    batch = build_marker(5, 3, EndMarker(True, 0), 1_000)
    emptied = empty_batch(parse_header(batch))
    header = parse_header(emptied)
    assert is_control(header)
    assert read_marker(emptied, header) is None


def control_batch(key: bytes | None, value: bytes | None) -> bytes:
    builder = BatchBuilder()
    builder.append(key, value)
    return builder.build(control=True)


def test_another_control_batch_is_no_marker():
    batch = control_batch(b"\x00\x00\x00\x02", b"leader change")
    assert read_marker(batch, parse_header(batch)) is None


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (None, None, "does not say what it is"),
        (b"\x00", None, "does not say what it is"),
        (b"\x00\x00\x00\x01", None, "names no coordinator epoch"),
        (b"\x00\x00\x00\x00", b"\x00\x00", "names no coordinator epoch"),
    ],
)
def test_a_record_that_is_none_of_a_marker_is_damage(key, value, why):
    batch = control_batch(key, value)
    with pytest.raises(CorruptMessageError, match=why):
        read_marker(batch, parse_header(batch))


def records() -> bytes:
    builder = BatchBuilder()
    builder.append(None, b"x")
    return builder.build()


def test_markers_are_found_by_their_offsets_wherever_they_lie():
    aborted = at_offset(build_marker(5, 3, EndMarker(False, 1), 0), 11)
    committed = at_offset(build_marker(6, 0, EndMarker(True, 2), 0), 13)
    other = at_offset(control_batch(b"\x00\x00\x00\x04", b""), 14)
    data = b"".join((at_offset(records(), 10), aborted, at_offset(records(), 12), committed, other))
    expected = {11: EndMarker(False, 1), 13: EndMarker(True, 2)}
    assert markers_in([data], split(data)) == expected
    assert markers_in([data[:100], data[100:]], split(data)) == expected


def test_where_there_is_no_control_batch_nothing_is_looked_into():
    data = records()
    assert markers_in([b"not looked at"], split(data)) is NO_MARKERS
