"""The cache of entries: what it allows, and when it reads (minikafka/broker/access/acls.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from minikafka.broker.access import following
from minikafka.broker.access.acls import AclCache
from minikafka.broker.access.ports import AclNode
from minikafka.broker.ports import SessionLostError, StoreEvent
from minikafka.errors import FatalError
from minikafka.security.acl import (
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    PatternType,
    Permission,
    ResourceType,
)
from minikafka.security.authorizer import Authorizer, Rule
from minikafka.security.principal import EVERYBODY, Caller, Principal
from tests.helpers.access import FakeAcls, SharedAccess
from tests.helpers.waiting import until

ALICE = Principal("User", "alice")
ADMIN = Principal("User", "admin")
READ = Entry(ALICE, "*", Operation.READ, Permission.ALLOW)
NOBODY_READS = Entry(EVERYBODY, "*", Operation.READ, Permission.DENY)
WORDS = Pattern(ResourceType.TOPIC, "words")
APP = Pattern(ResourceType.TOPIC, "app-", PatternType.PREFIXED)


class Ground:
    """A cache over what is shared, which nothing keeps up to date unless `run` is called."""

    def __init__(self, *, allow_if_no_acl: bool = False) -> None:
        self.now_ms = 0
        self.shared = SharedAccess()
        self.store = FakeAcls(self.shared)
        authorizer = Authorizer([ADMIN], allow_if_no_acl=allow_if_no_acl)
        self.cache = AclCache(self.store, authorizer, lambda: self.now_ms)
        self.tasks: list[asyncio.Task[None]] = []

    def run(self) -> None:
        self.tasks.append(asyncio.create_task(self.cache.run()))

    def may_read(self, topic: str, principal: Principal = ALICE) -> bool:
        caller = Caller(principal, "10.0.0.1", "EXTERNAL")
        return self.cache.authorizer.allows(caller, Operation.READ, ResourceType.TOPIC, topic)


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    made = Ground()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_before_all_is_read_everything_is_denied_but_to_super_users() -> None:
    ground = Ground(allow_if_no_acl=True)
    assert not ground.cache.loaded
    assert not ground.may_read("words")
    assert ground.may_read("words", ADMIN)
    await ground.cache.start()
    assert ground.cache.loaded
    assert ground.may_read("words"), "nothing stands on anything"


async def test_what_there_is_holds_once_it_is_read(ground: Ground) -> None:
    ground.shared.put_acl(WORDS, frozenset({READ}))
    await ground.cache.start()
    assert ground.may_read("words")
    assert not ground.may_read("others")
    assert await ground.cache.rules(EntryFilter()) == [Rule(WORDS, READ)]


async def test_a_change_is_heard_of_and_only_what_changed_is_read(ground: Ground) -> None:
    ground.shared.put_acl(WORDS, frozenset({READ}))
    await ground.cache.start()
    ground.run()
    heard: list[int] = []
    ground.cache.listeners.append(lambda: heard.append(1))
    ground.shared.put_acl(APP, frozenset({READ}))
    await until(lambda: ground.may_read("app-1"))
    ground.shared.put_acl(WORDS, frozenset())
    await until(lambda: not ground.may_read("words"))
    assert set(ground.store.reads) == {"all", "changed"}
    assert ground.store.reads[0] == "all"
    assert len(heard) >= 2


async def test_who_asks_to_catch_up_needs_no_notification(ground: Ground) -> None:
    await ground.cache.start()
    ground.shared.put_acl(WORDS, frozenset({READ}))
    assert not ground.may_read("words")
    await ground.cache.catch_up()
    assert ground.may_read("words")


async def test_a_node_that_cannot_be_read_denies_all_that_it_covers(ground: Ground) -> None:
    ground.shared.put_acl(WORDS, frozenset({READ}))
    ground.shared.put_acl(APP, frozenset({READ}))
    await ground.cache.start()
    ground.shared.put_acl(APP, None)
    await ground.cache.catch_up()
    assert ground.may_read("words")
    assert not ground.may_read("app-1")
    assert ground.may_read("app-1", ADMIN)
    assert await ground.cache.rules(EntryFilter()) == [Rule(WORDS, READ)], (
        "what stands in is not shown"
    )
    assert ground.cache.unreadable(EntryFilter()) == [APP]
    assert ground.cache.unreadable(EntryFilter(name="words")) == []
    ground.shared.put_acl(APP, frozenset({READ}))
    await ground.cache.catch_up()
    assert ground.may_read("app-1")
    assert ground.cache.unreadable(EntryFilter()) == []


async def test_an_older_read_never_wins(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.shared.put_acl(WORDS, frozenset({READ}))
    old = ground.shared.acls[WORDS]
    ground.shared.put_acl(WORDS, frozenset({READ, NOBODY_READS}))
    await ground.cache.start()

    async def late(notify: object) -> list[AclNode]:
        return [old]

    monkeypatch.setattr(ground.store, "read_changed", late)
    await ground.cache.catch_up()
    assert not ground.may_read("words")


async def test_a_node_that_was_deleted_and_made_anew_counts(ground: Ground) -> None:
    await ground.cache.start()
    for entries in ({READ, NOBODY_READS}, set(), {READ}):
        ground.shared.put_acl(WORDS, frozenset(entries))
        await ground.cache.catch_up()
    assert ground.may_read("words")


@pytest.mark.parametrize("event", [StoreEvent.RECONNECTED, StoreEvent.LOST])
async def test_after_a_new_connection_all_is_read(ground: Ground, event: StoreEvent) -> None:
    await ground.cache.start()
    ground.run()
    ground.shared.acls[WORDS] = AclNode(WORDS, frozenset({READ}), 100)  # announced to nobody
    ground.cache.on_store_event(StoreEvent.TOPICS_CHANGED)
    ground.cache.on_store_event(StoreEvent.SUSPENDED)
    ground.cache.on_store_event(event)
    await until(lambda: ground.may_read("words"))
    assert ground.store.reads == ["all", "all"]


async def test_out_of_touch_the_cache_goes_on_and_tells_its_age(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RETRY_S", 0.01)
    ground.shared.put_acl(WORDS, frozenset({READ}))
    ground.now_ms = 5
    assert ground.cache.behind_ms() == 5, "nothing has been read yet"
    await ground.cache.start()
    assert ground.cache.behind_ms() == 0
    ground.run()
    ground.cache.on_store_event(StoreEvent.SUSPENDED)
    ground.now_ms = 1_005
    ground.store.failure = SessionLostError("away")
    ground.cache.on_store_event(StoreEvent.RECONNECTED)
    await until(lambda: len(ground.store.reads) > 2)
    assert ground.may_read("words")
    assert ground.cache.behind_ms() == 1_000
    ground.store.failure = FatalError("what is that?")
    reads = len(ground.store.reads)
    await until(lambda: len(ground.store.reads) > reads + 1)
    ground.store.failure = None
    await until(lambda: ground.cache.behind_ms() == 0)
    assert ground.store.reads[-1] == "all", "it is still due"


async def test_what_changes_while_it_is_read_is_read_again(ground: Ground) -> None:
    await ground.cache.start()
    ground.run()
    ground.store.gate.clear()
    ground.shared.put_acl(WORDS, frozenset({READ}))
    await until(lambda: len(ground.store.reads) == 2)
    ground.shared.put_acl(APP, frozenset({READ}))
    ground.store.gate.set()
    await until(lambda: ground.may_read("app-1"))
    await until(lambda: ground.cache.behind_ms() == 0)


async def test_a_read_that_is_given_up_on_is_still_due(ground: Ground) -> None:
    ground.store.gate.clear()
    starting = asyncio.create_task(ground.cache.start())
    await until(lambda: ground.store.reads == ["all"])
    starting.cancel()
    await asyncio.wait({starting})
    ground.store.gate.set()
    ground.run()
    await until(lambda: ground.cache.loaded)
