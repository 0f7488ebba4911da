"""Cluster management: each broker reports its status, the controller notes who comes and goes.

`NodeReporter` (in every broker) writes the ephemeral status node every `node.status.interval.ms`,
if anything in it is another than before, and makes it again in a new session. `NodeMonitor` (in
whoever is controller) watches the nodes: who is there is noted for good, and who went is noted with
the time; so that a broker is known to be missing even when it died together with the controller.

Nothing here decides about replication: the registration under /brokers/ids does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from minikafka.api.nodes import ControllerReport, NodeReport, NodeStatus
from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.control.term_listener import TermQueue
from minikafka.broker.nodes.ports import LiveNode, NodeStore, SeenNode
from minikafka.broker.ports import SessionLostError, StoreEvent
from minikafka.core.control.commands import DeposedError
from minikafka.errors import BrokerNotAvailableError, MinikafkaError
from minikafka.model import TopicPartition

log = logging.getLogger("minikafka.nodes")

# What did not change is written again after so many intervals: who reads it sees that it is alive.
QUIET_INTERVALS = 12
REASONS_TOLD = 10
REASON_CHARS = 1000
SEEN_LIFETIME_MS = 7 * 24 * 3_600_000
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used and holds. `cpu_ms` and the two byte counts only grow."""

    cpu_ms: int = 0
    rss_bytes: int = 0
    disk_used_bytes: int = 0
    disk_free_bytes: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    partitions_led: int = 0
    partitions_held: int = 0
    offline: Mapping[TopicPartition, str] = field(default_factory=dict)  # with the reason


class NodeReporter:
    """`incarnation` is that of the node as it was written last; 0 while there is none."""

    def __init__(
        self,
        store: NodeStore,
        broker_id: int,
        name: str,
        interval_ms: int,
        read_usage: Callable[[], Usage],
        now_ms: Callable[[], int],
        now_timestamp_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._interval_ms = interval_ms
        self._read_usage = read_usage
        self._now_ms = now_ms
        self._begin = NodeStatus(broker_id, name, now_timestamp_ms())
        self._before = (now_ms(), read_usage())
        self._written: tuple[int, NodeStatus] | None = None
        self._wake = asyncio.Event()
        self._sessions_lost = 0
        self.incarnation = 0
        # Called when `incarnation` is another one.
        self.listeners: list[Callable[[], None]] = []

    def on_store_event(self, event: StoreEvent) -> None:
        """LOST: the node went with the session; this broker is registered again by now."""
        if event is StoreEvent.LOST:
            self._sessions_lost += 1
            self._written = None
            self._become(0)
            self._wake.set()

    async def run(self) -> None:
        """Report until cancelled; the broker is registered."""
        while True:
            self._wake.clear()
            try:
                await self.report()
            except SessionLostError as lost:
                log.debug("the status of this broker is not written: %s", lost)
            except MinikafkaError as error:
                log.warning("the status of this broker cannot be written: %s", error)
            try:
                async with asyncio.timeout(self._interval_ms / 1000):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def report(self) -> None:
        """Write the status now, unless it says what is written already."""
        now_ms = self._now_ms()
        status = self._measure(now_ms)
        if self._written is not None:
            written_ms, written = self._written
            quiet_ms = self._interval_ms * QUIET_INTERVALS
            if written == status and now_ms - written_ms < quiet_ms:
                return
        sessions_lost = self._sessions_lost
        incarnation = await self._store.publish(status, anew=self._written is None)
        if sessions_lost == self._sessions_lost:  # else it went with its session
            self._written = (now_ms, status)
            self._become(incarnation)

    def _become(self, incarnation: int) -> None:
        if incarnation != self.incarnation:
            self.incarnation = incarnation
            for listener in self.listeners:
                listener()

    def _measure(self, now_ms: int) -> NodeStatus:
        """Rounded, so that what hardly changes is not written."""
        then_ms, before = self._before
        usage = self._read_usage()
        self._before = (now_ms, usage)
        elapsed_ms = max(1, now_ms - then_ms)
        return replace(
            self._begin,
            cpu_percent=float(round((usage.cpu_ms - before.cpu_ms) * 100 / elapsed_ms)),
            rss_bytes=_rounded(usage.rss_bytes, _MIB),
            disk_used_bytes=usage.disk_used_bytes,
            disk_free_bytes=_rounded(usage.disk_free_bytes, 64 * _MIB),
            bytes_in_per_s=(usage.bytes_in - before.bytes_in) * 1000 // elapsed_ms,
            bytes_out_per_s=(usage.bytes_out - before.bytes_out) * 1000 // elapsed_ms,
            partitions_led=usage.partitions_led,
            partitions_held=usage.partitions_held,
            partitions_offline=len(usage.offline),
            offline=_reasons(usage.offline),
        )


def _reasons(offline: Mapping[TopicPartition, str]) -> tuple[str, ...]:
    """Not all of many: a node in ZooKeeper is to stay small."""
    lines = []
    for topic_partition, reason in sorted(offline.items())[:REASONS_TOLD]:
        line = reason if str(topic_partition) in reason else f"{topic_partition}: {reason}"
        lines.append(line if len(line) <= REASON_CHARS else line[: REASON_CHARS - 1] + "…")
    return tuple(lines)


def _rounded(value: int, unit: int) -> int:
    return value // unit * unit


class NodeMonitor:
    """A listener of the controller's term. State of a term: the nodes that were there when it last
    looked (None: it has not yet), and the notes as they are written.
    `live` is also what the assignment of jobs rests on; `listeners` hear when it has been read."""

    def __init__(
        self, store: NodeStore, interval_ms: int, now_timestamp_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._interval_ms = interval_ms
        self._now_timestamp_ms = now_timestamp_ms
        self._term: TermQueue | None = None
        self._seen: dict[int, SeenNode] | None = None
        self._waiting = False
        self._timer: asyncio.TimerHandle | None = None
        self.live: Mapping[int, LiveNode] | None = None
        self.listeners: list[Callable[[], None]] = []

    def begin(self, term: TermQueue) -> None:
        self._term, self._seen, self._waiting, self.live = term, None, False, None
        self._look_soon()

    def end(self) -> None:
        self._term = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_store_event(self, event: StoreEvent) -> None:
        if event is StoreEvent.RECONNECTED:  # the watch died with the connection
            self._look_soon()

    def _look_soon(self) -> None:
        """In its turn; one that waits is enough."""
        if self._term is not None and not self._waiting:
            self._waiting = True
            term = self._term
            term.enqueue(lambda: self._look(term))

    async def _look(self, term: TermQueue) -> None:
        if self._term is not term:
            return
        self._waiting = False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(
            self._interval_ms / 1000, self._look_soon
        )
        try:
            live = await self._store.read_live(self._look_soon)
            if self._seen is None:
                self._seen = dict(await self._store.read_seen())
            await self._note(live, self._seen)
        except MinikafkaError as error:  # a node that cannot be read
            log.warning("the status of the brokers cannot be read: %s", error)
            return
        self.live = live
        for listener in self.listeners:
            listener()

    async def _note(self, live: Mapping[int, LiveNode], seen: dict[int, SeenNode]) -> None:
        now_ms = self._now_timestamp_ms()
        for broker_id, node in live.items():
            before = seen.get(broker_id)
            if before is None or before.gone_at_ms or _another(before.status, node.status):
                log.info("node %s (%d) is there", node.status.name, broker_id)
                await self._write(SeenNode(node.status), seen)
        for broker_id, noted in list(seen.items()):
            if broker_id in live:
                continue
            if not noted.gone_at_ms:
                last = (self.live or {}).get(broker_id)
                status = noted.status if last is None else last.status
                log.warning("node %s (%d) went away", status.name, broker_id)
                await self._write(SeenNode(status, now_ms), seen)
            elif noted.gone_at_ms + SEEN_LIFETIME_MS < now_ms:
                _check(await self._store.forget_seen(broker_id))
                del seen[broker_id]

    async def _write(self, note: SeenNode, seen: dict[int, SeenNode]) -> None:
        _check(await self._store.write_seen(note))
        seen[note.status.broker_id] = note


def _another(before: NodeStatus, now: NodeStatus) -> bool:
    """Another process, or another name?"""
    return (before.started_at_ms, before.name) != (now.started_at_ms, now.name)


def _check(outcome: WriteOutcome) -> None:
    if outcome is WriteOutcome.DEPOSED:
        raise DeposedError("another controller has been elected")


class NodeLister:
    """The NodeService of any broker: what ZooKeeper holds at this moment."""

    def __init__(self, store: NodeStore, now_timestamp_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_timestamp_ms = now_timestamp_ms

    async def list_nodes(self) -> Sequence[NodeReport]:
        try:
            live = await self._store.read_live()
            seen = await self._store.read_seen()
        except SessionLostError as lost:
            raise BrokerNotAvailableError(f"the nodes cannot be read now: {lost}") from lost
        reports = {
            broker_id: NodeReport(node.status, True, node.updated_at_ms, 0)
            for broker_id, node in live.items()
        }
        for broker_id, note in seen.items():
            if broker_id not in reports:
                # Gone, and the controller has not noted it yet: it went just now.
                gone_at_ms = note.gone_at_ms or self._now_timestamp_ms()
                reports[broker_id] = NodeReport(note.status, False, gone_at_ms, gone_at_ms)
        return [reports[broker_id] for broker_id in sorted(reports)]

    async def describe_controller(self) -> ControllerReport:
        try:
            return await self._store.read_controller()
        except SessionLostError as lost:
            raise BrokerNotAvailableError(f"ZooKeeper cannot be read now: {lost}") from lost
