"""Cutting a byte stream into frames. Sans-io: bytes in, frames out.

    frame   length (int32, of what follows), then so many bytes

A frame that lies in one piece of the stream comes as a memoryview of that piece; one that does not
is put together in a buffer of its own size, each byte copied once. A length that is negative or
larger than the limit raises MalformedRequestError: there is no way to go on after that.
"""

from __future__ import annotations

from collections.abc import Iterator

from minikafka.kafka.wire import INT32, MalformedRequestError

_MIN_BYTES = 8  # API key, version, correlation id


class FrameSplitter:
    """`_head`: the first bytes of a length; `_frame`: an unfinished frame, of which `_filled` bytes
    are there. At most one of the two is in use."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._head = b""
        self._frame: bytearray | None = None
        self._filled = 0

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """The frames that are complete with this piece of the stream."""
        view = memoryview(data)
        position, end = 0, len(view)
        while position < end:
            if self._frame is not None:
                position = self._fill(view, position)
                if self._filled == len(self._frame):
                    yield memoryview(self._frame)
                    self._frame = None
                continue
            missing = INT32.size - len(self._head)
            self._head += bytes(view[position : position + missing])
            position = min(end, position + missing)
            if len(self._head) < INT32.size:
                return
            size = self._size(self._head)
            self._head = b""
            if end - position >= size:
                yield view[position : position + size]
                position += size
            else:
                self._frame, self._filled = bytearray(size), 0

    def _fill(self, view: memoryview, position: int) -> int:
        assert self._frame is not None
        taken = min(len(view) - position, len(self._frame) - self._filled)
        self._frame[self._filled : self._filled + taken] = view[position : position + taken]
        self._filled += taken
        return position + taken

    def _size(self, head: bytes) -> int:
        size: int = INT32.unpack(head)[0]
        if not _MIN_BYTES <= size <= self._max_bytes:
            raise MalformedRequestError(
                f"a request of {size} bytes: {_MIN_BYTES} to {self._max_bytes} "
                "(socket.request.max.bytes) are read"
            )
        return size
