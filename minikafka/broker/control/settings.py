"""The settings of topics that the controller decides by, as they are now.

State: the overrides of topics as they were read last, what is live of the broker's own
configuration (the defaults of topics), and whether a setting that elections or reassignments depend
on has another value than when it was last decided by.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from minikafka.broker.live_config import BrokerOverrides, LiveConfig
from minikafka.config import BrokerConfig, TopicConfig, topic_config
from minikafka.config.overrides import changed_entities
from minikafka.errors import InvalidConfigError

log = logging.getLogger("minikafka.controller")

# Of topics, and under the same names their defaults of brokers.
DECISIVE = ("unclean.leader.election.enable", "min.insync.replicas")


class DecisiveSettings:
    """`pending`: something of DECISIVE has changed; who decides anew takes it back."""

    def __init__(self, static: BrokerConfig) -> None:
        self.pending = False
        self._overrides: Mapping[str, Mapping[str, str]] = {}
        self._live = LiveConfig(static)
        self._live.on_change(DECISIVE, self._on_defaults)

    def take(self, topics: Mapping[str, Mapping[str, str]], brokers: BrokerOverrides) -> None:
        """What ZooKeeper holds now."""
        changed = changed_entities(self._overrides, topics)
        before = {topic: self._decisive(topic) for topic in changed}
        self._overrides = topics
        self._live.take(brokers)
        if any(self._decisive(topic) != values for topic, values in before.items()):
            self.pending = True

    def unclean_allowed(self, topic: str) -> bool:
        """unclean.leader.election.enable of a topic."""
        return self._topic_config(topic).unclean_leader_election_enable

    def min_insync(self, topic: str) -> int:
        """min.insync.replicas of a topic."""
        return self._topic_config(topic).min_insync_replicas

    def _on_defaults(self, _: BrokerConfig) -> None:
        self.pending = True

    def _decisive(self, topic: str) -> tuple[bool, int]:
        return self.unclean_allowed(topic), self.min_insync(topic)

    def _topic_config(self, topic: str) -> TopicConfig:
        """As it is now. Where a value is wrong, the defaults count."""
        default = self._live.topic_defaults
        try:
            return topic_config(self._overrides.get(topic, {}), default)
        except InvalidConfigError as error:
            log.warning("the configuration of topic %s is not valid: %s", topic, error)
            return default
