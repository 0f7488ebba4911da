"""A broker's configuration as it is now: what it was started with, and the overrides in ZooKeeper.

State: what is stored for all brokers, as it was read last, and the layers, the effective
configuration and the defaults of topics that come of it. Whatever is wrong in ZooKeeper counts as
not set, and is logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from minikafka.config import BrokerConfig
from minikafka.config.overrides import BrokerLayers, read_layers

logger = logging.getLogger(__name__)

BrokerOverrides = Mapping[str, Mapping[str, str]]


class LiveConfig:
    """`current` and `topic_defaults` are replaced, never changed: take them anew for each use."""

    def __init__(self, static: BrokerConfig) -> None:
        self.layers = BrokerLayers(static)
        self.current = static
        self.topic_defaults = static.topic_defaults()
        self._stored: BrokerOverrides = {}
        self._problems: list[str] = []

    def overrides(self, broker: str) -> Mapping[str, str]:
        """What is stored for a broker's id, or for DEFAULT_BROKER."""
        return self._stored.get(broker, {})

    def take(self, stored: BrokerOverrides) -> None:
        """What ZooKeeper holds now, by broker's id and DEFAULT_BROKER."""
        self._stored = stored
        before = self.layers
        self.layers, problems = read_layers(before.static, stored)
        for problem in problems:
            if problem not in self._problems:
                logger.error("%s", problem)
        self._problems = problems
        if self.layers != before:
            self.current = self.layers.effective()
            self.topic_defaults = self.current.topic_defaults()
