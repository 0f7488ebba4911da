"""Writing any answer by kio's definition of it: the mirror image of decoding.py.

An answer is a tree of plain mappings by field name, of which what this version has is written: what
a field is of is told by `Field` (definitions.py), and an error code is a number. A field that is
not given gets its default; KeyError if it has none. That a value fits its field is the handler's to
see to: what does not raises whatever the conversion raises.

A definition becomes a list of steps once, and fixed-size fields in a row are one step.

Items of arrays are counted as they are written: more than are written on the loop are a
LongAnswerError, and the same answer is then written beside it, into a PacedOutput.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING
from itertools import groupby
from operator import itemgetter
from struct import Struct, pack
from typing import Any, TypeVar

from minikafka.kafka.definitions import (
    FIXED,
    UUID_BYTES,
    Definition,
    Field,
    fields_of,
    is_flexible,
)
from minikafka.kafka.wire import PACE_ITEMS, byte_string, count, string, varint
from minikafka.turns import give_way

T = TypeVar("T")

QUICK_ITEMS = 4_000


class LongAnswerError(Exception):
    """The answer has more items than are written on the loop."""


class Output(bytearray):
    """What has been written."""

    items_left = QUICK_ITEMS

    def items(self, items: Sequence[T]) -> Iterable[T]:
        """The items of an array, as they are to be written."""
        self.items_left -= len(items)
        if self.items_left < 0:
            raise LongAnswerError
        return items


class PacedOutput(Output):
    """For a thread beside the loop, which gives way to it again and again."""

    def items(self, items: Sequence[T]) -> Iterable[T]:
        for number, item in enumerate(items):
            if number % PACE_ITEMS == PACE_ITEMS - 1:
                give_way()
            yield item


Values = Mapping[str, object]
Write = Callable[[Output, Any], None]  # of a value that fits the field

_NO_UUID = bytes(UUID_BYTES)


def writer_of(definition: Definition) -> Write:
    """What writes a whole message, or a structure in one, of this definition."""
    flexible = is_flexible(definition)
    all_fields = list(fields_of(definition))
    defaults = {each.name: each.default for each in all_fields if each.default is not MISSING}
    tagged = sorted((each for each in all_fields if each.tag is not None), key=lambda f: f.tag or 0)
    steps: list[Write] = []
    plain = [each for each in all_fields if each.tag is None]
    for is_fixed, group in groupby(plain, _is_fixed):
        if is_fixed:
            steps.append(_fixed(list(group)))
        else:
            steps += [_of_field(each, _value(each, flexible=flexible)) for each in group]
    if flexible:
        steps.append(_tags([(each, _value(each, flexible=True)) for each in tagged]))

    def write(out: Output, values: Values) -> None:
        whole = {**defaults, **values}
        for step in steps:
            step(out, whole)

    return write


def _is_fixed(field: Field) -> bool:
    return not field.is_array and field.type in FIXED


def _fixed(fields: Sequence[Field]) -> Write:
    layout = Struct(">" + "".join(_letter(each) for each in fields))
    names = [each.name for each in fields]
    if len(names) == 1:
        (name,) = names
        return lambda out, values: out.extend(layout.pack(values[name]))
    values_of = itemgetter(*names)
    return lambda out, values: out.extend(layout.pack(*values_of(values)))


def _letter(field: Field) -> str:
    assert isinstance(field.type, str)
    return FIXED[field.type].format[1:]


def _of_field(field: Field, write_value: Write) -> Write:
    name = field.name
    return lambda out, values: write_value(out, values[name])


def _tags(fields: Sequence[tuple[Field, Write]]) -> Write:
    """Of the fields that are not as they are by default, in the order of their tags."""

    def write(out: Output, values: Values) -> None:
        given = [
            (each, write_value)
            for each, write_value in fields
            if each.name in values and values[each.name] != each.default
        ]
        out += varint(len(given))
        for each, write_value in given:
            data = Output()
            write_value(data, values[each.name])
            assert each.tag is not None
            out += varint(each.tag) + varint(len(data)) + data

    return write


# --- values --------------------------------------------------------------------------------------


def _value(field: Field, *, flexible: bool) -> Write:
    if field.is_array:
        return _array(field, flexible=flexible)
    if not isinstance(field.type, str):
        assert not field.nullable, "no answer that is served has a structure that may be null"
        return writer_of(field.type)
    return _primitive(field.type, nullable=field.nullable, flexible=flexible)


def _array(field: Field, *, flexible: bool) -> Write:
    write_items = _items(field.type, flexible=flexible)
    null = count(-1, flexible=flexible)

    def write(out: Output, items: Sequence[object] | None) -> None:
        if items is None:
            assert field.nullable, f"{field.name} must not be null"
            out += null
            return
        out += count(len(items), flexible=flexible)
        write_items(out, items)

    return write


def _items(item_type: str | Definition, *, flexible: bool) -> Write:
    if item_type in FIXED:
        letter = FIXED[str(item_type)].format[1:]
        return lambda out, items: out.extend(pack(f">{len(items)}{letter}", *items))
    if isinstance(item_type, str):
        write_item = _primitive(item_type, nullable=False, flexible=flexible)
    else:
        write_item = writer_of(item_type)

    def write(out: Output, items: Sequence[object]) -> None:
        for item in out.items(items):
            write_item(out, item)

    return write


def _primitive(kafka_type: str, *, nullable: bool, flexible: bool) -> Write:
    if kafka_type in FIXED:
        layout = FIXED[kafka_type]
        return lambda out, value: out.extend(layout.pack(value))
    if kafka_type == "uuid":
        return _write_uuid
    assert kafka_type in ("string", "bytes", "records"), kafka_type
    encoded = string if kafka_type == "string" else byte_string

    def write(out: Output, value: Any) -> None:
        assert nullable or value is not None, f"a {kafka_type} must not be null"
        out += encoded(value, flexible=flexible)

    return write


def _write_uuid(out: Output, value: uuid.UUID | None) -> None:
    out += _NO_UUID if value is None else value.bytes
