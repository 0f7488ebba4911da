"""The Python client library: Producer, Consumer, Admin, each also as Async… for asyncio.

Importing this package imports nothing else; each name is loaded when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minikafka.client.administering.admin import AsyncAdmin
    from minikafka.client.administering.sync import Admin
    from minikafka.client.consuming.consumer import AsyncConsumer
    from minikafka.client.consuming.fetcher import FetchedBatches
    from minikafka.client.producing.accumulator import Delivery
    from minikafka.client.producing.producer import AsyncProducer
    from minikafka.client.sync import Consumer, Producer
    from minikafka.client.values import ConsumerRecord, RecordMetadata, WouldBlockError
    from minikafka.model import TopicPartition

_HOMES = {
    "Admin": "administering.sync",
    "AsyncAdmin": "administering.admin",
    "AsyncConsumer": "consuming.consumer",
    "AsyncProducer": "producing.producer",
    "Consumer": "sync",
    "ConsumerRecord": "values",
    "Delivery": "producing.accumulator",
    "FetchedBatches": "consuming.fetcher",
    "Producer": "sync",
    "RecordMetadata": "values",
    "TopicPartition": "consuming.fetcher",
    "WouldBlockError": "values",
}

__all__ = [
    "Admin",
    "AsyncAdmin",
    "AsyncConsumer",
    "AsyncProducer",
    "Consumer",
    "ConsumerRecord",
    "Delivery",
    "FetchedBatches",
    "Producer",
    "RecordMetadata",
    "TopicPartition",
    "WouldBlockError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = import_module(f"{__name__}.{_HOMES[name]}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
