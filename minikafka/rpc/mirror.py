"""Messages that mirror dataclasses field by field, to and from them.

The way for every message whose conversion is not hot (hot.py): a field of the dataclass has the
name of the message's field. What may be None is a field with presence (`optional`, or a message); a
sequence that may be None is a repeated field beside a bool `all_<name>`; a tuple is a message, by
the order of its fields; a sequence in a sequence or a mapping is a message with one repeated field.
Errors, partitions and their states are converted as everywhere (convert.py).

Each pair of classes has two functions, made once of one expression each, as dataclasses make
theirs: what one would write by hand, `message(a=value.a, b=write2(value.b))` and back, and as fast.
There is no other state. A field of the message that the dataclass does not have is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from minikafka.errors import MinikafkaError
from minikafka.model import BrokerInfo, PartitionMetadata, PartitionState, TopicPartition
from minikafka.rpc.convert import (
    broker_from_wire,
    broker_to_wire,
    error_from_wire,
    error_to_wire,
    partition_from_wire,
    partition_to_wire,
    state_from_wire,
    state_to_wire,
    tp_from_wire,
    tp_to_wire,
)

M = TypeVar("M", bound=Message)
V = TypeVar("V")

Convert = Callable[[Any], Any]


class Ways(NamedTuple):
    """To the wire and back."""

    write: Convert
    read: Convert


_BY_HAND: dict[Any, Ways] = {
    MinikafkaError: Ways(error_to_wire, error_from_wire),
    BrokerInfo: Ways(broker_to_wire, broker_from_wire),
    TopicPartition: Ways(tp_to_wire, tp_from_wire),
    PartitionState: Ways(state_to_wire, state_from_wire),
    PartitionMetadata: Ways(partition_to_wire, partition_from_wire),
}

_known: dict[Any, Ways] = {}


def to_wire(value: object, kind: type[M]) -> M:
    """The message of this dataclass instance."""
    message: M = _ways_of(type(value), kind.DESCRIPTOR).write(value)
    return message


def all_to_wire(values: Sequence[object], kind: type[M]) -> list[M]:
    """The messages of instances of one dataclass."""
    if not values:
        return []
    write = _ways_of(type(values[0]), kind.DESCRIPTOR).write
    return [write(value) for value in values]


def from_wire(message: Message, kind: type[V]) -> V:
    """The instance of this dataclass that the message mirrors."""
    value: V = _ways_of(kind, message.DESCRIPTOR).read(message)
    return value


def all_from_wire(messages: Sequence[Message], kind: type[V]) -> tuple[V, ...]:
    """The instances of one dataclass."""
    if not messages:
        return ()
    read = _ways_of(kind, messages[0].DESCRIPTOR).read
    return tuple([read(message) for message in messages])


# --- a dataclass, or a tuple ---------------------------------------------------------------------


def _ways_of(kind: Any, descriptor: Any) -> Ways:
    ways = _known.get((kind, descriptor))
    if ways is None:
        ways = _known[kind, descriptor] = _BY_HAND.get(kind) or _made(kind, descriptor)
    return ways


def _made(kind: Any, descriptor: Any) -> Ways:
    names = {"message": GetMessageClass(descriptor), "kind": kind}
    given, taken = [], []
    if get_origin(kind) is tuple:
        names["kind"] = lambda *items: items
        for at, (hint, field) in enumerate(zip(get_args(kind), descriptor.fields, strict=True)):
            one = _expressions(hint, field, f"value[{at}]", names)
            given += one.given
            taken.append(one.taken)
    else:
        hints = get_type_hints(kind)
        for each in fields(kind):
            field = descriptor.fields_by_name.get(each.name)
            assert field is not None, (
                f"{kind.__name__} has a field {each.name}, the message {descriptor.full_name} has "
                "none: add it to protos/ and run `make proto`"
            )
            one = _expressions(hints[each.name], field, f"value.{each.name}", names)
            given += one.given
            taken.append(one.taken)
    return Ways(
        eval(f"lambda value: message({', '.join(given)})", names),
        eval(f"lambda wire: kind({', '.join(taken)})", names),
    )


class _Expressions(NamedTuple):
    """Of a field: what the message is made with, and what its value is."""

    given: list[str]
    taken: str


def _expressions(
    hint: Any, field: FieldDescriptor, value: str, names: dict[str, Any]
) -> _Expressions:
    """`value` is where the value is found; `names` gets what the expressions call."""
    wire = f"wire.{field.name}"
    inner, optional = _without_none(hint)
    if get_origin(inner) is Mapping:
        assert field.message_type is not None
        [_, kind] = get_args(inner)
        items = field.message_type.fields_by_name["value"].message_type
        write, read = _calls(kind, items, names)
        given = f"{{key: {write('each')} for key, each in {value}.items()}}"
        taken = f"{{key: {read('each')} for key, each in {wire}.items()}}"
    elif _is_sequence(inner):
        write, read = _calls(get_args(inner)[0], field.message_type, names)
        given = f"[{write('each')} for each in {value}]"
        taken = f"tuple([{read('each')} for each in {wire}])"
    else:
        write, read = _calls(inner, field.message_type, names)
        given, taken = write(value), read(wire)
    if not optional:
        return _Expressions([f"{field.name}={given}"], taken)
    given = f"{field.name}=None if {value} is None else {given}"
    if field.is_repeated:
        told = f"all_{field.name}"
        return _Expressions([given, f"{told}={value} is None"], f"None if wire.{told} else {taken}")
    return _Expressions([given], f"{taken} if wire.HasField({field.name!r}) else None")


Call = Callable[[str], str]


def _calls(kind: Any, descriptor: Descriptor | None, names: dict[str, Any]) -> tuple[Call, Call]:
    """How a value of this kind is written and read, as expressions."""
    if descriptor is None:
        return str, str
    ways = _of_list(descriptor) if _is_sequence(kind) else _ways_of(kind, descriptor)
    number = len(names)
    names |= {f"write{number}": ways.write, f"read{number}": ways.read}
    return (
        lambda value: f"write{number}({value})",
        lambda wire: f"read{number}({wire})",
    )


def _of_list(descriptor: Descriptor) -> Ways:
    message, [field] = GetMessageClass(descriptor), descriptor.fields
    return Ways(
        lambda values: message(**{field.name: values}),
        lambda wire: tuple(getattr(wire, field.name)),
    )


def _is_sequence(hint: Any) -> bool:
    return get_origin(hint) is Sequence or (
        get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis
    )


def _without_none(hint: Any) -> tuple[Any, bool]:
    if NoneType not in get_args(hint):
        return hint, False
    [inner] = [each for each in get_args(hint) if each is not NoneType]
    return inner, True
