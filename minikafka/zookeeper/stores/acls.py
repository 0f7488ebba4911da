"""Access control entries in ZooKeeper, as Apache Kafka keeps them: the implementation of `AclStore`
(broker/access/ports.py).

    /kafka-acl/<Type>/<name>                        the entries on a name, or on `*`
    /kafka-acl-extended/prefixed/<Type>/<prefix>    the entries on a prefix
    /kafka-acl-changes/acl_changes_<n>              TOPIC:name, what has changed
    /kafka-acl-extended-changes/acl_changes_<n>     {"version":1,"resourceType":…,"name":…,…}

A pattern without entries has no node. Kafka's own tools may write here too: each write is over the
version that was read, and a node that they have changed meanwhile is read again.

A node that cannot be read is left alone, and whoever reads is told that it is there: what it denies
nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from kazoo.protocol.states import ZnodeStat

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.access.ports import AclNode, Entries, Notify
from minikafka.errors import InvalidRequestError
from minikafka.security.acl import (
    Entry,
    Operation,
    Pattern,
    PatternType,
    Permission,
    ResourceType,
    check_host,
)
from minikafka.security.principal import parse_principal
from minikafka.turns import in_slices
from minikafka.zookeeper.errors import CorruptNodeError, ZooKeeperError
from minikafka.zookeeper.fence import NOT_THERE, Deleted, Put, Witness
from minikafka.zookeeper.json_data import Fields, WrongFieldError, decode, encode, shown
from minikafka.zookeeper.paths import Layout, check_node_name
from minikafka.zookeeper.session import gather_all
from minikafka.zookeeper.stores.announcements import Announcements
from minikafka.zookeeper.stores.coordination import Znodes

_CHANGE = "acl_changes_"
_ATTEMPTS = 20
_ADVICE = "fewer entries on one pattern: User:*, or a network as host, stand for many"

E = TypeVar("E", ResourceType, PatternType, Operation, Permission)


class ZooKeeperAcls:
    """`root`: the chroot. All calls raise SessionLostError and ZooKeeperError. `_reading`: one
    reads at a time, so that what is read later is never older. `_wrong`: what could not be read;
    it is watched, and read with every change."""

    def __init__(self, znodes: Znodes, root: str) -> None:
        self._znodes = znodes
        self._wrong: set[Pattern] = set()
        layout = Layout(root)
        self._folders = {
            PatternType.LITERAL: layout.acls,
            PatternType.PREFIXED: layout.prefixed_acls,
        }
        self._changes = {
            PatternType.LITERAL: Announcements(znodes, f"{layout.acl_changes}/{_CHANGE}"),
            PatternType.PREFIXED: Announcements(znodes, f"{layout.prefixed_acl_changes}/{_CHANGE}"),
        }
        self._lasting = [
            layout.acls,
            layout.acl_changes,
            layout.prefixed_acls.rpartition("/")[0],
            layout.prefixed_acls,
            layout.prefixed_acl_changes,
            *(
                f"{folder}/{each.word}"
                for folder in self._folders.values()
                for each in ResourceType
            ),
        ]
        self._reading = asyncio.Lock()

    async def start(self) -> None:
        """Make the folders that are not there."""
        nodes = await self._znodes.session.get_many(self._lasting)
        for path, node in zip(self._lasting, nodes, strict=True):
            if node is None:
                await self._znodes.ensure(path)

    # --- reading ---------------------------------------------------------------------------------

    async def read_all(self, notify: Notify) -> Sequence[AclNode]:
        async with self._reading:
            await self.start()  # what is not there cannot be watched
            await self._znodes.session.sync()
            news = [await changes.news(notify) for changes in self._changes.values()]
            self._wrong.clear()
            found = await self._read(await self.patterns(), notify)
            for changes, each in zip(self._changes.values(), news, strict=True):
                changes.mark(each)
        return found

    async def read_changed(self, notify: Notify) -> Sequence[AclNode] | None:
        async with self._reading:
            await self._znodes.session.sync()
            news = {kind: await each.news(notify) for kind, each in self._changes.items()}
            changed: dict[Pattern, None] = dict.fromkeys(self._wrong)
            for kind, fresh in news.items():
                if fresh.announced is None:
                    return None
                for path, data in fresh.announced:
                    pattern = _announced(kind, path, data)
                    if pattern is None:
                        return None
                    changed[pattern] = None
            found = await self._read(list(changed), notify)
            for kind, fresh in news.items():
                self._changes[kind].mark(fresh)
        return found

    async def patterns(self) -> Sequence[Pattern]:
        kinds = [(kind, each) for kind in self._folders for each in ResourceType]
        names = await gather_all(
            [self._znodes.children(self._folder(kind, each)) for kind, each in kinds]
        )
        return [
            Pattern(each, name, kind)
            for (kind, each), some in zip(kinds, names, strict=True)
            for name in some
        ]

    async def _read(self, patterns: Sequence[Pattern], notify: Notify) -> list[AclNode]:
        paths = [self._path(pattern) for pattern in patterns]
        nodes = await self._znodes.session.get_many(paths)
        found = []
        async for pattern, path, node in in_slices(zip(patterns, paths, nodes, strict=True)):
            read = self._node(pattern, path, node)
            if read.entries is None:
                read = self._node(pattern, path, await self._znodes.get(path, notify))
            if read.entries is None:
                self._wrong.add(pattern)
            else:
                self._wrong.discard(pattern)
            found.append(read)
        return found

    def _node(self, pattern: Pattern, path: str, node: tuple[bytes, ZnodeStat] | None) -> AclNode:
        if node is None:
            self._znodes.unreadable.forget(path)
            return AclNode(pattern, frozenset())
        data, stat = node
        entries = self._znodes.unreadable.decode(path, partial(decode_entries, path, data))
        return AclNode(pattern, entries, stat.mzxid)

    def _folder(self, kind: PatternType, type: ResourceType) -> str:
        return f"{self._folders[kind]}/{type.word}"

    def _path(self, pattern: Pattern) -> str:
        return f"{self._folder(pattern.kind, pattern.type)}/{pattern.name}"

    # --- writing ---------------------------------------------------------------------------------

    async def alter(self, pattern: Pattern, change: Callable[[Entries], Entries]) -> WriteOutcome:
        check_node_name(pattern.name)
        path = self._path(pattern)
        for _ in range(_ATTEMPTS):
            found = await self._znodes.get(path)
            before = frozenset() if found is None else self._present(path, found[0])
            after = change(before)
            if after == before:
                is_ours = self._znodes.fence.is_ours
                return WriteOutcome.WRITTEN if is_ours else WriteOutcome.DEPOSED
            version = NOT_THERE if found is None else found[1].version
            outcome = await self._write(pattern, path, version, after)
            if outcome is WriteOutcome.WRITTEN:
                await self._changes[pattern.kind].maybe_purge()
            if outcome is not WriteOutcome.CONFLICT:
                return outcome
            await self.start()  # another has written, or nobody has made the folders yet
            await self._znodes.session.sync()
        raise ZooKeeperError(f"{path} is written again and again by somebody else")

    def _present(self, path: str, data: bytes) -> Entries:
        """CorruptNodeError for what cannot be read: whoever wrote it may still want it."""
        try:
            return decode_entries(path, data)
        except CorruptNodeError as error:
            self._znodes.unreadable.note(error)
            raise

    async def _write(
        self, pattern: Pattern, path: str, version: int, entries: Entries
    ) -> WriteOutcome:
        announcement = encode_change(pattern)
        prefix = self._changes[pattern.kind].prefix
        data = encode_entries(entries) if entries else b""
        witness: Witness = Put(path, data, version) if entries else Deleted(path)

        def build(multi: Any) -> None:
            if not entries:
                multi.delete(path, version)
            elif version == NOT_THERE:
                multi.create(path, data)
            else:
                multi.set_data(path, data, version)
            multi.create(prefix, announcement, sequence=True)

        return (await self._znodes.fence.write(build, witness)).outcome


# --- what nodes hold -----------------------------------------------------------------------------


def encode_entries(entries: Entries) -> bytes:
    """InvalidRequestError if they are too many for a node."""
    return encode(
        {
            "acls": [
                {
                    "principal": str(each.principal),
                    "permissionType": each.permission.word,
                    "operation": each.operation.word,
                    "host": each.host,
                }
                for each in sorted(entries)
            ]
        },
        advice=_ADVICE,
    )


def decode_entries(path: str, data: bytes) -> Entries:
    """CorruptNodeError. An empty node has no entries, as for Kafka."""
    if not data:
        return frozenset()
    return decode(path, data, lambda fields: frozenset(map(_entry, fields.objects("acls"))))


def _entry(fields: Fields) -> Entry:
    host = fields.text("host")
    permission = _worded(fields, "permissionType", _PERMISSIONS)
    named = fields.text("principal")
    try:
        (named + host).encode()  # JSON can hold halves of characters, which nobody can be told
        principal = parse_principal(named)
        if permission is Permission.DENY:
            check_host(host)  # else it would deny nobody; what is allowed to no host does no harm
    except ValueError as error:
        raise WrongFieldError(str(error)) from None
    return Entry(principal, host, _worded(fields, "operation", _OPERATIONS), permission)


_PERMISSIONS = {each.word: each for each in Permission}
_OPERATIONS = {each.word: each for each in Operation}


def _worded(fields: Fields, name: str, words: Mapping[str, E]) -> E:
    word = fields.text(name)
    if word not in words:
        raise WrongFieldError(f"{name} is {shown(word)}, expected one of {', '.join(words)}")
    return words[word]


def encode_change(pattern: Pattern) -> bytes:
    if pattern.kind is PatternType.LITERAL:
        return f"{pattern.type.name}:{pattern.name}".encode()
    return encode(
        {
            "resourceType": pattern.type.name,
            "name": pattern.name,
            "patternType": pattern.kind.name,
        }
    )


def _announced(kind: PatternType, path: str, data: bytes) -> Pattern | None:
    """The pattern that an announcement in the folder of this kind names; None: nobody can tell."""
    try:
        type_name, name = (
            _literal_change(data) if kind is PatternType.LITERAL else _change(path, data)
        )
        check_node_name(name)
        return Pattern(ResourceType[type_name.upper()], name, kind)
    except (CorruptNodeError, InvalidRequestError, ValueError, KeyError):
        return None


def _literal_change(data: bytes) -> tuple[str, str]:
    type_name, _, name = data.decode().partition(":")
    return type_name, name


def _change(path: str, data: bytes) -> tuple[str, str]:
    def read(fields: Fields) -> tuple[str, str]:
        if fields.text("patternType").upper() != PatternType.PREFIXED.name:
            raise WrongFieldError("patternType is not PREFIXED")
        return fields.text("resourceType"), fields.text("name")

    return decode(path, data, read)
