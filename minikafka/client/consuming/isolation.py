"""What of a fetched answer a reader of committed records passes over: the batches of transactions
that were aborted. The broker names those, by where they begin; each ends with the next abort marker
of its producer. No state."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from minikafka.model import AbortedTransaction, BatchHeader
from minikafka.records.header import is_control, is_transactional
from minikafka.records.markers import read_marker

READ_COMMITTED = "read_committed"
READ_UNCOMMITTED = "read_uncommitted"
ISOLATION_LEVELS = (READ_UNCOMMITTED, READ_COMMITTED)


def aborted_batches(
    data: bytes, headers: Sequence[BatchHeader], aborted: Sequence[AbortedTransaction]
) -> frozenset[int]:
    """The base offsets of the batches that are not to be seen. `data` are the batches of these
    headers. CorruptMessageError for a marker that cannot be read."""
    if not aborted:
        return frozenset()
    view = memoryview(data)
    waiting = deque(sorted(aborted, key=lambda each: each.first_offset))
    aborting: set[int] = set()  # producers whose records are passed over just now
    hidden: set[int] = set()
    end = 0
    for header in headers:
        start, end = end, end + header.size_bytes
        while waiting and waiting[0].first_offset <= header.last_offset:
            aborting.add(waiting.popleft().producer_id)
        if header.producer_id not in aborting or not is_transactional(header):
            continue
        if not is_control(header):
            hidden.add(header.base_offset)
            continue
        marker = read_marker(view[start:end], header)
        if marker is not None and not marker.commits:
            aborting.remove(header.producer_id)
    return frozenset(hidden)
