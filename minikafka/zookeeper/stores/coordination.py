"""What the stores of nodes and of jobs share: single znodes of a session, JSON in them, and the
fence of the controller."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kazoo.exceptions import NodeExistsError, NoNodeError
from kazoo.protocol.states import ZnodeStat

from minikafka.errors import InvalidRequestError
from minikafka.zookeeper.codec import MAX_DATA_BYTES, shown
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.fence import Fence
from minikafka.zookeeper.session import Watcher, ZooKeeperSession
from minikafka.zookeeper.unreadable import UnreadableNodes

_VERSION = 1
_SHOWN = 60


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


# --- JSON ----------------------------------------------------------------------------------------


def encode(fields: Mapping[str, Any]) -> bytes:
    """Deterministic. InvalidRequestError if it is too large for a node."""
    data = json.dumps({"version": _VERSION, **fields}, separators=(",", ":")).encode()
    if len(data) > MAX_DATA_BYTES:
        raise InvalidRequestError(
            f"{len(data)} bytes are too much for one ZooKeeper node: at most {MAX_DATA_BYTES}"
        )
    return data


def decode(path: str, data: bytes) -> dict[str, Any]:
    """The fields of what `encode` made. CorruptNodeError for anything else."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        shown = data if len(data) <= _SHOWN else data[:_SHOWN] + b"..."
        raise CorruptNodeError(path, f"{shown!r} is not JSON") from None
    if not isinstance(values, dict):
        raise CorruptNodeError(path, "it is not a JSON object")
    if values.pop("version", None) != _VERSION:
        raise CorruptNodeError(path, f"this minikafka reads version {_VERSION}")
    return values


def field(path: str, values: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """A field that has to be there and of this kind. CorruptNodeError."""
    value = values.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise CorruptNodeError(path, f"{name} is {shown(value)}")
    return value
