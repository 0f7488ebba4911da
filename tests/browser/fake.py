"""A dashboard of a cluster that does not exist: the real state, hub and web server in a thread,
fed by the test."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from minikafka.dashboard.hub import Hub
from minikafka.dashboard.offsets import Sample
from minikafka.dashboard.server import bind, own_hosts, serving
from minikafka.dashboard.sources import wall_ms
from minikafka.dashboard.state import DashboardState
from minikafka.dashboard.web import Web
from minikafka.model import PartitionMetadata, TopicPartition
from minikafka.watching.board import BrokerCame, BrokerGone, ControllerChanged, PartitionChanged
from tests.helpers.dashboard import broker_info, broker_view, partition


class FakeDashboard:
    """Brokers 1 to `brokers`, a topic with `partitions` of three replicas each. `acts` is what the
    buttons asked for, if there are any (`control`)."""

    def __init__(self, brokers: int = 3, partitions: int = 4, control: bool = False) -> None:
        self.acts: list[tuple[str, str]] = []
        self.states: dict[int, PartitionMetadata] = {}
        self._brokers = brokers
        self._partitions = partitions
        self._token = "token-of-the-test" if control else None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end: asyncio.Event | None = None
        self.url = ""
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        assert self._ready.wait(30), "the fake dashboard does not start"

    async def _run(self) -> None:
        hub = Hub()
        self.state = DashboardState(wall_ms(), hub.publish)
        self._begin()
        act = self._act if self._token else None
        web = Web(self.state, hub, act, self._token)
        self._end = asyncio.Event()
        with bind("127.0.0.1", 0) as listening:
            port = listening.getsockname()[1]
            fragment = f"#token={self._token}" if self._token else ""
            self.url = f"http://127.0.0.1:{port}/{fragment}"
            async with serving(web.app(own_hosts("127.0.0.1", port)), listening, hub):
                beating = asyncio.create_task(web.beat())
                self._ready.set()
                await self._end.wait()
                beating.cancel()

    async def _act(self, action: str, target: str) -> str:
        self.acts.append((action, target))
        return f"{action} {target}: done"

    def _begin(self) -> None:
        ids = range(1, self._brokers + 1)
        self.state.expect(broker_view(each, registered=False) for each in ids)
        for number in range(self._partitions):
            replicas = [(number + step) % self._brokers + 1 for step in range(min(3, len(ids)))]
            self.states[number] = partition(
                number, leader=replicas[0], isr=replicas, replicas=replicas
            )
        self.state.on_changes(
            wall_ms(),
            [
                *(BrokerCame(broker_info(each)) for each in ids),
                ControllerChanged(1, 1),
                *(PartitionChanged(each, None) for each in self.states.values()),
            ],
        )
        self.state.on_tree(
            {
                path: {"data": data, "bytes": 0, "version": 0, "changed": 0, "ephemeral": False}
                for path, data in (("/", ""), ("/brokers", ""), ("/brokers/ids", ""))
            },
            [],
        )

    # --- from the test's thread ---

    def call(self, what: Callable[[], Any]) -> Any:
        """Run on the dashboard's loop and wait."""

        async def run() -> Any:
            return what()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def kill(self, broker_id: int) -> None:
        """As it looks when a broker dies: its process, its session, then every partition."""

        def see() -> None:
            now_ms = wall_ms()
            self.state.on_processes(now_ms, {broker_id: "ended"})
            self.state.on_changes(now_ms, [BrokerGone(broker_info(broker_id))])
            changes = []
            for number, held in self.states.items():
                state = held.state
                if broker_id not in state.isr:
                    continue
                isr = [each for each in state.isr if each != broker_id]
                leader = isr[0] if state.leader == broker_id else state.leader
                self.states[number] = partition(
                    number,
                    leader=leader,
                    epoch=state.leader_epoch + 1,
                    isr=isr,
                    replicas=held.assignment.replicas,
                    version=state.partition_version + 1,
                )
                changes.append(PartitionChanged(self.states[number], state))
            self.state.on_changes(now_ms, changes)

        self.call(see)

    def produce(self, end: int) -> None:
        """Every partition has that many records."""

        def see() -> None:
            now_ms = wall_ms()
            samples = {
                TopicPartition("orders", number): Sample(
                    0, end, end, tuple((each, end, 0) for each in held.assignment.replicas)
                )
                for number, held in self.states.items()
            }
            self.state.on_offsets(now_ms, samples)
            self.state.on_second(now_ms)

        self.call(see)

    def storm(self, seconds: float, each_s: float = 0.1) -> None:
        """Records and changes without a pause, as many as a page may have to take."""
        deadline, end = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            end += 1_000
            self.produce(end)
            number = end // 1_000 % len(self.states)
            held = self.states[number]
            self.states[number] = partition(
                number,
                leader=held.state.leader,
                epoch=held.state.leader_epoch + 1,
                isr=held.state.isr,
                replicas=held.assignment.replicas,
                version=held.state.partition_version + 1,
            )
            change = PartitionChanged(self.states[number], held.state)
            self.call(lambda change=change: self.state.on_changes(wall_ms(), [change]))
            threading.Event().wait(each_s)

    def close(self) -> None:
        """Idempotent."""
        if self._end is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the fake dashboard does not end"
        self._loop.close()
