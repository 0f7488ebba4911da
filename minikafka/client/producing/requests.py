"""A produce request under way. Its state is the sender's (sender.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from minikafka.api.requests import ProduceResult
from minikafka.client.producing.accumulator import Batch
from minikafka.model import TopicPartition


class Request:
    """A produce request that is not answered, with the batches that still wait for its answer."""

    __slots__ = ("batches", "broker_id", "deadline", "future", "sent_at_s")

    def __init__(self, broker_id: int, batches: dict[TopicPartition, Batch], now_s: float) -> None:
        self.broker_id = broker_id
        self.batches = batches
        self.sent_at_s = now_s
        self.future: asyncio.Future[Sequence[ProduceResult]] | None = None
        self.deadline: asyncio.TimerHandle | None = None
