"""What a producer says of a batch is held against its records, and told apart by Kafka's errors."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from struct import Struct

import cramjam
import lz4.frame
import pytest
import zstandard
from aiokafka.record.memory_records import MemoryRecords as IndependentReader

from minikafka.errors import (
    CorruptMessageError,
    InvalidRecordError,
    InvalidTimestampError,
    MessageTooLargeError,
    MinikafkaError,
    TransactionalIdAuthorizationFailedError,
)
from minikafka.records.build import BatchBuilder, encode_varint
from minikafka.records.check import CheckedBatch, RecordRules, checked, checked_header
from minikafka.records.compression import CHUNK_BYTES, Codec, DecompressedTooLargeError, compress
from minikafka.records.header import (
    DELETE_HORIZON,
    HEADER_BYTES,
    TIMESTAMP_TYPE_LOG_APPEND,
    TRANSACTIONAL,
    crc_of,
    parse_header,
    stamp,
    verify_crc,
)
from minikafka.records.read import iter_records
from tests.helpers.amounts import amount

NOW = 1_700_000_000_000
ANY = RecordRules(max_message_bytes=1 << 30, topic_partition="t-0")
PLACES = {
    "batch length": (8, ">i"),
    "magic": (16, ">b"),
    "attributes": (21, ">h"),
    "last offset delta": (23, ">i"),
    "base timestamp": (27, ">q"),
    "max timestamp": (35, ">q"),
    "producer id": (43, ">q"),
    "producer epoch": (51, ">h"),
    "base sequence": (53, ">i"),
    "record count": (57, ">i"),
}


def build(
    count: int = 3, codec: Codec = Codec.NONE, value: bytes = b"value", timestamp_ms: int = NOW
) -> bytes:
    builder = BatchBuilder()
    for index in range(count):
        builder.append(b"key", value, (), timestamp_ms + index)
    return builder.build(codec)


def lying(batch: bytes, **says: int) -> bytes:
    """The same batch with other words in its header, under a right CRC."""
    changed = bytearray(batch)
    for name, value in says.items():
        at, layout = PLACES[name.replace("_", " ")]
        Struct(layout).pack_into(changed, at, value)
    return recounted(changed)


def recounted(batch: bytearray) -> bytes:
    batch[17:21] = crc_of(batch, 0, len(batch)).to_bytes(4, "big")
    return bytes(batch)


def with_records(records: bytes, count: int, attributes: int = 0) -> bytes:
    batch = bytearray(lying(build(count), attributes=attributes)[:HEADER_BYTES] + records)
    batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
    return recounted(batch)


def check(batch: bytes, rules: RecordRules = ANY, max_bytes: int = 1 << 28) -> CheckedBatch:
    header = checked_header(batch, 0, rules)
    return checked(batch, 0, header, rules, NOW, max_bytes)


def stored(found: CheckedBatch, base_offset: int = 70) -> bytes:
    batch = b"".join((stamp(base_offset, found.header.size_bytes, 5), *found.pieces))
    header = parse_header(batch)
    verify_crc(batch, 0, header)
    assert header == found.header._replace(base_offset=base_offset, leader_epoch=5)
    return batch


def error_of(batch: bytes, rules: RecordRules = ANY) -> MinikafkaError:
    with pytest.raises(MinikafkaError) as raised:
        check(batch, rules)
    return raised.value


class TestWhatIsRight:
    @pytest.mark.parametrize("codec", list(Codec))
    @pytest.mark.parametrize("count", [1, 3, 500])
    def test_it_is_appended_byte_for_byte(self, codec: Codec, count: int) -> None:
        batch = build(count, codec)
        found = check(batch)
        assert stored(found)[12:] == stamp(0, len(batch), 5)[12:] + batch[16:]
        assert found.plain_bytes == len(build(count)) - HEADER_BYTES

    @pytest.mark.parametrize("codec", list(Codec))
    def test_batches_of_many_pieces_are_seen_to_their_end(self, codec: Codec) -> None:
        draw = random.Random(1)
        builder = BatchBuilder()
        for _ in range(40):
            builder.append(None, draw.randbytes(draw.randrange(200_000)), (), NOW)
        builder.append(None, bytes(3 * CHUNK_BYTES), (), NOW + 9)
        builder.append(b"last", None)
        batch = builder.build(codec)
        found = check(batch)
        assert found.header == parse_header(batch)
        assert found.plain_bytes > 6 * CHUNK_BYTES

    def test_records_without_a_timestamp_are_right(self) -> None:
        builder = BatchBuilder()
        builder.append(None, b"v")
        assert check(builder.build()).header.max_timestamp_ms == -1


class TestTheLargestTimestamp:
    @pytest.mark.parametrize("said", [-1, 0, 1, NOW + 1, NOW + 10**9, 2**63 - 1, -(2**63)])
    @pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])
    def test_is_that_of_the_records_whatever_the_header_says(self, said: int, codec: Codec) -> None:
        found = check(lying(build(3, codec), max_timestamp=said))
        assert found.header.max_timestamp_ms == NOW + 2
        assert stored(found)[21:] == build(3, codec)[21:]

    def test_is_none_where_the_records_have_none(self) -> None:
        builder = BatchBuilder()
        builder.append(None, b"v")
        assert check(lying(builder.build(), max_timestamp=0)).header.max_timestamp_ms == -1

    def test_is_the_brokers_where_the_topic_wants_that(self) -> None:
        rules = RecordRules(1 << 20, append_time=True, before_ms=0, after_ms=0)
        found = check(lying(build(timestamp_ms=5), max_timestamp=77), rules)
        assert found.header.max_timestamp_ms == NOW
        assert found.header.attributes == TIMESTAMP_TYPE_LOG_APPEND
        assert {r.timestamp_ms for r in iter_records(stored(found), found.header)} == {NOW}


class TestWhatAHeaderMayNotSay:
    @pytest.mark.parametrize(
        ("says", "words"),
        [
            ({"record_count": 0}, "counts 0 records; it must hold at least one"),
            ({"record_count": -1}, "counts -1 records"),
            ({"record_count": 2}, "counts 2 records over 3 offsets"),
            ({"record_count": 2**31 - 1}, "over 3 offsets"),
            ({"last_offset_delta": 7}, "counts 3 records over 8 offsets"),
            ({"last_offset_delta": -1}, "over 0 offsets"),
            ({"last_offset_delta": 2**31 - 1}, "over 2147483648 offsets"),
            ({"record_count": 2**31 - 1, "last_offset_delta": 2**31 - 2}, "and holds 3"),
            ({"record_count": 2, "last_offset_delta": 1}, "bytes follow the 2 records"),
            ({"record_count": 4, "last_offset_delta": 3}, "counts 4 records and holds 3"),
            ({"attributes": 0x20}, "only brokers write those"),
            ({"attributes": DELETE_HORIZON}, "only compaction gives one"),
            ({"attributes": 5}, "unknown codec 5; valid are 0 to 4"),
            ({"attributes": 7}, "unknown codec 7"),
            ({"producer_id": 5, "producer_epoch": 0, "base_sequence": -1}, "from 0"),
            ({"producer_id": 5, "producer_epoch": -1, "base_sequence": 0}, "from 0"),
            (
                {"attributes": 16, "producer_id": 5, "producer_epoch": 0, "base_sequence": -1},
                "from 0",
            ),
            ({"base_timestamp": 2**63 - 2}, "its timestamp is beyond 64 bits"),
        ],
    )
    def test_is_an_invalid_record(self, says: dict[str, int], words: str) -> None:
        error = error_of(lying(build(), **says))
        assert isinstance(error, InvalidRecordError)
        assert words in str(error)

    def test_a_base_offset_is_the_brokers_to_give(self) -> None:
        batch = bytearray(build())
        batch[7] = 7
        assert "base offset 7; it must be 0" in str(error_of(bytes(batch)))

    def test_a_transaction_is_not_told_without_one(self) -> None:
        error = error_of(lying(build(), attributes=TRANSACTIONAL))
        assert isinstance(error, TransactionalIdAuthorizationFailedError)

    def test_only_the_broker_says_that_a_time_is_that_of_appending(self) -> None:
        error = error_of(lying(build(), attributes=TIMESTAMP_TYPE_LOG_APPEND))
        assert isinstance(error, InvalidTimestampError)

    @pytest.mark.parametrize(("size", "right"), [(0, True), (-1, False)])
    def test_the_largest_batch_that_is_taken(self, size: int, right: bool) -> None:
        batch = build()
        rules = RecordRules(len(batch) + size)
        if right:
            assert check(batch, rules).header.size_bytes == len(batch)
        else:
            assert isinstance(error_of(batch, rules), MessageTooLargeError)

    @pytest.mark.parametrize("size", [1, 12, 30, 60, 61, 80])
    def test_a_batch_that_is_cut_short_is_an_invalid_record(self, size: int) -> None:
        assert isinstance(error_of(build()[:size]), InvalidRecordError)

    @pytest.mark.parametrize("length", [-(2**31), -1, 0, 13, 48])
    def test_a_length_that_holds_no_header_is_corrupt(self, length: int) -> None:
        assert isinstance(error_of(lying(build(), batch_length=length)), CorruptMessageError)

    def test_every_bit_under_the_crc_counts(self) -> None:
        for at in range(17, len(build())):
            batch = bytearray(build())
            batch[at] ^= 1
            assert isinstance(error_of(bytes(batch)), CorruptMessageError), at


class TestRecordsThatCannotBeRead:
    @pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda data: b"none of it at all" + data,
            lambda data: data[:-1],
            lambda data: data[: len(data) // 2],
            lambda data: b"",
            lambda data: data + b"more",
        ],
        ids=["garbage", "a byte short", "half", "empty", "more"],
    )
    def test_data_that_is_not_of_the_codec(
        self, codec: Codec, spoil: Callable[[bytes], bytes]
    ) -> None:
        draw = random.Random(7)
        body = build(3, value=draw.randbytes(400))[HEADER_BYTES:]
        error = error_of(with_records(spoil(compress(codec, body)), 3, codec))
        assert isinstance(error, InvalidRecordError)
        assert not error.retriable

    def test_lz4_blocks_that_depend_on_one_another_as_java_cannot_read_them(self) -> None:
        body = build(3, value=bytes(100_000))[HEADER_BYTES:]
        linked = lz4.frame.compress(body, block_linked=True, block_size=4)
        error = error_of(with_records(linked, 3, Codec.LZ4))
        assert "depend on one another" in str(error)
        apart = lz4.frame.compress(body, block_linked=False, block_size=4, content_checksum=True)
        assert check(with_records(apart, 3, Codec.LZ4)).plain_bytes == len(body)

    def test_other_writers_ways_are_right(self) -> None:
        body = build(3)[HEADER_BYTES:]
        raw_snappy = bytes(cramjam.snappy.compress_raw(body))
        streamed = zstandard.ZstdCompressor().compressobj()
        zstd = streamed.compress(body) + streamed.flush()
        members = gzip.compress(body[:10]) + gzip.compress(body[10:])
        for codec, data in ((2, raw_snappy), (4, zstd), (1, members)):
            assert check(with_records(data, 3, codec)).plain_bytes == len(body)

    def test_a_record_that_claims_more_than_there_is(self) -> None:
        one = b"\x00\x00\x00\x01" + encode_varint(1) + b"v\x00"
        error = error_of(with_records(encode_varint(5_000) + one, 1))
        assert "counts 1 records and holds 0" in str(error)
        headers = b"\x00\x00\x00\x01" + encode_varint(1) + b"v" + encode_varint(500)
        error = error_of(with_records(encode_varint(len(headers)) + headers, 1))
        assert isinstance(error, InvalidRecordError)
        assert error.record_errors == ((0, "a header's key does not fit"),)

    def test_the_wrong_record_is_named(self) -> None:
        records = build(2)[HEADER_BYTES:]
        error = error_of(with_records(records + records, 4))
        assert isinstance(error, InvalidRecordError)
        assert error.record_errors == ((2, "its offset delta is not its place in the batch"),)

    @pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
    def test_more_than_is_to_be_looked_at_is_said_apart(self, codec: Codec) -> None:
        batch = build(50, codec, bytes(1_000))
        size = len(build(50, value=bytes(1_000))) - HEADER_BYTES
        assert check(batch, max_bytes=size).plain_bytes == size
        with pytest.raises(DecompressedTooLargeError):
            check(batch, max_bytes=size - 1)


class TestWhatATopicAsksOfRecords:
    def test_compaction_needs_keys(self) -> None:
        builder = BatchBuilder()
        for key in (b"a", None, b"", None):
            builder.append(key, b"v")
        error = error_of(builder.build(Codec.GZIP), RecordRules(1 << 20, keyed=True))
        assert isinstance(error, InvalidRecordError)
        assert [place for place, _ in error.record_errors] == [1, 3]

    @pytest.mark.parametrize("count", [3, 2_500])
    def test_timestamps_may_be_so_far_from_now(self, count: int) -> None:
        rules = RecordRules(1 << 20, before_ms=1_000, after_ms=2_000)
        builder = BatchBuilder()
        for index in range(count):
            late = (NOW - 1_000, NOW + 2_000, NOW - 1_001 if index % 2 else NOW + 2_001)[index % 3]
            builder.append(b"k", b"v", (), late)
        error = error_of(builder.build(), rules)
        assert isinstance(error, InvalidTimestampError)
        places = [place for place, _ in error.record_errors]
        assert places == list(range(2, count, 3))[:1_000]
        assert "message.timestamp.before.max.ms" in str(error)

    def test_records_without_a_timestamp_are_of_no_time(self) -> None:
        builder = BatchBuilder()
        builder.append(b"k", b"v")
        assert check(builder.build(), RecordRules(1 << 20, before_ms=0, after_ms=0))


class TestRecompression:
    @pytest.mark.parametrize("ours", list(Codec))
    @pytest.mark.parametrize("theirs", list(Codec))
    def test_a_batch_is_stored_as_the_topic_wants(self, theirs: Codec, ours: Codec) -> None:
        batch = build(40, theirs, b"again and " * 30)
        found = check(batch, RecordRules(1 << 20, codec=ours))
        kept = stored(found, base_offset=0)
        assert found.header.attributes == ours
        before = list(iter_records(batch, parse_header(batch)))
        assert list(iter_records(kept, parse_header(kept))) == before
        if ours == theirs:
            assert kept[16:] == batch[16:]

    def test_what_is_too_large_then_is_refused(self) -> None:
        batch = build(40, Codec.GZIP, b"again and " * 30)
        rules = RecordRules(len(batch), codec=Codec.NONE)
        assert isinstance(error_of(batch, rules), MessageTooLargeError)

    def test_the_level_is_the_topics(self) -> None:
        batch = build(1, value=b"".join(b"%d," % (index * index) for index in range(20_000)))
        sizes = [
            check(batch, RecordRules(1 << 24, codec=Codec.ZSTD, level=level)).header.size_bytes
            for level in (1, 19)
        ]
        assert sizes[1] < sizes[0]


@pytest.mark.parametrize("codec", list(Codec))
def test_whatever_passes_can_be_read_by_an_independent_reader(codec: Codec) -> None:
    """Bytes are changed at random, the CRC made right again: refused, or readable to the end."""
    draw = random.Random(int(codec))
    body = build(6, value=b"some value")[HEADER_BYTES:]
    passed = refused = 0
    for _ in range(amount(4_000)):
        records = bytearray(body)
        for _ in range(draw.randrange(3)):
            records[draw.randrange(len(records))] = draw.randrange(256)
        batch = bytearray(with_records(compress(codec, bytes(records)), 6, codec))
        for _ in range(draw.randrange(2)):
            batch[draw.randrange(21, len(batch))] = draw.randrange(256)
        try:
            found = check(recounted(batch))
        except (
            DecompressedTooLargeError,
            InvalidRecordError,
            InvalidTimestampError,
            TransactionalIdAuthorizationFailedError,
        ):
            refused += 1
            continue
        passed += 1
        kept = stored(found)
        read = [
            record
            for independent in iter(IndependentReader(kept).next_batch, None)
            for record in independent
        ]
        assert [record.offset for record in read] == list(range(70, 70 + found.header.record_count))
        assert found.header.max_timestamp_ms == max([-1, *(record.timestamp for record in read)])
    assert passed > amount(200)
    assert refused > amount(200)
