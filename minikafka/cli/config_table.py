"""The properties of a topic or a broker as people see them: value, and where it comes from.

The one place that says so for `configs describe` and `topics describe --configs`. The sources are
those of overrides.py, in the words of the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minikafka.cli.output import print_table
from minikafka.overrides import ConfigSource

if TYPE_CHECKING:
    from minikafka.overrides import ConfigDescription

_WORDS = {
    ConfigSource.TOPIC: "topic",
    ConfigSource.DYNAMIC_BROKER: "broker",
    ConfigSource.DYNAMIC_DEFAULT_BROKER: "broker-default",
    ConfigSource.STATIC_BROKER: "static",
    ConfigSource.DEFAULT: "default",
}


def print_configs(found: Sequence[ConfigDescription], title: str = "") -> None:
    """A table; which properties are read-only only where some are."""
    rows = [
        [each.name, each.value, _word(each.source), "" if each.dynamic else "read-only"]
        for each in found
    ]
    columns: tuple[str, ...] = ("property", "value", "from", "")
    if all(each.dynamic for each in found):
        columns, rows = columns[:3], [row[:3] for row in rows]
    print_table(columns, rows, title=title)


def config_document(each: ConfigDescription) -> dict[str, Any]:
    """The JSON document of one property (docs/cli.md)."""
    return {
        "name": each.name,
        "value": each.value,
        "source": _word(each.source),
        "dynamic": each.dynamic,
        "synonyms": [
            {"name": synonym.name, "value": synonym.value, "source": _word(synonym.source)}
            for synonym in each.synonyms
        ],
    }


def _word(source: int) -> str:
    return _WORDS[ConfigSource(source)]
