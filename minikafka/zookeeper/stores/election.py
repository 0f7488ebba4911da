"""Who is controller: the ephemeral node /controller, and /controller_epoch, whose version fences
every write of a controller (replication.md section 2).

One multi creates the former and raises the latter, so they are from one transaction: the czxid of
/controller is the mzxid of /controller_epoch. That, and the owner of /controller, is how a
candidate whose answer was lost learns whether it has won. While /controller is there, no other
multi of that kind can succeed, so a node of this session is a controllership of this session, also
if it was won by a request that was given up on.

`/controller` is watched by who would act on it at once: the controller itself, and the head of the
queue of candidates (candidates.py) while somebody else holds it. A watch is never set for a node
that is not there, so nobody is woken when one is elected: brokers hear of it from the controller.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from kazoo.protocol.states import ZnodeStat

from minikafka.broker.ports import ControllerElection, StoreEvent
from minikafka.zookeeper import codec
from minikafka.zookeeper.codec import ControllerNode
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.fence import Fate, Fence, Lease, attempt, attempt_one
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.session import ZooKeeperSession
from minikafka.zookeeper.unreadable import UnreadableNodes
from minikafka.zookeeper.watches import Watches

log = logging.getLogger(__name__)

NOBODY = -1


@dataclass(frozen=True, slots=True)
class _Pair:
    """/controller (None: nobody) and /controller_epoch, as they were read."""

    controller: ControllerNode | None
    owner: int  # session id
    czxid: int
    version: int
    controller_epoch: int
    epoch_stat: ZnodeStat

    @property
    def of_one_transaction(self) -> bool:
        return bool(self.czxid == self.epoch_stat.mzxid)


def _exists(path: str, client: Any) -> Any:
    return client.exists_async(path)


class Controllership:
    """`lease` is None unless this process is controller, as far as it knows; `fence` is over it."""

    def __init__(
        self,
        session: ZooKeeperSession,
        layout: Layout,
        watches: Watches,
        unreadable: UnreadableNodes,
    ) -> None:
        self._session = session
        self._layout = layout
        self._watches = watches
        self._unreadable = unreadable
        self.lease: Lease | None = None
        self.fence = Fence(session, layout.controller_epoch, lambda: self.lease)

    def on_session_lost(self) -> None:
        self.lease = None

    async def read(self, *, watch: bool = False) -> ControllerElection:
        """`watch`: CONTROLLER_CHANGED when the controller that there is goes."""
        return self._as_election(await self._read(watch=watch))

    async def elect(self, broker_id: int) -> ControllerElection:
        """Become controller unless another is it, who is watched then. May be called again at any
        time."""
        while True:
            pair = await self._read(watch=True)
            if pair.controller is None:
                await self._stand(broker_id, pair)
                continue  # whatever came of it is read
            election = self._as_election(pair)
            if election.won or pair.owner != self._session.session_id:
                return election
            # Somebody has set /controller_epoch by hand: the fence of this controllership is gone.
            log.warning("/controller_epoch was changed without an election: electing again")
            await self._delete_own(pair)

    async def resign(self) -> None:
        """Give /controller up if it is this session's; nothing otherwise."""
        lease, self.lease = self.lease, None
        while True:
            pair = await self._read(watch=False)
            if pair.controller is None or pair.owner != self._session.session_id:
                return
            if lease is not None and pair.epoch_stat.version == lease.epoch_version:
                await self._delete_fenced(lease)
                lease = None  # the next round, if there is one, goes by the owner
            else:
                await self._delete_own(pair)

    def _as_election(self, pair: _Pair) -> ControllerElection:
        if pair.controller is None:
            self.lease = None
            return ControllerElection(False, NOBODY, pair.controller_epoch)
        won = pair.owner == self._session.session_id and pair.of_one_transaction
        self.lease = Lease(pair.controller_epoch, pair.epoch_stat.version) if won else None
        return ControllerElection(won, pair.controller.broker_id, pair.controller_epoch)

    async def _read(self, *, watch: bool) -> _Pair:
        """Both nodes. If there is a controller, the epoch is the one of its election, unless
        somebody changed it by hand."""
        for _ in range(3):
            found = await self._read_controller(watch)
            epoch_data, epoch_stat = await self._session.repeat(
                lambda client: client.get_async(self._layout.controller_epoch)
            )
            epoch = self._decode_epoch(epoch_data)
            if found is None:
                self._unreadable.forget(self._layout.controller)
                return _Pair(None, 0, 0, 0, epoch, epoch_stat)
            data, stat = found
            node = await self._decode_controller(data, stat)
            pair = _Pair(node, stat.ephemeralOwner, stat.czxid, stat.version, epoch, epoch_stat)
            if pair.of_one_transaction:
                break
            # Elected between the two reads: read again.
        return pair

    def _decode_epoch(self, data: bytes) -> int:
        """CorruptNodeError if it is no epoch: then nobody can be elected, since an epoch that has
        been before would not fence whoever had it."""
        path = self._layout.controller_epoch
        try:
            epoch = codec.decode_controller_epoch(path, data)
        except CorruptNodeError as error:
            self._unreadable.note(error)
            raise
        self._unreadable.forget(path)
        return epoch

    async def _decode_controller(self, data: bytes, stat: ZnodeStat) -> ControllerNode:
        """Whoever owns the node is controller, whatever it holds: its registration, of the same
        session, tells who that is."""
        path = self._layout.controller
        node = self._unreadable.decode(path, lambda: codec.decode_controller(path, data))
        if node is not None:
            return node
        parent = self._layout.broker_ids
        names = await self._session.repeat(lambda client: client.get_children_async(parent))
        for broker_id in filter(None, map(codec.broker_id_of, names)):
            registration = self._layout.broker(broker_id)
            found = await self._session.repeat(partial(_exists, registration))
            if found is not None and found.ephemeralOwner == stat.ephemeralOwner != 0:
                return ControllerNode(broker_id, 0)
        return ControllerNode(NOBODY, 0)

    async def _read_controller(self, watch: bool) -> tuple[bytes, ZnodeStat] | None:
        path = self._layout.controller
        if watch:
            return await self._watches.existing(path, StoreEvent.CONTROLLER_CHANGED)
        return await self._session.get(path)

    async def _stand(self, broker_id: int, pair: _Pair) -> None:
        """One attempt to be elected over `pair`."""
        node = codec.encode_controller(ControllerNode(broker_id, int(time.time() * 1000)))
        epoch = codec.encode_controller_epoch(pair.controller_epoch + 1)

        def build(transaction: Any) -> None:
            transaction.create(self._layout.controller, node, ephemeral=True)
            transaction.set_data(self._layout.controller_epoch, epoch, pair.epoch_stat.version)

        sent = await attempt(self._session, build)
        if sent.fate is Fate.UNKNOWN:
            log.info("the answer to this broker's election was lost: reading who has won")
        elif sent.failed is not None:
            log.debug("another broker was elected controller first: %r", sent.failed.error)
        await self._session.sync()

    async def _delete_fenced(self, lease: Lease) -> None:
        """One attempt; the caller reads what came of it."""

        def build(transaction: Any) -> None:
            transaction.check(self._layout.controller_epoch, lease.epoch_version)
            transaction.delete(self._layout.controller)

        await attempt(self._session, build)
        await self._session.sync()

    async def _delete_own(self, pair: _Pair) -> None:
        """Delete a /controller that was just read and is this session's; one attempt, as above."""
        await attempt_one(
            self._session,
            lambda client: client.delete_async(self._layout.controller, pair.version),
        )
        await self._session.sync()
