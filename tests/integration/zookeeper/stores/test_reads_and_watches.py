"""What a broker reads, and what it is told of without asking."""

from __future__ import annotations

import asyncio

import pytest

from minikafka.broker.ports import ClusterStore, StoreEvent
from minikafka.model import Assignment, TopicDescription
from minikafka.zookeeper.errors import CorruptNodeError, ZooKeeperError
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.stores import store as store_module
from tests.helpers.zookeeper import broker, expect_event, expire_session

TOPIC = TopicDescription("words", "abcdefghijklmnopqrstuv", {0: Assignment((1,))})


@pytest.fixture
async def pair(connect, new_store):
    """(one that acts, one that watches)."""
    return await new_store(connect), await new_store(connect)


async def put(store, path: str, data: bytes) -> None:
    await store.session.call(lambda client: client.create_async(path, data))


def layout_of(store) -> Layout:
    return store._layout


def test_the_store_is_the_port_of_the_broker():
    assert isinstance(store_module.ZooKeeperStore("127.0.0.1:2181"), ClusterStore)


async def test_all_brokers_read_one_cluster_id_whoever_made_it(connect, new_store):
    stores = [await new_store(connect) for _ in range(3)]
    ids = await asyncio.gather(*(store.cluster_id() for store in stores))
    assert len(set(ids)) == 1
    assert len(ids[0]) == 22
    assert await stores[0].cluster_id() == ids[0]


async def test_a_new_broker_is_heard_of_once_the_brokers_were_read(pair):
    actor, watcher = pair
    assert await watcher.read_brokers() == {}
    await actor.register_broker(broker(1))
    await expect_event(watcher, StoreEvent.BROKERS_CHANGED)
    assert list(await watcher.read_brokers()) == [1]


async def test_a_bounced_broker_is_heard_of_and_has_a_larger_broker_epoch(pair):
    actor, watcher = pair
    await actor.register_broker(broker(1))
    first = (await watcher.read_brokers())[1].broker_epoch
    await actor.register_broker(broker(1, storage_id="another disk"))
    await expect_event(watcher, StoreEvent.BROKERS_CHANGED)
    assert (await watcher.read_brokers())[1].broker_epoch > first


async def test_topics_deletions_and_configs_are_heard_of(pair):
    actor, watcher = pair
    assert await watcher.read_topics() == {}
    assert await watcher.read_deletions() == set()
    assert await watcher.read_topic_configs() == {}
    assert await watcher.read_broker_configs() == {}
    await actor.elect_controller(1)

    await actor.create_topic(TOPIC, {"retention.ms": "5"})
    await expect_event(watcher, StoreEvent.TOPICS_CHANGED)
    assert await watcher.read_topics() == {"words": TOPIC}
    assert await watcher.read_topic_configs() == {"words": {"retention.ms": "5"}}

    await actor.mark_topic_deleted("words")
    await actor.mark_topic_deleted("words")
    await expect_event(watcher, StoreEvent.DELETE_TOPICS_CHANGED)
    assert await watcher.read_deletions() == {"words"}

    await actor.write_topic_config("words", {"retention.ms": "1000"})
    await expect_event(watcher, StoreEvent.CONFIG_CHANGED)
    assert await watcher.read_topic_configs() == {"words": {"retention.ms": "1000"}}

    await actor.write_topic_config("words", {})
    await expect_event(watcher, StoreEvent.CONFIG_CHANGED)
    assert await watcher.read_topic_configs() == {"words": {}}

    for name in ("1", "<default>"):
        await actor.write_broker_config(name, {"log.retention.ms": "1000"})
        await expect_event(watcher, StoreEvent.CONFIG_CHANGED)
        assert (await watcher.read_broker_configs())[name] == {"log.retention.ms": "1000"}
    await actor.write_broker_config("1", {})
    await expect_event(watcher, StoreEvent.CONFIG_CHANGED)
    assert (await watcher.read_broker_configs())["1"] == {}


async def test_a_preferred_election_is_heard_of_when_it_is_asked_for(pair):
    actor, watcher = pair
    assert await watcher.read_preferred_election() is None
    path = layout_of(actor).preferred_election
    await put(actor, path, b'{"version":1,"partitions":[]}')
    await expect_event(watcher, StoreEvent.PREFERRED_ELECTION_CHANGED)
    assert await watcher.read_preferred_election() == []


async def test_overrides_of_brokers_are_read_by_id(pair):
    actor, watcher = pair
    await put(actor, layout_of(actor).broker_config("1"), b'{"version":1,"config":{"a":"b"}}')
    assert await watcher.read_broker_configs() == {"1": {"a": "b"}}


async def test_watches_live_on_after_a_reconnection_without_reading_again(
    hosts, chroot, connect, new_store, new_proxy
):
    actor = await new_store(connect)
    proxy = await new_proxy(hosts)
    watcher = await new_store(proxy.hosts + chroot)
    await watcher.read_brokers()
    await actor.elect_controller(1)
    await watcher.read_controller(watch=True)
    await watcher.read_deletions()
    proxy.sever()
    await expect_event(watcher, StoreEvent.RECONNECTED)

    await actor.register_broker(broker(1))
    await expect_event(watcher, StoreEvent.BROKERS_CHANGED)
    await actor.resign_controller()
    await expect_event(watcher, StoreEvent.CONTROLLER_CHANGED)
    await actor.mark_topic_deleted("words")
    await expect_event(watcher, StoreEvent.DELETE_TOPICS_CHANGED)


async def test_the_data_of_a_broker_is_watched_after_a_reconnection(
    hosts, chroot, connect, new_store, new_proxy
):
    actor = await new_store(connect)
    await actor.register_broker(broker(1))
    proxy = await new_proxy(hosts)
    watcher = await new_store(proxy.hosts + chroot)
    await watcher.read_brokers()
    proxy.sever()
    await expect_event(watcher, StoreEvent.RECONNECTED)
    path = layout_of(actor).broker(1)
    data, _ = await actor.session.call(lambda client: client.get_async(path))
    await actor.session.call(lambda client: client.set_async(path, data))
    await expect_event(watcher, StoreEvent.BROKERS_CHANGED)


async def test_watches_live_on_in_a_new_session(hosts, pair):
    actor, watcher = pair
    await watcher.read_brokers()
    await expire_session(watcher.session, hosts)
    await expect_event(watcher, StoreEvent.LOST)
    await actor.register_broker(broker(1))
    await expect_event(watcher, StoreEvent.BROKERS_CHANGED)


async def test_reading_often_is_told_once(pair):
    actor, watcher = pair
    for _ in range(50):
        await watcher.read_deletions()
    await actor.mark_topic_deleted("words")
    await expect_event(watcher, StoreEvent.DELETE_TOPICS_CHANGED)
    await actor.register_broker(broker(1))
    await watcher.read_brokers()
    await actor.unregister_broker()
    assert await expect_event(watcher, StoreEvent.BROKERS_CHANGED) == []


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("controller", "read_controller"),
        ("brokers/ids/1", "read_brokers"),
        ("brokers/topics/words", "read_topics"),
        ("config/topics/words", "read_topic_configs"),
        ("config/brokers/1", "read_broker_configs"),
        ("admin/preferred_replica_election", "read_preferred_election"),
    ],
)
async def test_a_node_that_cannot_be_read_is_named_and_left_alone(pair, path, read):
    actor, reader = pair
    full = f"{layout_of(actor).root}/{path}"
    await put(actor, full, b"not JSON")
    await getattr(reader, read)()
    assert "not JSON" in reader.unreadable.nodes[full]


async def test_without_a_cluster_id_that_can_be_read_nothing_can_be_done(pair):
    actor, reader = pair
    full = f"{layout_of(actor).root}/cluster/id"
    await put(actor, full, b"not JSON")
    with pytest.raises(CorruptNodeError, match=f"{full} cannot be read: .*not JSON"):
        await reader.cluster_id()


async def test_a_corrupt_state_is_named_and_left_alone(pair):
    actor, reader = pair
    await actor.elect_controller(1)
    await actor.create_topic(TOPIC)
    layout = layout_of(actor)
    await put(actor, layout.partition("words", 0), b"")
    await put(actor, layout.state("words", 0), b'{"version":9}')
    assert list((await reader.read_states({"words": TOPIC})).values()) == [None]
    assert "version is 9" in reader.unreadable.nodes[layout.state("words", 0)]


async def test_a_persistent_node_that_somebody_deleted_is_named(pair):
    actor, reader = pair
    path = layout_of(actor).delete_topics
    await actor.session.call(lambda client: client.delete_async(path))
    with pytest.raises(ZooKeeperError, match=f"{path} is gone"):
        await reader.read_deletions()
