"""Reading and writing of the messages that are done by hand: headers, ApiVersions, Produce, Fetch.

A `Reader` walks through one frame. It never reads beyond the end, and never allocates by a length
that it read: whoever sends a wrong one gets a MalformedRequestError, upon which the connection is
closed. Byte strings come as memoryviews of the frame.

Types are those of Kafka's protocol guide; `compact` ones have a length plus one as unsigned varint,
0 for null (KIP-482).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import TypeVar

T = TypeVar("T")

INT8 = Struct(">b")
INT16 = Struct(">h")
INT32 = Struct(">i")
INT64 = Struct(">q")
_MAX_VARINT_BYTES = 5
_MAX_LENGTH = 2**31 - 1


class MalformedRequestError(Exception):
    """The bytes are not a request that this broker can read."""


class Reader:
    """A cursor in a frame. `flexible`: strings, arrays and bytes are compact, and tags follow."""

    __slots__ = ("data", "flexible", "position")

    def __init__(self, data: memoryview, position: int = 0, *, flexible: bool = False) -> None:
        self.data = data
        self.position = position
        self.flexible = flexible

    def unpack(self, layout: Struct) -> tuple[int, ...]:
        """Fixed-size fields in a row."""
        try:
            values = layout.unpack_from(self.data, self.position)
        except StructError:
            raise self._too_short(layout.size) from None
        self.position += layout.size
        return values

    def int16(self) -> int:
        return self.unpack(INT16)[0]

    def int32(self) -> int:
        return self.unpack(INT32)[0]

    def varint(self) -> int:
        """An unsigned varint of at most five bytes."""
        value = 0
        for index in range(_MAX_VARINT_BYTES):
            if self.position >= len(self.data):
                raise self._too_short(1)
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value
        raise MalformedRequestError("a varint has more than five bytes")

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        end = self.position + size
        if size < 0 or end > len(self.data):
            raise self._too_short(size)
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def _too_short(self, wanted: int) -> MalformedRequestError:
        left = len(self.data) - self.position
        return MalformedRequestError(f"{wanted} bytes are expected and {left} are left")

    def nullable_string(self) -> str | None:
        size = self.varint() - 1 if self.flexible else self.int16()
        if size == -1:
            return None
        try:
            return str(self.take(size), "utf-8")
        except UnicodeDecodeError:
            raise MalformedRequestError("a string is not valid UTF-8") from None

    def string(self) -> str:
        value = self.nullable_string()
        if value is None:
            raise MalformedRequestError("a string that must be there is null")
        return value

    def nullable_bytes(self) -> memoryview | None:
        size = self.varint() - 1 if self.flexible else self.int32()
        return None if size == -1 else self.take(size)

    def nullable_array(self, read_item: Callable[[Reader], T]) -> list[T] | None:
        """The items are read one by one, so that a count that is too large costs nothing."""
        count = self.varint() - 1 if self.flexible else self.int32()
        if count < -1:
            raise MalformedRequestError(f"an array has {count} items")
        return None if count == -1 else [read_item(self) for _ in range(count)]

    def array(self, read_item: Callable[[Reader], T]) -> list[T]:
        """A null array reads as an empty one."""
        return self.nullable_array(read_item) or []

    def tags(self) -> None:
        """Skip tagged fields; nothing in a message that is not flexible."""
        if not self.flexible:
            return
        for _ in range(self.varint()):
            self.varint()
            self.take(self.varint())


def varint(value: int) -> bytes:
    """An unsigned varint."""
    assert 0 <= value <= _MAX_LENGTH
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(value: str | None, *, flexible: bool) -> bytes:
    """A nullable string."""
    if value is None:
        return b"\x00" if flexible else b"\xff\xff"
    encoded = value.encode()
    length = varint(len(encoded) + 1) if flexible else INT16.pack(len(encoded))
    return length + encoded


def byte_string(value: bytes | None, *, flexible: bool) -> bytes:
    """A nullable one."""
    size = -1 if value is None else len(value)
    return count(size, flexible=flexible) + (value or b"")


def count(items: int, *, flexible: bool) -> bytes:
    """How many items of an array, or bytes of a byte string, follow; -1 for a null one."""
    return varint(items + 1) if flexible else INT32.pack(items)
