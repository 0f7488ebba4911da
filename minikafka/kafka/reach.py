"""Which brokers a client can reach: those that have a listener of the name that it came through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from minikafka.model import BrokerInfo


class Reachable(NamedTuple):
    """A broker as a client is told of it."""

    broker_id: int
    host: str
    port: int
    rack: str | None


def reachable(brokers: Iterable[BrokerInfo], listener: str) -> dict[int, Reachable]:
    """By their ids, in the order in which they come."""
    return {
        broker.broker_id: Reachable(broker.broker_id, found.host, found.port, broker.rack)
        for broker in brokers
        if (found := broker.kafka_listener(listener)) is not None
    }
