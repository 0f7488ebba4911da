"""The session: what a broker is told when ZooKeeper goes away, comes back, or forgets it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from minikafka.broker.ports import SessionLostError, StoreEvent
from minikafka.errors import UsageError
from minikafka.zookeeper.session import BULK, MAX_IN_FLIGHT
from minikafka.zookeeper.stores.store import ZooKeeperStore
from tests.helpers.waiting import DEADLINE_S, until
from tests.helpers.zookeeper import (
    CREATE,
    GET,
    SHORT_SESSION_MS,
    broker,
    connected_port,
    expect_event,
    expire_session,
)


async def test_a_connected_store_is_in_touch(connect, new_store):
    store = await new_store(connect)
    assert store.connected
    assert store.out_of_touch_ms == 0


async def test_an_unreachable_zookeeper_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        hosts = f"127.0.0.1:{taken.getsockname()[1]}"
        store = ZooKeeperStore(hosts, connection_timeout_ms=300)
        with pytest.raises(UsageError, match=f"cannot be reached at {hosts} within 300 ms"):
            await store.start()


async def test_a_server_that_accepts_and_says_nothing_is_unreachable():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hosts = f"127.0.0.1:{silent.getsockname()[1]}"
        store = ZooKeeperStore(hosts, SHORT_SESSION_MS, connection_timeout_ms=300)
        with pytest.raises(UsageError, match=f"cannot be reached at {hosts}"):
            await store.start()


async def test_a_host_that_is_no_address_is_refused():
    with pytest.raises(UsageError, match="HOST:PORT"):
        await ZooKeeperStore("").start()


async def test_a_restarted_server_carries_on_with_the_same_session(kind, own_server, new_store):
    server = own_server(kind)
    store = await new_store(server.hosts, session_timeout_ms=12_000)
    broker_epoch = await store.register_broker(broker(1))
    session_id = store.session.session_id

    server.stop()
    await expect_event(store, StoreEvent.SUSPENDED)
    assert not store.connected
    waiting = asyncio.ensure_future(store.read_brokers())
    again = own_server(kind)
    assert again.hosts == server.hosts
    before = await expect_event(store, StoreEvent.RECONNECTED, 2 * DEADLINE_S)

    assert StoreEvent.LOST not in before
    assert store.session.session_id == session_id
    assert store.out_of_touch_ms == 0
    assert (await waiting)[1].broker_epoch == broker_epoch


async def test_a_server_that_takes_the_connection_and_never_answers_does_not_cost_the_session(
    hosts, chroot, new_store, new_proxy
):
    # As one that is just starting may do.
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot, session_timeout_ms=3_000)
    broker_epoch = await store.register_broker(broker(1))
    session_id = store.session.session_id
    proxy.ignore_next = True
    proxy.sever()
    before = await expect_event(store, StoreEvent.RECONNECTED)
    assert not proxy.ignore_next
    assert StoreEvent.LOST not in before
    assert store.session.session_id == session_id
    assert (await store.read_brokers())[1].broker_epoch == broker_epoch


async def test_a_paused_server_makes_calls_fail_after_the_session_timeout_and_not_for_ever(
    kind, own_server, new_store
):
    server = own_server(kind)
    store = await new_store(server.hosts, SHORT_SESSION_MS)
    first = await store.register_broker(broker(1))
    [pid] = server.pids
    os.kill(pid, signal.SIGSTOP)
    try:
        # From before it is noticed, and from after.
        early = asyncio.gather(store.read_topics(), return_exceptions=True)
        await expect_event(store, StoreEvent.SUSPENDED)
        seen_ms = store.out_of_touch_ms
        await until(lambda: store.out_of_touch_ms > seen_ms)
        with pytest.raises(SessionLostError, match="has not been heard of for"):
            await store.read_topics()
        assert store.out_of_touch_ms >= SHORT_SESSION_MS
        [error] = await early
        assert isinstance(error, SessionLostError)
        with pytest.raises(SessionLostError):  # at once
            await store.elect_controller(1)
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: store.connected)
    # Whether it lost the session depends on the server's clock; the broker is known either way.
    assert await store.register_broker(broker(1)) >= first


async def test_the_loop_goes_on_while_many_calls_wait_for_a_paused_server(
    kind, own_server, new_store
):
    server = own_server(kind)
    store = await new_store(server.hosts, session_timeout_ms=3_000)
    [pid] = server.pids
    os.kill(pid, signal.SIGSTOP)
    try:
        calls = [store.read_topics() for _ in range(10 * MAX_IN_FLIGHT)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {SessionLostError}
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: store.connected)
    assert await store.read_topics() == {}


async def test_a_thousand_calls_at_once_are_all_answered(connect, new_store):
    store = await new_store(connect)
    assert await asyncio.gather(*(store.read_topics() for _ in range(1_000))) == [{}] * 1_000


async def nodes(store: ZooKeeperStore, count: int) -> list[str]:
    """The paths of nodes that hold their number, every tenth of which is not there."""
    parent = f"{store.root}/many"
    await store.session.call(lambda client: client.create_async(parent))
    paths = [f"{parent}/{number}" for number in range(count)]
    made = [number for number in range(count) if number % 10]

    def make(number: int):
        data = str(number).encode()
        return store.session.call(lambda client: client.create_async(paths[number], data))

    await asyncio.gather(*map(make, made))
    return paths


def contents(found) -> list[bytes | None]:
    return [None if node is None else node[0] for node in found]


def expected(count: int) -> list[bytes | None]:
    return [str(number).encode() if number % 10 else None for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, BULK, 2 * BULK + 7])
async def test_many_nodes_are_read_as_one_by_one(connect, new_store, count):
    store = await new_store(connect)
    paths = await nodes(store, count)
    assert contents(await store.session.get_many(paths)) == expected(count)
    assert await store.session.get_many(paths) == [await store.session.get(path) for path in paths]


async def test_many_reads_across_a_broken_connection_are_all_answered(
    hosts, chroot, new_store, new_proxy
):
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    paths = await nodes(store, BULK + 5)
    proxy.cut_before_reply(GET)
    assert contents(await store.session.get_many(paths)) == expected(BULK + 5)
    assert proxy.cuts_done == 1


async def test_many_reads_at_once_and_other_calls_among_them_are_all_answered(connect, new_store):
    store = await new_store(connect)
    paths = await nodes(store, BULK + 5)
    found = await asyncio.gather(
        *(store.session.get_many(paths) for _ in range(3)),
        *(store.session.get(path) for path in paths),
    )
    assert [contents(each) for each in found[:3]] == [expected(BULK + 5)] * 3
    assert contents(found[3:]) == expected(BULK + 5)


async def test_many_reads_end_when_zookeeper_is_silent_for_longer_than_a_session(
    kind, own_server, new_store
):
    server = own_server(kind)
    store = await new_store(server.hosts, SHORT_SESSION_MS)
    paths = await nodes(store, BULK + 5)
    [pid] = server.pids
    os.kill(pid, signal.SIGSTOP)
    try:
        reads = [store.session.get_many(paths) for _ in range(3)]  # one under way, two behind it
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert [type(result) for result in results] == [SessionLostError] * 3
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: store.connected)
    assert contents(await store.session.get_many(paths)) == expected(BULK + 5)


async def test_calls_that_were_under_way_when_the_connection_broke_are_answered(
    hosts, chroot, new_store, new_proxy
):
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    calls = asyncio.gather(*(store.read_topics() for _ in range(300)))
    proxy.sever()
    assert await calls == [{}] * 300
    await expect_event(store, StoreEvent.RECONNECTED)


async def test_a_live_session_that_is_expired_is_lost_and_a_new_one_begins(
    hosts, connect, new_store
):
    store = await new_store(connect, SHORT_SESSION_MS)
    old = store.session.session_id
    await expire_session(store.session, hosts)
    before = await expect_event(store, StoreEvent.LOST)
    assert StoreEvent.RECONNECTED not in before
    assert store.session.session_id != old
    assert store.session.had_session(old)
    assert await store.read_brokers() == {}


# kazoo's thread ends with it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_an_answer_that_makes_no_sense_costs_the_session_and_not_the_broker(
    hosts, chroot, new_store, new_proxy
):
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    proxy.garble_reply(CREATE)
    with pytest.raises(SessionLostError):
        await store.mark_topic_deleted("words")
    await expect_event(store, StoreEvent.LOST)
    assert await store.read_deletions() == {"words"}


async def test_a_closed_store_says_so(connect, new_store):
    store = await new_store(connect)
    await store.close()
    assert not store.connected
    with pytest.raises(SessionLostError, match="closed"):
        await store.read_topics()
    await store.close()


async def test_a_store_closes_although_its_server_is_paused(kind, own_server, new_store):
    server = own_server(kind)
    store = await new_store(server.hosts, SHORT_SESSION_MS)
    [pid] = server.pids
    os.kill(pid, signal.SIGSTOP)
    try:
        await store.close()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert not store.connected


async def test_an_ensemble_outlives_the_server_that_a_broker_is_connected_to(own_server, new_store):
    ensemble = own_server("local:3")
    store = await new_store(ensemble.hosts)
    broker_epoch = await store.register_broker(broker(1))
    session_id = store.session.session_id
    members = {server.port: server for server in ensemble.servers}

    connected_to = members[connected_port(store.session)]
    os.kill(connected_to.pid, signal.SIGKILL)
    before = await expect_event(store, StoreEvent.RECONNECTED)
    assert StoreEvent.LOST not in before
    assert store.session.session_id == session_id
    assert (await store.read_brokers())[1].broker_epoch == broker_epoch
    assert (await store.elect_controller(1)).won


async def test_an_ensemble_without_a_majority_is_out_of_touch_until_it_has_one_again(
    own_server, new_store
):
    ensemble = own_server("local:3")
    # Connected to the one that stays, which hangs up on its clients when it misses the others.
    store = await new_store(ensemble.servers[2].address, session_timeout_ms=40_000)
    broker_epoch = await store.register_broker(broker(1))
    for server in ensemble.servers[:2]:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        await expect_event(store, StoreEvent.SUSPENDED, deadline_s=60)
        await until(lambda: store.out_of_touch_ms > 0)  # it was heard of just now, as it hung up
    finally:
        for server in ensemble.servers[:2]:
            os.kill(server.pid, signal.SIGCONT)
    await expect_event(store, StoreEvent.RECONNECTED, deadline_s=60)
    assert (await store.read_brokers())[1].broker_epoch == broker_epoch
