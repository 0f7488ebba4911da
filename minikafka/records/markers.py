"""The markers that end transactions: control batches of one record (KIP-98).

    key      version   int16   0
             type      int16   0 abort, 1 commit; other control batches have other types
    value    version   int16   0
             coordinator epoch int32

The batch carries the producer id and epoch that the transaction ends with, and base sequence -1.
Compaction may leave one without its record: that ends nothing. No state.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from minikafka.errors import CorruptMessageError
from minikafka.model import CONTROL, NO_MARKERS, BatchHeader, EndMarker, Markers
from minikafka.records.build import BatchBuilder
from minikafka.records.header import Buffer
from minikafka.records.read import iter_records

_KEY = Struct(">hh")
_VALUE = Struct(">hi")
_ABORT, _COMMIT = 0, 1


def build_marker(
    producer_id: int, producer_epoch: int, marker: EndMarker, timestamp_ms: int
) -> bytes:
    """The batch, with base offset 0 and without a leader epoch, as producers' are."""
    builder = BatchBuilder()
    key = _KEY.pack(0, _COMMIT if marker.commits else _ABORT)
    builder.append(key, _VALUE.pack(0, marker.coordinator_epoch), timestamp_ms=timestamp_ms)
    return builder.build(
        producer_id=producer_id, producer_epoch=producer_epoch, transactional=True, control=True
    )


def read_marker(batch: Buffer, header: BatchHeader) -> EndMarker | None:
    """What a control batch (`batch` begins with its header) says; None if it has lost its record,
    or is none of a transaction. CorruptMessageError if its record cannot be read."""
    for record in iter_records(batch, header):
        key, value = record.key, record.value
        if key is None or len(key) < _KEY.size:
            raise CorruptMessageError(
                f"the control batch at offset {header.base_offset} does not say what it is"
            )
        kind = _KEY.unpack_from(key)[1]
        if kind not in (_ABORT, _COMMIT):
            return None
        if value is None or len(value) < _VALUE.size:
            raise CorruptMessageError(
                f"the transaction marker at offset {header.base_offset} names no coordinator epoch"
            )
        return EndMarker(kind == _COMMIT, _VALUE.unpack_from(value)[1])
    return None


def markers_in(buffers: Sequence[Buffer], headers: Sequence[BatchHeader]) -> Markers:
    """The markers among whole batches, which `buffers` are when put together, by their base
    offsets. Only control batches are looked into."""
    for header in headers:
        if header.attributes & CONTROL:
            break
    else:
        return NO_MARKERS
    data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
    found: dict[int, EndMarker] = {}
    position = 0
    for header in headers:
        if header.attributes & CONTROL:
            marker = read_marker(data[position : position + header.size_bytes], header)
            if marker is not None:
                found[header.base_offset] = marker
        position += header.size_bytes
    return found
