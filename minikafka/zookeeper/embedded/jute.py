"""The primitive encoding of the ZooKeeper protocol: big-endian integers, counted bytes and text.

A length of -1 is null. `Reader` walks over one complete record and never looks outside it;
whatever is wrong with its content raises `Malformed`.
"""

from __future__ import annotations

import struct

_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")

pack_int = _INT.pack
pack_long = _LONG.pack

NULL = pack_int(-1)
BOOL = (b"\x00", b"\x01")


class Malformed(Exception):
    """Bytes that are not what they should be: shorter, longer, or not text."""


def pack_buffer(value: bytes | None) -> bytes:
    return NULL if value is None else pack_int(len(value)) + value


def pack_string(value: str) -> bytes:
    encoded = value.encode("utf-8")
    return pack_int(len(encoded)) + encoded


class Reader:
    """Reads one record from its start to its end."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data = data
        self._offset = offset

    @property
    def remaining(self) -> int:
        return len(self._data) - self._offset

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """Several integers at once."""
        try:
            values = layout.unpack_from(self._data, self._offset)
        except struct.error:
            raise Malformed(f"{self.remaining} bytes left, {layout.size} needed") from None
        self._offset += layout.size
        return values

    def int32(self) -> int:
        return self.unpack(_INT)[0]

    def int64(self) -> int:
        return self.unpack(_LONG)[0]

    def flag(self) -> bool:
        return self._take(1) != b"\x00"

    def buffer(self) -> bytes | None:
        length = self.int32()
        if length == -1:
            return None
        return self._take(length)

    def string(self) -> str:
        """Null reads as the empty string: no request of the protocol tells the two apart."""
        value = self.buffer()
        try:
            return "" if value is None else value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"not UTF-8: {error}") from None

    def count(self) -> int:
        """The number of elements of a vector; null counts as none."""
        count = self.int32()
        if count < -1 or count > self.remaining:  # every element takes at least a byte
            raise Malformed(f"a vector of {count} elements in {self.remaining} bytes")
        return max(count, 0)

    def strings(self) -> tuple[str, ...]:
        return tuple(self.string() for _ in range(self.count()))

    def _take(self, length: int) -> bytes:
        end = self._offset + length
        if length < 0 or end > len(self._data):
            raise Malformed(f"{self.remaining} bytes left, {length} needed")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken
