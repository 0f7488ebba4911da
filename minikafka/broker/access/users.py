"""The users and their SCRAM credentials as this broker knows them.

State: of each user the credentials by mechanism, and the mzxid of the node that they are of, so
that an older read never wins; for each mechanism how many users have which number of iterations.
What cannot be read is no credential: nobody can log in by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from minikafka.broker.access.following import Following
from minikafka.broker.access.ports import UserNode, UserStore
from minikafka.broker.ports import StoreEvent
from minikafka.security.principal import USER, Principal
from minikafka.security.scram import HASHES, MIN_ITERATIONS, Credential, Found, Hash, Users

Credentials = Mapping[str, Credential]

_NONE: Credentials = {}


class UserCache:
    """`gone_listeners` hear of each user whose last credential has gone. `find_token`: of a
    delegation token, by its id and the mechanism; nobody has any unless it is set."""

    def __init__(self, store: UserStore, now_ms: Callable[[], int]) -> None:
        self.gone_listeners: list[Callable[[str], None]] = []
        self.find_token: Callable[[str, str], Found | None] = lambda _token, _mechanism: None
        self._store = store
        self._following = Following("users", self._read, now_ms)
        self._credentials: dict[str, Credentials] = {}  # of those who have any
        self._mzxids: dict[str, int] = {}
        self._iterations = {mechanism: Counter[int]() for mechanism in HASHES}
        self._decoy_key: bytes | None = None
        self._users: dict[str, Users] = {}  # as they are given out, until something changes

    # --- life ---

    async def start(self) -> None:
        """Read all, and the decoy; before anybody logs in. Raises SessionLostError,
        MinikafkaError."""
        self._decoy_key = await self._store.decoy_key()
        await self._following.catch_up()

    async def run(self) -> None:
        await self._following.run()

    async def catch_up(self) -> None:
        """Read what was written before this was called."""
        await self._following.catch_up()

    def on_store_event(self, event: StoreEvent) -> None:
        self._following.on_store_event(event)

    def behind_ms(self) -> int:
        """For how long this broker has not been sure to know all; 0: it is."""
        return self._following.behind_ms()

    # --- asking ---

    def users(self, kind: Hash) -> Users:
        """For one exchange: take them anew for each."""
        known = self._users.get(kind.name)
        if known is None:
            assert self._decoy_key is not None, "nobody logs in before all has been read"
            known = self._users[kind.name] = Users(
                lambda user, by_token: self._find(kind.name, user, by_token),
                self._decoy_key,
                self._commonest(kind.name),
            )
        return known

    def credential(self, user: str, mechanism: str) -> Credential | None:
        return self._credentials.get(user, _NONE).get(mechanism)

    def _find(self, mechanism: str, user: str, by_token: bool) -> Found | None:
        if by_token:
            return self.find_token(user, mechanism)
        credential = self.credential(user, mechanism)
        return None if credential is None else Found(credential, Principal(USER, user))

    def _commonest(self, mechanism: str) -> int:
        """Iterations; of those that are as common the fewest, so that all brokers say the same."""
        counted = self._iterations[mechanism]
        return min(counted, key=lambda each: (-counted[each], each), default=MIN_ITERATIONS)

    # --- reading ---

    async def _read(self, everything: bool) -> None:
        nodes = None
        if not everything:
            nodes = await self._store.read_changed(self._following.on_change)
        if nodes is None:
            nodes = await self._store.read_all(self._following.on_change)
            there = {node.user for node in nodes}
            self._mzxids = {}
            nodes = [*nodes, *(UserNode(user, {}) for user in self._credentials.keys() - there)]
        self._take(nodes)

    def _take(self, nodes: Sequence[UserNode]) -> None:
        gone = []
        for node in nodes:
            if node.mzxid and node.mzxid < self._mzxids.get(node.user, 0):
                continue  # something newer is known
            before = self._credentials.pop(node.user, _NONE)
            self._count(before, -1)
            self._mzxids.pop(node.user, None)
            if node.mzxid:
                self._mzxids[node.user] = node.mzxid
            if node.credentials:
                self._credentials[node.user] = node.credentials
                self._count(node.credentials, 1)
            elif before:
                gone.append(node.user)
        if nodes:
            self._users = {}
        for user in gone:
            for listener in self.gone_listeners:
                listener(user)

    def _count(self, credentials: Credentials, step: int) -> None:
        for mechanism, credential in credentials.items():
            counted = self._iterations[mechanism]
            counted[credential.iterations] += step
            if not counted[credential.iterations]:
                del counted[credential.iterations]
