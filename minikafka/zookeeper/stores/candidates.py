"""The queue of those who would be controller: a sequential ephemeral node each, which watches the
one before it alone. When one goes, one candidate is woken, however many wait.

    /controller_queue/c-1-5d71f0a92c3e-0000000004     broker 1, the controller
    /controller_queue/c-3-77a0c1b2d3e4-0000000005     broker 3, first in line

The queue decides who tries, never who is controller: that is `/controller` with its epoch
(election.py), which stays the only truth and the fence.

The create of a sequential node must not simply be sent again when its answer is lost, as that could
make two nodes, one of which nobody would ever take away while the session lives. So the name has a
token of this process, and before each attempt the queue is looked through for it: of several nodes
the first counts and the others go. Whose node it is says its owner, not its name: a session that
has expired may leave one of the same token for a moment.

State: the token; whether a node may be there. All else is read.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from kazoo.exceptions import NodeExistsError, NoNodeError
from kazoo.protocol.states import ZnodeStat

from minikafka.broker.ports import StoreEvent
from minikafka.zookeeper import codec
from minikafka.zookeeper.codec import ControllerNode
from minikafka.zookeeper.fence import Fate, attempt_one
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.session import ZooKeeperSession
from minikafka.zookeeper.watches import Watches

_SEQUENCE_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Place:
    """How many candidates are before this one, and how many there are with it."""

    ahead: int
    candidates: int


def broker_of(name: str) -> int | None:
    """The broker id in the name of a candidate's node; None if it is no such name."""
    _, _, rest = name.partition("-")
    number = rest.partition("-")[0]
    return int(number) if number.isdecimal() else None


def in_order(names: Sequence[str]) -> list[str]:
    """The nodes of a queue, first in line first. What has no sequence number is none of them."""
    queued = [name for name in names if name[-_SEQUENCE_DIGITS:].isdecimal()]
    return sorted(queued, key=lambda name: (int(name[-_SEQUENCE_DIGITS:]), name))


class CandidateQueue:
    """The place of one broker in the queue."""

    def __init__(self, session: ZooKeeperSession, layout: Layout, watches: Watches) -> None:
        self._session = session
        self._layout = layout
        self._watches = watches
        self._token = uuid.uuid4().hex[:12]
        self._joined = False

    async def join(self, broker_id: int) -> Place:
        """Stand at the end of the queue, unless this session stands in it, and watch the candidate
        before: StoreEvent.CANDIDATE_GONE when it goes."""
        self._joined = True
        while True:
            names = in_order(await self._names())
            mine = await self._mine(names)
            if mine is None:
                await self._create(broker_id)
                continue
            ahead = names.index(mine)
            if ahead == 0 or await self._watch(names[ahead - 1]):
                return Place(ahead, len(names))

    async def leave(self) -> None:
        """Take this session's node away, if there is one."""
        if not self._joined:
            return
        while (mine := await self._mine(in_order(await self._names()))) is not None:
            await self._delete(mine)
        self._joined = False

    async def _names(self) -> list[str]:
        path = self._layout.controller_queue
        try:
            names: list[str] = await self._session.repeat(
                lambda client: client.get_children_async(path)
            )
        except NoNodeError:
            return []  # somebody has deleted all of it
        return names

    async def _mine(self, names: list[str]) -> str | None:
        """The first node of this session. Others of this process go: a second one of this session,
        made by a create whose answer was lost, and what is left of an earlier session."""
        mine: str | None = None
        for name in names:
            if self._token not in name:
                continue
            owner = await self._owner(name)
            if owner == self._session.session_id and mine is None:
                mine = name
            elif owner == self._session.session_id or self._session.had_session(owner):
                await self._delete(name)
        return mine

    async def _owner(self, name: str) -> int:
        """The session id; 0 if the node is gone."""
        path = f"{self._layout.controller_queue}/{name}"
        stat: ZnodeStat | None = await self._session.repeat(
            lambda client: client.exists_async(path)
        )
        return 0 if stat is None else int(stat.ephemeralOwner)

    async def _create(self, broker_id: int) -> None:
        """One attempt; what came of it is read."""
        node = codec.encode_controller(ControllerNode(broker_id, int(time.time() * 1000)))
        prefix = self._layout.candidate_prefix(broker_id, self._token)
        sent = await attempt_one(
            self._session,
            lambda client: client.create_async(prefix, node, ephemeral=True, sequence=True),
        )
        if sent.fate is Fate.REFUSED:  # there is no queue
            await self._create_queue()
        await self._session.sync()

    async def _create_queue(self) -> None:
        path = self._layout.controller_queue
        try:
            await self._session.repeat(lambda client: client.create_async(path, b""))
        except NodeExistsError:
            return  # another candidate was faster

    async def _watch(self, name: str) -> bool:
        """False if it is gone already."""
        path = f"{self._layout.controller_queue}/{name}"
        # Not armed again after a new connection: then the queue is looked through anyway.
        return await self._watches.once(path, StoreEvent.CANDIDATE_GONE) is not None

    async def _delete(self, name: str) -> None:
        path = f"{self._layout.controller_queue}/{name}"
        try:
            await self._session.repeat(lambda client: client.delete_async(path))
        except NoNodeError:
            return
