"""The read-only client of `minikafka zk`."""

from __future__ import annotations

import asyncio
import socket

import pytest

from minikafka.broker.ports import Takeover
from minikafka.cli.looking.zk import controller_lines
from minikafka.errors import UsageError
from minikafka.zookeeper.errors import NodeNotFoundError
from minikafka.zookeeper.looking.inspect import open_inspector
from tests.helpers.zookeeper import broker


@pytest.fixture
async def store(connect, new_store):
    store = await new_store(connect)
    await store.register_broker(broker(1))
    await store.elect_controller(1)
    return store


async def look(connect, what):
    def inspect():
        with open_inspector(connect) as inspector:
            return what(inspector)

    return await asyncio.to_thread(inspect)


async def test_a_node_has_its_data_and_its_stat(connect, store):
    found = await look(connect, lambda inspector: inspector.get("/brokers/ids/1"))
    assert found.name == "1"
    assert b'"name":"broker-1"' in found.data
    assert found.stat.ephemeral_owner == store.session.session_id
    assert found.stat.data_bytes == len(found.data)
    assert (await store.read_brokers())[1].broker_epoch == found.stat.czxid


async def test_children_are_listed_by_name(connect, store):
    assert await look(connect, lambda inspector: inspector.ls("/")) == [
        "admin",
        "brokers",
        "cluster",
        "config",
        "controller",
        "controller_epoch",
        "controller_queue",
    ]
    assert await look(connect, lambda inspector: inspector.ls("/brokers/ids/1")) == []


async def test_the_tree_has_everything_below_a_path(connect, store):
    tree = await look(connect, lambda inspector: inspector.tree("/brokers"))
    assert [child.path for child in tree.children] == ["/brokers/ids", "/brokers/topics"]
    assert [child.name for child in tree.children[0].children] == ["1"]
    whole = await look(connect, lambda inspector: inspector.tree())
    assert whole.path == whole.name == "/"
    assert tree in whole.children


async def test_the_controller_and_its_queue_are_seen(connect, store, new_store):
    other = await new_store(connect)
    await other.elect_controller(2)
    view = await look(connect, lambda inspector: inspector.controller())
    assert (view.controller_id, view.controller_epoch, view.queue) == (1, 1, (1, 2))
    assert (view.takeover, view.names) == (None, {1: "broker-1"})
    assert controller_lines(view) == ["controller broker-1, controller epoch 1", "waiting: 2"]

    await store.record_takeover(Takeover(2, 1, 1, 1, 4, "B"))
    view = await look(connect, lambda inspector: inspector.controller())
    assert controller_lines(view)[0] == (
        "controller broker-1, controller epoch 1, moved from B, woke 1 of 4 waiting brokers"
    )

    await store.resign_controller()
    view = await look(connect, lambda inspector: inspector.controller())
    assert controller_lines(view) == ["nobody is controller (controller epoch 1)", "waiting: 2"]


async def test_where_no_broker_ever_was_nobody_is_controller(hosts):
    view = await look(f"{hosts}/nowhere", lambda inspector: inspector.controller())
    assert controller_lines(view) == [
        "nobody is controller (controller epoch -1)",
        "waiting: nobody",
    ]


async def test_a_server_without_chroot_has_a_tree_too(hosts, store):
    tree = await look(hosts, lambda inspector: inspector.tree())
    assert {"test", "zookeeper"} <= {child.name for child in tree.children}


@pytest.mark.parametrize("read", ["get", "ls", "tree"])
async def test_a_path_that_is_not_there_is_named(connect, store, read):
    with pytest.raises(NodeNotFoundError, match="no node /brokers/nobody"):
        await look(connect, lambda inspector: getattr(inspector, read)("/brokers/nobody"))


@pytest.mark.parametrize("path", ["brokers", "/brokers/", "//brokers", ""])
async def test_what_is_no_path_is_refused(connect, store, path):
    with pytest.raises(UsageError, match="is no path of a node"):
        await look(connect, lambda inspector: inspector.get(path))


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        hosts = f"127.0.0.1:{closed.getsockname()[1]}"
        with (
            pytest.raises(UsageError, match=f"cannot be reached at {hosts}"),
            open_inspector(hosts, timeout_ms=200),
        ):
            pass
