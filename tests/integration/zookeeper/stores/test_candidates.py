"""The queue of candidates: who is woken by whom, and that it never gets stuck."""

from __future__ import annotations

import asyncio

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import ControllerElection, StoreEvent, Takeover
from minikafka.zookeeper import codec
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.stores.candidates import in_order
from tests.helpers.zookeeper import CREATE, SHORT_SESSION_MS, expect_event, expire_session


async def line_up(connect, new_store, count, session_timeout_ms=10_000):
    """Candidates 1, 2, … in this order; 1 is controller. Each hears of changed configurations."""
    stores = {}
    for number in range(1, count + 1):
        stores[number] = store = await new_store(connect, session_timeout_ms)
        await store.read_topic_configs()
        election = await store.elect_controller(number)
        assert (election.won, election.ahead) == (number == 1, number - 1)
        assert election.candidates == number
    return stores


async def queue_of(store):
    """The broker ids in the queue."""
    path = store._layout.controller_queue
    names = await store.session.repeat(lambda client: client.get_children_async(path))
    return [int(name.split("-")[1]) for name in in_order(names)]


async def heard_before_now(actor, *stores):
    """What each of these has heard until now: a change of configuration comes after all of it."""
    prefix = actor._layout.config_change_prefix
    await actor.session.call(lambda client: client.create_async(prefix, b"", sequence=True))
    return [await expect_event(store, StoreEvent.CONFIG_CHANGED) for store in stores]


async def test_the_death_of_the_controller_wakes_one_of_four(hosts, connect, new_store):
    stores = await line_up(connect, new_store, 5)
    await expire_session(stores[1].session, hosts)
    await expect_event(stores[2], StoreEvent.CANDIDATE_GONE)
    election = await stores[2].elect_controller(2)
    assert (election.won, election.controller_epoch, election.candidates) == (True, 2, 4)
    heard = await heard_before_now(stores[2], *(stores[number] for number in (3, 4, 5)))
    assert heard == [[], [], []]


async def test_who_lost_its_session_stands_at_the_end_again(hosts, connect, new_store):
    stores = await line_up(connect, new_store, 3, SHORT_SESSION_MS)
    await expire_session(stores[1].session, hosts)
    await expect_event(stores[1], StoreEvent.LOST)
    assert (await stores[1].elect_controller(1)).ahead == 2
    assert await queue_of(stores[2]) == [2, 3, 1]


async def test_one_that_goes_from_the_middle_wakes_the_next_which_watches_the_one_before(
    hosts, connect, new_store
):
    stores = await line_up(connect, new_store, 4)
    await stores[3].close()
    await expect_event(stores[4], StoreEvent.CANDIDATE_GONE)
    assert (await stores[4].elect_controller(4)).ahead == 2
    await stores[2].close()
    await expect_event(stores[4], StoreEvent.CANDIDATE_GONE)
    assert (await stores[4].elect_controller(4)).ahead == 1
    await stores[1].close()
    await expect_event(stores[4], StoreEvent.CANDIDATE_GONE)
    assert (await stores[4].elect_controller(4)).won


async def test_who_resigns_goes_to_the_end_and_wakes_the_next_alone(connect, new_store):
    stores = await line_up(connect, new_store, 3)
    await stores[1].resign_controller()
    again = await stores[1].elect_controller(1)
    assert (again.won, again.ahead) == (False, 2)
    await expect_event(stores[2], StoreEvent.CANDIDATE_GONE)
    assert (await stores[2].elect_controller(2)).won
    assert await heard_before_now(stores[2], stores[3]) == [[]]
    assert await queue_of(stores[1]) == [2, 3, 1]


async def test_who_was_cut_off_while_the_one_before_it_went_looks_again(
    hosts, chroot, connect, new_store, new_proxy
):
    first = await new_store(connect)
    proxy = await new_proxy(hosts)
    second = await new_store(proxy.hosts + chroot)
    await first.elect_controller(1)
    assert (await second.elect_controller(2)).ahead == 1
    proxy.refusing = True
    proxy.sever()
    await expect_event(second, StoreEvent.SUSPENDED)
    await first.close()
    proxy.refusing = False
    await expect_event(second, StoreEvent.RECONNECTED)
    assert (await second.elect_controller(2)).won


async def test_a_watch_that_died_with_its_connection_is_set_again(
    hosts, chroot, connect, new_store, new_proxy
):
    first = await new_store(connect)
    proxy = await new_proxy(hosts)
    second = await new_store(proxy.hosts + chroot)
    await first.elect_controller(1)
    await second.elect_controller(2)
    proxy.sever()
    await expect_event(second, StoreEvent.RECONNECTED)
    assert (await second.elect_controller(2)).ahead == 1
    await first.close()
    await expect_event(second, StoreEvent.CANDIDATE_GONE)
    assert (await second.elect_controller(2)).won


async def test_one_place_is_taken_if_the_answer_was_lost(hosts, chroot, new_store, new_proxy):
    for cut in ("cut_before_reply", "cut_before_request"):
        proxy = await new_proxy(hosts)
        store = await new_store(f"{proxy.hosts}{chroot}/{cut}")
        getattr(proxy, cut)(CREATE)
        assert (await store.elect_controller(1)).won
        assert proxy.cuts_done == 1
        assert await queue_of(store) == [1]


async def test_of_two_places_of_one_session_the_first_counts(connect, new_store):
    stores = await line_up(connect, new_store, 2)
    path = stores[1]._layout.candidate_prefix(1, stores[1]._queue._token)
    for _ in range(2):
        await stores[1].session.call(
            lambda client: client.create_async(path, b"", ephemeral=True, sequence=True)
        )
    assert await queue_of(stores[2]) == [1, 2, 1, 1]
    assert (await stores[1].elect_controller(1)).won
    assert await queue_of(stores[2]) == [1, 2]


async def test_a_controller_outside_of_the_queue_is_watched_by_the_head_alone(connect, new_store):
    outsider = await new_store(connect)
    assert (await outsider._controllership.elect(9)).won
    head, next_one = await new_store(connect), await new_store(connect)
    await next_one.read_topic_configs()
    for number, store in ((1, head), (2, next_one)):
        election = await store.elect_controller(number)
        assert election == ControllerElection(False, 9, 1)
    await outsider.close()
    await expect_event(head, StoreEvent.CONTROLLER_CHANGED)
    assert (await head.elect_controller(1)).won
    assert await heard_before_now(head, next_one) == [[]]


async def test_a_queue_that_somebody_deleted_is_made_again(connect, new_store):
    stores = await line_up(connect, new_store, 3)
    layout = Layout(stores[1]._layout.root)
    session = stores[1].session
    names = await session.repeat(lambda c: c.get_children_async(layout.controller_queue))
    paths = [f"{layout.controller_queue}/{name}" for name in names] + [layout.controller_queue]
    for path in paths:
        await session.call(lambda client, path=path: client.delete_async(path))
    for number in (2, 3):
        await expect_event(stores[number], StoreEvent.CANDIDATE_GONE)
        election = await stores[number].elect_controller(number)
        assert (election.ahead, election.controller_id) == (number - 2, 1)
    assert (await stores[1].elect_controller(1)).won, "the queue does not decide who is it"


async def test_out_of_turn_one_becomes_controller_only_if_nobody_is(connect, new_store):
    stores = await line_up(connect, new_store, 3)
    assert not (await stores[3].elect_controller(3, out_of_turn=True)).won
    await stores[1]._controllership.resign()  # and it stays at the head of the queue
    assert (await stores[3].elect_controller(3)) == ControllerElection(False, -1, 1)
    election = await stores[3].elect_controller(3, out_of_turn=True)
    assert (election.won, election.ahead) == (True, 2)


async def test_many_that_start_at_once_stand_in_one_line(connect, new_store):
    stores = [await new_store(connect) for _ in range(8)]
    elections = await asyncio.gather(
        *(store.elect_controller(number) for number, store in enumerate(stores))
    )
    assert sorted(election.ahead for election in elections) == list(range(8))
    assert [election.ahead for election in elections if election.won] == [0]


async def test_how_the_controller_came_to_be_it_is_written_by_the_controller_alone(
    connect, new_store
):
    stores = await line_up(connect, new_store, 2)
    takeover = Takeover(-1, 1, 1, 0, 1)
    path = stores[1]._layout.controller_queue
    assert await stores[2].record_takeover(takeover) is WriteOutcome.DEPOSED
    assert await stores[1].record_takeover(takeover) is WriteOutcome.WRITTEN
    data, _ = await stores[2].session.repeat(lambda client: client.get_async(path))
    assert codec.decode_takeover(path, data) == takeover
