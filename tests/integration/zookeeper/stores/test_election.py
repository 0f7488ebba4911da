"""Who is controller."""

from __future__ import annotations

import asyncio

import pytest
from kazoo.client import KazooClient

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import ControllerElection, SessionLostError, StoreEvent
from minikafka.model import Assignment, TopicDescription
from tests.helpers.waiting import until
from tests.helpers.zookeeper import (
    DELETE,
    MULTI,
    SHORT_SESSION_MS,
    expect_event,
    expire_session,
)

TOPIC = TopicDescription("words", "abcdefghijklmnopqrstuv", {0: Assignment((1,))})


async def test_exactly_one_of_several_is_elected_and_all_agree(connect, new_store):
    stores = {number: await new_store(connect) for number in (1, 2, 3)}
    elections = await asyncio.gather(
        *(store.elect_controller(number) for number, store in stores.items())
    )
    winners = [number for number, election in zip(stores, elections, strict=True) if election.won]
    assert len(winners) == 1
    found = await asyncio.gather(*(store.read_controller() for store in stores.values()))
    assert {election.controller_id for election in found} == set(winners)
    assert {election.controller_epoch for election in found} == {1}
    assert sorted(election.ahead for election in elections) == [0, 1, 2]


async def test_nobody_is_controller_before_the_first_election(connect, new_store):
    store = await new_store(connect)
    assert await store.read_controller() == ControllerElection(False, -1, 0)


async def test_the_controller_stays_it_when_it_stands_again(connect, new_store):
    store = await new_store(connect)
    first = await store.elect_controller(1)
    assert first == ControllerElection(True, 1, 1)
    assert await store.elect_controller(1) == first
    assert await store.read_controller() == first


async def test_a_resignation_is_heard_and_the_next_has_a_higher_epoch(connect, new_store):
    first, second = await new_store(connect), await new_store(connect)
    await first.elect_controller(1)
    assert await second.elect_controller(2) == ControllerElection(False, 1, 1)
    await first.resign_controller()
    await expect_event(second, StoreEvent.CANDIDATE_GONE)
    assert await second.elect_controller(2) == ControllerElection(True, 2, 2)
    assert await first.read_controller() == ControllerElection(False, 2, 2)


async def test_resigning_without_being_controller_changes_nothing(connect, new_store):
    first, second = await new_store(connect), await new_store(connect)
    await first.elect_controller(1)
    await second.resign_controller()
    assert (await first.read_controller()).won


async def test_who_asks_for_it_hears_when_the_controller_goes(connect, new_store):
    first, second = await new_store(connect), await new_store(connect)
    await first.elect_controller(1)
    assert (await second.read_controller(watch=True)).controller_id == 1
    await first.resign_controller()
    await expect_event(second, StoreEvent.CONTROLLER_CHANGED)
    assert await second.read_controller() == ControllerElection(False, -1, 1)


async def test_an_election_whose_answer_was_lost_was_won(hosts, chroot, new_store, new_proxy):
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    proxy.cut_before_reply(MULTI)
    assert await store.elect_controller(1) == ControllerElection(True, 1, 1)
    assert proxy.cuts_done == 1
    assert await store.create_topic(TOPIC) is WriteOutcome.WRITTEN


async def test_an_election_that_never_arrived_is_held_again(hosts, chroot, new_store, new_proxy):
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    proxy.cut_before_request(MULTI)
    assert await store.elect_controller(1) == ControllerElection(True, 1, 1)
    assert proxy.cuts_done == 1


async def test_an_election_that_another_won_meanwhile_is_lost(
    hosts, chroot, connect, new_store, new_proxy
):
    other = await new_store(connect)

    async def meanwhile() -> None:
        await other.elect_controller(2, out_of_turn=True)

    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    proxy.cut_before_request(MULTI, meanwhile)
    assert await store.elect_controller(1) == ControllerElection(False, 2, 1)


async def test_an_election_that_was_given_up_on_but_won_is_known_afterwards(
    hosts, chroot, new_store, new_proxy
):
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    proxy.cut_before_reply(MULTI)
    standing = asyncio.ensure_future(store.elect_controller(1))
    await until(lambda: proxy.cuts_done == 1)
    standing.cancel()
    await asyncio.gather(standing, return_exceptions=True)
    assert await store.read_controller() == ControllerElection(True, 1, 1)
    assert await store.create_topic(TOPIC) is WriteOutcome.WRITTEN


async def test_a_resignation_whose_answer_was_lost_counts(hosts, chroot, new_store, new_proxy):
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    await store.elect_controller(1)
    proxy.cut_before_reply(MULTI)
    await store.resign_controller()
    assert proxy.cuts_done == 1
    assert await store.read_controller() == ControllerElection(False, -1, 1)


async def test_a_lost_session_ends_the_controllership_and_the_next_has_a_higher_epoch(
    hosts, connect, new_store
):
    store = await new_store(connect, SHORT_SESSION_MS)
    await store.elect_controller(1)
    await expire_session(store.session, hosts)
    await expect_event(store, StoreEvent.LOST)
    assert await store.create_topic(TOPIC) is WriteOutcome.DEPOSED
    assert await store.elect_controller(1) == ControllerElection(True, 1, 2)
    assert await store.create_topic(TOPIC) is WriteOutcome.WRITTEN


async def test_a_call_that_waits_when_the_session_is_lost_is_told(
    hosts, chroot, new_store, new_proxy
):
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    await store.elect_controller(1)
    proxy.deny_session = True
    proxy.cut_before_request(MULTI)
    with pytest.raises(SessionLostError, match="expired"):
        await store.create_topic(TOPIC)


async def test_resigning_after_the_epoch_was_changed_by_hand_frees_the_place(
    hosts, chroot, connect, new_store
):
    store = await new_store(connect)
    await store.elect_controller(1)
    await _set_epoch_by_hand(hosts, chroot, b"7")
    await store.resign_controller()
    assert await store.read_controller() == ControllerElection(False, -1, 7)


async def test_standing_after_the_epoch_was_changed_by_hand_is_a_new_election(
    hosts, chroot, connect, new_store
):
    store = await new_store(connect)
    await store.elect_controller(1)
    await _set_epoch_by_hand(hosts, chroot, b"7")
    assert not (await store.read_controller()).won
    assert await store.elect_controller(1) == ControllerElection(True, 1, 8)


async def test_resigning_survives_a_lost_request(hosts, chroot, connect, new_store, new_proxy):
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    await store.elect_controller(1)
    await _set_epoch_by_hand(hosts, chroot, b"7")
    proxy.cut_before_request(DELETE)
    await store.resign_controller()
    assert proxy.cuts_done == 1
    assert (await store.read_controller()).controller_id == -1


async def _set_epoch_by_hand(hosts: str, chroot: str, data: bytes) -> None:
    client = KazooClient(hosts=hosts, timeout=10)
    await asyncio.to_thread(client.start)
    await asyncio.to_thread(client.set, f"{chroot}/controller_epoch", data)
    await asyncio.to_thread(client.stop)
    await asyncio.to_thread(client.close)
