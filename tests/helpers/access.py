"""Access control entries and users in memory: what brokers of one test share, as they share
ZooKeeper. Each has a store of its own, which notifies it; what is read can be held up, and fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.access.ports import AclNode, Entries, Notify, UserNode
from minikafka.security.acl import Pattern
from minikafka.security.scram import Credential


class SharedAccess:
    """What there is, and the announcements of changes: numbers of transactions count both."""

    def __init__(self) -> None:
        self.zxid = 0
        self.acls: dict[Pattern, AclNode] = {}
        self.users: dict[str, UserNode] = {}
        self.acl_changes: list[Pattern] = []
        self.user_changes: list[str] = []
        self._notify: list[Notify] = []

    def next_zxid(self) -> int:
        self.zxid += 1
        return self.zxid

    def watch(self, notify: Notify) -> None:
        self._notify.append(notify)

    def tell(self) -> None:
        waiting, self._notify = self._notify, []
        for notify in waiting:
            notify()

    def put_acl(self, pattern: Pattern, entries: Entries | None) -> None:
        if entries is not None and not entries:
            self.next_zxid()
            self.acls.pop(pattern, None)
        else:
            self.acls[pattern] = AclNode(pattern, entries, self.next_zxid())
        self.acl_changes.append(pattern)
        self.tell()

    def put_user(self, user: str, credentials: Mapping[str, Credential]) -> None:
        self.users[user] = UserNode(user, credentials, self.next_zxid())
        self.user_changes.append(user)
        self.tell()


class _Store:
    """`reads` counts; `failure` is raised by what is read, `outcome` the answer to what is
    written. `gate`: what is read waits for it, after it was looked at."""

    def __init__(self, shared: SharedAccess) -> None:
        self.shared = shared
        self.position: int | None = None
        self.failure: Exception | None = None
        self.outcome = WriteOutcome.WRITTEN
        self.reads: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def _look(self, what: str) -> None:
        self.reads.append(what)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure


class FakeAcls(_Store):
    async def read_all(self, notify: Notify) -> Sequence[AclNode]:
        self.shared.watch(notify)
        found, position = list(self.shared.acls.values()), len(self.shared.acl_changes)
        await self._look("all")
        self.position = position
        return found

    async def read_changed(self, notify: Notify) -> Sequence[AclNode] | None:
        self.shared.watch(notify)
        if self.position is None:
            return None
        changed = dict.fromkeys(self.shared.acl_changes[self.position :])
        position = len(self.shared.acl_changes)
        nodes = [self.shared.acls.get(each, AclNode(each, frozenset())) for each in changed]
        await self._look("changed")
        self.position = position
        return nodes

    async def patterns(self) -> Sequence[Pattern]:
        return sorted(self.shared.acls)

    async def alter(self, pattern: Pattern, change: Callable[[Entries], Entries]) -> WriteOutcome:
        if self.outcome is not WriteOutcome.WRITTEN:
            return self.outcome
        if self.failure is not None:
            raise self.failure
        node = self.shared.acls.get(pattern, AclNode(pattern, frozenset()))
        assert node.entries is not None
        after = change(node.entries)
        if after != node.entries:
            self.shared.put_acl(pattern, after)
        return WriteOutcome.WRITTEN


class FakeUsers(_Store):
    async def read_all(self, notify: Notify) -> Sequence[UserNode]:
        self.shared.watch(notify)
        found, position = list(self.shared.users.values()), len(self.shared.user_changes)
        await self._look("all")
        self.position = position
        return found

    async def read_changed(self, notify: Notify) -> Sequence[UserNode] | None:
        self.shared.watch(notify)
        if self.position is None:
            return None
        changed = dict.fromkeys(self.shared.user_changes[self.position :])
        position = len(self.shared.user_changes)
        nodes = [self.shared.users[each] for each in changed]
        await self._look("changed")
        self.position = position
        return nodes

    async def read(self, users: Sequence[str] | None) -> Sequence[UserNode]:
        if self.failure is not None:
            raise self.failure
        wanted = list(self.shared.users) if users is None else users
        return [self.shared.users.get(user, UserNode(user, {})) for user in wanted]

    async def alter(
        self, user: str, change: Callable[[Collection[str]], Mapping[str, Credential | None]]
    ) -> WriteOutcome:
        if self.outcome is not WriteOutcome.WRITTEN:
            return self.outcome
        if self.failure is not None:
            raise self.failure
        held = self.shared.users.get(user, UserNode(user, {})).credentials
        merged = {**held, **change(list(held))}
        self.shared.put_user(user, {name: each for name, each in merged.items() if each})
        return WriteOutcome.WRITTEN

    async def decoy_key(self) -> bytes:
        return b"decoy" * 6 + b"!!"
