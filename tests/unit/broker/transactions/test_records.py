"""broker/transactions/records.py: Kafka's schema of `__transaction_state`.

KAFKA has the bytes that Apache Kafka 4.3.1 wrote of these values (TransactionLog, and its generated
TransactionLogValue).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from minikafka.broker.transactions.records import (
    decode,
    encode_batch,
    encode_key,
    encode_value,
)
from minikafka.core.transactions.values import (
    TransactionRecord,
    TransactionState,
    TransactionValue,
    TransactionVersion,
)
from minikafka.errors import CorruptMessageError, MessageTooLargeError
from minikafka.model import TopicPartition
from minikafka.records.header import split
from minikafka.records.read import iter_records

KEY = "0000000566c3bcc3bc"
EMPTY = TransactionValue(7, 3, 60_000, TransactionState.EMPTY, frozenset(), 1_111)
PREPARE = TransactionValue(
    2**40,
    32_767,
    1,
    TransactionState.PREPARE_COMMIT,
    frozenset(
        {
            TopicPartition("t", 300),
            TopicPartition("__consumer_offsets", 49),
            TopicPartition("t", 0),
        }
    ),
    1_764_000_000_000,
    1_763_999_999_000,
)
TAGGED = replace(
    PREPARE,
    previous_producer_id=5,
    next_producer_id=2**40 + 1,
    version=TransactionVersion.TV2,
)
WITH_LAST = replace(TAGGED, last_epoch=32_766)
COMPLETE = TransactionValue(9, 1, 5, TransactionState.COMPLETE_ABORT, frozenset(), 2, 1)
TIMES = "0000019ab697e8000000019ab697e418"
PLAIN_OF_PREPARE = (
    "000000000100000000007fff000000010200000002" + "0012" + b"__consumer_offsets".hex()
    + "0000000100000031" + "000174" + "00000002000000000000012c" + TIMES
)  # fmt: skip
OF_PREPARE = (
    "000100000100000000007fff000000010203" + "13" + b"__consumer_offsets".hex()
    + "020000003100" + "0274" + "03000000000000012c00" + TIMES
)  # fmt: skip
TAGS = "00080000000000000005" + "01080000010000000001" + "02020002"
KAFKA = {
    "empty": (EMPTY, "0001000000000000000700030000ea6000000000000000000457ffffffffffffffff00"),
    "prepare": (TAGGED, OF_PREPARE + "03" + TAGS),
    "with a tag that Kafka does not know": (
        WITH_LAST, OF_PREPARE + "04" + TAGS + "e807" + "027ffe",
    ),
    "complete": (
        COMPLETE, "0001000000000000000900010000000505010000000000000002000000000000000100",
    ),
}  # fmt: skip
KAFKA_0 = {
    "empty": (EMPTY, "0000000000000000000700030000ea6000ffffffff0000000000000457ffffffffffffffff"),
    "prepare": (PREPARE, PLAIN_OF_PREPARE),
}


def read(value: str) -> TransactionValue | None:
    record = decode(bytes.fromhex(KEY), bytes.fromhex(value))
    assert record is not None
    assert record.transactional_id == "füü"
    return record.value


@pytest.mark.parametrize(("value", "data"), KAFKA.values(), ids=KAFKA)
def test_what_is_written_is_what_kafka_writes(value: TransactionValue, data: str) -> None:
    record = TransactionRecord("füü", value)
    assert encode_key(record).hex() == KEY
    encoded = encode_value(record)
    assert encoded is not None
    assert encoded.hex() == data
    assert read(data) == value


@pytest.mark.parametrize(("value", "data"), KAFKA_0.values(), ids=KAFKA_0)
def test_the_first_version_is_read(value: TransactionValue, data: str) -> None:
    assert read(data) == value


def test_tags_that_are_not_known_are_passed_over() -> None:
    """Kafka 4.3 wrote its tag 3, the epoch of the next producer id."""
    assert read(
        "000100000000000000090001000000050501000000000000000200000000000000010103020004"
    ) == (COMPLETE)


def test_a_version_of_the_protocol_between_ours_keeps_its_epoch() -> None:
    head = "0001000000000000000900010000000505010000000000000002000000000000000101"
    assert read(head + "02020001") == COMPLETE
    assert read(head + "02020003") == replace(COMPLETE, version=TransactionVersion.TV2)


def test_a_batch_is_read_again() -> None:
    records = [
        TransactionRecord("a", EMPTY),
        TransactionRecord("b", None),
        TransactionRecord("a" * 300, WITH_LAST),
        TransactionRecord("c", replace(PREPARE, partitions=frozenset({
            TopicPartition("x" * 200, 1),
        }))),
    ]  # fmt: skip
    batch = encode_batch(records, 5)
    [header] = split(batch)
    stored = list(iter_records(batch, header))
    assert [decode(each.key, each.value) for each in stored] == records
    assert {each.timestamp_ms for each in stored} == {5}
    assert stored[1].value is None


def test_a_kind_of_record_that_is_not_known_is_no_record() -> None:
    assert decode(b"\0\1\0\1a", b"") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", "00"),
        ("00", None),
        ("00000003", None),
        (KEY, ""),
        (KEY, "0002"),
        (KEY, KAFKA["prepare"][1][:-2]),
        (KEY, KAFKA["empty"][1][:-2]),
        (KEY, "0001000000000000000700030000ea6006000000000000000457ffffffffffffffff00"),
        (KEY, "0001000000000000000700030000ea6001ffffffffffff"),
        (KEY, KAFKA["empty"][1][:-2] + "01" + "0003000102"),
    ],
)
def test_what_cannot_be_read_is_said_to_be_so(key: str, value: str | None) -> None:
    with pytest.raises(CorruptMessageError, match="a record of __transaction_state"):
        decode(bytes.fromhex(key), None if value is None else bytes.fromhex(value))


def test_an_id_that_is_longer_than_the_format_has_is_refused() -> None:
    with pytest.raises(MessageTooLargeError):
        encode_batch([TransactionRecord("x" * 40_000, None)], 0)
