"""Reading what a person has set: texts by property name, into a configuration that has passed every
check, with what was probably meant where a name is misspelt."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from minikafka.config.broker import BROKER_PROPERTIES, BrokerConfig
from minikafka.config.foreign import is_foreign, refusal
from minikafka.config.listeners import GRPC, MECHANISMS, ListenerKey, listener_key
from minikafka.config.properties import Property, as_text, field_name, is_loopback
from minikafka.config.tls import NAMES, ClientAuth, tls_settings
from minikafka.config.topic import TOPIC_PROPERTIES, TopicConfig
from minikafka.errors import InvalidConfigError, MinikafkaError, UsageError
from minikafka.security.jaas import parse_jaas
from minikafka.security.principal import ANONYMOUS

_UNSPECIFIED_HOSTS = ("0.0.0.0", "::")
# That may be set for one of them alone.
LISTENER_PROPERTIES = (
    "connections.max.reauth.ms",
    "sasl.enabled.mechanisms",
    "sasl.jaas.config",
    *NAMES,
)
_ALIASES = {"log.dir": "log.dirs"}
_BROKER_PROPERTIES = {declared.name: declared for declared in BROKER_PROPERTIES}

ConfigClass: TypeAlias = type[BrokerConfig] | type[TopicConfig]


def properties(config_class: ConfigClass) -> tuple[Property, ...]:
    """The declarations of a class, in the order of the source."""
    return BROKER_PROPERTIES if config_class is BrokerConfig else TOPIC_PROPERTIES


def parse_broker_config(given: Mapping[str, str]) -> BrokerConfig:
    """The configuration that property texts give. Raises UsageError for the first wrong one.

    What only Kafka has a use for is passed over, unless it would have protected something;
    `without_effect` tells what.
    """
    of_listeners = {key: text for name, text in given.items() if (key := listener_key(name))}
    texts = {
        name: text
        for name, text in given.items()
        if not is_foreign(name) and listener_key(name) is None
    }
    for name in given.keys() - texts.keys():
        if why := refusal(name, given[name]):
            raise UsageError(why)
    for alias, name in _ALIASES.items():
        if alias in texts:
            if texts.get(name, texts[alias]) != texts[alias]:
                raise UsageError(
                    f"{alias} and {name} differ, but are one property: leave one of them out"
                )
            texts[name] = texts.pop(alias)
    values = _read_all(BrokerConfig, texts, UsageError)
    for declared in properties(BrokerConfig):
        if declared.required and declared.name not in texts:
            raise UsageError(
                f"{declared.name} is required and not set: expected {declared.expects}"
            )
    config = BrokerConfig(**values, of_listeners=_read_of_listeners(of_listeners))
    _check_broker(config)
    return config


def _read_of_listeners(texts: Mapping[ListenerKey, str]) -> dict[ListenerKey, Any]:
    values: dict[ListenerKey, Any] = {}
    for key, text in texts.items():
        if is_foreign(key.name):
            continue
        if key.name not in LISTENER_PROPERTIES:
            raise UsageError(
                f"{key.name} is no property of single listeners: {', '.join(LISTENER_PROPERTIES)} "
                "are"
            )
        [values[key]] = _read_all(BrokerConfig, {key.name: text}, UsageError).values()
    return values


def without_effect(config_class: ConfigClass, given: Mapping[str, str]) -> list[str]:
    """A sentence for each property that is set, and right, but changes nothing here."""
    by_name = {declared.name: declared for declared in properties(config_class)}
    sentences = []
    for name, text in sorted(given.items()):
        declared, key = by_name.get(name), listener_key(name)
        meant = name if key is None else key.name
        if declared is None and config_class is BrokerConfig and is_foreign(meant):
            sentences.append(f"{name} has no effect: minikafka has no use for it")
        elif declared is not None and declared.no_effect and _differs(declared, text):
            sentences.append(f"{name}={text.strip()} has no effect: {declared.no_effect}")
    return sentences


def _differs(declared: Property, text: str) -> bool:
    """Whether this is a right value, and not the default."""
    try:
        return bool(declared.read(text.strip()) != declared.default)
    except ValueError:
        return False


def _check_broker(config: BrokerConfig) -> None:
    """What no property alone can tell."""
    name = config.broker_name
    if name is not None and name.isdigit() and name != str(config.broker_id):
        raise UsageError(
            f"broker.name={name} reads like the id of another broker: "
            f"expected a name with a letter in it, or {config.broker_id}"
        )
    if config.advertised_grpc.host in _UNSPECIFIED_HOSTS:
        raise UsageError(
            f"{config.advertised_grpc} is no address that others can connect to: "
            "set grpc.advertised.listener to this machine's HOST:PORT"
        )
    _check_listeners(config)
    _check_back_door(config)
    at_most = [
        ("replica.fetch.wait.max.ms", "replica.lag.time.max.ms", "a waiting follower would lag"),
        ("message.max.bytes", "socket.request.max.bytes", "a large batch would never fit"),
        ("socket.request.max.bytes", "queued.max.request.bytes", "a large one would never fit"),
        (
            "group.min.session.timeout.ms",
            "group.max.session.timeout.ms",
            "no session timeout would be right",
        ),
    ]
    for smaller, larger, why in at_most:
        low, high = getattr(config, field_name(smaller)), getattr(config, field_name(larger))
        if low > high:
            raise UsageError(
                f"{smaller}={low} is above {larger}={high}, and {why}: expected at most {high}"
            )


def _check_listeners(config: BrokerConfig) -> None:
    if config.advertised_listeners is not None and config.listeners is None:
        raise UsageError("advertised.listeners is set and listeners is not: set both, or neither")
    names = _names(config)
    for name in config.advertised_listeners.names if config.advertised_listeners else ():
        if name not in names:
            raise UsageError(
                f"advertised.listeners names {name}, which is not in listeners: "
                f"{', '.join(names)} may be advertised"
            )
    for name in names:
        try:
            protocol = config.protocol_of(name)
        except ValueError as problem:
            raise UsageError(f"listeners: {problem}") from None
        config.tls_of(name)
        if protocol.asks_by_sasl:
            _check_sasl(config, name)
    _check_grpc(config)
    for key in config.of_listeners:
        if key.listener not in (*names, GRPC):
            raise UsageError(
                f"listener.name.{key.listener.lower()}.{key.name} is of no listener: there are "
                f"{', '.join(names) or 'none'}"
            )
    for each in config.advertised_kafka:
        if each.host in _UNSPECIFIED_HOSTS:
            raise UsageError(
                f"{each.address} is no address that clients can connect to: "
                f"set advertised.listeners to {each.name}:// and this machine's HOST:PORT"
            )


def _check_grpc(config: BrokerConfig) -> None:
    """It is PLAINTEXT or SSL; over SSL, whoever comes shows a certificate, as brokers do that call
    each other."""
    protocol = config.protocol_of(GRPC)
    if protocol.asks_by_sasl:
        raise UsageError(
            f"gRPC cannot be {protocol}: expected GRPC:SSL in listener.security.protocol.map"
        )
    settings = config.tls_of(GRPC)
    if settings is None:
        return
    tls_settings(config.tls_texts(), server=False, listener=GRPC)  # as a client of other brokers
    if settings.client_auth is not ClientAuth.REQUIRED:
        raise UsageError(
            "gRPC over TLS needs to know who comes: set listener.name.grpc.ssl.client.auth to "
            "required"
        )


def _check_sasl(config: BrokerConfig, listener: str) -> None:
    mechanisms = config.mechanisms_of(listener)
    if not mechanisms:
        raise UsageError(
            f"the listener {listener} asks for names by SASL, and nothing says how they are "
            f"proved: set sasl.enabled.mechanisms to some of {', '.join(MECHANISMS)}"
        )
    for mechanism in mechanisms:
        if mechanism != "PLAIN":
            continue
        jaas = config.of_listener(listener, "sasl.jaas.config", mechanism)
        if jaas is None or not parse_jaas(jaas.reveal()).users:
            raise UsageError(
                f"the listener {listener} offers PLAIN, and there are no users: set "
                f"listener.name.{listener.lower()}.plain.sasl.jaas.config to "
                'org.apache.kafka.common.security.plain.PlainLoginModule required user_NAME="...";'
            )


def _check_back_door(config: BrokerConfig) -> None:
    """What one door refuses the other does: gRPC asks for names as soon as anything here does, or
    is for this machine alone, and left open knowingly."""
    asks = [name for name in _names(config) if config.asks_names(name)]
    if asks:
        who = f"the listener {asks[0]} asks for names"
    elif config.authorizer_class_name:
        who = "authorizer.class.name is set"
    else:
        return
    if config.protocol_of(GRPC).encrypts:
        return
    if is_loopback(config.grpc_listener.host) and ANONYMOUS in config.super_users:
        return
    raise UsageError(
        f"{who}, and grpc.listener asks for none, which would be a back door: add "
        "GRPC:SSL to listener.security.protocol.map, or, on a loopback address, User:ANONYMOUS to "
        "super.users to leave it open"
    )


def _names(config: BrokerConfig) -> list[str]:
    return [] if config.listeners is None else config.listeners.names


def topic_config(overrides: Mapping[str, str], defaults: TopicConfig) -> TopicConfig:
    """Overrides over the broker's defaults. Raises InvalidConfigError for the first wrong one."""
    if not overrides:
        return defaults  # not one more for each partition
    return replace(defaults, **_read_all(TopicConfig, overrides, InvalidConfigError))


def validate_topic_overrides(overrides: Mapping[str, str]) -> None:
    """Raises InvalidConfigError for the first override that is unknown or has a wrong value."""
    _read_all(TopicConfig, overrides, InvalidConfigError)


def validate_broker_overrides(overrides: Mapping[str, str]) -> None:
    """Raises InvalidConfigError for the first override of a broker's property that is unknown, can
    only be set where a broker is started, or has a wrong value."""
    _read_dynamic(overrides)


def with_overrides(config: BrokerConfig, overrides: Mapping[str, str]) -> BrokerConfig:
    """Overrides over a broker's configuration. Raises InvalidConfigError, also for a value that
    does not go with the rest of the configuration."""
    changed = replace(config, **_read_dynamic(overrides))
    try:
        _check_broker(changed)
    except UsageError as error:
        raise InvalidConfigError(str(error)) from None
    return changed


def require_declared(config_class: ConfigClass, names: Iterable[str]) -> None:
    """Raises InvalidConfigError for the first name that no property of the class has."""
    declared = {declared.name for declared in properties(config_class)}
    for name in names:
        if name not in declared:
            raise InvalidConfigError(_unknown(name, config_class))


def _read_dynamic(overrides: Mapping[str, str]) -> dict[str, Any]:
    for name in overrides:
        declared = _BROKER_PROPERTIES.get(_ALIASES.get(name, name))
        if declared is not None and not declared.dynamic:
            in_ms = _IN_MILLISECONDS.get(name)
            instead = f"alter {in_ms}, or set it" if in_ms else "set it"
            raise InvalidConfigError(
                f"{name} cannot be altered while a broker runs: {instead} where the broker is "
                "started"
            )
    return _read_all(BrokerConfig, overrides, InvalidConfigError)


_IN_MILLISECONDS = {
    "log.retention.minutes": "log.retention.ms",
    "log.retention.hours": "log.retention.ms",
    "log.roll.hours": "log.roll.ms",
}


def _read_all(
    config_class: ConfigClass,
    texts: Mapping[str, str],
    error: type[MinikafkaError],
) -> dict[str, Any]:
    by_name = {declared.name: declared for declared in properties(config_class)}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        declared = by_name.get(name)
        if declared is None:
            raise error(_unknown(name, config_class))
        if not text.strip() and not declared.may_be_blank:
            default = as_text(declared.default) or "none"
            instead = "" if declared.required else f", or leave it out for {default}"
            raise error(f"{name} is blank: expected {declared.expects}{instead}")
        try:
            values[field_name(name)] = declared.read(text.strip())
        except ValueError as problem:
            shown = name if declared.kind == "password" else f"{name}={text.strip()}"
            raise error(f"{shown} is not valid: {problem}") from None
    return values


def _unknown(name: str, config_class: ConfigClass) -> str:
    """What to say of a name that this class does not have: what was probably meant."""
    own = [declared.name for declared in properties(config_class)]
    topic_level = {declared.name: declared.broker_property for declared in properties(TopicConfig)}
    if config_class is BrokerConfig:
        if name in topic_level and topic_level[name] is None:
            return f"{name} is a topic's property: set it there"
        if name in topic_level:
            return (
                f"{name} is a topic's property: the broker's default for it is {topic_level[name]}"
            )
    else:
        for topic_name, broker_property in topic_level.items():
            if name == broker_property:
                return f"{name} is a broker's property: the topic's is {topic_name}"
        if name in {declared.name for declared in properties(BrokerConfig)} | _ALIASES.keys():
            return (
                f"{name} is a broker's property, not a topic's: set it where the broker is started"
            )
    if is_foreign(name):
        return f"{name} is a property of Kafka's brokers that has no effect here: leave it out"
    meant = _closest(name, own)
    scope = properties(config_class)[0].scope
    hint = (
        f"did you mean {meant}?"
        if meant
        else f"`minikafka` has these {scope} properties: {', '.join(sorted(own))}"
    )
    return f"{name!r} is not a property of a {scope}: {hint}"


def _closest(name: str, candidates: Collection[str]) -> str | None:
    spelt = name.strip().lower().replace("_", ".").replace("-", ".")
    found = difflib.get_close_matches(spelt, candidates, n=1, cutoff=0.75)
    return found[0] if found else None
