"""What a producer says of a batch is not believed: it is held against the records themselves.

Of a batch that `checked` gave back it is true, whoever made it, that
- its CRC is right, its header counts the records that there are, and their offsets are 0 to n-1;
- every record can be read to its end, by any reader: lengths, varints, header keys are right, and a
  codec's data is whole and not followed by anything;
- the header's largest timestamp is that of the records (or the time of appending, where the topic
  wants that), since retention, indexes and look-ups by time rely on it;
- it claims nothing that only brokers say: control batch, transaction, time of appending, delete
  horizon;
- it is compressed as the topic wants it.

What is wrong is refused with Kafka's error (LogValidator of Apache Kafka 3.9); nothing is mended
but the largest timestamp. Two things Kafka lets through or mends are refused here: a header key
that is not UTF-8, which stops other readers, and offsets that are not 0 to n-1.

No state. The cost grows with the records decompressed, and that with `max_bytes`; the memory with
the largest record, as the records are looked at piece by piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from minikafka.errors import (
    CorruptMessageError,
    InvalidRecordError,
    InvalidTimestampError,
    MessageTooLargeError,
    TransactionalIdAuthorizationFailedError,
    UnsupportedCompressionTypeError,
)
from minikafka.model import BatchHeader
from minikafka.records.compression import (
    CHUNK_BYTES,
    MAX_DECOMPRESSED_BYTES,
    Codec,
    DecompressedTooLargeError,
    compress,
)
from minikafka.records.header import (
    CODEC_MASK,
    CONTROL,
    DELETE_HORIZON,
    HEADER_BYTES,
    STAMP_BYTES,
    TIMESTAMP_TYPE_LOG_APPEND,
    TRANSACTIONAL,
    Buffer,
    parse_header,
    restated,
    verify_crc,
)
from minikafka.records.pieces import WrongRecordError, pieces
from minikafka.records.walk import NAMED_AT_MOST, walk

_ALWAYS = (-(2**63), 2**63 - 1)
_MAX_INT64 = 2**63 - 1
_SHOWN = 3
_LAST_CODEC = max(Codec)
_LZ4_FLAGS = 4  # the byte after the magic number
_LZ4_INDEPENDENT = 0x20


@dataclass(frozen=True, slots=True)
class RecordRules:
    """What a topic asks of records. `keyed`: each has a key (it is compacted). `before_ms`,
    `after_ms`: how far timestamps may be from now. `append_time`: the broker gives them. `codec`:
    None keeps the producer's; `level` is the codec's."""

    max_message_bytes: int
    keyed: bool = False
    before_ms: int = _MAX_INT64
    after_ms: int = _MAX_INT64
    append_time: bool = False
    codec: Codec | None = None
    level: int | None = None
    topic_partition: str = ""


class CheckedBatch(NamedTuple):
    """A batch that may be appended: its header, its bytes from STAMP_BYTES on in pieces, and how
    many bytes its records take when decompressed."""

    header: BatchHeader
    pieces: tuple[Buffer, ...]
    plain_bytes: int


def checked_header(
    batch: Buffer, position: int, rules: RecordRules, *, has_transactional_id: bool = False
) -> BatchHeader:
    """The header of the batch at `position`, if what it says can be: all of it that does not need
    the records. In the order of Apache Kafka, so that a batch with several faults gets its answer.

    Raises CorruptMessageError, MessageTooLargeError, InvalidRecordError,
    TransactionalIdAuthorizationFailedError. InvalidRecordError also where the batch is not whole.
    """
    if len(batch) - position < HEADER_BYTES:
        raise InvalidRecordError(
            f"a produced record batch needs a header of {HEADER_BYTES} bytes; "
            f"{len(batch) - position} are there"
        )
    header = parse_header(batch, position)
    if header.size_bytes > len(batch) - position:
        raise InvalidRecordError(
            f"a produced record batch claims {header.size_bytes} bytes; "
            f"{len(batch) - position} are there"
        )
    if header.base_offset != 0:
        raise InvalidRecordError(
            f"a produced record batch has base offset {header.base_offset}; it must be 0, the "
            "broker assigns offsets"
        )
    check_size(header.size_bytes, rules)
    verify_crc(batch, position, header)
    problem = _problem_of(header)
    if problem is not None:
        raise InvalidRecordError(f"a produced record batch {problem}")
    if header.attributes & TRANSACTIONAL and not has_transactional_id:
        raise TransactionalIdAuthorizationFailedError(
            "the record batch is of a transaction, and its request names no transactional id"
        )
    if header.attributes & TIMESTAMP_TYPE_LOG_APPEND:
        raise InvalidTimestampError(
            "a produced record batch says that its timestamps are those of appending; only the "
            "broker may say so (message.timestamp.type)"
        )
    return header


def check_size(size_bytes: int, rules: RecordRules) -> None:
    """MessageTooLargeError for a batch that is larger than the topic takes."""
    if size_bytes > rules.max_message_bytes:
        raise MessageTooLargeError(
            f"the record batch has {size_bytes} bytes; "
            f"max.message.bytes is {rules.max_message_bytes}"
        )


def _problem_of(header: BatchHeader) -> str | None:
    if header.record_count <= 0:
        return f"counts {header.record_count} records; it must hold at least one"
    if header.record_count != header.last_offset_delta + 1:
        return (
            f"counts {header.record_count} records over {header.last_offset_delta + 1} offsets; "
            "the two must be equal"
        )
    if header.attributes & CONTROL:
        return "is a control batch; only brokers write those"
    if header.attributes & DELETE_HORIZON:
        return "has a delete horizon; only compaction gives one"
    if header.attributes & CODEC_MASK > _LAST_CODEC:
        return f"has unknown codec {header.attributes & CODEC_MASK}; valid are 0 to {_LAST_CODEC}"
    if header.producer_id >= 0 and (header.base_sequence < 0 or header.producer_epoch < 0):
        return (
            f"of producer {header.producer_id} has epoch {header.producer_epoch} and sequence "
            f"{header.base_sequence}; an idempotent producer sends both from 0"
        )
    return None


def checked(
    batch: Buffer,
    position: int,
    header: BatchHeader,
    rules: RecordRules,
    now_timestamp_ms: int,
    max_bytes: int = MAX_DECOMPRESSED_BYTES,
) -> CheckedBatch:
    """The batch at `position` as it is to be appended, of which `checked_header` gave the header.

    Raises InvalidRecordError and InvalidTimestampError for wrong records, with the places of those
    that a topic does not take (at most 1,000); MessageTooLargeError if it is too large once it is
    compressed as the topic wants; DecompressedTooLargeError above `max_bytes`.
    """
    view = memoryview(batch)[position : position + header.size_bytes]
    is_short = header.size_bytes <= min(max_bytes, CHUNK_BYTES)
    if header.attributes & CODEC_MASK == 0 and is_short and _is_plainly_right(view, header, rules):
        return CheckedBatch(header, (view[STAMP_BYTES:],), header.size_bytes - HEADER_BYTES)
    codec = Codec(header.attributes & CODEC_MASK)
    wanted = codec if rules.codec is None else rules.codec
    try:
        _check_lz4(codec, view)
        seen = _look_at(view, header, rules, now_timestamp_ms, max_bytes, keep=wanted != codec)
    except DecompressedTooLargeError:
        raise
    except WrongRecordError as error:
        named = ((error.place, error.problem),) if error.place >= 0 else ()
        raise InvalidRecordError(f"of a produced batch: {error}", named) from error
    except CorruptMessageError as error:
        # CORRUPT_MESSAGE is about the way here: clients send again what is refused with it.
        raise InvalidRecordError(f"a produced record batch cannot be read: {error}") from error
    except UnsupportedCompressionTypeError as error:
        raise InvalidRecordError(f"a produced record batch cannot be read: {error}") from error
    attributes, max_timestamp_ms = header.attributes, seen.max_timestamp_ms
    if rules.append_time:
        attributes |= TIMESTAMP_TYPE_LOG_APPEND
        max_timestamp_ms = now_timestamp_ms
    if wanted == codec and (attributes, max_timestamp_ms) == (
        header.attributes,
        header.max_timestamp_ms,
    ):
        return CheckedBatch(header, (view[STAMP_BYTES:],), seen.plain_bytes)
    body: Buffer = view[HEADER_BYTES:]
    if wanted != codec:
        body = compress(wanted, seen.plain, rules.level)
        attributes = attributes & ~CODEC_MASK | wanted
    changed, fields = restated(header, attributes, max_timestamp_ms, body)
    check_size(changed.size_bytes, rules)
    return CheckedBatch(changed, (fields, body), seen.plain_bytes)


def _is_plainly_right(view: memoryview, header: BatchHeader, rules: RecordRules) -> bool:
    """The short way for what nearly all batches are that are not compressed: one walk, nothing to
    change, nothing to complain of. False says nothing."""
    if rules.append_time or rules.codec or rules.before_ms != _MAX_INT64:
        return False
    if rules.after_ms != _MAX_INT64:
        return False
    count = header.record_count
    found = walk(view, HEADER_BYTES, count, 0, header.base_timestamp_ms, rules.keyed, *_ALWAYS)
    end, walked, _, max_ms, _, keyless, _, _ = found
    return (
        walked == count
        and end == header.size_bytes
        and max_ms == header.max_timestamp_ms
        and keyless is None
    )


def _check_lz4(codec: Codec, view: memoryview) -> None:
    """Java's clients refuse blocks that depend on one another, and so does Apache Kafka."""
    at = HEADER_BYTES + _LZ4_FLAGS
    if codec == Codec.LZ4 and len(view) > at and not view[at] & _LZ4_INDEPENDENT:
        raise CorruptMessageError("its lz4 blocks depend on one another: Java cannot read them")


class _Seen(NamedTuple):
    max_timestamp_ms: int
    plain_bytes: int
    plain: bytes  # the records decompressed, if they were to be kept


def _look_at(
    view: memoryview,
    header: BatchHeader,
    rules: RecordRules,
    now_timestamp_ms: int,
    max_bytes: int,
    *,
    keep: bool,
) -> _Seen:
    oldest_ms, newest_ms = _ALWAYS
    if not rules.append_time:
        oldest_ms = max(oldest_ms, now_timestamp_ms - rules.before_ms)
        newest_ms = min(newest_ms, now_timestamp_ms + rules.after_ms)
    max_timestamp_ms, plain_bytes = -1, 0
    keyless: list[int] = []
    untimely: list[int] = []
    kept: list[Buffer] = []
    times = (oldest_ms, newest_ms)
    for piece in pieces(view, header, keyed=rules.keyed, times=times, max_bytes=max_bytes):
        plain_bytes += len(piece.chunk)
        if keep:
            kept.append(piece.chunk)
        max_timestamp_ms = max(max_timestamp_ms, piece.walked.max_ms)
        keyless += piece.walked.keyless or ()
        untimely += piece.walked.untimely or ()
    if keyless:
        raise _without_keys(keyless, rules)
    if untimely:
        raise _out_of_time(untimely, oldest_ms, newest_ms)
    return _Seen(max_timestamp_ms, plain_bytes, b"".join(kept))


def _without_keys(places: list[int], rules: RecordRules) -> InvalidRecordError:
    named = places[:NAMED_AT_MOST]
    why = f"{rules.topic_partition} is compacted (cleanup.policy), so every record needs a key"
    return InvalidRecordError(
        f"{_listed(named)} of the batch without a key: {why}; nothing was appended",
        tuple((place, why) for place in named),
    )


def _out_of_time(places: list[int], oldest_ms: int, newest_ms: int) -> InvalidTimestampError:
    named = places[:NAMED_AT_MOST]
    why = (
        f"its timestamp is not within {oldest_ms} and {newest_ms} "
        "(message.timestamp.before.max.ms, message.timestamp.after.max.ms)"
    )
    return InvalidTimestampError(
        f"{_listed(named)} of the batch: {why}; nothing was appended",
        tuple((place, why) for place in named),
    )


def _listed(places: list[int]) -> str:
    shown = ", ".join(map(str, places[:_SHOWN]))
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f"{'record' if len(places) == 1 else 'records'} {shown}{more}"
