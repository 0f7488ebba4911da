"""Where the numbers of `minikafka top` come from.

Three sources, each at its own pace, so that a broker that dies or is paused holds up none of the
others: the watch streams of all brokers (feed.py) tell states and changes, each broker tells its
metrics when it is asked, and coordinators tell the lag of groups and the transactions that are
open. Who does not answer is asked again next time; until then a broker is silent, and of groups and
transactions the last answer stands with its age.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from minikafka.cli.kit.output import clock_time
from minikafka.cli.kit.screen import plural
from minikafka.cli.top.frame import SORTS, Known, Line, duration, frame, lines
from minikafka.cli.top.load import Loads
from minikafka.client.channel import Channel, connect_over_grpc
from minikafka.errors import MinikafkaError
from minikafka.local.discovery import Bootstrap
from minikafka.model import INTERNAL_TOPICS
from minikafka.watching.board import BrokerCame, BrokerGone, Change, PartitionChanged
from minikafka.watching.feed import ClusterFeed

if TYPE_CHECKING:
    from minikafka.client import AsyncAdmin

EVENTS_KEPT = 200
PATIENCE_S = 2.0  # with a broker that is to tell its metrics
FIRST_NEWS_S = 5.0
GROUPS_PATIENCE_MS = 10_000.0


class Gatherer:
    """`async with Gatherer(cluster) as gatherer`. `known` is what has been gathered so far."""

    def __init__(self, cluster: Bootstrap, connect: Callable[[str], Channel] = connect_over_grpc):
        self._cluster = cluster
        self._connect = connect
        self._feed = ClusterFeed(
            cluster.addresses, cluster.names, connect=connect, on_silence=self._on_silence
        )
        self._events: deque[str] = deque(maxlen=EVENTS_KEPT)
        self.known = Known(self._feed.board, Loads(), cluster.names, events=self._events)
        self._channels: dict[str, Channel] = {}
        self._admin: AsyncAdmin | None = None
        self._opening = asyncio.Lock()
        self._groups_s = 0.0  # when groups were heard of last
        self._transactions_s = 0.0
        self._settled = False  # from then on what is heard is a change
        self._something = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Gatherer:
        await self._feed.__aenter__()
        self._listening = asyncio.create_task(self._listen())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_NEWS_S):
                await self._something.wait()
        self._settled = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._listening is not None
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._feed.__aexit__(*exc_info)
        for channel in self._channels.values():
            await channel.close()
        if self._admin is not None:
            await self._admin.close()

    # --- showing ---------------------------------------------------------------------------------

    def lines(self, height: int | None = None) -> list[Line]:
        """A frame of what is known now."""
        known, now_s = self.known, time.monotonic()
        if self._groups_s and (age_s := now_s - self._groups_s) > 10:
            known.groups_note = f"as of {duration(age_s)} ago"
        if self._transactions_s and (age_s := now_s - self._transactions_s) > 10:
            known.transactions_note = f"as of {duration(age_s)} ago"
        return lines(*frame(known, now_s, clock_time()[:8], time.time() * 1000), height)

    def next_sort(self) -> None:
        """Order topics by the next of SORTS."""
        self.known.sort = SORTS[(SORTS.index(self.known.sort) + 1) % len(SORTS)]

    # --- states and changes ----------------------------------------------------------------------

    async def _listen(self) -> None:
        async for changes in self._feed.changes():
            self.known.remark = ""
            for change in changes:
                self._take(change)
            self._tell(changes)
            self._something.set()

    def _tell(self, changes: Sequence[Change]) -> None:
        """Note what is news for a person. The many partitions of the brokers' own topics would
        drive out all others, so of these there is one line."""
        if not self._settled:
            return
        internal: Counter[str] = Counter()
        for change in changes:
            if isinstance(change, PartitionChanged):
                topic = change.partition.topic_partition.topic
                if change.before is None:
                    continue
                if topic in INTERNAL_TOPICS:
                    internal[topic] += 1
                    continue
            self._events.append(f"{clock_time()} {self._feed.board.describe_change(change)}")
        for topic, count in internal.items():
            self._events.append(f"{clock_time()} {plural(count, 'partition')} of {topic} changed")

    def _take(self, change: Change) -> None:
        if isinstance(change, BrokerGone):
            self.known.gone_s[change.broker.broker_id] = time.monotonic()
            self.known.loads.forget(change.broker.broker_id)
        elif isinstance(change, BrokerCame):
            self.known.gone_s.pop(change.broker.broker_id, None)

    def _on_silence(self, sentence: str) -> None:
        self.known.remark = sentence

    # --- load ------------------------------------------------------------------------------------

    async def read_metrics(self, patience_s: float = PATIENCE_S) -> None:
        """Ask every live broker, at once, and wait for each so long."""
        if self._listening is not None and self._listening.done():
            self._listening.result()  # it never ends but by a bug
        brokers = list(self._feed.board.brokers.values())
        await asyncio.gather(
            *(self._read(each.broker_id, each.grpc_address, patience_s) for each in brokers)
        )

    async def _read(self, broker_id: int, address: str, patience_s: float) -> None:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._connect(address)
        try:
            async with asyncio.timeout(patience_s):
                metrics = await channel.broker_metrics()
        except (TimeoutError, MinikafkaError):
            self.known.loads.forget(broker_id)
        else:
            self.known.loads.take(metrics, time.monotonic())

    # --- groups and transactions -----------------------------------------------------------------

    async def run_coordinators(self, interval_s: float) -> None:
        """Ask them, for as long as the frames go on."""
        while True:
            await self.read_coordinators()
            await asyncio.sleep(interval_s)

    async def read_coordinators(self) -> None:
        """Groups and transactions, at once: neither waits for the other's coordinators."""
        await asyncio.gather(self.read_groups(), self.read_transactions())

    async def read_groups(self) -> None:
        from minikafka.watching.groups import describe_groups

        try:
            admin = await self._open_admin()
            documents: Sequence[dict[str, Any]] = await describe_groups(admin, ())
        except MinikafkaError as error:
            if self.known.groups is None:
                self.known.groups_note = str(error)
            return
        self.known.groups, self.known.groups_note = documents, ""
        self._groups_s = time.monotonic()

    async def read_transactions(self) -> None:
        from minikafka.watching.transactions import describe_open_transactions

        try:
            document = await describe_open_transactions(await self._open_admin())
        except MinikafkaError:
            return  # the age of what is shown tells
        self.known.transactions, self.known.transactions_note = document, ""
        self._transactions_s = time.monotonic()

    async def _open_admin(self) -> AsyncAdmin:
        async with self._opening:
            if self._admin is None:
                from minikafka.client import AsyncAdmin

                live = [each.grpc_address for each in self._feed.board.brokers.values()]
                addresses = list(dict.fromkeys((*live, *self._cluster.addresses)))
                admin = AsyncAdmin(addresses, request_timeout_ms=GROUPS_PATIENCE_MS)
                self._admin = await admin.__aenter__()
            return self._admin
