"""Who hears of a change of settings: who depends on one of the names that have another value."""

from __future__ import annotations

import pytest

from minikafka.broker.control.settings import DecisiveSettings
from minikafka.broker.live_config import LiveConfig
from minikafka.config import BrokerConfig, parse_broker_config
from minikafka.config.overrides import DEFAULT_BROKER, changed_entities, changed_names

RATE, RETENTION, UNCLEAN, INSYNC = (
    "follower.replication.throttled.rate",
    "log.retention.ms",
    "unclean.leader.election.enable",
    "min.insync.replicas",
)
REQUIRED = {"broker.id": "1", "zookeeper.connect": "127.0.0.1:2181", "log.dirs": "/data"}


def static(**more: str) -> BrokerConfig:
    return parse_broker_config(REQUIRED | {n.replace("_", "."): text for n, text in more.items()})


def test_a_listener_hears_what_holds_at_first_and_then_only_of_its_names() -> None:
    live = LiveConfig(static(log_retention_ms="7"))
    rates: list[int] = []
    retentions: list[int | None] = []
    live.on_change([RATE], lambda config: rates.append(config.follower_replication_throttled_rate))
    live.on_change([RETENTION], lambda config: retentions.append(config.log_retention_ms))
    live.take({})
    assert (len(rates), retentions) == (1, [7])
    live.take({"1": {RATE: "1000"}})
    assert (rates[1:], retentions) == ([1000], [7])
    live.take({"1": {RATE: "1000"}, DEFAULT_BROKER: {RETENTION: "8"}})
    assert (rates[1:], retentions) == ([1000], [7, 8])
    # Another layer, the same value; another broker; a value that counts as not set.
    live.take({DEFAULT_BROKER: {RETENTION: "8", RATE: "1000"}, "2": {RATE: "5"}})
    live.take({DEFAULT_BROKER: {RETENTION: "8", RATE: "1000"}, "1": {RATE: "none"}})
    assert (rates[1:], retentions) == ([1000], [7, 8])
    live.take({})
    assert (rates[2:], retentions) == (rates[:1], [7, 8, 7])


def test_a_listener_to_several_names_hears_once_of_all_that_changed() -> None:
    live = LiveConfig(static())
    heard: list[BrokerConfig] = []
    live.on_change([RATE, RETENTION], heard.append)
    live.take({})
    live.take({"1": {RATE: "1", RETENTION: "2"}})
    assert heard == [static(), live.current]


@pytest.mark.parametrize("name", ["log.retention.mss", "broker.rack"])
def test_nobody_can_listen_to_what_is_none_or_cannot_change(name: str) -> None:
    with pytest.raises(AssertionError, match=name):
        LiveConfig(static()).on_change([name], lambda _: None)


def test_names_and_entities_that_changed() -> None:
    assert changed_names(static(), static()) == frozenset()
    assert changed_names(static(), static(log_retention_ms="1", broker_rack="x")) == {
        RETENTION,
        "broker.rack",
    }
    before = {"same": {"a": "1"}, "other": {"a": "1"}, "gone": {"a": "1"}, "emptied": {"a": "1"}}
    after = {"same": {"a": "1"}, "other": {"a": "2"}, "come": {"a": "1"}, "emptied": {}, "no": {}}
    assert changed_entities(before, after) == {"other", "gone", "come", "emptied"}


def test_the_controller_decides_anew_only_for_settings_that_it_decides_by() -> None:
    settings = DecisiveSettings(static())

    def is_decisive(topics: dict[str, dict[str, str]], brokers: dict[str, dict[str, str]]) -> bool:
        settings.pending = False
        settings.take(topics, brokers)
        return settings.pending

    assert is_decisive({}, {})  # what holds at first
    assert not is_decisive({"t": {"retention.ms": "7"}}, {"1": {RATE: "7"}})
    assert is_decisive({"t": {"retention.ms": "7", UNCLEAN: "true"}}, {})
    assert settings.unclean_allowed("t")
    assert not is_decisive({"t": {"retention.ms": "8", UNCLEAN: "true"}}, {})
    # One that is wrong makes the defaults count, so that another name can be what decides.
    assert is_decisive({"t": {"retention.ms": "soon", UNCLEAN: "true"}}, {})
    assert not settings.unclean_allowed("t")
    assert is_decisive({"t": {UNCLEAN: "true"}}, {})
    assert is_decisive({"t": {UNCLEAN: "true"}}, {DEFAULT_BROKER: {INSYNC: "2"}})
    assert settings.min_insync("t") == settings.min_insync("another") == 2
    assert is_decisive({}, {DEFAULT_BROKER: {INSYNC: "2"}})  # the topic is gone


def test_what_was_not_decided_anew_stays_pending() -> None:
    settings = DecisiveSettings(static())
    settings.take({"t": {UNCLEAN: "true"}}, {})
    settings.take({"t": {UNCLEAN: "true"}}, {})
    assert settings.pending
