"""Properties of brokers that are altered while they run: the layers of their values, and where each
value comes from.

    topic's override > override of this broker > override of all brokers > static > default

Overrides are texts by property name, as ZooKeeper holds them. Static is what a broker was started
with. Sources and their numbers, and what counts as a synonym of what, are Apache Kafka's.

Invariant: the overrides in `BrokerLayers` are valid, each alone and all together. Pure: who reads
and writes them is elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from minikafka.config import (
    BrokerConfig,
    Property,
    TopicConfig,
    as_text,
    field_name,
    properties,
    validate_broker_overrides,
    with_overrides,
)
from minikafka.errors import InvalidConfigError, InvalidRequestError

DEFAULT_BROKER = "<default>"  # stands for all brokers where the id of one could stand


class ConfigSource(IntEnum):
    """Where a value comes from."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5


@dataclass(frozen=True, slots=True)
class ConfigSynonym:
    """One of the values that a property could have; `source` is a ConfigSource."""

    name: str
    value: str
    source: int


@dataclass(frozen=True, slots=True)
class ConfigDescription:
    """One property of a topic or a broker, with all that can be told of it. `value`: None for one
    that is not set and has no default. `kind` as in
    properties.py; `source` a ConfigSource; `synonyms` from the value that holds to the one that
    would hold last."""

    name: str
    value: str | None
    kind: str
    doc: str
    dynamic: bool
    source: int
    synonyms: Sequence[ConfigSynonym]


@dataclass(frozen=True, slots=True)
class BrokerLayers:
    """What one broker was started with, and the overrides of all brokers and of this one."""

    static: BrokerConfig
    of_all: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)

    def effective(self) -> BrokerConfig:
        """Raises InvalidConfigError if the overrides do not go with the rest."""
        return with_overrides(self.static, {**self.of_all, **self.own})


def broker_entity_name(name: str) -> str:
    """The id of a broker as text, or DEFAULT_BROKER (which Kafka's clients leave blank). Raises
    InvalidRequestError for anything else."""
    if name in ("", DEFAULT_BROKER):
        return DEFAULT_BROKER
    if not (name.isascii() and name.isdecimal() and name == str(int(name))):
        raise InvalidRequestError(
            f"{name!r} is no broker: expected the id of one, or nothing for all brokers"
        )
    return name


def merged(overrides: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Overrides after changes; None takes one away."""
    after = {**overrides, **changes}
    return {name: value for name, value in after.items() if value is not None}


def changed_names(before: BrokerConfig, after: BrokerConfig) -> frozenset[str]:
    """The properties that have another value."""
    fields = {name: field_name(name) for name in _BROKER_PROPERTIES}
    return frozenset(
        name for name, each in fields.items() if getattr(before, each) != getattr(after, each)
    )


def changed_entities(
    before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]
) -> set[str]:
    """The topics, or brokers, that have other overrides."""
    nothing: Mapping[str, str] = {}
    names = before.keys() | after.keys()
    return {name for name in names if before.get(name, nothing) != after.get(name, nothing)}


def changed_layers(
    layers: BrokerLayers, broker: str, changes: Mapping[str, str | None]
) -> BrokerLayers:
    """The layers of a broker after changes to the overrides of `broker`: itself, all, or another
    one, for which only what is true of every broker can be checked. Raises InvalidConfigError."""
    validate_broker_overrides(merged({}, changes))
    if broker == DEFAULT_BROKER:
        layers = BrokerLayers(layers.static, merged(layers.of_all, changes), layers.own)
    elif broker == str(layers.static.broker_id):
        layers = BrokerLayers(layers.static, layers.of_all, merged(layers.own, changes))
    layers.effective()
    return layers


def read_layers(
    static: BrokerConfig, stored: Mapping[str, Mapping[str, str]]
) -> tuple[BrokerLayers, list[str]]:
    """The layers of a broker from what is stored by broker's id and DEFAULT_BROKER. A stored value
    that is wrong (a person may have written it), or does not go with what this broker was started
    with, counts as not set; the problems say so."""
    problems: list[str] = []
    of_all: dict[str, str] = {}
    own: dict[str, str] = {}
    for broker, layer in ((DEFAULT_BROKER, of_all), (str(static.broker_id), own)):
        for name, value in sorted(stored.get(broker, {}).items()):
            try:
                with_overrides(static, {**of_all, **own, name: value})
            except InvalidConfigError as error:
                problems.append(f"an override of {broker} counts as not set: {error}")
            else:
                layer[name] = value
    return BrokerLayers(static, of_all, own), problems


# --- describing ----------------------------------------------------------------------------------

# Where one property gives way to others: in the order in which they are looked at.
_INSTEAD_OF = {
    "log.retention.ms": ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    "log.roll.ms": ("log.roll.ms", "log.roll.hours"),
    "log.roll.jitter.ms": ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    "log.flush.interval.ms": ("log.flush.interval.ms", "log.flush.scheduler.interval.ms"),
}
_BROKER_PROPERTIES = {declared.name: declared for declared in properties(BrokerConfig)}


def describe_broker(layers: BrokerLayers) -> list[ConfigDescription]:
    """Every property of a broker."""
    effective = layers.effective()
    return [
        _description(declared, effective, list(_synonyms(layers, declared.name)))
        for declared in sorted(_BROKER_PROPERTIES.values(), key=lambda declared: declared.name)
    ]


def describe_all_brokers(layers: BrokerLayers) -> list[ConfigDescription]:
    """What is set for all brokers, and nothing else."""
    config = with_overrides(layers.static, layers.of_all)
    source = ConfigSource.DYNAMIC_DEFAULT_BROKER
    return [
        _description(_BROKER_PROPERTIES[name], config, [ConfigSynonym(name, value, source)])
        for name, value in sorted(layers.of_all.items())
    ]


def describe_topic(
    layers: BrokerLayers, overrides: Mapping[str, str], config: TopicConfig
) -> list[ConfigDescription]:
    """Every property of a topic with these overrides; `config` is what comes out."""
    found = []
    for declared in sorted(properties(TopicConfig), key=lambda declared: declared.name):
        synonyms = (
            [ConfigSynonym(declared.name, as_text(declared.default), ConfigSource.DEFAULT)]
            if declared.broker_property is None
            else list(_synonyms(layers, declared.broker_property))
        )
        if declared.name in overrides:
            value = overrides[declared.name]
            synonyms.insert(0, ConfigSynonym(declared.name, value, ConfigSource.TOPIC))
        found.append(_description(declared, config, synonyms))
    return found


def _description(
    declared: Property, config: BrokerConfig | TopicConfig, synonyms: list[ConfigSynonym]
) -> ConfigDescription:
    value = getattr(config, field_name(declared.name))
    return ConfigDescription(
        declared.name,
        None if value is None or declared.kind == "password" else as_text(value),
        declared.kind,
        declared.explained,
        declared.dynamic,
        synonyms[0].source if synonyms else ConfigSource.DEFAULT,
        synonyms,
    )


def _synonyms(layers: BrokerLayers, name: str) -> Iterator[ConfigSynonym]:
    names = _INSTEAD_OF.get(name, (name,))
    for overrides, source in (
        (layers.own, ConfigSource.DYNAMIC_BROKER),
        (layers.of_all, ConfigSource.DYNAMIC_DEFAULT_BROKER),
    ):
        for each in names:
            if each in overrides:
                yield ConfigSynonym(each, overrides[each], source)
    for each in names:
        value = getattr(layers.static, field_name(each))
        if value != _BROKER_PROPERTIES[each].default:
            yield ConfigSynonym(each, as_text(value), ConfigSource.STATIC_BROKER)
    for each in names:
        declared = _BROKER_PROPERTIES[each]
        if not declared.required and declared.default is not None:
            yield ConfigSynonym(each, as_text(declared.default), ConfigSource.DEFAULT)
