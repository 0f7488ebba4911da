"""The producer id of one client: asked of the cluster when a lane first needs one, and again when a
broker says that the old one is void (KIP-98, KIP-360).

State: the id and epoch for lanes that need one, or None; at most one task that asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from minikafka.client.backoff import Backoff
from minikafka.client.metadata import Cluster
from minikafka.errors import MinikafkaError

_logger = logging.getLogger(__name__)


class ProducerIds:
    def __init__(self, cluster: Cluster, on_news: Callable[[], None]) -> None:
        self.current: tuple[int, int] | None = None  # (producer id, producer epoch)
        self.last_error: MinikafkaError | None = None
        self._cluster = cluster
        self._on_news = on_news
        self._task: asyncio.Task[None] | None = None

    def acquire_soon(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._acquire())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _acquire(self) -> None:
        backoff = Backoff(self._cluster.uniform)
        while True:
            try:
                self.current = await self._cluster.call_any(
                    lambda channel: channel.init_producer_id()
                )
            except MinikafkaError as error:
                self.last_error = error
                _logger.info("no producer id yet: %s", error)
                self._on_news()
                await asyncio.sleep(backoff.next_s())
            else:
                self.last_error = None
                self._on_news()
                return
