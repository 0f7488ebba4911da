"""What a log of `__consumer_offsets` says of offsets, by a definition that is as plain as can be
(transactions.md, T8): of a key the record of the highest offset counts, of those that count at all.
Plain records do once they are committed, those of a transaction once a marker of its producer that
commits lies above them, committed. A record without a value is one of them.

A key is *unstable* while it has a record of a transaction without a marker that is committed, and
no plain record without a value above it that is.

Pure. The product does the same step by step, in two ways (core/groups/offset_table.py and
broker/groups/stored.py); so does nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from minikafka.broker.groups.records import decode
from minikafka.core.groups.effects import OffsetRecord
from minikafka.model import BatchHeader, EndMarker, TopicPartition
from minikafka.records.header import is_transactional
from minikafka.records.read import iter_records

Key = tuple[str, TopicPartition]  # group id, partition


def describe(key: Key) -> str:
    """`g:t-0`"""
    return f"{key[0]}:{key[1]}"


@dataclass(frozen=True, slots=True)
class Written:
    """A record at this offset of the log. `value` is the committed offset, None for none;
    `producer_id` of the transaction that it is part of."""

    offset: int
    key: Key
    value: int | None
    producer_id: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A marker at this offset of the log."""

    offset: int
    producer_id: int
    commits: bool


Entry = Written | Ended


def entries_of(data: bytes, header: BatchHeader, marker: EndMarker | None) -> list[Entry]:
    """Of one batch."""
    if marker is not None:
        return [Ended(header.base_offset, header.producer_id, marker.commits)]
    producer_id = header.producer_id if is_transactional(header) else None
    found: list[Entry] = []
    for entry in iter_records(data, header):
        record = decode(entry.key, entry.value)
        if isinstance(record, OffsetRecord):
            key = (record.group_id, record.topic_partition)
            value = None if record.value is None else record.value.offset
            found.append(Written(entry.offset, key, value, producer_id))
    return found


@dataclass
class Said:
    """`counting`: of each key with an offset the record that counts."""

    counting: dict[Key, Written] = field(default_factory=dict)
    unstable: set[Key] = field(default_factory=set)

    @property
    def offsets(self) -> dict[Key, tuple[int, int]]:
        """By key: where its record lies, and what it says."""
        return {
            key: (each.offset, each.value)
            for key, each in self.counting.items()
            if each.value is not None
        }


def said(entries: Iterable[Entry], committed_end: int) -> Said:
    """By a log with these entries, in order, of which those below `committed_end` are committed."""
    found = Said()
    open_ones: dict[int, list[Written]] = {}  # by producer id
    forgotten: dict[Key, int] = {}  # where the last plain record without a value lies
    for entry in entries:
        is_committed = entry.offset < committed_end
        if isinstance(entry, Written):
            if entry.producer_id is not None:
                open_ones.setdefault(entry.producer_id, []).append(entry)
            elif is_committed:
                _count(found, entry)
                if entry.value is None:
                    forgotten[entry.key] = entry.offset
        elif is_committed:
            for each in open_ones.pop(entry.producer_id, ()):
                if entry.commits:
                    _count(found, each)
    for each in (each for some in open_ones.values() for each in some):
        if each.offset > forgotten.get(each.key, -1):
            found.unstable.add(each.key)
    return found


def _count(found: Said, entry: Written) -> None:
    known = found.counting.get(entry.key)
    if known is None or known.offset < entry.offset:
        found.counting[entry.key] = entry
