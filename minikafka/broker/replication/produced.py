"""Looking at what producers send, before any of it is appended (records/check.py says at what).

Most batches are looked at on the loop, at once: some microseconds. What takes longer than a request
may hold the loop goes to a thread, decompression above all: 2 KB may hold 200 MB.

State: `_ahead`, by source, the last request whose records are still being looked at. Invariant: a
request of a source is appended after those of that source that came before it, whichever of them
take long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from minikafka.broker.ports import Buffer
from minikafka.config import TopicConfig
from minikafka.errors import (
    InvalidRecordError,
    RecordListTooLargeError,
)
from minikafka.model import TRANSACTIONAL, BatchHeader, TopicPartition
from minikafka.records.check import CheckedBatch, RecordRules, checked, checked_header
from minikafka.records.compression import (
    MAX_DECOMPRESSED_BYTES,
    Codec,
    DecompressedTooLargeError,
    codec_named,
)
from minikafka.records.header import CODEC_MASK, STAMP_BYTES, split
from minikafka.records.walk import COMPILED

# What one request may have looked at on the loop: a few milliseconds. Without the compiled walk,
# which takes 20 to 80 ns for a record, it is the records that count.
INLINE_BYTES = 1024 * 1024
INLINE_RECORDS = 100_000 if COMPILED else 2_000
RECOMPRESSED_INLINE_BYTES = 64 * 1024
AT_ONCE = 2
PRODUCERS_OWN = "producer"
LOG_APPEND_TIME = "LogAppendTime"
_CODEC_NAMES = {"uncompressed": "none"}


@dataclass(slots=True)
class Batches:
    """The batches for one partition. `checked` grows until it has all of them."""

    records: Buffer
    rules: RecordRules
    headers: list[BatchHeader] = field(default_factory=list)
    checked: list[CheckedBatch] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return len(self.checked) == len(self.headers)

    @property
    def is_transactional(self) -> bool:
        """Is one of them of a transaction?"""
        return any(header.attributes & TRANSACTIONAL for header in self.headers)


@dataclass(slots=True)
class Budget:
    """What is left of what a request may have looked at on the loop."""

    bytes: int = INLINE_BYTES
    records: int = INLINE_RECORDS


class RecordChecker:
    """`now_timestamp_ms` is wall-clock time; `off_loop` runs a function in a thread."""

    def __init__(
        self,
        now_timestamp_ms: Callable[[], int],
        off_loop: Callable[[Callable[[], None]], Awaitable[None]] = asyncio.to_thread,
    ) -> None:
        self._now_timestamp_ms = now_timestamp_ms
        self._off_loop = off_loop
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._ahead: dict[object, asyncio.Future[None]] = {}

    def begin(
        self,
        records: Buffer,
        rules: RecordRules,
        segment_bytes: int,
        transactional_id: str | None,
        budget: Budget,
    ) -> Batches:
        """Look at the headers, and at the records as far as the budget goes.

        Raises what `checked_header` and `checked` raise, RecordListTooLargeError for more than a
        segment may hold, TransactionalIdAuthorizationFailedError for a batch of a transaction
        without an id.
        """
        if not records:
            raise InvalidRecordError("a produce request for a partition holds no record batch")
        batches = Batches(records, rules)
        position, end = 0, len(records)
        while position < end:
            header = checked_header(
                records, position, rules, has_transactional_id=transactional_id is not None
            )
            batches.headers.append(header)
            position += header.size_bytes
        if end > segment_bytes:
            raise RecordListTooLargeError(
                f"the record batch has {end} bytes; a segment may have {segment_bytes} "
                "(segment.bytes)"
            )
        self._look(batches, budget)
        return batches

    def _look(self, batches: Batches, budget: Budget) -> None:
        """Until all is looked at or the budget is used up."""
        position = 0
        now_timestamp_ms = self._now_timestamp_ms()
        for header in batches.headers:
            budget.records -= header.record_count
            if budget.records < 0 or budget.bytes <= 0:
                return
            limit = budget.bytes
            if batches.rules.codec not in (None, header.attributes & CODEC_MASK):
                limit = min(limit, RECOMPRESSED_INLINE_BYTES)
            try:
                found = checked(
                    batches.records, position, header, batches.rules, now_timestamp_ms, limit
                )
            except DecompressedTooLargeError:
                budget.bytes = 0
                return
            budget.bytes -= found.plain_bytes
            batches.checked.append(found)
            position += header.size_bytes

    async def finish(self, batches: Batches) -> None:
        """Look at the rest, off the loop. Raises what `begin` does for records."""
        async with self._at_once:
            await self._off_loop(lambda: self._look_at_rest(batches))

    def _look_at_rest(self, batches: Batches) -> None:
        done = len(batches.checked)
        position = sum(header.size_bytes for header in batches.headers[:done])
        now_timestamp_ms = self._now_timestamp_ms()
        for header in batches.headers[done:]:
            try:
                found = checked(batches.records, position, header, batches.rules, now_timestamp_ms)
            except DecompressedTooLargeError as error:
                raise InvalidRecordError(
                    f"a produced record batch holds more than {MAX_DECOMPRESSED_BYTES} bytes of "
                    "records"
                ) from error
            batches.checked.append(found)
            position += header.size_bytes

    # --- order -----------------------------------------------------------------------------------

    def ahead_of(self, source: object) -> asyncio.Future[None] | None:
        """What the next request of this source has to wait for."""
        return None if source is None else self._ahead.get(source)

    def queue(self, source: object) -> asyncio.Future[None]:
        """The next request of this source waits for what is returned, until it has a result."""
        appended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if source is not None:
            self._ahead[source] = appended
        return appended

    def appended(self, source: object, appended: asyncio.Future[None]) -> None:
        if not appended.done():
            appended.set_result(None)
        if self._ahead.get(source) is appended:
            del self._ahead[source]


def own_batches(records: bytes) -> list[CheckedBatch]:
    """Batches that this broker has built itself: nobody needs to look at them."""
    batches: list[CheckedBatch] = []
    view = memoryview(records)
    position = 0
    for header in split(records):
        end = position + header.size_bytes
        batches.append(CheckedBatch(header, (view[position + STAMP_BYTES : end],), 0))
        position = end
    return batches


def own_batch(records: bytes) -> CheckedBatch:
    """The one batch that is there, as `own_batches`."""
    [batch] = own_batches(records)
    return batch


def append_time_ms(batches: Sequence[CheckedBatch], rules: RecordRules) -> int:
    """The timestamp that the broker gave to the records; -1 if the producer did."""
    return batches[0].header.max_timestamp_ms if rules.append_time else -1


def rules_of(topic_partition: TopicPartition, config: TopicConfig) -> RecordRules:
    """What a topic asks of the records for one of its partitions."""
    codec, level = None, None
    if config.compression_type != PRODUCERS_OWN:
        codec = codec_named(_CODEC_NAMES.get(config.compression_type, config.compression_type))
        levels = {
            Codec.GZIP: config.compression_gzip_level,
            Codec.LZ4: config.compression_lz4_level,
            Codec.ZSTD: config.compression_zstd_level,
        }
        level = levels.get(codec)
    return RecordRules(
        config.max_message_bytes,
        keyed=config.compacted,
        before_ms=config.timestamp_before_max_ms,
        after_ms=config.timestamp_after_max_ms,
        append_time=config.message_timestamp_type == LOG_APPEND_TIME,
        codec=codec,
        level=level,
        topic_partition=str(topic_partition),
    )
