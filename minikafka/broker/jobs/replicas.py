"""What jobs may look at in the replicas of this broker: the CRCs of a log, and digests of it.

Reading is cut into small slices: whoever asks decides how fast. CRCs and digests are computed in a
thread; on the loop is only what a consumer's fetch does there as well.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

from minikafka.broker.jobs.ports import (
    DigestRequest,
    DigestResult,
    EpochDigest,
    VerifyRequest,
    VerifyResult,
)
from minikafka.broker.replication.replica import Replica
from minikafka.errors import (
    InconsistentTopicIdError,
    InvalidRequestError,
    KafkaStorageError,
)
from minikafka.model import TopicPartition
from minikafka.records.header import split

MAX_SLICE_BYTES = 4 << 20


class Verified(Protocol):
    """A slice as `VerifyFiles` gives it (log/verify.py)."""

    @property
    def segment(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def done(self) -> bool: ...
    @property
    def batches(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def damage(self) -> Sequence[str]: ...


# (partition, segment, position, bytes, end offset): the files are read in the thread of the call.
VerifyFiles = Callable[[TopicPartition, int, int, int, int], Verified]


class ReplicaReader:
    """The ReplicaService of this broker."""

    def __init__(
        self, find_replica: Callable[[TopicPartition], Replica], verify_files: VerifyFiles
    ) -> None:
        self._find_replica = find_replica
        self._verify_files = verify_files

    def _find(self, topic_partition: TopicPartition, topic_id: str) -> Replica:
        replica = self._find_replica(topic_partition)
        if replica.topic_id != topic_id:
            raise InconsistentTopicIdError(f"{topic_partition} was deleted and made again")
        return replica

    async def verify(self, request: VerifyRequest) -> VerifyResult:
        replica = self._find(request.topic_partition, request.topic_id)
        max_bytes = min(request.max_bytes, MAX_SLICE_BYTES)
        end_offset = request.end_offset
        if end_offset < 0:
            end_offset = replica.core.log_state.log_end_offset
        while True:
            # A log that was cut meanwhile ends earlier, and what was read may be half of a batch.
            before = min(end_offset, replica.core.log_state.log_end_offset)
            found = await asyncio.to_thread(
                self._verify_files,
                request.topic_partition,
                request.segment,
                request.position,
                max_bytes,
                before,
            )
            replica = self._find(request.topic_partition, request.topic_id)
            if not found.damage or replica.core.log_state.log_end_offset >= before:
                break
        return VerifyResult(
            found.segment,
            found.position,
            before,
            found.done,
            found.batches,
            found.size_bytes,
            tuple(found.damage),
        )

    async def digest(self, request: DigestRequest) -> DigestResult:
        replica = self._find(request.topic_partition, request.topic_id)
        if replica.config.compacted:
            raise InvalidRequestError(
                f"{request.topic_partition.topic} is compacted: each replica compacts in its own "
                "time, so their bytes differ while their keys agree"
            )
        log = replica.core.log_state
        if replica.core.failed is not None:
            raise KafkaStorageError(f"the disk under {request.topic_partition} has failed here")
        start, end = request.start_offset, min(request.end_offset, log.log_end_offset)
        data = b""
        if end > start >= log.log_start_offset:
            data = replica.read(start, min(request.max_bytes, MAX_SLICE_BYTES), end)
        next_offset, digests = await asyncio.to_thread(_digest, data, start)
        return DigestResult(
            next_offset,
            len(data),
            digests,
            log.log_start_offset,
            log.high_watermark,
            log.log_end_offset,
        )


def _digest(data: bytes, start_offset: int) -> tuple[int, tuple[EpochDigest, ...]]:
    """(where to go on, a digest for each run of batches of one leader epoch)."""
    digests: list[EpochDigest] = []
    position, next_offset = 0, start_offset
    running = hashlib.blake2b(digest_size=16)
    epoch, first, batches = -1, start_offset, 0
    for header in split(data) if data else ():
        if batches and header.leader_epoch != epoch:
            text = running.hexdigest()
            digests.append(EpochDigest(epoch, first, next_offset - 1, batches, text))
            running, batches = hashlib.blake2b(digest_size=16), 0
        if not batches:
            epoch, first = header.leader_epoch, header.base_offset
        running.update(memoryview(data)[position : position + header.size_bytes])
        batches += 1
        position += header.size_bytes
        next_offset = header.next_offset
    if batches:
        digests.append(EpochDigest(epoch, first, next_offset - 1, batches, running.hexdigest()))
    return next_offset, tuple(digests)
