"""JSON in znodes: where it is written, and where it is read with its bounds.

A node holds one object with a `version`. Encoding is deterministic: the same value gives the same
bytes, by which a write whose answer was lost is recognised. Reading checks the type and the bounds
of every field that is asked for; fields that nobody asks for do not matter. Whatever is wrong is a
CorruptNodeError with the path of the node and what is wrong with it: who can go on without the node
hands the reading to UnreadableNodes.decode (unreadable.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from minikafka.errors import InvalidRequestError
from minikafka.zookeeper.errors import CorruptNodeError

# ZooKeeper drops the connection of a client that sends more than jute.maxbuffer (1 MiB - 1) in one
# request. A request that is repeated after a lost connection would then be repeated for ever.
MAX_DATA_BYTES = 1_000_000

MAX_ID = 2**31 - 1  # Kafka's ids and epochs are 32 bits
MAX_LONG = 2**63 - 1
_MAX_DIGITS = 19
_SHOWN = 60

T = TypeVar("T")


def encode(fields: Mapping[str, Any], version: int = 1, advice: str = "") -> bytes:
    """InvalidRequestError, with the advice, if it is too large for a node."""
    data = json.dumps({"version": version, **fields}, separators=(",", ":")).encode()
    if len(data) > MAX_DATA_BYTES:
        raise InvalidRequestError(
            f"{len(data)} bytes are too much for one ZooKeeper node: at most {MAX_DATA_BYTES}"
            + (f" ({advice})" if advice else "")
        )
    return data


def shown(value: object) -> str:
    """It may be a megabyte, or a number of as many digits as Python does not print."""
    if isinstance(value, int) and abs(value) >= 2**64:
        return "a number of more than 64 bits"
    if isinstance(value, list | dict):
        return f"{type(value).__name__} of {len(value)}" if len(value) > 10 else repr(value)[:200]
    if isinstance(value, str | bytes) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}..."
    return repr(value)


# --- reading -------------------------------------------------------------------------------------


def decode(path: str, data: bytes, read: Callable[[Fields], T], version: int = 1) -> T:
    """What `read` makes of the fields; it may raise WrongFieldError. CorruptNodeError."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise CorruptNodeError(path, f"{shown(data)} is not JSON") from None
    if not isinstance(values, dict):
        raise CorruptNodeError(path, f"{shown(data)} is not a JSON object")
    found = values.get("version")
    if found != version or isinstance(found, bool):
        raise CorruptNodeError(
            path, f"its version is {shown(found)}, and this minikafka reads version {version}"
        )
    try:
        return read(Fields(values))
    except WrongFieldError as error:
        raise CorruptNodeError(path, str(error)) from None


class WrongFieldError(Exception):
    """A field is not what it should be; becomes CorruptNodeError where the path is known."""


class Fields:
    """The fields of one JSON object, read with their types."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def _get(self, name: str, kind: type[T] | tuple[type[T], ...], what: str) -> T:
        value = self._values.get(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            if name not in self._values:
                raise WrongFieldError(f"{name} is missing")
            raise WrongFieldError(f"{name} is {shown(value)}, expected {what}")
        return value

    def whole(self, name: str, low: int = 0, high: int = MAX_ID) -> int:
        value = self._get(name, int, "a whole number")
        if not low <= value <= high:
            raise WrongFieldError(f"{name} is {shown(value)}, expected {low} to {high}")
        return value

    def text(self, name: str) -> str:
        return self._get(name, str, "text")

    def number_as_text(self, name: str) -> int:
        text = self.text(name)
        number = natural(text)
        if number is None:
            raise WrongFieldError(f"{name} is {shown(text)}, expected digits as text")
        return number

    def optional_text(self, name: str) -> str | None:
        return None if self._values.get(name) is None else self.text(name)

    def long(self, name: str) -> int:
        """A number of 64 bits."""
        return self.whole(name, -MAX_LONG - 1, MAX_LONG)

    def number(self, name: str) -> float:
        value = self._get(name, (int, float), "a number")
        if not -MAX_LONG <= value <= MAX_LONG:  # nor is NaN
            raise WrongFieldError(f"{name} is {shown(value)}, expected a number")
        return value

    def boolean(self, name: str) -> bool:
        return self._get(name, bool, "true or false")

    def broker_ids(self, name: str) -> tuple[int, ...]:
        return broker_ids_of(name, self._get(name, list, "a list of broker ids"))

    def texts_by_name(self, name: str) -> dict[str, str]:
        found = self._get(name, dict, "an object of texts")
        for key, value in found.items():
            if not isinstance(value, str):
                raise WrongFieldError(f"{name}.{key[:_SHOWN]} is {shown(value)}, expected text")
        return found

    def replicas_by_partition(
        self, name: str, *, optional: bool = False
    ) -> dict[int, tuple[int, ...]]:
        if optional and name not in self._values:
            return {}
        found = self._get(name, dict, "an object of lists of broker ids")
        return {number_of(name, key): broker_ids_of(name, value) for key, value in found.items()}

    def longs(self, name: str) -> tuple[int, ...]:
        found = self._get(name, list, "a list of numbers")
        if not all(type(each) is int and -MAX_LONG - 1 <= each <= MAX_LONG for each in found):
            raise WrongFieldError(f"{name} is {shown(found)}, expected a list of numbers")
        return tuple(found)

    def as_texts(self, name: str) -> tuple[str, ...]:
        """A list of lines for people: what is no text is shown as one."""
        return tuple(map(str, self._get(name, list, "a list of texts")))

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        found = self._get(name, list, "a list of texts")
        if len(found) > most or not all(isinstance(each, str) for each in found):
            raise WrongFieldError(f"{name} is {shown(found)}, expected {most} texts at most")
        return tuple(found)

    def object(self, name: str) -> Fields:
        return Fields(self._get(name, dict, "an object"))

    def objects(self, name: str) -> list[Fields]:
        found = self._get(name, list, "a list of objects")
        if not all(isinstance(value, dict) for value in found):
            raise WrongFieldError(f"{name} is {shown(found)}, expected a list of objects")
        return [Fields(value) for value in found]


def broker_ids_of(name: str, value: object) -> tuple[int, ...]:
    good = isinstance(value, list) and all(
        isinstance(member, int) and not isinstance(member, bool) and 0 <= member <= MAX_ID
        for member in value
    )
    if not good or len(set(value)) != len(value):  # type: ignore[call-overload,arg-type]
        raise WrongFieldError(f"{name} has {shown(value)}, expected distinct broker ids")
    return tuple(value)  # type: ignore[arg-type]


def number_of(name: str, key: str) -> int:
    number = natural(key)
    if number is None or number > MAX_ID:
        raise WrongFieldError(f"{name} has the key {shown(key)}, expected a number")
    return number


def natural(text: str) -> int | None:
    """A number written in ASCII digits, of 64 bits at most; None for anything else."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        return None
    number = int(text)
    return number if number < 2**63 else None
