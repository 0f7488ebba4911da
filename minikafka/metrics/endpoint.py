"""/metrics of one broker: the server, and the text that is made for each scrape.

prometheus_client is loaded at the first scrape, in a thread: a broker that nobody scrapes does
without it.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable

from minikafka.broker.metrics_reader import MetricsReader
from minikafka.metrics.server import MetricsServer


class MetricsEndpoint:
    """`name` is what people call the broker; `connections` tells how many Kafka clients are
    connected."""

    def __init__(self, reader: MetricsReader, name: str, connections: Callable[[], int]) -> None:
        self._reader = reader
        self._name = name
        self._connections = connections
        self._loaded = False
        self._server = MetricsServer(self.render)

    async def start(self, host: str, port: int) -> int:
        """See MetricsServer.start."""
        return await self._server.start(host, port)

    async def stop(self) -> None:
        await self._server.stop()

    async def render(self) -> bytes:
        """The metrics of now, in Prometheus's text format."""
        if not self._loaded:
            await asyncio.get_running_loop().run_in_executor(None, _load)
            self._loaded = True
        from minikafka.metrics.collector import BrokerCollector
        from minikafka.metrics.exposition import render

        collector = BrokerCollector(self._reader, self._name, self._connections)
        metrics, waiting = await self._reader.read(), await self._reader.count_waiting()
        return await render(collector.families(metrics, waiting))


def _load() -> None:
    for module in ("collector", "exposition"):
        importlib.import_module(f"minikafka.metrics.{module}")
