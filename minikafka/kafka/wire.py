"""Reading and writing of the messages that are done by hand: headers, ApiVersions, Produce, Fetch.

A `Reader` walks through one frame. It never reads beyond the end, and never allocates by a length
that it read: whoever sends a wrong one gets a MalformedRequestError, upon which the connection is
closed. Byte strings come as memoryviews of the frame.

Items of arrays are counted over a whole request, nested ones too: MAX_ITEMS and MAX_TAGS are what
one may have. (Kafka lets each array have a million; but here what is read of an item is a thousand
bytes of objects, which the garbage collector walks through while nobody else can do anything.) More
than a reader was given to read quickly is a LongRequestError: the same bytes are then read beside
the loop, by a PacedReader.

Types are those of Kafka's protocol guide; `compact` ones have a length plus one as unsigned varint,
0 for null (KIP-482).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import TypeVar

from minikafka.turns import give_way

T = TypeVar("T")

INT8 = Struct(">b")
INT16 = Struct(">h")
INT32 = Struct(">i")
INT64 = Struct(">q")
HEADER = Struct(">hhi")  # API key, version, correlation id: how each request begins
_MAX_VARINT_BYTES = 5
_MAX_LENGTH = 2**31 - 1
_ONE_BYTE = [bytes((value,)) for value in range(0x80)]
_MAX_STRING_BYTES = 2**15 - 1  # of compact ones too, as in Kafka

MAX_ITEMS = 20_000  # no request of a cluster that this can be needs more
MAX_TAGS = 10_000
NUMBERS_IN_ITEM = 10
PACE_ITEMS = 100  # a fraction of a millisecond's work


class MalformedRequestError(Exception):
    """The bytes are not a request that this broker can read."""


class LongRequestError(Exception):
    """The request has more items than are read on the loop."""


class Reader:
    """A cursor in a frame. `flexible`: strings, arrays and bytes are compact, and tags follow.
    `quick_items`: how many items of arrays may be read before it is a LongRequestError."""

    __slots__ = ("data", "flexible", "items_left", "position", "quick", "tags_left")

    def __init__(
        self,
        data: memoryview,
        position: int = 0,
        *,
        flexible: bool = False,
        quick_items: int = MAX_ITEMS,
    ) -> None:
        self.data = data
        self.position = position
        self.flexible = flexible
        self.quick = quick_items < MAX_ITEMS
        self.items_left = quick_items
        self.tags_left = MAX_TAGS

    def within(self, data: memoryview) -> Reader:
        """One for a part of the message, which has what is left of items and tags."""
        part = type(self)(data, flexible=self.flexible)
        part.quick, part.items_left, part.tags_left = self.quick, self.items_left, self.tags_left
        return part

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
        position = self.position
        if position < len(self.data) and (byte := self.data[position]) < 0x80:  # nearly always
            self.position = position + 1
            return byte
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
        if size > _MAX_STRING_BYTES:
            raise MalformedRequestError(f"a string has {size} bytes: {_MAX_STRING_BYTES} are read")
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
        """An item has at least one byte: a count that claims more than there are is refused."""
        count = self.varint() - 1 if self.flexible else self.int32()
        if count < 0:
            if count < -1:
                raise MalformedRequestError(f"an array has {count} items")
            return None
        left = len(self.data) - self.position
        if count > left:
            raise MalformedRequestError(f"an array claims {count} items, and {left} bytes are left")
        self._count_items(count)
        return self._items(read_item, count)

    def nullable_numbers(self, layout: Struct) -> list[int] | None:
        """An array of numbers, which are read in one go: NUMBERS_IN_ITEM count as one item."""
        count = self.varint() - 1 if self.flexible else self.int32()
        if count < 0:
            if count < -1:
                raise MalformedRequestError(f"an array has {count} items")
            return None
        raw = self.take(count * layout.size)
        self._count_items(-(-count // NUMBERS_IN_ITEM))
        return [number for (number,) in layout.iter_unpack(raw)]

    def _count_items(self, count: int) -> None:
        self.items_left -= count
        if self.items_left < 0:
            if self.quick:
                raise LongRequestError
            raise MalformedRequestError(f"a request has more than {MAX_ITEMS} items")

    def _items(self, read_item: Callable[[Reader], T], count: int) -> list[T]:
        return [read_item(self) for _ in range(count)]

    def array(self, read_item: Callable[[Reader], T]) -> list[T]:
        """A null array reads as an empty one."""
        return self.nullable_array(read_item) or []

    def tag_count(self) -> int:
        """How many tagged fields follow."""
        count = self.varint()
        self.tags_left -= count
        if self.tags_left < 0:
            raise MalformedRequestError(f"a request has more than {MAX_TAGS} tagged fields")
        return count

    def tags(self) -> None:
        """Skip tagged fields; nothing in a message that is not flexible."""
        if not self.flexible:
            return
        for _ in range(self.tag_count()):
            self.varint()
            self.take(self.varint())


class PacedReader(Reader):
    """For a thread beside the loop: it gives the interpreter away again and again, so that the loop
    does not wait for it."""

    __slots__ = ()

    def _items(self, read_item: Callable[[Reader], T], count: int) -> list[T]:
        items = []
        for number in range(count):
            if number % PACE_ITEMS == PACE_ITEMS - 1:
                give_way()
            items.append(read_item(self))
        return items


def varint(value: int) -> bytes:
    """An unsigned varint."""
    assert 0 <= value <= _MAX_LENGTH
    if value <= 0x7F:  # nearly always
        return _ONE_BYTE[value]
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
