"""The access control entries as this broker knows them, and the judge over them.

State: the judge, and the entries that it goes by; of each pattern the mzxid of what was read last,
so that an older read never wins; the patterns whose nodes cannot be read. Nobody knows what stands
on those: all that they cover is denied. Until all has been read once, everything is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minikafka.broker.access.following import Following
from minikafka.broker.access.ports import AclNode, AclStore, Entries
from minikafka.broker.ports import StoreEvent
from minikafka.security.acl import (
    ANY_HOST,
    ANY_NAME,
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    Permission,
    ResourceType,
)
from minikafka.security.authorizer import Authorizer, Rule
from minikafka.security.principal import EVERYBODY
from minikafka.turns import in_slices

# In place of entries that nobody can tell. It is shown to nobody.
_DENY_ALL = frozenset({Entry(EVERYBODY, ANY_HOST, Operation.ALL, Permission.DENY)})


class AclCache:
    """`authorizer` is this cache's: nobody else changes it. `listeners` hear that entries have
    changed."""

    def __init__(self, store: AclStore, authorizer: Authorizer, now_ms: Callable[[], int]) -> None:
        self.authorizer = authorizer
        self.listeners: list[Callable[[], None]] = []
        self._store = store
        self._following = Following("access control entries", self._read, now_ms)
        self._mzxids: dict[Pattern, int] = {}
        self._entries: dict[Pattern, Entries] = {}  # what the judge goes by, but what is denied so
        self._unreadable: set[Pattern] = set()
        self.loaded = False
        authorizer.replace({Pattern(each, ANY_NAME): _DENY_ALL for each in ResourceType})

    # --- life ---

    async def start(self) -> None:
        """Read all; before anybody is served. Raises SessionLostError, MinikafkaError."""
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

    async def rules(self, asked: EntryFilter) -> Sequence[Rule]:
        """Those of one pattern are together."""
        found: list[Rule] = []
        async for pattern, entries in in_slices(list(self._entries.items())):
            if asked.matches_pattern(pattern):
                those = (Rule(pattern, entry) for entry in sorted(entries))
                found += (rule for rule in those if asked.matches(*rule))
        return found

    def unreadable(self, asked: EntryFilter) -> Sequence[Pattern]:
        """The patterns that a filter means and of which nobody can tell what stands on them."""
        return sorted(each for each in self._unreadable if asked.matches_pattern(each))

    # --- reading ---

    async def _read(self, everything: bool) -> None:
        nodes = None
        if not everything:
            nodes = await self._store.read_changed(self._following.on_change)
        if nodes is None:
            self._take_all(await self._store.read_all(self._following.on_change))
        else:
            self._take(nodes)
        if nodes is None or nodes:
            for listener in self.listeners:
                listener()

    def _take_all(self, nodes: Sequence[AclNode]) -> None:
        """At once: at no moment is anything allowed that a Deny is about to forbid."""
        self._mzxids = {node.pattern: node.mzxid for node in nodes}
        self._unreadable = {node.pattern for node in nodes if node.entries is None}
        self._entries = {node.pattern: node.entries for node in nodes if node.entries}
        self.authorizer.replace({node.pattern: _judged(node) for node in nodes})
        self.loaded = True

    def _take(self, nodes: Sequence[AclNode]) -> None:
        for node in nodes:
            if node.mzxid and node.mzxid < self._mzxids.get(node.pattern, 0):
                continue  # something newer is known
            if node.mzxid:
                self._mzxids[node.pattern] = node.mzxid
            else:
                self._mzxids.pop(node.pattern, None)
            self._entries.pop(node.pattern, None)
            self._unreadable.discard(node.pattern)
            if node.entries is None:
                self._unreadable.add(node.pattern)
            elif node.entries:
                self._entries[node.pattern] = node.entries
            self.authorizer.put(node.pattern, _judged(node))


def _judged(node: AclNode) -> Entries:
    return _DENY_ALL if node.entries is None else node.entries
