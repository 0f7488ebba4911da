"""Entries and users from the controller's writes to another broker's caches, over real sessions
(minikafka/broker/access over zookeeper/stores)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from minikafka.api.access import (
    AlterScramRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    ScramAlteration,
    ScramUpsertion,
)
from minikafka.broker.access.access import Access
from minikafka.errors import NotControllerError
from minikafka.security.acl import (
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    Permission,
    ResourceType,
)
from minikafka.security.authorizer import Authorizer, Rule
from minikafka.security.principal import Caller, Principal
from minikafka.security.scram import SHA_256
from minikafka.zookeeper.stores.acls import ZooKeeperAcls
from minikafka.zookeeper.stores.store import ZooKeeperStore
from minikafka.zookeeper.stores.users import ZooKeeperUsers
from tests.helpers.waiting import until
from tests.helpers.zookeeper import MULTI, expire_session
from tests.integration.zookeeper.conftest import NewProxy, NewStore

ALICE = Principal("User", "alice")
READ = Entry(ALICE, "*", Operation.READ, Permission.ALLOW)


class Node:
    """What a broker has to do with access, kept up to date as a broker does it."""

    def __init__(self, store: ZooKeeperStore) -> None:
        self.store = store
        self.access = Access(
            ZooKeeperAcls(store.znodes(), store.root),
            ZooKeeperUsers(store.znodes(), store.root),
            lambda: 0,
            authorizer=Authorizer(),
            scram=True,
        )
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.access.start()
        self.tasks = [asyncio.create_task(run()) for run in (self._events, *self.access.duties())]

    async def _events(self) -> None:
        while True:
            self.access.on_store_event(await self.store.events.get())

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def may_read(self, topic: str) -> bool:
        assert self.access.acls is not None
        caller = Caller(ALICE, "10.0.0.1", "EXTERNAL")
        judge = self.access.acls.authorizer
        return judge.allows(caller, Operation.READ, ResourceType.TOPIC, topic)

    def knows(self, user: str) -> bool:
        assert self.access.users is not None
        return self.access.users.credential(user, SHA_256.name) is not None

    async def allow(self, topic: str) -> None:
        rule = Rule(Pattern(ResourceType.TOPIC, topic), READ)
        response = await self.access.writer.carry_out(CreateAclsRequest([rule]))
        assert [result.error for result in response.results] == [None]

    async def set_password(self, user: str) -> None:
        made = ScramUpsertion(4096, b"salt", SHA_256.salted("secret", b"salt", 4096))
        request = AlterScramRequest([ScramAlteration(user, SHA_256.name, made)])
        response = await self.access.writer.carry_out(request)
        assert [result.error for result in response.results] == [None]


@pytest.fixture
async def pair(connect: str, new_store: NewStore) -> AsyncIterator[tuple[Node, Node]]:
    controller, other = Node(await new_store(connect)), Node(await new_store(connect))
    assert (await controller.store.elect_controller(1)).won
    for node in (controller, other):
        await node.start()
    yield controller, other
    for node in (controller, other):
        await node.stop()


async def test_what_the_controller_writes_others_know_soon(pair: tuple[Node, Node]) -> None:
    controller, other = pair
    for number in range(3):
        await controller.allow(f"t-{number}")
        await until(lambda number=number: other.may_read(f"t-{number}"))
        await controller.set_password(f"u-{number}")
        await until(lambda number=number: other.knows(f"u-{number}"))
    deletion = DeleteAclsRequest([EntryFilter(name="t-1")])
    await controller.access.writer.carry_out(deletion)
    await until(lambda: not other.may_read("t-1"))
    assert [each.user for each in await other.access.describe_scram(None)] == ["u-0", "u-1", "u-2"]
    rules = await other.access.describe_acls(EntryFilter())
    assert [rule.pattern.name for rule in rules] == ["t-0", "t-2"]


async def test_who_asks_to_catch_up_knows_what_was_written_before(pair: tuple[Node, Node]) -> None:
    controller, other = pair
    for number in range(20):
        await controller.allow(f"t-{number}")
        request = CreateAclsRequest([])
        await other.access.catch_up(request, 10)
        assert other.may_read(f"t-{number}")


async def test_in_a_new_session_all_is_known_and_heard_of_again(
    pair: tuple[Node, Node], hosts: str
) -> None:
    controller, other = pair
    session = other.store.session
    before = session.session_id
    await expire_session(session, hosts)
    await controller.allow("meanwhile")
    await controller.set_password("meanwhile")
    await until(lambda: session.session_id != before and session.connected)
    await until(lambda: other.may_read("meanwhile") and other.knows("meanwhile"))
    await controller.allow("later")
    await controller.set_password("later")
    await until(lambda: other.may_read("later") and other.knows("later"))


async def test_nothing_is_read_or_watched_where_nothing_asks_who_it_is(
    connect: str, new_store: NewStore
) -> None:
    store = await new_store(connect)
    access = Access(
        ZooKeeperAcls(store.znodes(), store.root),
        ZooKeeperUsers(store.znodes(), store.root),
        lambda: 0,
    )
    await access.start()
    assert access.duties() == []
    for folder in ("/kafka-acl", "/security", "/config/users"):
        assert await store.session.get(store.root + folder) is None


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_write_whose_answer_is_lost_is_done_once(
    hosts: str, chroot: str, new_store: NewStore, new_proxy: NewProxy, arrives: bool
) -> None:
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    assert (await store.elect_controller(1)).won
    node = Node(store)
    await node.access.start()
    cut = proxy.cut_before_reply if arrives else proxy.cut_before_request
    steps = (
        node.allow("words"),
        node.set_password("alice"),
        node.access.writer.carry_out(DeleteAclsRequest([EntryFilter()])),
    )
    for done, step in enumerate(steps, start=1):
        cut(MULTI)
        await step
        assert proxy.cuts_done == done
    await node.access.catch_up(CreateAclsRequest([]), 10)
    await node.access.catch_up(AlterScramRequest([]), 10)
    assert not node.may_read("words")
    assert node.knows("alice")
    for folder, announced in (("/kafka-acl-changes", 2), ("/config/changes", 1)):
        assert len(await store.znodes().children(store.root + folder)) == announced
    assert await store.znodes().children(store.root + "/kafka-acl/Topic") == []


async def test_who_is_deposed_meanwhile_writes_nothing(
    hosts: str, chroot: str, new_store: NewStore, new_proxy: NewProxy
) -> None:
    proxy = await new_proxy(hosts)
    store, other = await new_store(proxy.hosts + chroot), await new_store(hosts + chroot)
    assert (await store.elect_controller(1)).won
    await expire_session(store.session, hosts)  # which it has not noticed yet, or just has
    await until(lambda: other.session.connected)

    async def elected() -> bool:
        return (await other.elect_controller(2)).won

    await until(elected)
    with pytest.raises(NotControllerError):
        await Node(store).allow("words")
    assert await Node(other).access.writer.carry_out(DeleteAclsRequest([EntryFilter()]))
    assert await other.znodes().children(other.root + "/kafka-acl/Topic") == []
