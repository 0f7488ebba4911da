"""records.py, offsets_topic.py: Kafka's schema, and which group is where."""

from __future__ import annotations

import pytest

from minikafka.broker.coordinators.topic import java_hash, partition_for
from minikafka.broker.groups.records import decode, encode_batch, encode_key, encode_value
from minikafka.core.groups.effects import (
    GroupRecord,
    GroupSnapshot,
    MemberSnapshot,
    OffsetAndMetadata,
    OffsetRecord,
)
from minikafka.errors import CorruptMessageError, MessageTooLargeError
from minikafka.model import TopicPartition
from minikafka.records.header import is_transactional, split
from minikafka.records.read import iter_records

OFFSET_VALUE = OffsetAndMetadata(7, 2, "m", 9)
OFFSET = OffsetRecord("g", TopicPartition("t", 3), OFFSET_VALUE)
MEMBER = MemberSnapshot("m", "i", "c", "h", 60, 10, b"sub", b"as")
GROUP = GroupRecord("g", GroupSnapshot("consumer", 4, "range", "m", 11, (MEMBER,)))


def test_an_offset_is_written_as_kafka_writes_it() -> None:
    assert encode_key(OFFSET).hex() == "0001" + "000167" + "000174" + "00000003"
    assert encode_value(OFFSET) == bytes.fromhex(
        "0003" + "0000000000000007" + "00000002" + "00016d" + "0000000000000009"
    )


def test_a_group_is_written_as_kafka_writes_it() -> None:
    assert encode_key(GROUP).hex() == "0002" + "000167"
    expected = (
        b"\0\3" + b"\0\x08consumer" + b"\0\0\0\4" + b"\0\5range" + b"\0\1m"
        + (11).to_bytes(8, "big") + b"\0\0\0\1" + b"\0\1m" + b"\0\1i" + b"\0\1c" + b"\0\1h"
        + b"\0\0\0\x3c" + b"\0\0\0\x0a" + b"\0\0\0\3sub" + b"\0\0\0\2as"
    )  # fmt: skip
    assert encode_value(GROUP) == expected


@pytest.mark.parametrize(
    "record",
    [
        OFFSET,
        GROUP,
        OffsetRecord("g", TopicPartition("t", 3), None),
        GroupRecord("g", None),
        GroupRecord("g", GroupSnapshot("", 1, None, None, -1, ())),
        GroupRecord("ü", GroupSnapshot("x", 1, None, None, 5, (
            MemberSnapshot("m", None, "", "", 1, 2, b"", b""),
        ))),
    ],
)  # fmt: skip
def test_what_is_written_is_read_again(record: OffsetRecord | GroupRecord) -> None:
    batch = encode_batch([record], 5)
    [header] = split(batch)
    [written] = iter_records(batch, header)
    assert written.timestamp_ms == 5
    assert decode(written.key, written.value) == record


def test_what_is_read_knows_where_it_lies() -> None:
    found = decode(encode_key(OFFSET), encode_value(OFFSET), 17)
    assert found == OffsetRecord("g", TopicPartition("t", 3), OFFSET_VALUE.at(17))
    assert found != OFFSET


def test_offsets_of_a_transaction_are_a_batch_of_its_producer_without_a_sequence() -> None:
    [header] = split(encode_batch([OFFSET, OFFSET], 5, (7, 3)))
    assert is_transactional(header)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 3, -1)
    [plain] = split(encode_batch([OFFSET], 5))
    assert not is_transactional(plain)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0000000000000000000700016d0000000000000009", OffsetAndMetadata(7, -1, "m", 9)),
        (
            "0001000000000000000700016d0000000000000009000000000000000a",
            OffsetAndMetadata(7, -1, "m", 9, 10),
        ),
        ("0002000000000000000700016d0000000000000009", OffsetAndMetadata(7, -1, "m", 9)),
    ],
)
def test_older_values_of_offsets_are_read(value: str, expected: OffsetAndMetadata) -> None:
    record = decode(b"\0\0" + encode_key(OFFSET)[2:], bytes.fromhex(value))
    assert record == OffsetRecord("g", TopicPartition("t", 3), expected)


def test_older_values_of_groups_are_read() -> None:
    head = b"\0\x08consumer" + b"\0\0\0\4" + b"\0\5range" + b"\0\1m"
    names = b"\0\1m" + b"\0\1c" + b"\0\1h"
    rest = b"\0\0\0\x0a" + b"\0\0\0\3sub" + b"\0\0\0\2as"
    value = b"\0\0" + head + b"\0\0\0\1" + names + rest
    first = MemberSnapshot("m", None, "c", "h", 10, 10, b"sub", b"as")
    assert decode(encode_key(GROUP), value) == GroupRecord(
        "g", GroupSnapshot("consumer", 4, "range", "m", -1, (first,))
    )
    value = b"\0\2" + head + (11).to_bytes(8, "big") + b"\0\0\0\1" + names + b"\0\0\0\x3c" + rest
    later = MemberSnapshot("m", None, "c", "h", 60, 10, b"sub", b"as")
    assert decode(encode_key(GROUP), value) == GroupRecord(
        "g", GroupSnapshot("consumer", 4, "range", "m", 11, (later,))
    )


def test_a_kind_of_record_that_is_not_known_is_no_record() -> None:
    assert decode(b"\0\x09whatever", b"x") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [(None, b""), (b"\0\2\0\x09g", b""), (encode_key(OFFSET), b"\0\7"), (encode_key(GROUP), b"\0")],
)
def test_a_damaged_record_is_refused(key: bytes | None, value: bytes) -> None:
    with pytest.raises(CorruptMessageError, match="__consumer_offsets"):
        decode(key, value)


def test_a_text_that_the_format_cannot_hold_is_refused() -> None:
    with pytest.raises(MessageTooLargeError):
        encode_key(GroupRecord("g" * 32768, None))


@pytest.mark.parametrize(
    ("text", "hashed"),
    [("", 0), ("a", 97), ("group", 98629247), ("polygenelubricants", -(2**31)), ("ü😀", 2015071)],
)
def test_the_hash_of_a_group_id_is_javas(text: str, hashed: int) -> None:
    assert java_hash(text) == hashed


def test_the_partition_of_a_group_is_kafkas() -> None:
    assert partition_for("group", 50) == 98629247 % 50
    assert partition_for("polygenelubricants", 50) == 0
    negative = next(f"g{n}" for n in range(10**6) if java_hash(f"g{n}") < 0 or n > 10**5)
    assert 0 <= partition_for(negative, 50) < 50
