"""SCRAM credentials in ZooKeeper, as Apache Kafka keeps them: the implementation of `UserStore`
(broker/access/ports.py).

    /config/users/<user>    {"version":1,"config":{"SCRAM-SHA-256":"salt=…,stored_key=…,…", …}}
    /config/changes         config_change_<n>: users/<user>
    /security/decoy         32 random bytes: what an unknown user's salt is made of

The node of a user holds quotas as well, and whatever else Kafka keeps there: that stays as it is.
Names are sanitized, as Kafka does it: URL-encoded in Java's way, so that any name is one of a node.

What is wrong with a node is told without a word of what it holds.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from kazoo.exceptions import NodeExistsError
from kazoo.protocol.states import ZnodeStat

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.access.ports import Notify, UserNode
from minikafka.security.scram import HASHES, Credential, read_credential, write_credential
from minikafka.turns import in_slices
from minikafka.zookeeper import codec
from minikafka.zookeeper.errors import CorruptNodeError, ZooKeeperError
from minikafka.zookeeper.fence import NOT_THERE, Put
from minikafka.zookeeper.paths import Layout, check_node_name
from minikafka.zookeeper.stores.announcements import Announcements
from minikafka.zookeeper.stores.coordination import Znodes

_FOLDER = "users/"  # in announcements
_ATTEMPTS = 20
DECOY_BYTES = 32
# All users, and all clients of one: nobody is called so, since a user's < is written as %3C.
_DEFAULT = "<default>"

Node = tuple[bytes, ZnodeStat]


def sanitized(name: str) -> str:
    """A user's name as that of a node."""
    return quote(name, safe="").replace("~", "%7E")


def desanitized(name: str) -> str | None:
    """None: no user is called so."""
    try:
        user = unquote(name, errors="strict")
    except UnicodeDecodeError:
        return None
    return user if sanitized(user) == name else None


class ZooKeeperUsers:
    """`root`: the chroot. All calls raise SessionLostError and ZooKeeperError. `_reading`: one
    reads at a time, so that what is read later is never older. `_wrong`: the names of nodes that
    could not be read; they are watched, and read with every change."""

    def __init__(self, znodes: Znodes, root: str) -> None:
        self._znodes = znodes
        self._wrong: set[str] = set()
        self._layout = Layout(root)
        self._changes = Announcements(znodes, self._layout.config_change_prefix)
        self._reading = asyncio.Lock()

    async def start(self) -> None:
        """Make the folder."""
        await self._znodes.ensure(self._layout.users)

    # --- reading ---------------------------------------------------------------------------------

    async def read_all(self, notify: Notify) -> Sequence[UserNode]:
        async with self._reading:
            await self._znodes.session.sync()
            news = await self._changes.news(notify)
            self._wrong.clear()
            found = await self._read_watched(await self._names(), notify)
            self._changes.mark(news)
        return found

    async def read_changed(self, notify: Notify) -> Sequence[UserNode] | None:
        async with self._reading:
            await self._znodes.session.sync()
            news = await self._changes.news(notify)
            if news.announced is None:
                return None
            names: dict[str, None] = dict.fromkeys(self._wrong)
            for path, data in news.announced:
                try:
                    entity_path = codec.decode_config_change(path, data)
                except CorruptNodeError:
                    return None
                name = entity_path.removeprefix(_FOLDER)
                if name != entity_path and "/" not in name and desanitized(name):
                    names[name] = None
            found = await self._read_watched(list(names), notify)
            self._changes.mark(news)
        return found

    async def read(self, users: Sequence[str] | None) -> Sequence[UserNode]:
        await self._znodes.session.sync()
        if users is None:
            return await self._read(await self._names())
        return await self._read([sanitized(user) for user in users])

    async def _names(self) -> list[str]:
        names = await self._znodes.children(self._layout.users)
        return [name for name in names if name != _DEFAULT and desanitized(name)]

    async def _read(self, names: Sequence[str]) -> list[UserNode]:
        """Of these nodes; a name that no node can have is that of nobody."""
        paths = [None if name in (".", "..", "") else self._layout.user(name) for name in names]
        nodes = iter(await self._znodes.session.get_many([path for path in paths if path]))
        found = []
        async for name, path in in_slices(zip(names, paths, strict=True)):
            user, node = unquote(name), None if path is None else next(nodes)
            found.append(
                UserNode(user, {}) if not path or not node else self._user(user, path, node)
            )
        return found

    async def _read_watched(self, names: Sequence[str], notify: Notify) -> list[UserNode]:
        """The same; what cannot be read is watched."""
        found = await self._read(names)
        for place, name in enumerate(names):
            if found[place].wrong:
                node = await self._znodes.get(self._layout.user(name), notify)
                user = found[place].user
                found[place] = (
                    UserNode(user, {})
                    if node is None
                    else self._user(user, self._layout.user(name), node)
                )
            if found[place].wrong:
                self._wrong.add(name)
            else:
                self._wrong.discard(name)
        return found

    def _user(self, user: str, path: str, node: Node) -> UserNode:
        data, stat = node
        unreadable = self._znodes.unreadable
        try:
            config = _config(path, data)
        except CorruptNodeError as error:
            unreadable.note(error)
            return UserNode(user, {}, stat.mzxid, readable=False)
        credentials: dict[str, Credential] = {}
        wrong: dict[str, str] = {}
        for mechanism, kind in HASHES.items():
            if mechanism in config:
                try:
                    credentials[mechanism] = read_credential(kind, config[mechanism])
                except ValueError as error:
                    wrong[mechanism] = str(error)
        if wrong:
            why = "; ".join(f"{mechanism}: {reason}" for mechanism, reason in wrong.items())
            unreadable.note(CorruptNodeError(path, why))
        else:
            unreadable.forget(path)
        return UserNode(user, credentials, stat.mzxid, tuple(wrong))

    # --- the decoy -------------------------------------------------------------------------------

    async def decoy_key(self) -> bytes:
        path = self._layout.decoy
        while True:
            found = await self._znodes.get(path)
            if found is not None:
                if len(found[0]) != DECOY_BYTES:
                    raise CorruptNodeError(
                        path, f"it holds {len(found[0])} bytes, expected {DECOY_BYTES} random ones"
                    )
                return found[0]
            await self._znodes.ensure(path.rpartition("/")[0])
            made = secrets.token_bytes(DECOY_BYTES)
            try:
                await self._create(path, made)
            except NodeExistsError:
                await (
                    self._znodes.session.sync()
                )  # by another, or by this one: what is there counts

    async def _create(self, path: str, data: bytes) -> None:
        await self._znodes.session.repeat(lambda client: client.create_async(path, data))

    # --- writing ---------------------------------------------------------------------------------

    async def alter(
        self, user: str, change: Callable[[Collection[str]], Mapping[str, Credential | None]]
    ) -> WriteOutcome:
        name = sanitized(user)
        check_node_name(name)
        path = self._layout.user(name)
        for _ in range(_ATTEMPTS):
            found = await self._znodes.get(path)
            config = {} if found is None else self._present(path, found[0])
            changes = change([mechanism for mechanism in HASHES if mechanism in config])
            for mechanism, credential in changes.items():
                if credential is None:
                    config.pop(mechanism, None)
                else:
                    config[mechanism] = write_credential(credential)
            version = NOT_THERE if found is None else found[1].version
            outcome = await self._write(path, codec.encode_config(config), version, name)
            if outcome is WriteOutcome.WRITTEN:
                await self._changes.maybe_purge()
            if outcome is not WriteOutcome.CONFLICT:
                return outcome
            await self.start()  # another has written, or nobody has made the folder yet
            await self._znodes.session.sync()
        raise ZooKeeperError(f"{path} is written again and again by somebody else")

    def _present(self, path: str, data: bytes) -> dict[str, str]:
        try:
            return dict(_config(path, data))
        except CorruptNodeError as error:
            self._znodes.unreadable.note(error)
            raise

    async def _write(self, path: str, data: bytes, version: int, name: str) -> WriteOutcome:
        announcement = codec.encode_config_change(f"{_FOLDER}{name}")

        def build(multi: Any) -> None:
            if version == NOT_THERE:
                multi.create(path, data)
            else:
                multi.set_data(path, data, version)
            multi.create(self._changes.prefix, announcement, sequence=True)

        return (await self._znodes.fence.write(build, Put(path, data, version))).outcome


def _config(path: str, data: bytes) -> dict[str, str]:
    """CorruptNodeError, which does not quote what may be a secret. A node that was made for what
    lies below it is empty."""
    if not data:
        return {}
    try:
        return codec.decode_config(path, data)
    except CorruptNodeError:
        raise CorruptNodeError(
            path, 'it does not hold {"version":1,"config":{…}} with texts alone'
        ) from None
