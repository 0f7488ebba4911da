"""Kafka's messages as kio defines them: a dataclass per message and version, one field each.

Nothing but the definitions is taken from kio: its readers trust what they read, its writers are
slow, and its index of everything that there is takes more memory than all messages that a broker
speaks. So a definition is imported from where it lies, when it is first wanted.

What decoding.py and encoding.py want to know of a field is a `Field` here. `name` is kio's: Kafka's
in snake_case without its unit (`throttle_time_ms` is `throttle_time`, in milliseconds).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from importlib import import_module
from struct import Struct
from types import NoneType
from typing import Any, get_args, get_origin

from minikafka.kafka.apis import ApiKey

Definition = type[Any]

# Integers of any meaning: durations and times are in milliseconds.
FIXED = {
    "int8": Struct(">b"),
    "int16": Struct(">h"),
    "int32": Struct(">i"),
    "int64": Struct(">q"),
    "uint16": Struct(">H"),
    "uint32": Struct(">I"),
    "float64": Struct(">d"),
    "bool": Struct(">?"),
    "error_code": Struct(">h"),
    "timedelta_i32": Struct(">i"),
    "timedelta_i64": Struct(">q"),
    "datetime_i64": Struct(">q"),
}
UUID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Field:
    """`type` is what a value, or an item of an array, is: a key of FIXED, string, bytes, records,
    uuid, or the definition of a structure. `tag` is None for a field that is always there.
    `default` is a plain value, dataclasses.MISSING if there is none."""

    name: str
    type: str | Definition
    is_array: bool
    nullable: bool
    tag: int | None
    default: object


def load() -> None:
    """Import what all definitions share, which takes a while; for a thread."""
    with _kept_out("hypothesis"):
        import kio.schema.types  # noqa: F401


@contextmanager
def _kept_out(module: str) -> Iterator[None]:
    """kio teaches hypothesis its types wherever that is installed, as it is for tests of a broker:
    an import of 12 MB, and of nothing that a broker needs."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def request(api: ApiKey, version: int) -> Definition:
    return _definition(api, version, "Request")


def response(api: ApiKey, version: int) -> Definition:
    return _definition(api, version, "Response")


def _definition(api: ApiKey, version: int, kind: str) -> Definition:
    load()
    module = import_module(f"kio.schema.{api.name.lower()}.v{version}")
    name = "".join(part.capitalize() for part in api.name.split("_"))
    definition: Definition = getattr(module, name + kind)
    return definition


def is_flexible(definition: Definition) -> bool:
    """Strings, byte strings and arrays are compact, and tagged fields follow (KIP-482)."""
    return bool(definition.__flexible__)


def fields_of(definition: Definition) -> Iterable[Field]:
    """In the order of the wire; tagged ones are anywhere."""
    return map(_field, dataclasses.fields(definition))


def _field(field: dataclasses.Field[Any]) -> Field:
    hint, nullable = _without_none(field.type)
    is_array = get_origin(hint) is tuple
    item = get_args(hint)[0] if is_array else hint
    is_structure = dataclasses.is_dataclass(item)
    return Field(
        field.name,
        item if is_structure else field.metadata["kafka_type"],
        is_array,
        nullable,
        field.metadata.get("tag"),
        _plain(field.default),
    )


def _without_none(hint: Any) -> tuple[Any, bool]:
    arguments = get_args(hint)
    if NoneType not in arguments:
        return hint, False
    (inner,) = (argument for argument in arguments if argument is not NoneType)
    return inner, True


def _plain(default: object) -> object:
    if isinstance(default, timedelta):
        return default // timedelta(milliseconds=1)
    return int(default) if isinstance(default, IntEnum) else default
