"""Kafka's plain fields, in which consumers and coordinators write what they tell one another: big-
endian numbers; strings with an int16 length, bytes and arrays with an int32 one (-1: null).

Not for the wire protocol (kafka/wire.py), which has compact ones too. No state but the reader's
position.
"""

from __future__ import annotations

from struct import Struct

from minikafka.errors import MessageTooLargeError

INT16 = Struct(">h")
INT32 = Struct(">i")
INT64 = Struct(">q")
_LONGEST_STRING = 2**15 - 1


def string(text: str) -> bytes:
    """MessageTooLargeError for a text longer than the format has."""
    data = text.encode()
    if len(data) > _LONGEST_STRING:
        raise MessageTooLargeError(f"a text of {len(data)} bytes; the format has {_LONGEST_STRING}")
    return INT16.pack(len(data)) + data


def optional_string(text: str | None) -> bytes:
    return INT16.pack(-1) if text is None else string(text)


def blob(data: bytes) -> bytes:
    return INT32.pack(len(data)) + data


class FieldReader:
    """Raises struct.error or ValueError where the data end too soon."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position >= len(self._data)

    def int16(self) -> int:
        return self._number(INT16)

    def int32(self) -> int:
        return self._number(INT32)

    def int64(self) -> int:
        return self._number(INT64)

    def _number(self, kind: Struct) -> int:
        value: int = kind.unpack_from(self._data, self._position)[0]
        self._position += kind.size
        return value

    def string(self) -> str:
        return self._take(self.int16()).decode()

    def optional_string(self) -> str | None:
        length = self.int16()
        return None if length < 0 else self._take(length).decode()

    def blob(self) -> bytes:
        """Null reads as empty."""
        return self._take(max(self.int32(), 0))

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if length < 0 or end > len(self._data):
            raise ValueError(f"a length of {length} at byte {self._position}")
        taken = self._data[self._position : end]
        self._position = end
        return taken
