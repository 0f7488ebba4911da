"""The status nodes of brokers: the implementation of `NodeStore` (broker/nodes/ports.py).

/nodes/node-<id>         ephemeral: the status of a live broker
/nodes-seen/node-<id>    lasting: the last status that the controller saw, and when it went

Also who is controller and who stands in its queue, for people: nothing rests on that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import partial
from typing import Any

from kazoo.exceptions import NoNodeError

from minikafka.api.nodes import ControllerReport, NodeStatus, UnreadableNode
from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.nodes.ports import LiveNode, SeenNode
from minikafka.zookeeper import codec
from minikafka.zookeeper.fence import NOT_THERE, Deleted, Put, attempt, attempt_one
from minikafka.zookeeper.json_data import Fields, decode, encode
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.session import gather_all
from minikafka.zookeeper.stores.candidates import broker_of, in_order
from minikafka.zookeeper.stores.coordination import Znodes
from minikafka.zookeeper.stores.election import NOBODY

_PREFIX = "node-"
_READ: Mapping[str, Callable[[Fields, str], Any]] = {
    "name": Fields.text,
    "cpu_percent": Fields.number,
    "offline": Fields.as_texts,
}


class ZooKeeperNodes:
    """`root`: the chroot, as in paths.Layout."""

    def __init__(self, znodes: Znodes, root: str) -> None:
        self._znodes = znodes
        self._live = f"{root}/nodes"
        self._seen = f"{root}/nodes-seen"
        self._layout = Layout(root)

    async def start(self) -> None:
        """Make the folders."""
        await self._znodes.ensure(self._live)
        await self._znodes.ensure(self._seen)

    # --- this broker's own ---

    async def publish(self, status: NodeStatus, *, anew: bool) -> int:
        path, data = self._path(self._live, status.broker_id), encode(asdict(status))
        session = self._znodes.session
        if not anew:
            try:
                stat = await session.repeat(lambda client: client.set_async(path, data))
                return int(stat.czxid)
            except NoNodeError:
                pass  # somebody deleted it
        while True:  # whatever came of an attempt is read
            found = await self._znodes.get(path)
            if found is not None and found[1].ephemeralOwner == session.session_id:
                if found[0] == data:
                    return int(found[1].czxid)
                await attempt(session, lambda multi: multi.set_data(path, data))
                continue
            if found is not None:
                version = found[1].version

                def replace(multi: Any, version: int = version) -> None:
                    multi.delete(path, version)
                    multi.create(path, data, ephemeral=True)

                await attempt(session, replace)
                continue
            await attempt_one(
                session, lambda client: client.create_async(path, data, ephemeral=True)
            )

    # --- everybody's ---

    async def read_live(self, notify: Callable[[], None] | None = None) -> Mapping[int, LiveNode]:
        names = await self._znodes.children(self._live, notify)
        ids = [broker_id for name in names if (broker_id := _broker_id(name)) is not None]
        nodes = await gather_all([self._read_live(broker_id) for broker_id in ids])
        return {node.status.broker_id: node for node in nodes if node is not None}

    async def _read_live(self, broker_id: int) -> LiveNode | None:
        path = self._path(self._live, broker_id)
        found = await self._znodes.get(path)
        if found is None:
            return None
        data, stat = found
        return self._znodes.unreadable.decode(
            path,
            lambda: LiveNode(
                decode(path, data, partial(_status, broker_id)), stat.czxid, stat.mtime
            ),
        )

    async def read_seen(self) -> Mapping[int, SeenNode]:
        names = await self._znodes.children(self._seen)
        ids = [broker_id for name in names if (broker_id := _broker_id(name)) is not None]
        notes = await gather_all([self._read_seen(broker_id) for broker_id in ids])
        return {note.status.broker_id: note for note in notes if note is not None}

    async def _read_seen(self, broker_id: int) -> SeenNode | None:
        path = self._path(self._seen, broker_id)
        found = await self._znodes.get(path)
        if found is None:
            return None
        data = found[0]

        def read(fields: Fields) -> SeenNode:
            return SeenNode(_status(broker_id, fields.object("status")), fields.long("gone_at_ms"))

        return self._znodes.unreadable.decode(path, lambda: decode(path, data, read))

    async def read_controller(self) -> ControllerReport:
        """The three are read at once, not in one transaction: an election may fall between."""
        layout = self._layout
        controller, epoch, names = await asyncio.gather(
            self._znodes.get(layout.controller),
            self._znodes.get(layout.controller_epoch),
            self._znodes.children(layout.controller_queue),
        )
        controller_id, controller_epoch = NOBODY, 0
        unreadable = self._znodes.unreadable
        if controller is not None:
            data = controller[0]
            node = unreadable.decode(
                layout.controller, lambda: codec.decode_controller(layout.controller, data)
            )
            controller_id = NOBODY if node is None else node.broker_id
        if epoch is not None:
            found = epoch[0]
            controller_epoch = (
                unreadable.decode(
                    layout.controller_epoch,
                    lambda: codec.decode_controller_epoch(layout.controller_epoch, found),
                )
                or 0
            )
        queue = [broker_of(name) for name in in_order(names)]
        candidates = [each for each in queue if each is not None and each != controller_id]
        return ControllerReport(
            controller_id,
            controller_epoch,
            tuple(dict.fromkeys(candidates)),
            tuple(UnreadableNode(path, why) for path, why in sorted(unreadable.nodes.items())),
        )

    # --- the controller's ---

    async def write_seen(self, seen: SeenNode) -> WriteOutcome:
        path = self._path(self._seen, seen.status.broker_id)
        data = encode({"status": asdict(seen.status), "gone_at_ms": seen.gone_at_ms})
        while True:
            found = await self._znodes.get(path)
            if found is not None and found[0] == data:
                return WriteOutcome.WRITTEN

            version = NOT_THERE if found is None else found[1].version

            def write(multi: Any, version: int = version) -> None:
                if version == NOT_THERE:
                    multi.create(path, data)
                else:
                    multi.set_data(path, data, version)

            witness = Put(path, data, version)
            outcome = (await self._znodes.fence.write(write, witness)).outcome
            if outcome is not WriteOutcome.CONFLICT:
                return outcome

    async def forget_seen(self, broker_id: int) -> WriteOutcome:
        path = self._path(self._seen, broker_id)
        while await self._znodes.get(path) is not None:
            written = await self._znodes.fence.write(
                lambda multi: multi.delete(path), Deleted(path)
            )
            outcome = written.outcome
            if outcome is not WriteOutcome.CONFLICT:
                return outcome
        return WriteOutcome.WRITTEN

    @staticmethod
    def _path(parent: str, broker_id: int) -> str:
        return f"{parent}/{_PREFIX}{broker_id}"


def _broker_id(name: str) -> int | None:
    number = name.removeprefix(_PREFIX)
    return int(number) if name.startswith(_PREFIX) and number.isdecimal() else None


def _status(broker_id: int, found: Fields) -> NodeStatus:
    """Fields that another version of minikafka does not write have their defaults."""
    known: dict[str, Any] = {
        declared.name: _READ.get(declared.name, Fields.long)(found, declared.name)
        for declared in fields(NodeStatus)
        if declared.name in found or declared.name in ("name", "started_at_ms")
    }
    return NodeStatus(**(known | {"broker_id": broker_id}))
