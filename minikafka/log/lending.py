"""Ranges of a log's files that are lent to who sends them: the system copies what is in its page
cache to the socket, and no byte of it comes into this process.

A range has a descriptor of its own. So what becomes of the segment meanwhile is nothing to it: its
log lets go of the file, the segment is compacted or deleted, the log is closed. But a file may be
cut and written anew from there on, below what was committed after an unclean election. Segments
keep in mind where they were cut, and a range that goes beyond such a place cannot be sent on: the
half of an answer that its client has would be followed by something else.

State of a range: position and number of the bytes that are left. Invariant: its descriptor is
closed, and its place among the open files given back, exactly once. For the log's thread only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from minikafka.errors import KafkaStorageError, OffsetOutOfRangeError, ResourceShortageError
from minikafka.log.failures import Fence, is_shortage
from minikafka.log.files import Disk
from minikafka.log.open_files import OpenFiles
from minikafka.log.segment import Segment

_CLOSED = -1


class Lender:
    """What a range needs of its log. `on_failed` is told when the disk of it fails."""

    __slots__ = ("disk", "fence", "on_failed", "open_files")

    def __init__(
        self,
        disk: Disk,
        open_files: OpenFiles,
        fence: Fence,
        on_failed: Callable[[KafkaStorageError], None],
    ) -> None:
        self.disk = disk
        self.open_files = open_files
        self.fence = fence
        self.on_failed = on_failed

    def lend(self, segment: Segment, start: int, end: int) -> LentRange | None:
        """What lies between two positions; None: there are no files for it, read it instead. The
        segment is open."""
        if not self.open_files.may_lend:
            return None
        try:
            fd = self.disk.dup(segment.acquire())
        except OSError as error:
            if is_shortage(error):
                return None
            raise
        self.open_files.lend()
        return LentRange(self, segment, fd, start, end)


class LentRange:
    """The FileRange of the API. See the module."""

    __slots__ = ("_cuts_seen", "_end", "_fd", "_lender", "_position", "_segment")

    def __init__(self, lender: Lender, segment: Segment, fd: int, start: int, end: int) -> None:
        self._lender = lender
        self._segment = segment
        self._cuts_seen = len(segment.cuts)
        self._fd = fd
        self._position = start
        self._end = end

    def __repr__(self) -> str:
        return f"LentRange({self._position}..{self._end} of {self._segment})"

    def __len__(self) -> int:
        return self._end - self._position

    def send_to(self, socket_fd: int, max_bytes: int) -> int:
        """See FileRange."""
        self._check_uncut()
        count = min(max_bytes, self._end - self._position)
        try:
            sent = self._lender.disk.sendfile(socket_fd, self._fd, self._position, count)
        except BlockingIOError:
            raise
        except OSError:
            self._check_disk()
            raise
        if sent == 0 < count:
            self._fail(OSError(f"the file ends at {self._position}; {self._end} were appended"))
        self._position += sent
        return sent

    def read(self) -> bytes:
        """See FileRange."""
        self._check_uncut()
        parts: list[bytes] = []
        while self._position < self._end:
            part = self._pread(self._end - self._position)
            if not part:
                self._fail(OSError(f"the file ends at {self._position}; {self._end} were appended"))
            parts.append(part)
            self._position += len(part)
        return b"".join(parts)

    def release(self) -> None:
        """See FileRange."""
        fd, self._fd = self._fd, _CLOSED
        if fd != _CLOSED:
            self._lender.open_files.give_back()
            self._lender.disk.close(fd)

    def _check_uncut(self) -> None:
        cuts = self._segment.cuts
        if len(cuts) > self._cuts_seen and min(cuts[self._cuts_seen :]) < self._end:
            raise OffsetOutOfRangeError(f"{self._segment.path} was cut while it was sent")

    def _check_disk(self) -> None:
        """An error of sendfile is the disk's if the same bytes cannot be read either."""
        self._pread(1)

    def _pread(self, size: int) -> bytes:
        try:
            return self._lender.disk.pread(self._fd, size, self._position)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        try:
            self._lender.fence.on_read_failed("read", error)
        except ResourceShortageError:
            raise
        except KafkaStorageError as failure:
            self._lender.on_failed(failure)
            raise
