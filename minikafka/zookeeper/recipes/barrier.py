"""A double barrier: processes begin together, and know when all have ended. Synchronous.

    /perf/<name>                 lasting, taken away by whoever leaves last
    /perf/<name>/member-<who>-…  ephemeral, sequential: who has come and has not left
    /perf/<name>/ready           lasting: all have come

As in ZooKeeper's own recipe, but a process that dies keeps nobody: its node goes with its session.
Who is inside before `ready` is there has failed to begin, with all the others, as soon as one that
had come is gone; who has begun waits at the end only for those that live. (kazoo's recipe waits for
ever for one that dies before the begin.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError, NoNodeError, NotEmptyError
from kazoo.protocol.states import KazooState

from minikafka.errors import MinikafkaError, NetworkError
from minikafka.zookeeper.client import opened, translating
from minikafka.zookeeper.paths import Layout, split_connect

SESSION_TIMEOUT_MS = 6_000
_MEMBER = "member-"
_READY = "ready"


class BarrierBrokenError(MinikafkaError):
    """The processes do not begin together; the sentence says why."""


class DoubleBarrier:
    """One process at a barrier of `count`. `who` is what others are told. NetworkError if the
    session is lost."""

    def __init__(self, client: KazooClient, path: str, count: int, who: str) -> None:
        self._client = client
        self._path = path
        self._count = count
        self._who = who
        self._node = ""
        self._seen: set[str] = set()  # who has come, while not all have
        self._changed = threading.Event()
        self._lost = False
        client.add_listener(self._on_state)

    def _on_state(self, state: str) -> None:
        self._lost = self._lost or state == KazooState.LOST
        self._changed.set()

    def _on_event(self, _: object) -> None:
        self._changed.set()

    def enter(self, timeout_s: float) -> None:
        """Returns when `count` processes are here. BarrierBrokenError if not so many come in time,
        if one of them leaves or dies before that, or if they have begun already."""
        with translating():
            self._client.ensure_path(self._path)
            if self._is_ready():
                raise BarrierBrokenError(f"{self._path}: the others have begun already")
            prefix = f"{self._path}/{_MEMBER}{self._who}-"
            self._node = self._client.create(prefix, ephemeral=True, sequence=True)
            try:
                self._wait_for_all(time.monotonic() + timeout_s, timeout_s)
            except BarrierBrokenError:
                self._go()
                raise

    def _wait_for_all(self, deadline: float, timeout_s: float) -> None:
        while True:
            self._changed.clear()
            if self._is_ready(watch=True):
                return
            here = self._members()
            if len(here) >= self._count:
                with suppress(NodeExistsError):
                    self._client.create(f"{self._path}/{_READY}")
                return
            if gone := self._seen - here:
                if self._is_ready():
                    return  # it has begun, and ended already
                names = ", ".join(sorted(map(_name, gone)))
                raise BarrierBrokenError(f"{self._path}: {names} left before all were there")
            self._seen = here
            if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                names = ", ".join(sorted(map(_name, here)))
                raise BarrierBrokenError(
                    f"{self._path}: {len(here)} of {self._count} processes came within "
                    f"{timeout_s:g} s: {names}"
                )
            self._require_session()

    def leave(self) -> None:
        """Returns when all that have not died are here."""
        with translating():
            self._go()
            while True:
                self._changed.clear()
                if not self._members():
                    break
                self._changed.wait()
                self._require_session()
            for path in (f"{self._path}/{_READY}", self._path):
                with suppress(NoNodeError, NotEmptyError):
                    self._client.retry(self._client.delete, path)

    def _go(self) -> None:
        with suppress(NoNodeError):
            self._client.retry(self._client.delete, self._node)

    def _is_ready(self, watch: bool = False) -> bool:
        path, watcher = f"{self._path}/{_READY}", self._on_event if watch else None
        return self._client.retry(self._client.exists, path, watch=watcher) is not None

    def _members(self) -> set[str]:
        try:
            found = self._client.retry(self._client.get_children, self._path, watch=self._on_event)
        except NoNodeError:  # whoever left last has cleared up
            return set()
        return {name for name in found if name.startswith(_MEMBER)}

    def _require_session(self) -> None:
        if self._lost:
            raise NetworkError("the session with ZooKeeper is lost, and with it the place there")


def _name(node: str) -> str:
    return node.removeprefix(_MEMBER).rpartition("-")[0]


@contextmanager
def open_barrier(connect: str, name: str, count: int, who: str) -> Iterator[DoubleBarrier]:
    """A session with `host:port,…[/chroot]` and the barrier of that name. UsageError if no server
    can be reached in time."""
    hosts, layout = split_connect(connect)
    with opened(hosts, SESSION_TIMEOUT_MS, SESSION_TIMEOUT_MS) as client:
        yield DoubleBarrier(client, _path(layout, name), count, who)


def remove_barrier(connect: str, name: str) -> None:
    """Take away what processes that died or gave up have left of a barrier."""
    hosts, layout = split_connect(connect)
    with opened(hosts, SESSION_TIMEOUT_MS, SESSION_TIMEOUT_MS) as client, translating():
        client.delete(_path(layout, name), recursive=True)


def _path(layout: Layout, name: str) -> str:
    return f"{layout.root}/perf/{name}"
