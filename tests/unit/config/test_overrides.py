"""Layers of broker settings: which value holds, where it comes from, what may be altered."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from minikafka.config import (
    BrokerConfig,
    TopicConfig,
    parse_broker_config,
    properties,
    require_declared,
    topic_config,
    validate_broker_overrides,
    with_overrides,
)
from minikafka.config.overrides import (
    DEFAULT_BROKER,
    BrokerLayers,
    ConfigDescription,
    broker_entity_name,
    changed_layers,
    describe_all_brokers,
    describe_broker,
    describe_topic,
    merged,
    read_layers,
)
from minikafka.config.properties import declarations, whole
from minikafka.errors import InvalidConfigError, InvalidRequestError


def static(**more: str) -> BrokerConfig:
    required = {"broker.id": "2", "zookeeper.connect": "127.0.0.1:2181", "log.dirs": "/data"}
    return parse_broker_config(
        required | {name.replace("_", "."): text for name, text in more.items()}
    )


def only(found: list[ConfigDescription], name: str) -> ConfigDescription:
    [entry] = [each for each in found if each.name == name]
    return entry


def synonyms(entry: ConfigDescription) -> list[tuple[str, str, int]]:
    return [(each.name, each.value, each.source) for each in entry.synonyms]


# --- what may be altered -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("message.max.byte", "5", "did you mean message.max.bytes?"),
        ("retention.ms", "5", "the broker's default for it is log.retention.ms"),
        ("num.io.threads", "5", "has no effect here: leave it out"),
        ("min.insync.replicas", "0", "expected a whole number from 1"),
        ("log.retention.ms", "7d", "604800000 milliseconds"),
        ("log.cleanup.policy", "shred", "expected compact or delete"),
        ("broker.id", "5", "cannot be altered while a broker runs: set it where the broker is"),
        ("log.dir", "/x", "cannot be altered while a broker runs"),
        ("log.retention.hours", "5", "alter log.retention.ms, or set it where"),
        ("log.roll.hours", "5", "alter log.roll.ms, or set it where"),
        ("log.retention.ms", " ", "log.retention.ms is blank"),
    ],
)
def test_what_cannot_be_altered_is_told_with_what_can(name: str, value: str, said: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        validate_broker_overrides({"log.segment.bytes": "1000", name: value})
    assert name in str(caught.value)
    assert said in str(caught.value)


def test_every_default_of_a_topic_can_be_altered_but_for_those_in_other_units() -> None:
    dynamic = {declared.name for declared in properties(BrokerConfig) if declared.dynamic}
    defaults = {declared.broker_property for declared in properties(TopicConfig)} - {None}
    assert defaults < dynamic
    assert dynamic - defaults == {
        "producer.id.expiration.ms",
        "log.cleaner.backoff.ms",
        "follower.replication.throttled.rate",
        "leader.replication.throttled.rate",
    }


def test_a_value_that_does_not_go_with_the_rest_of_the_configuration_is_refused() -> None:
    small = static(socket_request_max_bytes="5000000", queued_max_request_bytes="5000000")
    with pytest.raises(InvalidConfigError, match=r"above socket\.request\.max\.bytes=5000000"):
        with_overrides(small, {"message.max.bytes": "5000001"})
    assert with_overrides(small, {"message.max.bytes": "5000000"}).message_max_bytes == 5_000_000


def test_a_misspelt_name_of_a_property_is_told_whatever_is_done_with_it() -> None:
    require_declared(BrokerConfig, ["log.dirs"])
    with pytest.raises(InvalidConfigError, match=r"did you mean retention\.ms"):
        require_declared(TopicConfig, ["retention.bytes", "retention.mss"])


@pytest.mark.parametrize(
    ("text", "name"),
    [("", DEFAULT_BROKER), (DEFAULT_BROKER, DEFAULT_BROKER), ("1", "1"), ("700", "700")],
)
def test_a_broker_is_named_by_its_id_or_by_nothing(text: str, name: str) -> None:
    assert broker_entity_name(text) == name


@pytest.mark.parametrize("text", ["A", "01", "-1", "1 ", "٣", "1/2"])
def test_whatever_else_names_no_broker(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is no broker"):
        broker_entity_name(text)


# --- layers --------------------------------------------------------------------------------------


def test_a_brokers_own_override_comes_before_that_of_all_and_both_before_static() -> None:
    given = static(log_retention_hours="5", min_insync_replicas="2", log_segment_bytes="50")
    stored = {
        DEFAULT_BROKER: {"log.retention.ms": "70", "min.insync.replicas": "3"},
        "2": {"log.retention.ms": "80"},
        "3": {"log.retention.ms": "90"},
    }
    layers, problems = read_layers(given, stored)
    assert problems == []
    defaults = layers.effective().topic_defaults()
    assert (defaults.retention_ms, defaults.min_insync_replicas) == (80, 3)
    assert (defaults.segment_bytes, defaults.cleanup_policy) == (50, "delete")


def test_what_is_stored_wrong_counts_as_not_set_and_the_rest_holds() -> None:
    given = static(socket_request_max_bytes="5000000", queued_max_request_bytes="5000000")
    stored = {
        DEFAULT_BROKER: {"no.such": "1", "log.roll.ms": "7", "message.max.bytes": "6000000"},
        "2": {"log.roll.ms": "soon", "min.insync.replicas": "2", "broker.id": "3"},
    }
    layers, problems = read_layers(given, stored)
    assert layers == BrokerLayers(given, {"log.roll.ms": "7"}, {"min.insync.replicas": "2"})
    assert [problem.split(" counts")[0] for problem in problems] == [
        "an override of <default>",
        "an override of <default>",
        "an override of 2",
        "an override of 2",
    ]
    assert "message.max.bytes=6000000 is above" in problems[0]
    assert "broker.id cannot be altered" in problems[2]


def test_changes_set_and_take_away() -> None:
    assert merged({"a": "1", "b": "2"}, {"a": None, "c": "3", "d": None}) == {"b": "2", "c": "3"}


def test_changes_are_checked_with_all_that_this_broker_has() -> None:
    given = static(socket_request_max_bytes="5000000", queued_max_request_bytes="5000000")
    layers = BrokerLayers(given, {"log.roll.ms": "7"}, {"log.roll.ms": "8"})
    changes = {"log.roll.ms": None, "min.insync.replicas": "2"}
    assert changed_layers(layers, DEFAULT_BROKER, changes).of_all == {"min.insync.replicas": "2"}
    assert changed_layers(layers, "2", changes).own == {"min.insync.replicas": "2"}
    assert changed_layers(layers, "3", changes) == layers
    large = {"message.max.bytes": "6000000"}
    for broker in (DEFAULT_BROKER, "2"):
        with pytest.raises(InvalidConfigError, match="is above"):
            changed_layers(layers, broker, large)
    assert changed_layers(layers, "3", large) == layers  # whose settings are not known here
    with pytest.raises(InvalidConfigError, match=r"min\.insync\.replicas=none"):
        changed_layers(layers, "3", {"min.insync.replicas": "none"})


# --- describing ----------------------------------------------------------------------------------


def test_a_broker_tells_where_each_value_comes_from() -> None:
    given = static(log_retention_hours="5")
    layers = BrokerLayers(
        given,
        {"log.retention.ms": "70", "min.insync.replicas": "3"},
        {"log.retention.ms": "80"},
    )
    found = describe_broker(layers)
    assert [each.name for each in found] == sorted(p.name for p in properties(BrokerConfig))
    retention = only(found, "log.retention.ms")
    assert (retention.value, retention.source, retention.dynamic) == ("80", 2, True)
    assert synonyms(retention) == [
        ("log.retention.ms", "80", 2),
        ("log.retention.ms", "70", 3),
        ("log.retention.hours", "5", 4),
        ("log.retention.hours", "168", 5),
    ]
    minimum = only(found, "min.insync.replicas")
    assert (minimum.value, minimum.source, minimum.kind) == ("3", 3, "integer")
    hours = only(found, "log.retention.hours")
    assert (hours.value, hours.source, hours.dynamic) == ("5", 4, False)
    assert synonyms(hours) == [("log.retention.hours", "5", 4), ("log.retention.hours", "168", 5)]
    assert synonyms(only(found, "broker.id")) == [("broker.id", "2", 4)]
    rack = only(found, "broker.rack")
    assert (rack.value, rack.source, rack.synonyms) == (None, 5, [])


def test_what_is_set_for_all_brokers_is_told_and_nothing_else() -> None:
    layers = BrokerLayers(
        static(min_insync_replicas="2"), {"min.insync.replicas": "3"}, {"log.roll.ms": "9"}
    )
    [entry] = describe_all_brokers(layers)
    assert (entry.name, entry.value, entry.source) == ("min.insync.replicas", "3", 3)
    assert synonyms(entry) == [("min.insync.replicas", "3", 3)]


def test_a_topic_tells_where_each_value_comes_from() -> None:
    given = static(log_segment_bytes="50")
    layers = BrokerLayers(given, {"log.retention.ms": "70"}, {"message.max.bytes": "80"})
    overrides = {"retention.ms": "90"}
    config = topic_config(overrides, layers.effective().topic_defaults())
    found = describe_topic(layers, overrides, config)
    assert [each.name for each in found] == sorted(p.name for p in properties(TopicConfig))
    assert synonyms(only(found, "retention.ms")) == [
        ("retention.ms", "90", 1),
        ("log.retention.ms", "70", 3),
        ("log.retention.hours", "168", 5),
    ]
    held = {each.name: (each.value, each.source) for each in found}
    assert held["retention.ms"] == ("90", 1)
    assert held["max.message.bytes"] == ("80", 2)
    assert held["segment.bytes"] == ("50", 4)
    assert held["segment.ms"] == ("604800000", 5)


def test_every_property_of_topics_is_dynamic():
    @dataclass(frozen=True)
    class Topics:
        minikafka_own: int = whole(
            1, "Has no default at brokers, and does not say that it is dynamic."
        )

    (declared,) = declarations(Topics, "topic")
    assert declared.dynamic
    assert not declarations(Topics, "broker")[0].dynamic
