"""What differs between an answer of Kafka and ours, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from minikafka.kafka.apis import ApiKey


@dataclass(frozen=True)
class Difference:
    path: str
    kafka: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.path}: Kafka {_short(self.kafka)}, minikafka {_short(self.ours)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}..."


@dataclass(frozen=True)
class Intended:
    """Differences that are meant, with the reason. Patterns as in shells, over the case's name and
    the field's path."""

    why: str
    api: ApiKey
    case: str = "*"
    path: str = "*"
    versions: range = range(100)

    def covers(self, api: ApiKey, case: str, version: int, difference: Difference) -> bool:
        return (
            api is self.api
            and fnmatchcase(case, self.case)
            and version in self.versions
            and fnmatchcase(difference.path, self.path)
        )


def differences(kafka: Any, ours: Any, path: str = "") -> Iterator[Difference]:
    """Items of an array are told by their name, or by their place; if their number differs, the
    array as a whole."""
    if isinstance(kafka, dict) and isinstance(ours, dict):
        for name in sorted(kafka.keys() | ours.keys()):
            inner = f"{path}.{name}" if path else name
            yield from differences(kafka.get(name), ours.get(name), inner)
    elif _is_named(kafka) and _is_named(ours):
        theirs_by_name = {item["name"]: item for item in kafka}
        ours_by_name = {item["name"]: item for item in ours}
        for name in sorted(theirs_by_name.keys() | ours_by_name.keys()):
            inner = f"{path}.{name}"
            yield from differences(theirs_by_name.get(name), ours_by_name.get(name), inner)
    elif isinstance(kafka, list) and isinstance(ours, list) and len(kafka) == len(ours):
        for number, (theirs, own) in enumerate(zip(kafka, ours, strict=True)):
            yield from differences(theirs, own, f"{path}.{number}")
    elif kafka != ours:
        yield Difference(path, kafka, ours)


def _is_named(value: Any) -> bool:
    """An array of structures, each with a name of its own."""
    if not isinstance(value, list) or not value:
        return False
    names = [item.get("name") for item in value if isinstance(item, dict)]
    return len(set(names)) == len(value) and all(isinstance(name, str) for name in names)
