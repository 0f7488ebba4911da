"""live_tree.py and live_cluster.py: a mirror that follows the tree through anything."""

from __future__ import annotations

import asyncio

import pytest
from kazoo.client import KazooClient

from minikafka.model import Assignment, PartitionState, TopicDescription, TopicPartition
from minikafka.zookeeper import codec
from minikafka.zookeeper.looking.live_cluster import LiveCluster
from minikafka.zookeeper.looking.live_tree import LiveTree
from tests.helpers.waiting import until
from tests.helpers.zookeeper import broker


class Mirror:
    """A live tree that runs, and what it told."""

    def __init__(self, connect, **options):
        self.touches = []
        self.changes = []
        self.tree = LiveTree(connect, self._changed, self._touched, **options)

    def _changed(self, changed, gone):
        self.changes.append((sorted(changed), sorted(gone)))

    def _touched(self, connected, detail):
        if not self.touches or self.touches[-1] != connected:
            self.touches.append(connected)

    def data(self):
        return {path: node.data for path, node in self.tree.nodes.items()}


@pytest.fixture
async def mirror():
    """Makes mirrors and ends them."""
    running = []

    def start(connect, **options):
        made = Mirror(connect, **options)
        running.append(asyncio.create_task(made.tree.run()))
        return made

    yield start
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


@pytest.fixture
async def client(hosts, chroot):
    """A plain client under the test's own chroot, which it makes."""
    client = KazooClient(hosts)
    await asyncio.to_thread(client.start, 15)
    await asyncio.to_thread(client.ensure_path, chroot)
    client.chroot = chroot
    yield client
    await asyncio.to_thread(client.stop)
    await asyncio.to_thread(client.close)


async def test_what_is_there_and_what_comes_changes_and_goes_is_mirrored(connect, client, mirror):
    await asyncio.to_thread(client.create, "/a", b"1")
    seen = mirror(connect)
    await until(lambda: seen.data() == {"/": b"", "/a": b"1"})
    await asyncio.to_thread(client.create, "/a/b/c", b"2", makepath=True)
    await until(lambda: seen.data() == {"/": b"", "/a": b"1", "/a/b": b"", "/a/b/c": b"2"})
    await asyncio.to_thread(client.set, "/a/b/c", b"3")
    await until(lambda: seen.data().get("/a/b/c") == b"3")
    assert seen.tree.nodes["/a/b/c"].stat.version == 1
    await asyncio.to_thread(client.delete, "/a/b", recursive=True)
    await until(lambda: seen.data() == {"/": b"", "/a": b"1"})
    assert {path for _, gone in seen.changes for path in gone} == {"/a/b", "/a/b/c"}
    assert seen.touches == [True]


async def test_a_node_that_is_made_again_is_followed_again(connect, client, mirror):
    seen = mirror(connect)
    for number in range(3):
        value = b"%d" % number
        await asyncio.to_thread(client.create, "/again", value)
        await until(lambda value=value: seen.data().get("/again") == value)
        await asyncio.to_thread(client.set, "/again", b"set")
        await until(lambda: seen.data().get("/again") == b"set")
        await asyncio.to_thread(client.delete, "/again")
        await until(lambda: "/again" not in seen.data())


async def test_what_changed_while_the_connection_was_down_is_seen_after(
    client, hosts, chroot, new_proxy, mirror
):
    proxy = await new_proxy(hosts)
    await asyncio.to_thread(client.create, "/stays", b"1")
    await asyncio.to_thread(client.create, "/goes", b"1")
    seen = mirror(proxy.hosts + chroot)
    await until(lambda: set(seen.data()) == {"/", "/stays", "/goes"})
    proxy.refusing = True
    proxy.sever()
    await until(lambda: seen.touches == [True, False])
    await asyncio.to_thread(client.set, "/stays", b"2")
    await asyncio.to_thread(client.delete, "/goes")
    await asyncio.to_thread(client.create, "/comes", b"1")
    proxy.refusing = False
    await until(lambda: seen.data() == {"/": b"", "/stays": b"2", "/comes": b"1"})
    await until(lambda: seen.touches == [True, False, True])
    await asyncio.to_thread(client.set, "/comes", b"2")  # the watches are armed again
    await until(lambda: seen.data()["/comes"] == b"2")


async def test_a_session_that_expires_is_followed_by_another(
    client, hosts, chroot, new_proxy, mirror
):
    proxy = await new_proxy(hosts)
    await asyncio.to_thread(client.create, "/a", b"1")
    seen = mirror(proxy.hosts + chroot, session_timeout_ms=1_000)
    await until(lambda: "/a" in seen.data())
    proxy.refusing = True
    proxy.sever()
    await until(lambda: seen.touches[-1] is False)
    await asyncio.to_thread(client.set, "/a", b"2")
    proxy.deny_session = True
    proxy.refusing = False
    await until(lambda: seen.data()["/a"] == b"2" and seen.touches[-1] is True, 40)
    await asyncio.to_thread(client.set, "/a", b"3")
    await until(lambda: seen.data()["/a"] == b"3")


async def test_a_tree_that_is_too_large_is_followed_in_part(connect, client, mirror):
    for number in range(20):
        await asyncio.to_thread(client.create, f"/n{number:02}", b"")
    seen = mirror(connect, limit=10)
    await until(lambda: len(seen.data()) == 10)
    assert not seen.tree.is_whole


async def test_no_server_is_told_and_tried_again(chroot, mirror, tmp_path):
    seen = mirror("127.0.0.1:1" + chroot)
    await until(lambda: seen.touches == [False])


async def test_the_mirror_tells_of_the_cluster_as_brokers_do(connect, new_store, client, mirror):
    store = await new_store(connect)
    seen = mirror(connect)
    cluster = LiveCluster(seen.tree.nodes)
    await until(lambda: "/brokers/topics" in seen.data())
    assert cluster.vacant_epoch == 0, "nobody was ever elected"

    await store.register_broker(broker(1))
    election = await store.elect_controller(1)
    await until(lambda: {"/brokers/ids/1", "/controller"} <= set(seen.data()))
    epoch = str(election.controller_epoch).encode()
    await until(lambda: seen.data()["/controller_epoch"] == epoch)
    update = cluster.update(["/brokers/ids/1", "/controller"], [])
    assert [each.broker_epoch for each in update.brokers] == [
        (await store.read_brokers())[1].broker_epoch
    ]
    assert (update.controller_id, update.controller_epoch) == (1, election.controller_epoch)
    assert cluster.vacant_epoch == -1

    await store.resign_controller()
    await until(lambda: "/controller" not in seen.data())
    assert cluster.update([], ["/controller"]).controller_id == -1
    assert cluster.vacant_epoch == election.controller_epoch


async def test_the_mirror_tells_of_partitions_and_of_topics_that_go(connect, client, mirror):
    seen = mirror(connect)
    cluster = LiveCluster(seen.tree.nodes)
    topic = TopicDescription("orders", "BMJmjyISQDyM1G0ecCY14A", {0: Assignment((1, 2))})
    state = PartitionState(1, 0, (1, 2), 1, 0, {1: "a@1", 2: "b@1"})
    node, path = "/brokers/topics/orders", "/brokers/topics/orders/partitions/0/state"
    await asyncio.to_thread(client.create, node, codec.encode_topic(topic), makepath=True)
    await until(lambda: node in seen.data())
    assert cluster.update([node], []).partitions == [], "its state is not there yet"
    await asyncio.to_thread(client.create, path, codec.encode_state(state), makepath=True)
    await until(lambda: path in seen.data())
    [found] = cluster.update([path], []).partitions
    assert found.topic_partition == TopicPartition("orders", 0)
    assert (found.topic_id, found.state) == (topic.topic_id, state)
    assert found.assignment.replicas == (1, 2)

    await asyncio.to_thread(client.set, path, b"nonsense")
    await until(lambda: seen.data()[path] == b"nonsense")
    assert cluster.update([path], []).partitions == [], "what cannot be read is left out"
    await asyncio.to_thread(client.delete, node, recursive=True)
    await until(lambda: node not in seen.data())
    assert cluster.update([], [node]).deleted_topics == [("orders", topic.topic_id)]
    assert cluster.update([], [node]).deleted_topics == []
