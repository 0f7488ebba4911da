"""What the dashboard listens to: brokers and ZooKeeper tell of changes by themselves; offsets,
groups, transactions and processes are looked at, at a modest rate. Everything goes to the state of
the dashboard.

Each source is a coroutine that never ends of itself, and goes on through the loss of what it
listens to. Brokers and ZooKeeper tell the same story: the board (watching/board.py) takes from each
what is news, so the page is current while either of them can be heard.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from minikafka.api.metrics import BrokerMetrics
from minikafka.api.requests import ClusterUpdate, PartitionStatus
from minikafka.dashboard.history import Process
from minikafka.dashboard.load import Loads
from minikafka.dashboard.offsets import Sample
from minikafka.dashboard.state import DashboardState
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition
from minikafka.watching.feed import ClusterFeed
from minikafka.watching.text import text_or_base64

if TYPE_CHECKING:
    from minikafka.client import AsyncAdmin

log = logging.getLogger(__name__)

OFFSETS_EVERY_S = 0.5
_COORDINATORS_EVERY_S = 3.0
_METRICS_EVERY = 4  # looks at offsets
_PROCESSES_EVERY_S = 0.2
_ANSWER_WITHIN_S = 2.0
_TREE_DATA_SHOWN = 2_000
_ZOOKEEPER = "zookeeper"

LookAtProcesses = Callable[[], Mapping[int, Process]]


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Leader(Protocol):
    """What is used of client.channel.Channel."""

    async def describe_partitions(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[PartitionStatus]: ...
    async def broker_metrics(self) -> BrokerMetrics: ...
    async def close(self) -> None: ...


def open_leader(address: str) -> Leader:
    from minikafka.client.channel import connect_over_grpc

    return connect_over_grpc(address)  # type: ignore[return-value]


class Sources:
    """All sources of one cluster. `processes` looks at the brokers' processes, if they are of this
    machine; without `zookeeper` (a connect string) there is no tree."""

    def __init__(
        self,
        dashboard_state: DashboardState,
        addresses: Sequence[str],
        names: Mapping[int, str],
        zookeeper: str | None,
        processes: LookAtProcesses | None,
        connect_leader: Callable[[str], Leader] = open_leader,
    ) -> None:
        self._dashboard_state = dashboard_state
        self._addresses = tuple(addresses)
        self._zookeeper = zookeeper
        self._processes = processes
        self._connect_leader = connect_leader
        self._feed = ClusterFeed(addresses, dict(names), on_silence=self._on_silence)
        self._loads = Loads()
        self._from_zookeeper: asyncio.Queue[ClusterUpdate] = asyncio.Queue()

    async def run(self) -> None:
        """Until cancelled, or until one of the sources fails of a bug."""
        works: list[Coroutine[Any, Any, None]] = [
            self._changes(),
            self._seconds(),
            self._all_offsets(),
            self._coordinators(),
        ]
        if self._processes is not None:
            works.append(self._look_at_processes())
        if self._zookeeper is not None:
            works += [self._tree(self._zookeeper), self._pass_on()]
        async with self._feed, asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(work)

    # --- brokers ---

    async def _changes(self) -> None:
        async for changes in self._feed.changes():
            self._look()  # first: what a process does explains what follows
            self._dashboard_state.on_changes(wall_ms(), changes)

    def _on_silence(self, sentence: str) -> None:
        self._dashboard_state.on_source(wall_ms(), "brokers", False, sentence)

    async def _seconds(self) -> None:
        while True:
            if self._feed.is_heard:
                self._dashboard_state.on_source(wall_ms(), "brokers", True)
            self._dashboard_state.on_second(wall_ms())
            await asyncio.sleep(1)

    async def _look_at_processes(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(_PROCESSES_EVERY_S)

    def _look(self) -> None:
        if self._processes is not None:
            self._dashboard_state.on_processes(wall_ms(), self._processes())

    # --- offsets and load ---

    async def _all_offsets(self) -> None:
        """One loop a broker, so that one that does not answer holds nobody up."""
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                addresses = {each.grpc_address for each in self._feed.board.brokers.values()}
                for address in addresses - set(tasks):
                    tasks[address] = asyncio.create_task(self._offsets_of(address))
                for address in set(tasks) - addresses:
                    tasks.pop(address).cancel()
                self._dashboard_state.on_nodes(
                    self._loads.documents(self._dashboard_state.picture.name)
                )
                for task in tasks.values():
                    if task.done():
                        task.result()
                await asyncio.sleep(OFFSETS_EVERY_S)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _offsets_of(self, address: str) -> None:
        while True:
            leader = self._connect_leader(address)
            broker_id = None
            try:
                for number in itertools.count():
                    await self._sample(address, leader)
                    if number % _METRICS_EVERY == 0:
                        async with asyncio.timeout(_ANSWER_WITHIN_S):
                            metrics = await leader.broker_metrics()
                        broker_id = metrics.broker_id
                        self._loads.take(metrics)
                    await asyncio.sleep(OFFSETS_EVERY_S)
            except (MinikafkaError, TimeoutError) as error:
                log.debug("offsets of %s: %s", address, error)
            finally:
                if broker_id is not None:
                    self._loads.forget(broker_id)
                await leader.close()
            await asyncio.sleep(OFFSETS_EVERY_S)

    async def _sample(self, address: str, leader: Leader) -> None:
        ids = {
            each.broker_id
            for each in self._feed.board.brokers.values()
            if each.grpc_address == address
        }
        led = [
            key
            for key, each in self._dashboard_state.picture.partitions.items()
            if each.leader in ids
        ]
        if not led:
            return
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            statuses = await leader.describe_partitions(led)
        self._dashboard_state.on_offsets(
            wall_ms(),
            {each.topic_partition: sample_of(each) for each in statuses if not each.error},
        )

    # --- groups and transactions ---

    async def _coordinators(self) -> None:
        """One that cannot answer for groups may for transactions, and the other way round."""
        from minikafka.watching.groups import describe_groups
        from minikafka.watching.transactions import describe_open_transactions

        async def groups(admin: AsyncAdmin) -> None:
            self._dashboard_state.on_groups(await describe_groups(admin, []))

        async def transactions(admin: AsyncAdmin) -> None:
            self._dashboard_state.on_transactions(await describe_open_transactions(admin))

        await asyncio.gather(self._ask_again(groups), self._ask_again(transactions))

    async def _ask_again(self, look: Callable[[AsyncAdmin], Awaitable[None]]) -> None:
        from minikafka.client import AsyncAdmin

        while True:
            addresses = [each.grpc_address for each in self._feed.board.brokers.values()]
            try:
                async with AsyncAdmin(
                    addresses or self._addresses, request_timeout_ms=5_000
                ) as admin:
                    while True:
                        await look(admin)
                        await asyncio.sleep(_COORDINATORS_EVERY_S)
            except MinikafkaError as error:
                log.debug("%s: %s", look.__name__, error)
            await asyncio.sleep(_COORDINATORS_EVERY_S)

    # --- ZooKeeper ---

    async def _tree(self, connect: str) -> None:
        from minikafka.zookeeper.looking.live_cluster import LiveCluster
        from minikafka.zookeeper.looking.live_tree import LiveTree, Node

        def on_change(changed: Mapping[str, Node], gone: Collection[str]) -> None:
            self._dashboard_state.on_tree(
                {path: znode_document(node) for path, node in changed.items()}, gone
            )
            self._from_zookeeper.put_nowait(cluster.update(list(changed), gone))
            self._dashboard_state.on_controller_gone(wall_ms(), cluster.vacant_epoch)

        def on_touch(is_connected: bool, detail: str) -> None:
            self._dashboard_state.on_source(wall_ms(), _ZOOKEEPER, is_connected, detail)

        tree = LiveTree(connect, on_change, on_touch)
        cluster = LiveCluster(tree.nodes)
        await tree.run()

    async def _pass_on(self) -> None:
        while True:
            await self._feed.tell(_ZOOKEEPER, await self._from_zookeeper.get())


def sample_of(status: PartitionStatus) -> Sample:
    return Sample(
        status.log_start_offset,
        status.high_watermark,
        status.log_end_offset,
        tuple((each.broker_id, each.log_end_offset, each.lag_ms) for each in status.replicas),
    )


def znode_document(node: Any) -> dict[str, Any]:
    """A znode (zookeeper.inspect.Node) for the page; long data are cut."""
    data = text_or_base64(node.data)
    text = data if isinstance(data, str) else f"base64: {data and data['base64']}"
    return {
        "data": text if len(text) <= _TREE_DATA_SHOWN else f"{text[:_TREE_DATA_SHOWN]}…",
        "bytes": node.stat.data_bytes,
        "version": node.stat.version,
        "changed": node.stat.mtime_ms,
        "ephemeral": bool(node.stat.ephemeral_owner),
    }
