"""A broker's registration: who may have an id, and which incarnation it is."""

from __future__ import annotations

import asyncio

import pytest

from minikafka.broker.ports import StoreEvent
from minikafka.errors import UsageError
from tests.helpers.waiting import DEADLINE_S
from tests.helpers.zookeeper import (
    CREATE,
    SHORT_SESSION_MS,
    broker,
    expect_event,
    expire_session,
)


async def test_a_registered_broker_is_read_back_with_its_broker_epoch(connect, new_store):
    store = await new_store(connect)
    broker_epoch = await store.register_broker(broker(1))
    found = (await store.read_brokers())[1]
    assert found.broker_epoch == broker_epoch > 0
    assert (found.name, found.grpc_address, found.rack) == ("broker-1", "127.0.0.1:19001", "r1")
    assert found.kafka_address is None


async def test_registering_twice_in_one_session_keeps_the_broker_epoch(connect, new_store):
    store = await new_store(connect)
    first = await store.register_broker(broker(1))
    assert await store.register_broker(broker(1)) == first


async def test_registering_something_else_in_one_session_is_a_new_incarnation(connect, new_store):
    store = await new_store(connect)
    first = await store.register_broker(broker(1, storage_id="disk"))
    second = await store.register_broker(broker(1, storage_id="another disk"))
    assert second > first
    assert (await store.read_brokers())[1].storage_id == "another disk"


async def test_a_registration_whose_answer_was_lost_counts(
    hosts, chroot, connect, new_store, new_proxy
):
    observer = await new_store(connect)
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    proxy.cut_before_reply(CREATE)
    broker_epoch = await store.register_broker(broker(1))
    assert proxy.cuts_done == 1
    assert (await observer.read_brokers())[1].broker_epoch == broker_epoch


async def test_a_registration_that_never_arrived_is_sent_again(hosts, chroot, new_store, new_proxy):
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    proxy.cut_before_request(CREATE)
    broker_epoch = await store.register_broker(broker(1))
    assert proxy.cuts_done == 1
    assert (await store.read_brokers())[1].broker_epoch == broker_epoch


async def test_a_node_of_an_earlier_session_of_this_process_is_replaced_at_once(
    hosts, chroot, new_store, new_proxy
):
    proxy = await new_proxy(hosts)
    # So long that the node cannot go away by itself while this runs.
    store = await new_store(proxy.hosts + chroot, session_timeout_ms=40_000)
    first = await store.register_broker(broker(1))
    proxy.deny_session = True
    proxy.sever()
    await expect_event(store, StoreEvent.LOST)
    assert (await store.read_brokers())[1].broker_epoch == first, "it lingers"
    async with asyncio.timeout(DEADLINE_S):  # half of what waiting for its end would take
        assert await store.register_broker(broker(1)) > first


async def test_an_id_that_a_live_broker_has_is_refused_with_its_address(connect, new_store):
    holder = await new_store(connect)
    await holder.register_broker(broker(1))
    other = await new_store(connect, SHORT_SESSION_MS)
    with pytest.raises(UsageError, match=r"broker id 1 is taken .*broker-1 at 127\.0\.0\.1:19001"):
        await other.register_broker(broker(1, storage_id="another disk"))


async def test_the_node_of_a_broker_that_goes_away_is_waited_for(connect, new_store):
    holder = await new_store(connect)
    first = await holder.register_broker(broker(1))
    other = await new_store(connect)
    waiting = asyncio.ensure_future(other.register_broker(broker(1)))
    await other.sync()
    assert not waiting.done()
    await holder.close()
    assert await waiting > first


async def test_an_expired_session_is_told_and_the_broker_comes_back_as_a_new_incarnation(
    hosts, connect, new_store
):
    store = await new_store(connect, SHORT_SESSION_MS)
    observer = await new_store(connect)
    first = await store.register_broker(broker(1))
    assert 1 in await observer.read_brokers()

    await expire_session(store.session, hosts)
    await expect_event(store, StoreEvent.LOST)
    await expect_event(observer, StoreEvent.BROKERS_CHANGED)
    assert await observer.read_brokers() == {}
    assert await store.register_broker(broker(1)) > first


async def test_an_unregistered_broker_is_gone_and_unregistering_again_is_no_harm(
    connect, new_store
):
    store = await new_store(connect)
    await store.unregister_broker()
    await store.register_broker(broker(1))
    await store.unregister_broker()
    assert await store.read_brokers() == {}
    await store.unregister_broker()


async def test_unregistering_leaves_the_node_of_another_session_alone(
    hosts, chroot, connect, new_store
):
    store = await new_store(connect, SHORT_SESSION_MS)
    await store.register_broker(broker(1))
    await expire_session(store.session, hosts)
    await expect_event(store, StoreEvent.LOST)
    other = await new_store(connect)
    await other.register_broker(broker(1))
    await store.unregister_broker()
    assert 1 in await other.read_brokers()


async def test_closing_a_store_ends_the_registration(connect, new_store):
    store = await new_store(connect)
    observer = await new_store(connect)
    await store.register_broker(broker(1))
    assert 1 in await observer.read_brokers()
    await store.close()
    await expect_event(observer, StoreEvent.BROKERS_CHANGED)
    assert await observer.read_brokers() == {}
