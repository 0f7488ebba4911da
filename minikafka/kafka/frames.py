"""Cutting a byte stream into frames. Sans-io: bytes in, frames out.

    frame   length (int32, of what follows), then so many bytes

A frame that lies in one piece of the stream comes as a memoryview of that piece; one that does not
is put together of its pieces, and takes memory for what has arrived of it, not for what is claimed.
A large one goes into a mapping, of which the system makes memory as it is written to: joining it at
the end would hold up everybody else. A length that is negative or larger than the limit raises
MalformedRequestError: there is no way to go on after that.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from minikafka.kafka.wire import INT32, MalformedRequestError

_HTTP = (b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"CONN", b"PRI ")
_MIN_BYTES = 8  # API key, version, correlation id
_LARGE_BYTES = 4 * 1024 * 1024
_SMALL_PIECE_BYTES = 16 * 1024


def what_it_may_be(head: bytes) -> str:
    """What else than Kafka's protocol begins with these bytes, behind a semicolon; or nothing."""
    if head[:2] == b"\x16\x03":
        return "; it looks like TLS, which this listener does not speak"
    if head[:4] in _HTTP:
        return "; it looks like HTTP"
    return ""


class _Pieces:
    """A frame of moderate size. Small pieces are gathered, or a stream of single bytes would take
    many times what it has."""

    def __init__(self) -> None:
        self._pieces: list[memoryview | bytearray] = []

    def add(self, piece: memoryview, at: int) -> None:
        if len(piece) >= _SMALL_PIECE_BYTES:
            self._pieces.append(piece)
        elif self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += piece
        else:
            self._pieces.append(bytearray(piece))

    def frame(self) -> memoryview:
        return memoryview(b"".join(self._pieces))


class _Mapping:
    """A large frame."""

    def __init__(self, size: int) -> None:
        self._mapping = mmap.mmap(-1, size)

    def add(self, piece: memoryview, at: int) -> None:
        self._mapping[at : at + len(piece)] = piece

    def frame(self) -> memoryview:
        return memoryview(self._mapping)


def _unfinished(size: int) -> _Pieces | _Mapping:
    if size >= _LARGE_BYTES:
        try:
            return _Mapping(size)
        except OSError:
            pass  # a system that counts what is not used yet
    return _Pieces()


class FrameSplitter:
    """`_head`: the first bytes of a length; `_frame`: an unfinished frame, of which `_filled` bytes
    are there of `_size`. At most one of the two is in use. `unfinished_count`: how many frames
    began without ending in the same piece; so one is told from the next."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._head = b""
        self._frame: _Pieces | _Mapping | None = None
        self._filled = 0
        self._size = 0
        self.unfinished_count = 0

    @property
    def held_bytes(self) -> int:
        """What an unfinished frame takes."""
        return 0 if self._frame is None else self._filled

    @property
    def size_bytes(self) -> int:
        """How large the unfinished frame claims to be; 0 if there is none."""
        return 0 if self._frame is None else self._size

    @property
    def missing_bytes(self) -> int:
        return 0 if self._frame is None else self._size - self._filled

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """The frames that are complete with this piece of the stream."""
        view = memoryview(data)
        position, end = 0, len(view)
        while position < end:
            if self._frame is not None:
                position = self._fill(self._frame, view, position)
                if self._filled == self._size:
                    frame, self._frame = self._frame.frame(), None
                    yield frame
                continue
            missing = INT32.size - len(self._head)
            self._head += bytes(view[position : position + missing])
            position = min(end, position + missing)
            if len(self._head) < INT32.size:
                return
            size = self._checked_size(self._head)
            self._head = b""
            if end - position >= size:
                yield view[position : position + size]
                position += size
            else:
                self._frame, self._filled, self._size = _unfinished(size), 0, size
                self.unfinished_count += 1

    def _fill(self, frame: _Pieces | _Mapping, view: memoryview, position: int) -> int:
        taken = min(len(view) - position, self._size - self._filled)
        frame.add(view[position : position + taken], self._filled)
        self._filled += taken
        return position + taken

    def _checked_size(self, head: bytes) -> int:
        size: int = INT32.unpack(head)[0]
        if not _MIN_BYTES <= size <= self._max_bytes:
            raise MalformedRequestError(
                f"a request of {size} bytes: {_MIN_BYTES} to {self._max_bytes} "
                f"(socket.request.max.bytes) are read{what_it_may_be(head)}"
            )
        return size
