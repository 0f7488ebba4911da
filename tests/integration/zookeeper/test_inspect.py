"""The read-only client of `minikafka zk`."""

from __future__ import annotations

import asyncio
import socket

import pytest

from minikafka.errors import UsageError
from minikafka.zookeeper.errors import NodeNotFoundError
from minikafka.zookeeper.inspect import open_inspector
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
    ]
    assert await look(connect, lambda inspector: inspector.ls("/brokers/ids/1")) == []


async def test_the_tree_has_everything_below_a_path(connect, store):
    tree = await look(connect, lambda inspector: inspector.tree("/brokers"))
    assert [child.path for child in tree.children] == ["/brokers/ids", "/brokers/topics"]
    assert [child.name for child in tree.children[0].children] == ["1"]
    whole = await look(connect, lambda inspector: inspector.tree())
    assert whole.path == whole.name == "/"
    assert tree in whole.children


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
