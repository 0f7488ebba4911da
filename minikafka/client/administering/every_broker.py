"""What each broker knows a part of is asked of all of them. No state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from minikafka.api.requests import ClusterMetadata
from minikafka.client.backoff import Backoff
from minikafka.client.channel import Channel
from minikafka.client.metadata import Cluster
from minikafka.errors import MinikafkaError

R = TypeVar("R")


async def ask_every_broker(
    cluster: Cluster,
    metadata: Callable[[Sequence[str]], Awaitable[ClusterMetadata]],
    ask: Callable[[Channel], Awaitable[R]],
    timeout_ms: float,
) -> list[R]:
    """The answers of all live brokers. Every one has to answer, or something would be missing: one
    that dies is waited for until it is known to be dead, one that still loads until it has loaded.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_ms / 1000
    backoff = Backoff(cluster.uniform)
    while True:
        brokers = (await metadata([])).brokers
        answers = await asyncio.gather(
            *(ask(cluster.channel_to(each.grpc_address)) for each in brokers),
            return_exceptions=True,
        )
        failures = [each for each in answers if isinstance(each, BaseException)]
        if not failures:
            return [each for each in answers if not isinstance(each, BaseException)]
        final = [
            each for each in failures if not isinstance(each, MinikafkaError) or not each.retriable
        ]
        if final or loop.time() >= deadline:
            raise (final or failures)[0]
        await asyncio.sleep(backoff.next_s())
