"""The properties of a topic or a broker as people see them: value, and where it comes from.

The one place that says so for `configs describe` and `topics describe --configs`. The sources are
those of overrides.py, in the words of the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minikafka.cli.kit.output import print_table
from minikafka.config import BrokerConfig, TopicConfig, properties
from minikafka.config.overrides import ConfigSource

if TYPE_CHECKING:
    from minikafka.config.overrides import ConfigDescription

_WORDS = {
    ConfigSource.TOPIC: "topic",
    ConfigSource.DYNAMIC_BROKER: "broker",
    ConfigSource.DYNAMIC_DEFAULT_BROKER: "broker-default",
    ConfigSource.STATIC_BROKER: "static",
    ConfigSource.DEFAULT: "default",
}

# Why, by the name of a property of a topic or a broker that changes nothing here.
_NO_EFFECT = {
    declared.name: declared.no_effect
    for declared in properties(TopicConfig) + properties(BrokerConfig)
    if declared.no_effect
}


def print_configs(found: Sequence[ConfigDescription], title: str = "") -> None:
    """A table; which properties are read-only, or have no effect, only where some are."""
    rows = [[each.name, each.value, _word(each.source), _remark(each)] for each in found]
    columns: tuple[str, ...] = ("property", "value", "from", "")
    if not any(row[3] for row in rows):
        columns, rows = columns[:3], [row[:3] for row in rows]
    print_table(columns, rows, title=title)


def config_document(each: ConfigDescription) -> dict[str, Any]:
    """The JSON document of one property (docs/cli.md)."""
    return {
        "name": each.name,
        "value": each.value,
        "source": _word(each.source),
        "dynamic": each.dynamic,
        "no_effect": _NO_EFFECT.get(each.name, ""),
        "synonyms": [
            {"name": synonym.name, "value": synonym.value, "source": _word(synonym.source)}
            for synonym in each.synonyms
        ],
    }


def _remark(each: ConfigDescription) -> str:
    if each.name in _NO_EFFECT:
        return "no effect"
    return "" if each.dynamic else "read-only"


def _word(source: int) -> str:
    return _WORDS[ConfigSource(source)]
