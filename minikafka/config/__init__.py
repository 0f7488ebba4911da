"""What a person can set: broker and topic configuration under Kafka's property names.

topic, broker    the properties that there are
foreign          those of Kafka's brokers that have no effect here
reading          texts into configurations, and the checks

A property is declared once, as a field of `BrokerConfig` or `TopicConfig`: the field's name with
dots for underscores is the property's name, and its metadata says how text is read, what is
accepted, and what it is for. Parsing, validation, suggestions for misspelt names, documentation
and `topics describe` all come from that declaration. Property names, meanings and defaults are
Apache Kafka's unless the doc line says "minikafka's own".

Invariants: both classes are immutable; whatever the functions here return has passed every check,
so nothing downstream validates again. Pure: text in, values out; nothing is read from the
environment or from disk.

Errors: a broker's configuration raises `UsageError` (its start is refused, exit status 2), a
topic's raises `InvalidConfigError`. Each names the property, the value and what would be right.
"""

from minikafka.config.broker import UNTHROTTLED, BrokerConfig
from minikafka.config.properties import (
    ConfigEntry,
    Endpoint,
    Property,
    as_text,
    field_name,
    parse_properties,
)
from minikafka.config.reading import (
    parse_broker_config,
    properties,
    require_declared,
    topic_config,
    validate_broker_overrides,
    validate_topic_overrides,
    with_overrides,
    without_effect,
)
from minikafka.config.topic import TopicConfig

__all__ = [
    "UNTHROTTLED",
    "BrokerConfig",
    "ConfigEntry",
    "Endpoint",
    "Property",
    "TopicConfig",
    "as_text",
    "field_name",
    "parse_broker_config",
    "parse_properties",
    "properties",
    "require_declared",
    "topic_config",
    "validate_broker_overrides",
    "validate_topic_overrides",
    "with_overrides",
    "without_effect",
]
