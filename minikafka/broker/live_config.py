"""A broker's configuration as it is now: what it was started with, and the overrides in ZooKeeper.

State: what is stored for all brokers, as it was read last, and the layers, the effective
configuration and the defaults of topics that come of it; who listens, to which properties. Whatever
is wrong in ZooKeeper counts as not set, and is logged once.

Who needs a value at the moment reads `current`. Who has to act upon a change listens to the names
that matter to it, and hears of no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from minikafka.config import BrokerConfig, properties
from minikafka.config.overrides import BrokerLayers, changed_names, read_layers

logger = logging.getLogger(__name__)

BrokerOverrides = Mapping[str, Mapping[str, str]]
_DYNAMIC = frozenset(declared.name for declared in properties(BrokerConfig) if declared.dynamic)


class LiveConfig:
    """`current` and `topic_defaults` are replaced, never changed: take them anew for each use."""

    def __init__(self, static: BrokerConfig) -> None:
        self.layers = BrokerLayers(static)
        self.current = static
        self.topic_defaults = static.topic_defaults()
        self._stored: BrokerOverrides = {}
        self._problems: list[str] = []
        self._listeners: list[tuple[frozenset[str], Callable[[BrokerConfig], None]]] = []
        self._told: BrokerConfig | None = None

    def on_change(self, names: Iterable[str], listener: Callable[[BrokerConfig], None]) -> None:
        """`listener` is given what holds after the first `take`, and then whenever one of these
        properties has another value."""
        wanted = frozenset(names)
        assert wanted <= _DYNAMIC, wanted - _DYNAMIC
        self._listeners.append((wanted, listener))

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
        told, self._told = self._told, self.current
        changed = _DYNAMIC if told is None else changed_names(told, self.current)
        for names, listener in self._listeners:
            if names & changed:
                listener(self.current)
