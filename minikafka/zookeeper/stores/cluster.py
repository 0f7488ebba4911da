"""The cluster id, agreed upon by those who start first: consensus from sequential znodes.

    propose   create /cluster/proposals/p-<token>-<sequence> with an id of one's own
    decide    the proposal with the smallest sequence number is the id
    publish   /cluster/id holds it from then on, and the proposals go

Proposals are persistent: the decision must not change because its proposer dies before it is
published. They are removed only when `/cluster/id` is there, and whoever proposes after that finds
it: every start looks for `/cluster/id` first and last. A proposal whose create was answered by
nobody is looked for by its token before it is made again; a second one of the same token would do
no harm, since all decide by the same rule.

Why all agree: a sequence number is never smaller than one that was given before, so the smallest
among the children stays the smallest until it is deleted; and it is deleted only when the id is
published, which happens once, since `/cluster/id` is created and never written again.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import uuid

from kazoo.exceptions import NodeExistsError, NoNodeError, NotEmptyError

from minikafka.zookeeper import codec
from minikafka.zookeeper.fence import Fate, attempt_one
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.session import ZooKeeperSession
from minikafka.zookeeper.stores.candidates import in_order

log = logging.getLogger(__name__)


class ClusterIdConsensus:
    """One start's part in it. The steps are apart so that a test can end one between them."""

    def __init__(self, session: ZooKeeperSession, layout: Layout) -> None:
        self._session = session
        self._layout = layout
        self._token = uuid.uuid4().hex[:12]

    async def agree(self) -> str:
        """22 characters, as Kafka's: a random UUID in URL-safe base 64."""
        while True:
            published = await self.published()
            if published is not None:
                return published
            await self.propose()
            decided = await self.decide()
            if decided is not None:
                await self.publish(decided)

    async def published(self) -> str | None:
        """What `/cluster/id` holds, if it is there; what is left of proposals is removed then."""
        path = self._layout.cluster_id
        data = await self._get(path)
        if data is None:
            return None
        await self._clear()
        return codec.decode_cluster_id(path, data)

    async def propose(self) -> None:
        """One proposal. None is made if the id is published meanwhile."""
        parent = self._layout.cluster_proposals
        proposal = codec.encode_cluster_id(new_cluster_id())
        while True:
            if await self._get(parent) is None:
                with contextlib.suppress(NodeExistsError):
                    await self._session.repeat(lambda client: client.create_async(parent, b""))
            sent = await attempt_one(
                self._session,
                lambda client: client.create_async(
                    f"{parent}/p-{self._token}-", proposal, sequence=True
                ),
            )
            if sent.fate is Fate.APPLIED:
                return
            # Otherwise the answer was lost, or the proposals were removed under its hands.
            if any(self._token in name for name in await self._proposals() or ()):
                return
            if await self._get(self._layout.cluster_id) is not None:
                return

    async def decide(self) -> str | None:
        """The id of the first proposal; None if it has gone meanwhile, as the id is published."""
        proposals = await self._proposals()
        if not proposals:
            return None
        path = f"{self._layout.cluster_proposals}/{proposals[0]}"
        data = await self._get(path)
        return None if data is None else codec.decode_cluster_id(path, data)

    async def publish(self, decided: str) -> None:
        """By each who has decided: they all write the same, and the first counts."""
        data = codec.encode_cluster_id(decided)
        try:
            await self._session.repeat(
                lambda client: client.create_async(self._layout.cluster_id, data)
            )
            log.info("the cluster id is %s", decided)
        except NodeExistsError:
            return

    async def _clear(self) -> None:
        """Remove the proposals, which nobody needs any more. Of several at once each may meet what
        another has removed."""
        parent = self._layout.cluster_proposals
        proposals = await self._proposals()
        if proposals is not None:
            for path in [*(f"{parent}/{name}" for name in proposals), parent]:
                await self._delete(path)

    async def _delete(self, path: str) -> None:
        with contextlib.suppress(NoNodeError, NotEmptyError):
            await self._session.repeat(lambda client: client.delete_async(path))

    async def _proposals(self) -> list[str] | None:
        """First the one that was made first; None if not even their parent is there."""
        try:
            await self._session.sync()
            names: list[str] = await self._session.repeat(
                lambda client: client.get_children_async(self._layout.cluster_proposals)
            )
        except NoNodeError:
            return None
        return in_order(names)

    async def _get(self, path: str) -> bytes | None:
        found = await self._session.get(path)
        return None if found is None else found[0]


def new_cluster_id() -> str:
    """A random one."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
