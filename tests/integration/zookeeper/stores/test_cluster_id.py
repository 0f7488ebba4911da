"""The cluster id: whoever starts, and whoever dies on the way, all agree."""

from __future__ import annotations

import asyncio

import pytest

from minikafka.zookeeper.stores.cluster import ClusterIdConsensus
from tests.helpers.waiting import until
from tests.helpers.zookeeper import CREATE


def consensus(store):
    return ClusterIdConsensus(store.session, store._layout)


async def proposals(store):
    return await consensus(store)._proposals()


async def test_many_that_start_at_once_agree_and_leave_no_proposals(connect, new_store):
    stores = [await new_store(connect) for _ in range(12)]
    ids = await asyncio.gather(*(store.cluster_id() for store in stores))
    assert len(set(ids)) == 1
    assert len(ids[0]) == 22
    assert await stores[0].cluster_id() == ids[0]
    assert await proposals(stores[0]) is None


async def test_the_first_proposal_is_decided_though_its_proposer_is_dead(connect, new_store):
    dead, *living = [await new_store(connect) for _ in range(4)]
    first = consensus(dead)
    await first.propose()
    would_have_been = await first.decide()
    await dead.close()
    ids = await asyncio.gather(*(store.cluster_id() for store in living))
    assert set(ids) == {would_have_been}


async def test_one_that_dies_between_deciding_and_publishing_holds_nobody_up(connect, new_store):
    slow, other = await new_store(connect), await new_store(connect)
    mine = consensus(slow)
    await mine.propose()
    decided = await mine.decide()
    assert await other.cluster_id() == decided
    await mine.publish(decided)  # late, when it is there
    assert await slow.cluster_id() == decided


async def test_who_proposes_when_all_is_decided_takes_what_was_decided(connect, new_store):
    early, late = await new_store(connect), await new_store(connect)
    mine = consensus(late)
    assert await mine.published() is None
    decided = await early.cluster_id()  # the proposals are gone, and their numbers start anew
    await mine.propose()
    other = await mine.decide()
    assert other != decided
    await mine.publish(other)
    assert await mine.agree() == decided
    assert await proposals(late) is None


async def test_an_id_that_is_there_stays(connect, new_store):
    store = await new_store(connect)
    node = b'{"version":1,"id":"an-id-of-former-times-"}'
    path = store._layout.cluster_id
    await store.session.call(lambda client: client.create_async(path, node))
    assert await store.cluster_id() == "an-id-of-former-times-"
    assert await proposals(store) is None


@pytest.mark.parametrize("cut", ["cut_before_reply", "cut_before_request"])
async def test_a_proposal_whose_answer_was_lost_is_made_once(
    hosts, chroot, connect, new_store, new_proxy, cut
):
    proxy = await new_proxy(hosts)
    store, other = await new_store(proxy.hosts + chroot), await new_store(connect)
    await consensus(other).propose()  # so that the create that is cut is the proposal's

    mine = consensus(store)
    getattr(proxy, cut)(CREATE)
    await mine.propose()
    assert proxy.cuts_done == 1
    names = await until(lambda: proposals(other))
    assert sum(mine._token in name for name in names) == 1
    assert await store.cluster_id() == await other.cluster_id()
