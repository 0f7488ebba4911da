"""The group of the model, and the log that has its offsets: the real Group, built from a value,
given one event, read back.

One group, one partition of which it has an offset. What is committed is told by its label, which is
in the offset: whose it is, and of which transaction. The log is known whole, and committed record
by record; the shard stages and hears of markers as they are appended, and of commitments in their
order. Records that are loaded go through the real codec and the real reader of stored groups.
"""

from __future__ import annotations

from minikafka.api.groups import OffsetCommitPartition, OffsetCommitRequest
from minikafka.broker.groups.records import decode, encode_key, encode_value
from minikafka.broker.groups.stored import StoredGroups
from minikafka.core.groups.effects import Append, Effect, Now, OffsetAndMetadata, OffsetRecord
from minikafka.core.groups.group import Group
from minikafka.core.groups.offset_table import OffsetTable
from minikafka.core.groups.settings import GroupSettings
from minikafka.model import TopicPartition
from tests.exhaustive.transactions.values import Entry, GroupPart, Label, Memory

GROUP, KEY = "g", TopicPartition("read", 0)
NOW = Now(0, 0)
SPAN = 100  # more than anybody has transactions

Token = tuple[int, int]


def offset_of(label: Label) -> int:
    who, number = label
    return SPAN * who + number


def label_of(offset: int) -> Label:
    return divmod(offset, SPAN)


def value_of(label: Label, record_offset: int = -1) -> OffsetAndMetadata:
    return OffsetAndMetadata(offset_of(label), -1, "", 0, record_offset=record_offset)


# --- memory --------------------------------------------------------------------------------------


def frozen(table: OffsetTable) -> Memory:
    staged = [(pid, *each) for pid, offsets in table._staged.items() for each in offsets.items()]
    ending = [
        (marker, commits, *each)
        for marker, (commits, offsets) in table._ending.items()
        for each in offsets.items()
    ]
    return Memory(
        tuple(sorted(table.committed.items())), tuple(sorted(staged)), tuple(sorted(ending))
    )


def thawed(memory: Memory) -> OffsetTable:
    table = OffsetTable(dict(memory.committed))
    for producer_id, partition, value in memory.staged:
        table.stage(producer_id, partition, value)
    for marker, commits, partition, value in memory.ending:
        table._ending.setdefault(marker, (commits, {}))[1][partition] = value
    return table


class LiveGroup:
    """The group between two values. Plain commits that are not committed yet are asked for again,
    so that their writes are under way."""

    def __init__(self, part: GroupPart) -> None:
        self.group = Group(GROUP, GroupSettings(), NOW)
        self.group.restore(None, thawed(part.memory), NOW)
        self._writes: dict[int, object] = {}
        for offset, entry in enumerate(part.log[part.high_watermark :], part.high_watermark):
            if entry.label is not None and entry.producer_id < 0:
                self.commit(entry.label, offset)

    def commit(self, label: Label, record_offset: int) -> None:
        """Without a transaction; its record goes into the log at this offset."""
        request = OffsetCommitRequest(GROUP, [OffsetCommitPartition(KEY, offset_of(label))])
        effects: list[Effect] = self.group.commit(request, 0, None, NOW)
        (append,) = effects
        assert isinstance(append, Append)
        self._writes[record_offset] = append.write

    def committed(self, entry: Entry, offset: int) -> None:
        """The high watermark has passed this."""
        if entry.label is None:
            self.group.on_marker_committed(offset)
        elif entry.producer_id < 0:
            self.group.on_appended(self._writes.pop(offset), None, NOW, offset)

    def memory(self) -> Memory:
        return frozen(self.group.offsets.table)

    def stable(self) -> Label | str | None:
        """What a consumer is given that wants stable offsets, or why it is not."""
        (found,) = self.group.fetch_offsets([KEY], require_stable=True)
        if found.error is not None:
            return found.error.name
        return None if found.offset < 0 else label_of(found.offset)


# --- events --------------------------------------------------------------------------------------


def staged(part: GroupPart, entry: Entry, token: Token) -> GroupPart:
    """Of a transaction: its record is in the log, and answered when that is committed."""
    assert entry.label is not None
    live = LiveGroup(part)
    live.group.stage(entry.producer_id, {KEY: value_of(entry.label)}, len(part.log))
    log = (*part.log, entry)
    return part._replace(log=log, memory=live.memory(), waiting=(*part.waiting, (len(log), token)))


def ended(part: GroupPart, entry: Entry) -> GroupPart:
    """A marker is in the log."""
    live = LiveGroup(part)
    if part.serves:
        live.group.on_marker(entry.producer_id, len(part.log), commits=entry.commits)
    return part._replace(log=(*part.log, entry), memory=live.memory())


def committed_plainly(part: GroupPart, number: int, plain: int) -> GroupPart:
    live = LiveGroup(part)
    live.commit((plain, number), len(part.log))
    return part._replace(log=(*part.log, Entry((plain, number))), memory=live.memory())


def replicated(part: GroupPart) -> tuple[GroupPart, list[Token]]:
    """One more record is committed; and who is answered for that."""
    live, offset = LiveGroup(part), part.high_watermark
    if part.serves:
        live.committed(part.log[offset], offset)
    answered = [token for end, token in part.waiting if end <= offset + 1]
    waiting = tuple(each for each in part.waiting if each[0] > offset + 1)
    memory = live.memory()
    return part._replace(high_watermark=offset + 1, memory=memory, waiting=waiting), answered


def taken_over(part: GroupPart, end: int) -> GroupPart:
    """Another shard begins, where the log is known so far."""
    return GroupPart(part.log[:end], part.high_watermark, load_end=end)


def stable(part: GroupPart) -> Label | str | None:
    return LiveGroup(part).stable()


def loaded(part: GroupPart) -> GroupPart:
    """All that was there when it began is committed, and read."""
    stored = StoredGroups()
    for offset, entry in enumerate(part.log[: part.load_end]):
        if entry.label is None:
            stored.end(entry.producer_id, offset, commits=entry.commits)
            continue
        record = OffsetRecord(GROUP, KEY, value_of(entry.label))
        read = decode(encode_key(record), encode_value(record), offset)
        assert read is not None
        if entry.producer_id < 0:
            stored.take(read, offset)
        else:
            stored.stage(read, entry.producer_id)
    return part._replace(load_end=-1, memory=frozen(stored.offsets(GROUP)))


def takes_markers(part: GroupPart) -> bool:
    """Not while it is being read: what is read would be without them (KAFKA-17507)."""
    return part.serves


def marker_end(part: GroupPart, producer_id: int) -> int:
    """What comes after the last marker of this producer; -1: there is none."""
    ends = [
        offset + 1
        for offset, entry in enumerate(part.log)
        if entry.label is None and entry.producer_id == producer_id
    ]
    return max(ends, default=-1)


# --- what the log says ---------------------------------------------------------------------------


def marker_of(log: tuple[Entry, ...], offset: int) -> int | None:
    """Where the transaction ends that this record is of."""
    producer_id = log[offset].producer_id
    for other in range(offset + 1, len(log)):
        if log[other].label is None and log[other].producer_id == producer_id:
            return other
    return None


def replay(log: tuple[Entry, ...], high_watermark: int) -> Memory:
    """What whoever has seen all of the log knows. (Not by way of the core's table.)"""
    committed: list[tuple[int, Label]] = []
    staged, ending = {}, {}
    for offset, entry in enumerate(log):
        if entry.label is None:
            continue
        if entry.producer_id < 0:
            if offset < high_watermark:
                committed.append((offset, entry.label))
            continue
        end, value = marker_of(log, offset), value_of(entry.label, offset)
        if end is None:
            staged[entry.producer_id] = (entry.producer_id, KEY, value)
        elif end >= high_watermark:
            ending[end] = (end, log[end].commits, KEY, value)
        elif log[end].commits:
            committed.append((offset, entry.label))
    newest = [(KEY, value_of(label, offset)) for offset, label in committed[-1:]]
    return Memory(tuple(newest), tuple(sorted(staged.values())), tuple(sorted(ending.values())))
