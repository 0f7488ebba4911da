"""How many fields a message may have, counted before protobuf makes objects of them.

A message of a few megabytes can have millions of fields, each of which becomes an object; protobuf
reads it in one go, and holds the interpreter meanwhile. So a message that is not short is walked
through first, by the descriptors of its type: two bytes of it are one field at least.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from minikafka.errors import InvalidRequestError

SHORT_BYTES = 4 * 1024  # so few fields are nothing to speak of
_PACE_FIELDS = 1_000
_MAX_VARINT_SHIFT = 63


def check_fields(
    raw: bytes, kind: type[Message], limit: int, give_way: Callable[[], None] | None = None
) -> int:
    """How many fields the message has, nested ones and the bytes of packed numbers too.
    InvalidRequestError for more than `limit`, DecodeError for what is no message. `give_way` is
    called again and again."""
    count = 0
    parts = [(0, len(raw), kind.DESCRIPTOR)]
    try:
        while parts:
            position, end, descriptor = parts.pop()
            nested = _nested(descriptor)
            while position < end:
                tag, position = _varint(raw, position)
                count += 1
                wire_type = tag & 7
                if wire_type == 2:
                    size, position = _varint(raw, position)
                    inner = nested.get(tag >> 3)
                    if inner is not None:
                        parts.append((position, position + size, inner))
                    elif tag >> 3 in _packed(descriptor):
                        count += size
                    position += size
                elif wire_type == 0:
                    _, position = _varint(raw, position)
                elif wire_type in (1, 5):
                    position += 8 if wire_type == 1 else 4
                else:
                    raise DecodeError(f"wire type {wire_type} is not used by proto3")
                if position > end:
                    raise DecodeError("a field reaches beyond its message")
                if count > limit:
                    raise InvalidRequestError(
                        f"the request has more than {limit} fields: ask for less at once"
                    )
                if give_way is not None and not count % _PACE_FIELDS:
                    give_way()
    except IndexError:
        raise DecodeError("the message ends in the middle of a field") from None
    return count


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > _MAX_VARINT_SHIFT:
            raise DecodeError("a varint of more than ten bytes")


@cache
def _nested(descriptor: Descriptor) -> dict[int, Descriptor]:
    """The fields that are messages, by number."""
    return {
        field.number: field.message_type
        for field in descriptor.fields
        if field.message_type is not None
    }


@cache
def _packed(descriptor: Descriptor) -> frozenset[int]:
    """The fields that are many numbers."""
    texts = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
    return frozenset(
        field.number
        for field in descriptor.fields
        if field.is_repeated and field.message_type is None and field.type not in texts
    )
