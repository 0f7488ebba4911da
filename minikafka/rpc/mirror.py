"""Messages that mirror dataclasses field by field, to and from them.

For the many requests of consumer groups, none of which is hot: a field of the dataclass has the
name of the message's field. What may be None is a field with presence (`optional`, or a message); a
sequence that may be None is a repeated field beside a bool `all_<name>`; a tuple is a message, by
the order of its fields. Errors, partitions and brokers are converted as everywhere (convert.py).

No state but the type hints that were looked up. A field of the message that the dataclass does not
have is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

from minikafka.errors import MinikafkaError
from minikafka.model import BrokerInfo, TopicPartition
from minikafka.rpc.convert import (
    broker_from_wire,
    broker_to_wire,
    error_from_wire,
    error_to_wire,
    tp_from_wire,
    tp_to_wire,
)

M = TypeVar("M", bound=Message)
V = TypeVar("V")

_READERS: dict[type, Callable[[Any], Any]] = {
    MinikafkaError: error_from_wire,
    TopicPartition: tp_from_wire,
    BrokerInfo: broker_from_wire,
}


def to_wire(value: object, kind: type[M]) -> M:
    """The message of this dataclass instance."""
    message = kind()
    _fill(message, value)
    return message


def from_wire(message: Message, kind: type[V]) -> V:
    """The instance of this dataclass that the message mirrors."""
    values = {name: _read(message, name, shape) for name, shape in _shapes(kind).items()}
    return kind(**values)


# --- writing -------------------------------------------------------------------------------------


def _fill(message: Any, value: Any) -> None:
    if isinstance(value, tuple):
        for field, item in zip(message.DESCRIPTOR.fields, value, strict=True):
            setattr(message, field.name, item)
        return
    for field in fields(value):
        item = getattr(value, field.name)
        descriptor = message.DESCRIPTOR.fields_by_name[field.name]
        if descriptor.is_repeated:
            if item is None:
                setattr(message, f"all_{field.name}", True)
                continue
            container = getattr(message, field.name)
            if descriptor.message_type is None:
                container.extend(item)
            else:
                for each in item:
                    _fill_message(container.add(), each)
        elif descriptor.message_type is not None:
            if item is not None:
                _fill_message(getattr(message, field.name), item)
        elif item is not None:
            setattr(message, field.name, item)


def _fill_message(message: Any, item: Any) -> None:
    if isinstance(item, MinikafkaError):
        message.CopyFrom(error_to_wire(item))
    elif isinstance(item, TopicPartition):
        message.CopyFrom(tp_to_wire(item))
    elif isinstance(item, BrokerInfo):
        message.CopyFrom(broker_to_wire(item))
    else:
        message.SetInParent()
        _fill(message, item)


# --- reading -------------------------------------------------------------------------------------


class _Shape(NamedTuple):
    """What a field holds: `kind`, or a sequence of it; `optional`: or None."""

    kind: Any
    sequence: bool
    optional: bool


_known_shapes: dict[Any, dict[str, _Shape]] = {}


def _shapes(kind: Any) -> dict[str, _Shape]:
    shapes = _known_shapes.get(kind)
    if shapes is None:
        hints = get_type_hints(kind)
        shapes = {field.name: _shape(hints[field.name]) for field in fields(kind)}
        _known_shapes[kind] = shapes
    return shapes


def _shape(hint: Any) -> _Shape:
    alternatives = get_args(hint) if NoneType in get_args(hint) else (hint,)
    [inner] = [each for each in alternatives if each is not NoneType]
    optional = len(alternatives) > 1
    if get_origin(inner) is Sequence:
        return _Shape(get_args(inner)[0], True, optional)
    return _Shape(inner, False, optional)


def _read(message: Any, name: str, shape: _Shape) -> Any:
    if shape.sequence:
        if shape.optional and getattr(message, f"all_{name}"):
            return None
        return tuple([_read_one(each, shape.kind) for each in getattr(message, name)])
    if shape.optional and not message.HasField(name):
        return None
    return _read_one(getattr(message, name), shape.kind)


def _read_one(value: Any, kind: Any) -> Any:
    reader = _READERS.get(kind)
    if reader is not None:
        return reader(value)
    if get_origin(kind) is tuple:
        return tuple(getattr(value, field.name) for field in value.DESCRIPTOR.fields)
    if not isinstance(value, Message):
        return value
    made: Any = from_wire(value, kind)
    return made
