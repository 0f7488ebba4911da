"""Reading any request by kio's definition of it: field names, types, versions, tags.

kio has readers of its own, in native code, which allocate by whatever count an array claims to
have: four wrong bytes end the process. So only its definitions are used here (definitions.py), and
the bytes are read by `wire.Reader`, which believes no length.

A request becomes a `Structure` with kio's field names. Integers, text, booleans and UUIDs (None for
the zero one) are what they are; durations and times are milliseconds, error codes numbers, byte
strings `bytes`, arrays lists (None for null). Tags that the definition does not know are skipped.

Which fields there are depends on the version. Who reads a structure names a class for it, its form,
with the fields that are of interest and what holds where the version lacks one (requests.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from struct import Struct
from typing import TypeVar, get_args, get_type_hints

from minikafka.kafka.definitions import FIXED, UUID_BYTES, Definition, Field, fields_of
from minikafka.kafka.wire import MalformedRequestError, Reader

Read = Callable[[Reader], object]


class Structure:
    """What was read, by kio's names. A class of this kind annotates those that somebody reads: with
    a value for what not every version has."""

    def __init__(self, values: dict[str, object]) -> None:
        """`values` is the structure's from now on."""
        self.__dict__ = values

    def __repr__(self) -> str:
        return f"{type(self).__name__}({vars(self)!r})"


S = TypeVar("S", bound=Structure)


def reader_of(definition: Definition, form: type[S]) -> Callable[[Reader], S]:
    """What reads a whole message, or a structure in one, of this definition into this form."""
    hints = get_type_hints(form)
    plain: list[tuple[str, Read]] = []
    tagged: dict[int, tuple[str, Read]] = {}
    missing: dict[str, object] = {}
    for each in fields_of(definition):
        read_field = _reader(each, form_in(hints.get(each.name)))
        if each.tag is None:
            plain.append((each.name, read_field))
        else:
            tagged[each.tag] = (each.name, read_field)
            missing[each.name] = None if each.default is MISSING else each.default

    def read(reader: Reader) -> S:
        values = {name: read_field(reader) for name, read_field in plain}
        if reader.flexible:
            values |= missing
            _read_tags(reader, tagged, values)
        return form(values)

    return read


def form_in(hint: object) -> type[Structure]:
    """The form that an annotation names, alone or in an array; without one, the one for all."""
    if isinstance(hint, type) and issubclass(hint, Structure):
        return hint
    forms = (form_in(argument) for argument in get_args(hint))
    return next((form for form in forms if form is not Structure), Structure)


def _read_tags(
    reader: Reader, known: Mapping[int, tuple[str, Read]], values: dict[str, object]
) -> None:
    for _ in range(reader.tag_count()):
        tag = reader.varint()
        data = reader.take(reader.varint())
        if tag in known:
            name, read = known[tag]
            part = reader.within(data)
            values[name] = read(part)
            reader.items_left, reader.tags_left = part.items_left, part.tags_left


def _reader(field: Field, form: type[Structure]) -> Read:
    if field.is_array and field.type in FIXED and field.type != "bool":
        return _numbers(FIXED[str(field.type)], nullable=field.nullable)
    if field.is_array:
        return _array(_item(field.type, form, nullable=False), nullable=field.nullable)
    return _item(field.type, form, nullable=field.nullable)


def _item(item_type: str | Definition, form: type[Structure], *, nullable: bool) -> Read:
    if isinstance(item_type, str):
        return _primitive(item_type, nullable=nullable)
    read_structure = reader_of(item_type, form)
    return _maybe_structure(read_structure) if nullable else read_structure


def _numbers(layout: Struct, *, nullable: bool) -> Read:
    def read(reader: Reader) -> list[int] | None:
        numbers = reader.nullable_numbers(layout)
        return [] if numbers is None and not nullable else numbers

    return read


def _array(read_item: Read, *, nullable: bool) -> Read:
    def read(reader: Reader) -> list[object] | None:
        items = reader.nullable_array(read_item)
        return [] if items is None and not nullable else items

    return read


def _maybe_structure(read_structure: Read) -> Read:
    """A structure that may be null, with a byte before it that tells (KIP-893)."""
    marker = FIXED["int8"]

    def read(reader: Reader) -> object:
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
