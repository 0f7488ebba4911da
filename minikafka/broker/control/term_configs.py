"""What topics are configured as, in the eyes of the controller.

State: the overrides of topics and of brokers as they were read from ZooKeeper last. Where a value
is wrong, the defaults count.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from minikafka.broker.live_config import BrokerOverrides, LiveConfig
from minikafka.config import BrokerConfig, TopicConfig, topic_config
from minikafka.errors import InvalidConfigError

log = logging.getLogger("minikafka.controller")


class TermConfigs:
    """Of one term. `config` is what this broker was started with."""

    def __init__(self, config: BrokerConfig) -> None:
        self._topics: Mapping[str, Mapping[str, str]] = {}
        self._live = LiveConfig(config)

    def take(self, topics: Mapping[str, Mapping[str, str]], brokers: BrokerOverrides) -> None:
        """What ZooKeeper holds now."""
        self._topics = topics
        self._live.take(brokers)

    def unclean_allowed(self, topic: str) -> bool:
        """unclean.leader.election.enable of a topic."""
        return self._of_topic(topic).unclean_leader_election_enable

    def min_insync(self, topic: str) -> int:
        """min.insync.replicas of a topic."""
        return self._of_topic(topic).min_insync_replicas

    def _of_topic(self, topic: str) -> TopicConfig:
        default = self._live.topic_defaults
        try:
            return topic_config(self._topics.get(topic, {}), default)
        except InvalidConfigError as error:
            log.warning("the configuration of topic %s is not valid: %s", topic, error)
            return default
