"""What the stores of nodes and of jobs share: single znodes of a session, and the fence of the
controller."""

from __future__ import annotations

from collections.abc import Callable

from kazoo.exceptions import NodeExistsError, NoNodeError
from kazoo.protocol.states import ZnodeStat

from minikafka.zookeeper.fence import Fence
from minikafka.zookeeper.session import Watcher, ZooKeeperSession
from minikafka.zookeeper.unreadable import UnreadableNodes


class Znodes:
    """Reads and writes of one session. Raises SessionLostError, ZooKeeperError, and
    CorruptNodeError where a node does not hold what it should."""

    def __init__(
        self, session: ZooKeeperSession, fence: Fence, unreadable: UnreadableNodes
    ) -> None:
        """`unreadable`: nodes that are left alone."""
        self.session = session
        self.fence = fence
        self.unreadable = unreadable
        self._watchers: dict[Callable[[], None], Watcher] = {}

    def _watcher(self, notify: Callable[[], None] | None) -> Watcher | None:
        """One and the same for the same function, so that kazoo keeps it once a path."""
        if notify is None:
            return None
        if notify not in self._watchers:
            self._watchers[notify] = self.session.watcher(notify)
        return self._watchers[notify]

    # --- reading ---

    async def get(
        self, path: str, notify: Callable[[], None] | None = None
    ) -> tuple[bytes, ZnodeStat] | None:
        """None if it is not there; then nothing is watched."""
        return await self.session.get(path, self._watcher(notify))

    async def children(self, path: str, notify: Callable[[], None] | None = None) -> list[str]:
        """In order; [] if `path` is not there."""
        watcher = self._watcher(notify)
        try:
            found: list[str] = await self.session.repeat(
                lambda client: client.get_children_async(path, watch=watcher)
            )
        except NoNodeError:
            return []
        return sorted(found)

    # --- writing ---

    async def ensure(self, path: str) -> None:
        """Make an empty lasting node, if it is not there."""
        if await self.get(path) is not None:
            return
        try:
            await self.session.repeat(lambda client: client.create_async(path, b""))
        except NodeExistsError:
            return  # by another broker
