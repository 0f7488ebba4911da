"""`minikafka zk watch`: what happens to a node, or to all below it."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from kazoo.client import KazooClient

from minikafka.cli.looking.zk import change_document, change_line
from minikafka.zookeeper.looking.inspect import open_inspector
from minikafka.zookeeper.looking.watching import Change, What
from tests.helpers.waiting import DEADLINE_S
from tests.helpers.zookeeper import ZooKeeperProxy


@pytest.fixture
def client(hosts, chroot) -> Iterator[KazooClient]:
    """Somebody who changes things, below the chroot."""
    client = KazooClient(hosts=hosts, timeout=10)
    client.start()
    client.ensure_path(chroot)
    client.chroot = chroot
    try:
        yield client
    finally:
        client.stop()
        client.close()


@contextmanager
def watching(connect: str, path: str, recursive: bool = False) -> Iterator[Callable[[], Change]]:
    """A watch in a thread; what is yielded waits for its next change."""
    changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
    with open_inspector(connect) as inspector:
        watch = inspector.watch(path, recursive=recursive)

        def follow() -> None:
            for change in watch.changes():
                changes.put(change)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield lambda: changes.get(timeout=DEADLINE_S)
        finally:
            watch.stop()
            thread.join(DEADLINE_S)
        assert not thread.is_alive()


def told(change: Change) -> tuple[What, str]:
    return change.what, change.path


def test_a_node_is_told_from_before_it_is_there_until_it_is_gone(connect, client):
    with watching(connect, "/a") as following:
        assert told(following()) == (What.ABSENT, "/a")
        client.create("/a", b"one")
        created = following()
        assert told(created) == (What.CREATED, "/a")
        assert created.node is not None
        assert created.node.data == b"one"
        client.set("/a", b"two")
        changed = following()
        assert (changed.what, changed.node.stat.version) == (What.CHANGED, 1)
        assert changed.node.data == b"two"
        client.create("/a/b")
        children = following()
        assert (children.what, children.added, children.removed) == (What.CHILDREN, ("b",), ())
        client.delete("/a/b")
        assert following().removed == ("b",)
        client.delete("/a")
        assert told(following()) == (What.DELETED, "/a")
        client.create("/a", b"again")
        assert told(following()) == (What.CREATED, "/a")


def test_all_below_a_node_is_told_if_that_is_wanted(connect, client):
    client.create("/a", b"")
    client.create("/a/b", b"")
    with watching(connect, "/a", recursive=True) as following:
        assert [told(following()) for _ in range(2)] == [
            (What.PRESENT, "/a"),
            (What.PRESENT, "/a/b"),
        ]
        client.create("/a/b/c", b"deep")
        assert told(following()) == (What.CREATED, "/a/b/c")
        client.set("/a/b/c", b"deeper")
        assert told(following()) == (What.CHANGED, "/a/b/c")
        client.delete("/a/b", recursive=True)
        assert [told(following()) for _ in range(2)] == [
            (What.DELETED, "/a/b/c"),
            (What.DELETED, "/a/b"),
        ]


def test_a_node_that_was_made_again_between_two_looks_is_another_one(connect, client):
    client.create("/a", b"")
    with watching(connect, "/a") as following:
        assert following().what is What.PRESENT
        transaction = client.transaction()
        transaction.delete("/a")
        transaction.create("/a", b"another")
        assert transaction.commit() == [True, "/a"]
        assert following().what is What.DELETED
        created = following()
        assert (created.what, created.node.data) == (What.CREATED, b"another")


async def test_what_happened_while_the_connection_was_lost_is_told(
    hosts, chroot, client, new_proxy
):
    proxy: ZooKeeperProxy = await new_proxy(hosts)
    loop = asyncio.get_running_loop()
    client.create("/a", b"")

    def follow() -> None:
        with watching(proxy.hosts + chroot, "/a") as following:
            assert following().what is What.PRESENT
            proxy.refusing = True
            loop.call_soon_threadsafe(proxy.sever)
            assert following().what is What.DISCONNECTED
            client.set("/a", b"meanwhile")
            proxy.refusing = False
            assert following().what is What.CONNECTED
            changed = following()
            assert (changed.what, changed.node.data) == (What.CHANGED, b"meanwhile")
            client.set("/a", b"and then")
            assert following().node.data == b"and then"

    await asyncio.to_thread(follow)


def test_a_change_is_a_line_or_a_document(connect, client):
    with watching(connect, "/a") as following:
        following()
        client.create("/a", b'{"n":1}', ephemeral=False)
        created = following()
    line = change_line(created)
    assert line[12:] == ' /a created  {"n":1}  (version 0)'
    document = json.loads(json.dumps(change_document(created)))
    assert (document["event"], document["path"], document["json"]) == ("created", "/a", {"n": 1})
    assert document["time_ms"] == created.timestamp_ms
    moved = Change(What.CHILDREN, "/a", 0, created.node, ("b", "c"), ("d",))
    assert change_line(moved)[12:] == " /a children  +b, +c, -d"
    assert change_document(moved)["removed"] == ["d"]
    gone = Change(What.DELETED, "/a", 5)
    assert change_document(gone) == {"event": "deleted", "time_ms": 5, "path": "/a"}


def test_a_linearizable_read_syncs_first(connect, client):
    client.create("/a", b"one")
    with open_inspector(connect, linearizable=True) as inspector:
        client.set("/a", b"two")
        assert inspector.get("/a").data == b"two"
        assert inspector.ls("/") == ["a"]
        assert [child.path for child in inspector.tree().children] == ["/a"]
