"""Clients of the cluster that a command talks to.

A command first makes sure that somebody listens at one of the addresses: that takes a moment, where
the client library would go on trying for long, and the error can say what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from minikafka.errors import MinikafkaError, UnknownTopicOrPartitionError
from minikafka.local.discovery import Bootstrap, nobody_answers
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.api.requests import ClusterMetadata, TopicMetadata
    from minikafka.client import AsyncAdmin, AsyncProducer

_TOPIC_WAIT_MS = 10_000
_CONNECT_TIMEOUT_S = 3.0


async def require_reachable(bootstrap: Bootstrap) -> None:
    """Raises NoCluster unless a connection to one of the addresses is accepted."""
    tries = [asyncio.create_task(_connect(address)) for address in bootstrap.addresses]
    try:
        problems = []
        for attempt in asyncio.as_completed(tries, timeout=_CONNECT_TIMEOUT_S + 1):
            problem = await attempt
            if problem is None:
                return
            problems.append(problem)
        raise nobody_answers(bootstrap, ", ".join(sorted(set(problems))))
    finally:
        for task in tries:
            task.cancel()
        await asyncio.gather(*tries, return_exceptions=True)


async def _connect(address: str) -> str | None:
    """None if somebody accepts, else why not."""
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S
        )
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return (os.strerror(error.errno) if error.errno else str(error)).lower()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


async def answers(address: str, patience_ms: float) -> bool:
    """Whether that broker says anything: neither one that is dead nor one that is paused does."""
    from minikafka.client.channel import connect_over_grpc

    channel = connect_over_grpc(address)
    try:
        async with asyncio.timeout(patience_ms / 1000):
            await channel.metadata([], False)
    except (MinikafkaError, TimeoutError):
        return False
    else:
        return True
    finally:
        await channel.close()


@contextlib.asynccontextmanager
async def open_admin(
    bootstrap: Bootstrap, request_timeout_ms: float = 30_000
) -> AsyncIterator[AsyncAdmin]:
    from minikafka.client import AsyncAdmin

    await require_reachable(bootstrap)
    async with AsyncAdmin(bootstrap.addresses, request_timeout_ms=request_timeout_ms) as admin:
        yield admin


@contextlib.asynccontextmanager
async def open_producer(
    bootstrap: Bootstrap, topic: str, **options: Any
) -> AsyncIterator[AsyncProducer]:
    """A producer to a topic that is there or that the cluster creates (auto.create.topics.enable).

    Raises UnknownTopicOrPartitionError, with near names. `options`: AsyncProducer's.
    """
    from minikafka.client import AsyncProducer

    async with open_admin(bootstrap) as admin:
        known = [each.name for each in (await admin.metadata(None)).topics]
    if topic not in known:
        tell(f"topic {topic} does not exist yet")
    options.setdefault("max_block_ms", _TOPIC_WAIT_MS)
    async with AsyncProducer(bootstrap.addresses, **options) as producer:
        try:
            await producer.partition_count(topic)
        except UnknownTopicOrPartitionError:
            raise unknown_topic(topic, known) from None
        yield producer


async def require_topics(admin: AsyncAdmin, names: Sequence[str]) -> ClusterMetadata:
    """The metadata of these topics (none: of all). Raises the error of the first that has one;
    a topic that is not there comes with the names that are spelt like it."""
    metadata = await admin.metadata(list(names) or None)
    for topic in metadata.topics:
        if isinstance(topic.error, UnknownTopicOrPartitionError):
            known = [each.name for each in (await admin.metadata(None)).topics]
            raise unknown_topic(topic.name, known)
        if topic.error is not None:
            raise topic.error
    return metadata


async def require_topic(admin: AsyncAdmin, name: str) -> TopicMetadata:
    """The metadata of one topic that is there."""
    metadata = await require_topics(admin, [name])
    return next(topic for topic in metadata.topics if topic.name == name)


def unknown_topic(name: str, known: Sequence[str]) -> MinikafkaError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = f"`minikafka topics create {name}` creates it, `minikafka topics list` lists all"
    return UnknownTopicOrPartitionError(f"there is no topic {name!r}; {hint}")
