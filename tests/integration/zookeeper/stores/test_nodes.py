"""zookeeper/stores/nodes.py on a real server of either kind."""

from __future__ import annotations

import pytest

from minikafka.api.nodes import ControllerReport, NodeStatus
from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.nodes.ports import SeenNode
from minikafka.zookeeper.stores.nodes import ZooKeeperNodes
from minikafka.zookeeper.stores.store import ZooKeeperStore
from tests.helpers.waiting import until
from tests.helpers.zookeeper import expire_session
from tests.integration.zookeeper.conftest import NewStore

A = NodeStatus(1, "A", 1_700_000_000_000, 12.5, 60, 5, 7, 1, 2, 3, 4)
B = NodeStatus(2, "B", 1_700_000_000_000)


async def nodes_of(store: ZooKeeperStore) -> ZooKeeperNodes:
    nodes = ZooKeeperNodes(store.znodes(), store.root)
    await nodes.start()
    return nodes


async def test_a_status_comes_changes_and_goes_with_its_session(
    new_store: NewStore, connect: str
) -> None:
    mine, other = await new_store(connect), await new_store(connect)
    nodes, theirs = await nodes_of(mine), await nodes_of(other)
    changes: list[int] = []
    assert await theirs.read_live(lambda: changes.append(1)) == {}
    incarnation = await nodes.publish(A, anew=True)
    await until(lambda: changes)
    assert await nodes.publish(A, anew=False) == incarnation
    [live] = (await theirs.read_live()).values()
    assert (live.status, live.incarnation) == (A, incarnation)
    assert live.updated_at_ms > 0
    await mine.close()

    async def gone() -> bool:
        return await theirs.read_live() == {}

    await until(gone)


async def test_the_node_of_an_earlier_session_is_replaced(
    new_store: NewStore, connect: str, hosts: str
) -> None:
    earlier, store = await new_store(connect), await new_store(connect)
    before = await (await nodes_of(earlier)).publish(A, anew=True)
    nodes = await nodes_of(store)
    incarnation = await nodes.publish(A, anew=True)
    assert incarnation > before
    await expire_session(earlier.session, hosts)
    [live] = (await nodes.read_live()).values()
    assert live.incarnation == incarnation, "it is of the session that lives"


async def test_a_status_that_somebody_deleted_is_made_again(
    new_store: NewStore, connect: str
) -> None:
    store = await new_store(connect)
    nodes = await nodes_of(store)
    await nodes.publish(A, anew=True)
    await store.session.call(lambda client: client.delete_async(f"{store.root}/nodes/node-1"))
    assert await nodes.publish(A, anew=False) > 0
    assert [node.status for node in (await nodes.read_live()).values()] == [A]


async def test_only_the_controller_notes_who_is_gone(new_store: NewStore, connect: str) -> None:
    store, other = await new_store(connect), await new_store(connect)
    nodes, theirs = await nodes_of(store), await nodes_of(other)
    assert await nodes.write_seen(SeenNode(A)) is WriteOutcome.DEPOSED
    await store.elect_controller(1)
    assert await nodes.write_seen(SeenNode(A)) is WriteOutcome.WRITTEN
    assert await nodes.write_seen(SeenNode(A, 44)) is WriteOutcome.WRITTEN
    assert await nodes.write_seen(SeenNode(B)) is WriteOutcome.WRITTEN
    assert await theirs.read_seen() == {1: SeenNode(A, 44), 2: SeenNode(B)}
    await store.session.call(
        lambda client: client.set_async(store.root + "/controller_epoch", b"9")
    )
    assert await nodes.write_seen(SeenNode(B, 5)) is WriteOutcome.DEPOSED
    assert await nodes.forget_seen(2) is WriteOutcome.DEPOSED
    await other.close()


async def test_a_note_that_is_forgotten_is_gone(new_store: NewStore, connect: str) -> None:
    store = await new_store(connect)
    nodes = await nodes_of(store)
    await store.elect_controller(1)
    await nodes.write_seen(SeenNode(A))
    assert await nodes.forget_seen(1) is WriteOutcome.WRITTEN
    assert await nodes.forget_seen(1) is WriteOutcome.WRITTEN
    assert await nodes.read_seen() == {}


async def test_who_is_controller_and_who_is_next_is_read_also_while_nobody_is(
    new_store: NewStore, connect: str
) -> None:
    stores = [await new_store(connect) for _ in range(3)]
    nodes = await nodes_of(stores[2])
    assert await nodes.read_controller() == ControllerReport(-1, 0, ())
    for broker_id, store in enumerate(stores, start=1):
        await store.elect_controller(broker_id)
    assert await nodes.read_controller() == ControllerReport(1, 1, (2, 3))
    await stores[0].close()

    async def gone() -> bool:
        return await nodes.read_controller() == ControllerReport(-1, 1, (2, 3))

    await until(gone)
    await stores[1].elect_controller(2)
    assert await nodes.read_controller() == ControllerReport(2, 2, (3,))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"version": 2}', "version 1"),
        (b'{"version": 1, "name": "A"}', "started_at_ms is missing"),
        (b'{"version": 1, "name": "A", "started_at_ms": true}', "started_at_ms is True"),
    ],
)
async def test_a_node_that_is_no_status_is_named(
    new_store: NewStore, connect: str, data: bytes, why: str
) -> None:
    store = await new_store(connect)
    nodes = await nodes_of(store)
    path = f"{store.root}/nodes/node-1"
    await store.session.call(lambda client: client.create_async(path, data))
    assert 1 not in await nodes.read_live()
    assert why in store.unreadable.nodes[path]
