"""Listens to all brokers of a cluster at once and yields what changed (board.py).

One watch stream a broker: whoever dies, is paused or comes back, the others go on telling. The
addresses are the bootstrap ones and those of every broker that anybody names. A stream that broke
is tried again twice a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from minikafka.api.requests import ClusterUpdate
from minikafka.errors import MinikafkaError
from minikafka.watching.board import Board, Change

_RETRY_S = 0.5


class Watcher(Protocol):
    """What is used of client.channel.Channel."""

    def watch(self, topics: Sequence[str]) -> AsyncIterator[ClusterUpdate]: ...
    async def close(self) -> None: ...


def open_channel(address: str) -> Watcher:
    from minikafka.client.channel import connect_over_grpc

    return connect_over_grpc(address)


class ClusterFeed:
    """`async with ClusterFeed(...) as feed: async for changes in feed.changes(): ...`

    `board` is the picture so far. `topics`: only those; empty: all.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        names: dict[int, str] | None = None,
        topics: Sequence[str] = (),
        connect: Callable[[str], Watcher] = open_channel,
        retry_s: float = _RETRY_S,
        on_silence: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_silence` is called with a sentence whenever nobody is left who tells anything."""
        self.board = Board(names=dict(names or {}))
        self._broken: dict[str, MinikafkaError] = {}
        self._on_silence = on_silence
        self._addresses = tuple(addresses)
        self._topics = tuple(topics)
        self._connect = connect
        self._retry_s = retry_s
        self._heard: asyncio.Queue[tuple[str, ClusterUpdate]] = asyncio.Queue(maxsize=1000)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._telling: set[str] = set()

    async def __aenter__(self) -> ClusterFeed:
        for address in self._addresses:
            self._listen_to(address)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def changes(self) -> AsyncIterator[list[Change]]:
        """The news, as they come; never ends of itself."""
        while True:
            source, update = await self._heard.get()
            news = self.board.apply(source, update)
            for broker in self.board.brokers.values():
                self._listen_to(broker.grpc_address)
            if news:
                yield news

    async def tell(self, source: str, update: ClusterUpdate) -> None:
        """Hear of the cluster from somebody else than a broker as well."""
        await self._heard.put((source, update))

    @property
    def is_heard(self) -> bool:
        """Whether any broker tells anything."""
        return len(self._telling) > 0

    def _listen_to(self, address: str) -> None:
        if address not in self._tasks:
            self._tasks[address] = asyncio.create_task(self._listen(address))

    async def _listen(self, address: str) -> None:
        while True:
            channel = self._connect(address)
            try:
                async for update in channel.watch(self._topics):
                    self._broken.pop(address, None)
                    self._telling.add(address)
                    if not update.brokers:
                        # A broker that has just started knows of none, not even of itself: that
                        # does not say that those it told of before have gone.
                        update = replace(update, brokers=None)
                    await self._heard.put((address, update))
            except MinikafkaError as error:
                self._note_broken(address, error)
            finally:
                self._telling.discard(address)
                await channel.close()
            await asyncio.sleep(self._retry_s)

    def _note_broken(self, address: str, error: MinikafkaError) -> None:
        if address in self._broken:
            return
        self._broken[address] = error
        if len(self._broken) == len(self._tasks):
            self._on_silence(f"no broker answers ({error}); trying again")
