"""Reading any request by kio's definition of it: field names, types, versions, tags.

kio has readers of its own, in native code, which allocate by whatever count an array claims to
have: four wrong bytes end the process. So only its definitions are used here (definitions.py), and
the bytes are read by `wire.Reader`, which believes no length.

A request becomes a namespace with kio's field names. Integers, text, booleans and UUIDs (None for
the zero one) are what they are; durations and times are milliseconds, error codes numbers, byte
strings `bytes`, arrays lists (None for null). Tags that the definition does not know are skipped.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from struct import Struct
from types import SimpleNamespace
from typing import Any

from minikafka.kafka.definitions import FIXED, UUID_BYTES, Definition, Field, fields_of
from minikafka.kafka.wire import MalformedRequestError, Reader

Read = Callable[[Reader], Any]


def reader_of(definition: Definition) -> Read:
    """What reads a whole message, or a structure in one, of this definition."""
    plain: list[tuple[str, Read]] = []
    tagged: dict[int, tuple[str, Read]] = {}
    missing: dict[str, Any] = {}
    for each in fields_of(definition):
        if each.tag is None:
            plain.append((each.name, _reader(each)))
        else:
            tagged[each.tag] = (each.name, _reader(each))
            missing[each.name] = None if each.default is MISSING else each.default

    def read(reader: Reader) -> SimpleNamespace:
        values = {name: read_field(reader) for name, read_field in plain}
        if reader.flexible:
            values |= missing
            _read_tags(reader, tagged, values)
        return SimpleNamespace(**values)

    return read


def _read_tags(
    reader: Reader, known: Mapping[int, tuple[str, Read]], values: dict[str, Any]
) -> None:
    for _ in range(reader.tag_count()):
        tag = reader.varint()
        data = reader.take(reader.varint())
        if tag in known:
            name, read = known[tag]
            part = reader.within(data)
            values[name] = read(part)
            reader.items_left, reader.tags_left = part.items_left, part.tags_left


def _reader(field: Field) -> Read:
    if field.is_array and field.type in FIXED and field.type != "bool":
        return _numbers(FIXED[str(field.type)], nullable=field.nullable)
    if field.is_array:
        return _array(_item(field.type, nullable=False), nullable=field.nullable)
    return _item(field.type, nullable=field.nullable)


def _item(item_type: str | Definition, *, nullable: bool) -> Read:
    if isinstance(item_type, str):
        return _primitive(item_type, nullable=nullable)
    read_structure = reader_of(item_type)
    return _maybe_structure(read_structure) if nullable else read_structure


def _numbers(layout: Struct, *, nullable: bool) -> Read:
    def read(reader: Reader) -> list[int] | None:
        numbers = reader.nullable_numbers(layout)
        return [] if numbers is None and not nullable else numbers

    return read


def _array(read_item: Read, *, nullable: bool) -> Read:
    def read(reader: Reader) -> list[Any] | None:
        items = reader.nullable_array(read_item)
        return [] if items is None and not nullable else items

    return read


def _maybe_structure(read_structure: Read) -> Read:
    """A structure that may be null, with a byte before it that tells (KIP-893)."""
    marker = FIXED["int8"]

    def read(reader: Reader) -> Any:
        return None if reader.unpack(marker)[0] < 0 else read_structure(reader)

    return read


def _primitive(kafka_type: str, *, nullable: bool) -> Read:
    if kafka_type == "string":
        return Reader.nullable_string if nullable else Reader.string
    if kafka_type in ("bytes", "records"):
        return _nullable_bytes if nullable else _bytes
    if kafka_type == "uuid":
        return _uuid
    layout = FIXED[kafka_type]
    return lambda reader: reader.unpack(layout)[0]


def _nullable_bytes(reader: Reader) -> bytes | None:
    taken = reader.nullable_bytes()
    return None if taken is None else bytes(taken)


def _bytes(reader: Reader) -> bytes:
    taken = reader.nullable_bytes()
    if taken is None:
        raise MalformedRequestError("a byte string that must be there is null")
    return bytes(taken)


def _uuid(reader: Reader) -> uuid.UUID | None:
    value = uuid.UUID(bytes=bytes(reader.take(UUID_BYTES)))
    return value if value.int else None
