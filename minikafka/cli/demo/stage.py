"""The demo's partition as its acts see it: what becomes of it, and the state to wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from minikafka.errors import RequestTimedOutError
from minikafka.model import PartitionState, TopicPartition
from minikafka.watching.board import PartitionChanged
from minikafka.watching.feed import ClusterFeed

Show = Callable[[str], None]
Wanted = Callable[[PartitionState], bool]


@dataclass(frozen=True, slots=True)
class Act:
    """A row of the demo's table. `acknowledged`: records so far, when the act was over."""

    event: str
    before: str
    after: str
    took_ms: int
    acknowledged: int


class DemoStage:
    """One partition of a cluster on this machine. `watch` must run while acts wait."""

    def __init__(self, feed: ClusterFeed, partition: TopicPartition, show: Show) -> None:
        self._feed = feed
        self._partition = partition
        self._show = show
        self._news = asyncio.Condition()

    async def watch(self) -> None:
        """Show every change, without end."""
        async for changes in self._feed.changes():
            for change in changes:
                of_others = (
                    isinstance(change, PartitionChanged)
                    and change.partition.topic_partition != self._partition
                )
                if not of_others:
                    self._show(self._feed.board.describe_change(change))
            async with self._news:
                self._news.notify_all()

    @property
    def state(self) -> PartitionState:
        """As the controller last told. KeyError before it told anything."""
        return self._feed.board.partitions[self._partition].state

    @property
    def line(self) -> str:
        """The state in the words of the slide."""
        return self._feed.board.describe(self._feed.board.partitions[self._partition])

    @property
    def controller_id(self) -> int:
        return self._feed.board.controller_id

    def name(self, broker_id: int) -> str:
        return self._feed.board.name(broker_id)

    async def wait_until(self, wanted: Wanted, what: str, timeout_s: float) -> None:
        """Wait for a state. Raises RequestTimedOutError, which says what was waited for."""
        board, partition = self._feed.board, self._partition

        def reached() -> bool:
            return partition in board.partitions and wanted(self.state)

        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(reached)
        except TimeoutError:
            held = self.line if partition in board.partitions else "nothing is known of it"
            raise RequestTimedOutError(
                f"{what} did not happen within {timeout_s:.0f} s: {partition} {held}"
            ) from None


class Stopwatch:
    """Milliseconds since it was made."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    @property
    def ms(self) -> int:
        return round((time.monotonic() - self._begun_s) * 1000)
