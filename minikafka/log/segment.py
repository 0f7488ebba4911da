"""One segment of a log: a file of whole batches, named by its base offset, with its two indexes.

State: the size up to which the file counts (never more than was appended wholly: readers are
bounded by it, not by the file's own size), the next offset, the largest timestamp, and
- while it is *active* (the last of its log): an open file (unless others need it more), the indexes
  in memory. If it is not used for long it *rests* (open_files.py): no open file, and the indexes
  packed, in memory if they are small, otherwise in their files;
- once it is *closed*: no open file and no index in memory; the index files are searched on disk.

Invariants: an active segment has index files only while it rests; one with an open file does not
rest; positions of batch boundaries ascend with offsets; base_offset <= offsets < next_offset;
the index of a closed segment is checked before it is first used and rebuilt if it is missing or
wrong. Every method raises OSError when the disk fails; the log turns that into a fence.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from struct import Struct

from minikafka.errors import CorruptMessageError
from minikafka.log.files import FILE_MODE, Buffer, Disk
from minikafka.log.index import NO_ENTRIES, OFFSET_ENTRY, TIME_ENTRY, IndexFile, SegmentIndex
from minikafka.log.open_files import OpenFiles
from minikafka.log.scan import scan
from minikafka.model import BatchHeader
from minikafka.records.header import HEADER_BYTES, LENGTH_PREFIX_BYTES, parse_header

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
SNAPSHOT_SUFFIX = ".snapshot"
TRANSACTION_INDEX_SUFFIX = ".txnindex"
_SUFFIXES = (
    LOG_SUFFIX,
    INDEX_SUFFIX,
    TIME_INDEX_SUFFIX,
    SNAPSHOT_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
)
NO_TIMESTAMP = -1

_HOP = Struct(">qi11xi")  # base offset, batch length, last offset delta
_HOP_CHUNK_BYTES = 4096
_REBUILD_INTERVAL_BYTES = 4096
_CLOSED = -1
_PACKED_ENTRIES = 32  # above it a resting segment has its indexes in files
_MAX_ENTRY = 2**32 - 1  # above it an index entry cannot be made (earlier versions let that happen)
_OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
_IN_FILES = (b"in", b"files")  # where the indexes of a resting segment are, told by identity


def offset_name(offset: int, suffix: str) -> str:
    """Kafka's file name for what begins at `offset`: twenty digits and the suffix."""
    return f"{offset:020d}{suffix}"


class Segment:
    """See the module. Only the log's thread may use it."""

    __slots__ = (
        "_bytes_since_entry",
        "_directory",
        "_disk",
        "_fd",
        "_hints",
        "_index",
        "_index_checked",
        "_max_timestamp",
        "_packed",
        "active",
        "base_offset",
        "cuts",
        "first_timestamp_ms",
        "next_offset",
        "open_files",
        "size_bytes",
        "suffix",
        "used",
    )

    def __init__(
        self, disk: Disk, directory: Path, base_offset: int, size_bytes: int, next_offset: int
    ) -> None:
        self._disk = disk
        self._directory = str(directory)  # of which all segments of a log share one
        self._fd = _CLOSED
        self._index = NO_ENTRIES
        self._index_checked = False
        self._bytes_since_entry = 0
        self._packed: tuple[bytes, bytes] | None = None  # while it rests
        self._hints: dict[int, int] | None = None  # of its log, to be forgotten when it rests
        self._max_timestamp: tuple[int, int] | None = None  # (timestamp_ms, offset); None: unread
        self.active = False
        self.open_files: OpenFiles | None = None  # who may ask an active one to let go of its file
        self.used = False
        self.cuts: tuple[int, ...] = ()  # positions at which the file was cut, for who sends of it
        self.suffix = ""  # of its file names while it is not in place (swap.py)
        self.base_offset = base_offset
        self.size_bytes = size_bytes
        self.next_offset = next_offset
        self.first_timestamp_ms = NO_TIMESTAMP

    @classmethod
    def create(cls, disk: Disk, directory: Path, base_offset: int, suffix: str = "") -> Segment:
        """A new, empty, active segment."""
        segment = cls(disk, directory, base_offset, 0, base_offset)
        segment.suffix = suffix
        segment._fd = disk.open(segment.path, _OPEN_FLAGS | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        segment.active = True
        segment._max_timestamp = (NO_TIMESTAMP, base_offset)
        return segment

    def __repr__(self) -> str:
        return f"Segment({self.base_offset}..{self.next_offset}, {self.size_bytes} bytes)"

    @property
    def path(self) -> Path:
        return self.file(LOG_SUFFIX)

    def file(self, suffix: str) -> Path:
        return Path(self._name(suffix))

    def _name(self, suffix: str) -> str:
        """The same as text: every read of a closed segment opens by it."""
        return f"{self._directory}/{offset_name(self.base_offset, suffix + self.suffix)}"

    def modified_ms(self) -> int:
        """When the file was last written, by the wall clock."""
        return self._disk.stat(self.path).st_mtime_ns // 1_000_000

    def chance(self) -> float:
        """A number from 0 to 1, 1 excluded: another for each segment, always the same for one."""
        return zlib.crc32(self._name(LOG_SUFFIX).encode()) / 2**32

    def files(self) -> list[Path]:
        """Every file that belongs to it, the log first."""
        return [self.file(suffix) for suffix in _SUFFIXES]

    # --- appending -------------------------------------------------------------------------------

    def append(
        self,
        buffers: Sequence[Buffer],
        headers: Sequence[BatchHeader],
        size_bytes: int,
        index_interval_bytes: int,
    ) -> None:
        """Write the batches and count them. After an OSError nothing of them counts. Needs
        `acquire`."""
        self._disk.write_all(self._fd, buffers, size_bytes)
        position = self.size_bytes
        if position == 0:
            self.first_timestamp_ms = headers[0].max_timestamp_ms
        for header in headers:
            self._count(header, position, index_interval_bytes)
            position += header.size_bytes
        assert position == self.size_bytes + size_bytes
        self.size_bytes = position
        self.next_offset = headers[-1].next_offset

    def _count(self, header: BatchHeader, position: int, index_interval_bytes: int) -> None:
        """Enter a batch into indexes and maximum timestamp."""
        assert self._max_timestamp is not None
        if self._bytes_since_entry > index_interval_bytes:
            self._own_index().add(header.last_offset - self.base_offset, position)
            self._add_time_entry()
            self._bytes_since_entry = 0
        self._bytes_since_entry += header.size_bytes
        if header.max_timestamp_ms > self._max_timestamp[0] and header.record_count:
            self._max_timestamp = (header.max_timestamp_ms, header.last_offset)

    def _add_time_entry(self) -> None:
        assert self._max_timestamp is not None
        timestamp_ms, offset = self._max_timestamp
        self._own_index().add_time(timestamp_ms, max(offset - self.base_offset, 0))

    def _own_index(self) -> SegmentIndex:
        """To be added to."""
        if self._index is NO_ENTRIES:
            self._index = SegmentIndex()
        return self._index

    def cut_back(self) -> None:
        """Take what a failed append left behind off the file."""
        self.acquire()
        self._disk.ftruncate(self._fd, self.size_bytes)

    def index_is_full(self, segment_index_bytes: int) -> bool:
        """As full as the two index files may get."""
        return (
            len(self._index) >= segment_index_bytes // OFFSET_ENTRY.size
            or len(self._index.timestamps) >= segment_index_bytes // TIME_ENTRY.size - 1
        )

    def write_indexes(self, durable: bool = False) -> None:
        """Write the indexes of an active segment, ending with its largest timestamp."""
        assert self.active
        if self._packed is _IN_FILES:
            return  # they say what they are to say, or are made anew when they are first used
        self._unpack()
        if self.size_bytes:
            self._add_time_entry()
        self._disk.write_file(self.file(INDEX_SUFFIX), self._index.encode_offsets(), durable)
        self._disk.write_file(self.file(TIME_INDEX_SUFFIX), self._index.encode_times(), durable)

    def deactivate(self, write_indexes: bool = True) -> None:
        """Make it a closed segment (or let go of it, on close)."""
        if write_indexes and self.active:
            self.write_indexes()
            self._index_checked = True
        fd, self._fd = self._fd, _CLOSED  # closed, whatever the system says to it
        self._index, self._packed, self._hints = NO_ENTRIES, None, None
        self.active = False
        if self.open_files is not None:
            self.open_files.closed(self)
            self.open_files = None
        if fd != _CLOSED:
            self._disk.close(fd)

    def seal(self) -> None:
        """Make an active segment a closed one that is wholly on the disk, indexes and all."""
        self.write_indexes(durable=True)
        self._disk.fsync(self._fd)
        self.deactivate(write_indexes=False)
        self._index_checked = True

    # --- finding ---------------------------------------------------------------------------------

    def acquire(self) -> int:
        """An open file for reading, of an active segment also for writing; `release` it in a
        finally."""
        self.used = True
        if self._fd == _CLOSED:
            self._open()
        return self._fd

    def _open(self) -> None:
        flags = _OPEN_FLAGS if self.active else os.O_RDONLY | os.O_CLOEXEC
        self._fd = self._disk.open(self._name(LOG_SUFFIX), flags)
        if self._packed is not None:
            try:
                self._wake()
            except BaseException:
                self.let_go()
                raise
        if self.open_files is not None:
            self.open_files.opened(self)

    def share(self, open_files: OpenFiles, hints: dict[int, int]) -> None:
        """It is the active segment of a log now: one of those whose open files are counted.
        `hints`: what that log remembers of positions, to be forgotten when it rests."""
        self.open_files = open_files
        self._hints = hints
        if self._fd != _CLOSED:
            open_files.opened(self)

    def release(self) -> None:
        if not self.active and self._fd != _CLOSED:
            fd, self._fd = self._fd, _CLOSED
            self._disk.close(fd)

    # --- resting ---------------------------------------------------------------------------------

    def let_go(self) -> None:
        """See open_files.py."""
        fd, self._fd = self._fd, _CLOSED
        if fd != _CLOSED:
            self._disk.close(fd)

    def rest(self) -> None:
        """See open_files.py."""
        if not self.rest_if_small():
            self.let_go()
            self.write_indexes()  # if that fails, files may be left: the next ones take their place
            self._index, self._packed = NO_ENTRIES, _IN_FILES

    def rest_if_small(self) -> bool:
        """Rest, unless the indexes would have to be written for it. OSError if the file was not
        closed well, but it is closed."""
        if self._hints is not None:
            self._hints.clear()
        index = self._index
        if len(index) + len(index.timestamps) > _PACKED_ENTRIES:
            return False
        if index is not NO_ENTRIES:
            self._packed = (index.encode_offsets(), index.encode_times())
            self._index = NO_ENTRIES
        self.let_go()
        return True

    def _unpack(self) -> None:
        """Take the indexes back into memory that were kept in few bytes."""
        if self._packed is not None:
            index = SegmentIndex.decode(*self._packed)
            assert index is not None, self
            self._index, self._packed = index, None

    def _wake(self) -> None:
        """The opposite of `rest`, with the file open. Indexes that were lost are made anew."""
        if self._packed is not _IN_FILES:
            self._unpack()
            return
        index = self._load_index()
        if index is None:
            twin = self._made_anew()
            index = twin._index
            twin.deactivate(write_indexes=False)
        self._remove_index_files()
        self._index, self._packed = index, None

    # --- finding in it ---------------------------------------------------------------------------

    def position_of(self, offset: int) -> int:
        """Where the first batch begins that ends above `offset` (so: that holds it, if any does);
        the segment's size if there is none. Needs `acquire`."""
        if offset >= self.next_offset:
            return self.size_bytes
        position = self._floor(max(offset - self.base_offset, 0), 0)
        return self._hop(position, lambda base, end, after: end > offset)[0]

    def last_boundary(self, start: int, limit: int) -> tuple[int, int]:
        """(position, offset) of the last batch boundary at or below position `limit`, but at least
        one batch after `start`, which is a boundary below it. Needs `acquire`."""
        if limit >= self.size_bytes:
            return self.size_bytes, self.next_offset
        position = max(self._floor(limit, 1), start)
        position, base, end, after = self._hop(position, lambda base, end, after: after > limit)
        return (position, base) if position > start else (after, end)

    def offset_at(self, position: int) -> int:
        """The offset with which the batch at this boundary begins; at the end, the next offset.
        Needs `acquire`."""
        if position >= self.size_bytes:
            return self.next_offset
        return self._hop(position, lambda base, end, after: True)[1]

    def _hop(
        self, position: int, found: Callable[[int, int, int], bool]
    ) -> tuple[int, int, int, int]:
        """From a boundary on, the first batch for which found(base offset, next offset, position
        after it): (its position, and those three); at the end, (size, next offset, ...)."""
        buffer, buffer_start = b"", position
        while position < self.size_bytes:
            at = position - buffer_start
            if at + _HOP.size > len(buffer):
                buffer, at = self._disk.pread(self._fd, _HOP_CHUNK_BYTES, position), 0
                buffer_start = position
                if len(buffer) < _HOP.size:
                    raise OSError(f"the file ends at {position + len(buffer)}, inside a batch")
            base, length, last_delta = _HOP.unpack_from(buffer, at)
            after = position + length + LENGTH_PREFIX_BYTES
            if found(base, base + last_delta + 1, after):
                return position, base, base + last_delta + 1, after
            if after <= position:
                raise OSError(f"the batch at position {position} claims {length} bytes")
            position = after
        return self.size_bytes, self.next_offset, self.next_offset, self.size_bytes

    def _floor(self, value: int, field: int) -> int:
        """The position of the last offset entry with relative offset (field 0) or position (field
        1) at or below `value`."""
        if self.active:
            index = self._index
            return (index.floor_position(value) if field else index.floor_offset(value))[1]
        self._check_index()
        entry = self._search(INDEX_SUFFIX, OFFSET_ENTRY, value, field)
        return entry[1] if entry else 0

    def _search(self, suffix: str, entry: Struct, value: int, field: int) -> tuple[int, int] | None:
        """`IndexFile.floor` in one of the index files of a closed segment."""
        fd = self._disk.open(self._name(suffix), os.O_RDONLY | os.O_CLOEXEC)
        try:
            size_bytes = self._disk.size_of(self._name(suffix))
            index = IndexFile(lambda size, at: self._disk.pread(fd, size, at), size_bytes, entry)
            return index.floor(value, field)
        finally:
            self._disk.close(fd)

    def read(self, start: int, end: int) -> bytes:
        """The bytes between two positions. Needs `acquire`."""
        data = self._disk.pread(self._fd, end - start, start)
        while len(data) < end - start:
            more = self._disk.pread(self._fd, end - start - len(data), start + len(data))
            if not more:
                raise OSError(f"the file ends at {start + len(data)}; {end} bytes were appended")
            data += more
        return data

    def headers(self, offset: int) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) from the batch that holds `offset` on. Damage is an OSError here:
        these batches have been checked when they came."""
        self.acquire()
        try:
            position = self.position_of(offset)
            yield from scan(self._disk, self._fd, position, self.size_bytes)
        except CorruptMessageError as error:
            raise OSError(str(error)) from error
        finally:
            self.release()

    # --- timestamps ------------------------------------------------------------------------------

    def max_timestamp(self) -> tuple[int, int]:
        """(largest timestamp, last offset of the first batch that has it); (-1, ...) if empty."""
        if self._max_timestamp is None:
            self._check_index()
        if self._max_timestamp is None:
            content = self._disk.read_file(self.file(TIME_INDEX_SUFFIX))[-TIME_ENTRY.size :]
            timestamp_ms, offset = TIME_ENTRY.unpack(content)
            self._max_timestamp = (timestamp_ms, self.base_offset + offset)
        return self._max_timestamp

    def offset_before_timestamp(self, timestamp_ms: int) -> int:
        """An offset below which no record is as new as `timestamp_ms`."""
        if self.active:
            self.acquire()
            return self.base_offset + self._index.offset_before_timestamp(timestamp_ms)
        self._check_index()
        entry = self._search(TIME_INDEX_SUFFIX, TIME_ENTRY, timestamp_ms - 1, 0)
        return self.base_offset + (entry[1] if entry else 0)

    # --- opening, truncating, rebuilding ---------------------------------------------------------

    def activate(self, index_interval_bytes: int) -> None:
        """Make a closed, intact segment the active one: load the indexes or rebuild them, and count
        the batches after the last entry. Raises CorruptMessageError at a bad batch."""
        self.become_active()
        index = self._load_index()
        if index is None:
            self.rebuild(None, index_interval_bytes)
            return
        self._remove_index_files()
        self._index = index
        self._read_first_timestamp()
        timestamp_ms, offset = (
            (index.timestamps[-1], index.time_offsets[-1])
            if index.timestamps
            else (NO_TIMESTAMP, 0)
        )
        self._max_timestamp = (timestamp_ms, self.base_offset + offset)
        self._recount(index.positions[-1] if len(index) else 0, index_interval_bytes)

    def become_active(self) -> None:
        """Open a closed segment for appending, its indexes still to be loaded or rebuilt."""
        assert (self.active, self._fd) == (False, _CLOSED)
        self._fd = self._disk.open(self.path, _OPEN_FLAGS)
        self.active = True

    def rebuild(
        self,
        verify_from_offset: int | None,
        index_interval_bytes: int,
        on_header: Callable[[BatchHeader], None] = lambda header: None,
    ) -> None:
        """Walk over the whole file, checking CRCs from `verify_from_offset` on, and make index,
        next offset and largest timestamp anew. Raises CorruptMessageError at the first bad batch;
        size and next offset then cover what is before it. Needs an active segment."""
        assert self.active
        self._remove_index_files()
        end = self.size_bytes
        self._index = NO_ENTRIES
        self._bytes_since_entry = 0
        self._max_timestamp = (NO_TIMESTAMP, self.base_offset)
        self.first_timestamp_ms = NO_TIMESTAMP
        self.size_bytes, self.next_offset = 0, self.base_offset
        for position, header in scan(self._disk, self._fd, 0, end, verify_from_offset):
            if header.base_offset < self.next_offset:
                raise CorruptMessageError(
                    f"record batch at position {position} has base offset {header.base_offset}; "
                    f"at least {self.next_offset} was due"
                )
            self._check_range(header, position)
            if position == 0:
                self.first_timestamp_ms = header.max_timestamp_ms
            self._count(header, position, index_interval_bytes)
            self.size_bytes = position + header.size_bytes
            self.next_offset = header.next_offset
            on_header(header)

    def truncate(self, offset: int, index_interval_bytes: int) -> tuple[int, int]:
        """Cut at the batch that holds `offset` (that batch goes too). Returns the next offset,
        which is `offset` or that batch's base offset, and where the last batch that is left ends:
        below it, if compaction has taken what lay there. Needs an active segment."""
        assert self.active
        self.acquire()
        position = self.position_of(offset)
        if position < self.size_bytes:
            base_offset = parse_header(
                self._disk.pread(self._fd, HEADER_BYTES, position)
            ).base_offset
            offset = min(offset, base_offset)
            self.cuts += (position,)
        self._disk.ftruncate(self._fd, position)
        self.size_bytes, self.next_offset = position, offset
        index = self._index
        index.truncate(offset - self.base_offset, position)
        # The largest timestamp is that of the last entry or of a batch after the entry before it.
        start = index.positions[-1] if len(index) else 0
        self._max_timestamp = (
            (index.timestamps[-1], self.base_offset + index.time_offsets[-1])
            if index.timestamps
            else (NO_TIMESTAMP, self.base_offset)
        )
        self._recount(start, index_interval_bytes)
        covered, self.next_offset = self.next_offset, offset
        if position == 0:
            self.first_timestamp_ms = NO_TIMESTAMP
        return offset, covered

    def _recount(self, start: int, index_interval_bytes: int) -> None:
        """Count the batches from an index entry on (or from 0) to the end; the entry stays."""
        end, self.size_bytes = self.size_bytes, start
        self.next_offset = self.base_offset
        self._bytes_since_entry = 0
        for position, header in scan(self._disk, self._fd, start, end):
            self._check_range(header, position)
            self._count(header, position, index_interval_bytes)
            self.size_bytes = position + header.size_bytes
            self.next_offset = header.next_offset

    def _check_range(self, header: BatchHeader, position: int) -> None:
        """OSError for a batch that does not fit the segment's index. Not CorruptMessageError: it is
        not cut, since it may have been acknowledged, and what follows as well."""
        if header.last_offset - self.base_offset > _MAX_ENTRY:
            raise OSError(
                f"the batch at position {position} claims offsets up to {header.last_offset}, "
                f"which a segment that begins at {self.base_offset} cannot hold"
            )

    def _remove_index_files(self) -> None:
        """An active segment has none, so that no old one is ever taken for its own."""
        self._disk.remove(self.file(INDEX_SUFFIX))
        self._disk.remove(self.file(TIME_INDEX_SUFFIX))

    def _read_first_timestamp(self) -> None:
        if self.size_bytes >= HEADER_BYTES:
            header = parse_header(self._disk.pread(self._fd, HEADER_BYTES, 0))
            self.first_timestamp_ms = header.max_timestamp_ms

    def _check_index(self) -> None:
        """Before the first use of a closed segment's index files: rebuild them unless they fit."""
        if not self._index_checked and self._load_index() is None:
            twin = self._made_anew()
            try:
                twin.write_indexes()
            finally:
                twin.deactivate(write_indexes=False)
            self._max_timestamp = twin._max_timestamp
        self._index_checked = True

    def _made_anew(self) -> Segment:
        """The same segment, active, with indexes made from the file. OSError, also for damage."""
        directory = Path(self._directory)
        twin = Segment(self._disk, directory, self.base_offset, self.size_bytes, self.next_offset)
        twin.become_active()
        try:
            twin.rebuild(None, _REBUILD_INTERVAL_BYTES)
        except BaseException as error:
            twin.deactivate(write_indexes=False)
            if isinstance(error, CorruptMessageError):
                raise OSError(str(error)) from error
            raise
        return twin

    def _load_index(self) -> SegmentIndex | None:
        """The indexes from their files, None unless they are there and fit the segment."""
        try:
            offsets = self._disk.read_file(self.file(INDEX_SUFFIX))
            times = self._disk.read_file(self.file(TIME_INDEX_SUFFIX))
        except FileNotFoundError:
            return None
        index = SegmentIndex.decode(offsets, times)
        if index is None or bool(index.timestamps) != bool(self.size_bytes):
            return None
        if len(index):
            offset, position = index.offsets[-1], index.positions[-1]
            if position + HEADER_BYTES > self.size_bytes:
                return None
            keep_open = self._fd != _CLOSED
            fd = self.acquire()
            try:
                header = parse_header(self._disk.pread(fd, HEADER_BYTES, position))
            except CorruptMessageError:
                return None
            finally:
                if not keep_open:
                    self.release()
            # Earlier versions named the first offset; either leads to where it has to be.
            if self.base_offset + offset not in (header.last_offset, header.base_offset):
                return None
        return index
