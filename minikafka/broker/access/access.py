"""What a broker has to do with access: its caches, the controller's writes, and what it tells.

`acls` is None where there is no authorizer, `users` where no listener offers SCRAM: then nothing is
read and nothing watched. Credentials can be told and altered all the same, as somebody must be
there before the first listener asks who it is; they are read when they are asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from minikafka.api.access import (
    AlterScramRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    ScramDescription,
)
from minikafka.api.requests import ControllerRequest
from minikafka.broker.access.acls import AclCache
from minikafka.broker.access.ports import AclStore, UserNode, UserStore
from minikafka.broker.access.users import UserCache
from minikafka.broker.access.writer import AccessWriter
from minikafka.broker.ports import SessionLostError, StoreEvent
from minikafka.errors import (
    BrokerNotAvailableError,
    DuplicateResourceError,
    MinikafkaError,
    PolicyViolationError,
    ResourceNotFoundError,
    SecurityDisabledError,
    UnknownServerError,
)
from minikafka.escaping import escaped
from minikafka.security.acl import EntryFilter
from minikafka.security.authorizer import Authorizer, Rule
from minikafka.turns import in_slices

logger = logging.getLogger(__name__)

MAX_DESCRIBED = 10_000  # users that one request names
NO_AUTHORIZER = "there is no authorizer: everybody may do everything"

Cache = AclCache | UserCache


class Access:
    """See the module. `authorizer`: an empty one, which is the cache's from now on."""

    def __init__(
        self,
        acl_store: AclStore,
        user_store: UserStore,
        now_ms: Callable[[], int],
        *,
        authorizer: Authorizer | None = None,
        scram: bool = False,
    ) -> None:
        self.acls = None if authorizer is None else AclCache(acl_store, authorizer, now_ms)
        self.users = UserCache(user_store, now_ms) if scram else None
        self.writer = AccessWriter(acl_store, user_store)
        self._user_store = user_store
        self._caches: list[Cache] = [each for each in (self.acls, self.users) if each is not None]

    # --- life ---

    async def start(self) -> None:
        """Read all that is followed; before anybody is served. Raises SessionLostError,
        MinikafkaError."""
        for cache in self._caches:
            await cache.start()

    def duties(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [cache.run for cache in self._caches]

    def on_store_event(self, event: StoreEvent) -> None:
        for cache in self._caches:
            cache.on_store_event(event)

    # --- entries ---

    def require_authorizer(self) -> AclCache:
        """SecurityDisabledError if there is none."""
        if self.acls is None:
            raise SecurityDisabledError(NO_AUTHORIZER)
        return self.acls

    async def describe_acls(self, asked: EntryFilter) -> Sequence[Rule]:
        """Those of one pattern are together. What cannot be read is not among them: the log, and
        the status of the cluster, tell which nodes those are."""
        return await self.require_authorizer().rules(asked)

    # --- users ---

    async def describe_scram(self, users: Sequence[str] | None) -> Sequence[ScramDescription]:
        """Of these users, each once, in order; of all who have any if none are named."""
        try:
            if not users:
                nodes = await self._user_store.read(None)
                told = [_described(node) async for node in in_slices(nodes)]
                found = [each for each in told if each.error is not None or each.credentials]
                return sorted(found, key=lambda each: each.user)
            if len(users) > MAX_DESCRIBED:
                raise PolicyViolationError(
                    f"{len(users)} users are asked for in one request: at most {MAX_DESCRIBED} may "
                    "be; all are told where none is named"
                )
            return await self._describe(users)
        except SessionLostError as error:
            raise BrokerNotAvailableError(f"users cannot be read now: {error}") from error

    async def _describe(self, users: Sequence[str]) -> list[ScramDescription]:
        times = Counter(users)
        once = [user for user, count in times.items() if count == 1 and user]
        nodes = {node.user: node for node in await self._user_store.read(once)}
        return [_named(user, nodes.get(user)) for user in times]

    # --- after a change ---

    async def catch_up(self, request: ControllerRequest, timeout_s: float) -> None:
        """What was altered through this broker is known here when the client hears of it. The watch
        does the same, only a moment later; it also makes up for a failure here."""
        cache: Cache | None = None
        if isinstance(request, CreateAclsRequest | DeleteAclsRequest):
            cache = self.acls
        elif isinstance(request, AlterScramRequest):
            cache = self.users
        if cache is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await cache.catch_up()
        except (TimeoutError, SessionLostError, MinikafkaError) as error:
            logger.info("what was altered is not known here yet: %s", escaped(str(error)))


def _named(user: str, node: UserNode | None) -> ScramDescription:
    """Of one who was asked for by name; `node` None: empty, or asked for several times."""
    if not user:
        return ScramDescription(user, ResourceNotFoundError("the name of a user is empty"))
    if node is None:
        return ScramDescription(
            user, DuplicateResourceError("the user is in the request more than once")
        )
    described = _described(node)
    if described.error is None and not described.credentials:
        return ScramDescription(user, ResourceNotFoundError("the user has no SCRAM credential"))
    return described


def _described(node: UserNode) -> ScramDescription:
    if node.wrong:
        return ScramDescription(
            node.user, UnknownServerError("what is kept of the user cannot be read")
        )
    return ScramDescription(
        node.user, None, [(name, each.iterations) for name, each in node.credentials.items()]
    )
