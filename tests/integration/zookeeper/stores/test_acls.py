"""zookeeper/stores/acls.py on a real server of either kind."""

from __future__ import annotations

import asyncio
import json

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.access.ports import AclNode
from minikafka.errors import InvalidRequestError
from minikafka.security.acl import (
    Entry,
    Operation,
    Pattern,
    PatternType,
    Permission,
    ResourceType,
)
from minikafka.security.principal import Principal
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.stores import announcements
from minikafka.zookeeper.stores.acls import ZooKeeperAcls, encode_entries
from minikafka.zookeeper.stores.store import ZooKeeperStore
from tests.helpers.waiting import until
from tests.integration.zookeeper.conftest import NewStore

ALICE, BOB = Principal("User", "alice"), Principal("User", "bob")
READ = Entry(ALICE, "*", Operation.READ, Permission.ALLOW)
WRITE = Entry(BOB, "10.0.0.0/8", Operation.DESCRIBE_CONFIGS, Permission.DENY)
WORDS = Pattern(ResourceType.TOPIC, "words")
ALL = Pattern(ResourceType.TOPIC, "*")
APP = Pattern(ResourceType.TRANSACTIONAL_ID, "app-", PatternType.PREFIXED)
WRITTEN, DEPOSED = WriteOutcome.WRITTEN, WriteOutcome.DEPOSED


def unheard() -> None:
    """Of who does not care."""


class Pair:
    """The controller's, and another broker's."""

    def __init__(self, controller: ZooKeeperStore, other: ZooKeeperStore) -> None:
        self.controller, self.store = controller, other
        self.acls = ZooKeeperAcls(controller.znodes(), controller.root)
        self.others = ZooKeeperAcls(other.znodes(), other.root)

    async def add(self, pattern: Pattern, *entries: Entry) -> WriteOutcome:
        return await self.acls.alter(pattern, lambda before: before | set(entries))

    async def take(self, pattern: Pattern, *entries: Entry) -> WriteOutcome:
        return await self.acls.alter(pattern, lambda before: before - set(entries))

    async def read_all(self) -> dict[Pattern, frozenset[Entry] | None]:
        return {node.pattern: node.entries for node in await self.others.read_all(unheard)}

    async def read_changed(self) -> dict[Pattern, frozenset[Entry] | None]:
        changed = await self.others.read_changed(unheard)
        assert changed is not None
        return {node.pattern: node.entries for node in changed}

    async def get(self, path: str) -> bytes | None:
        found = await self.store.session.get(self.store.root + path)
        return None if found is None else found[0]

    async def children(self, path: str) -> list[str]:
        return await self.store.znodes().children(self.store.root + path)

    async def put(self, path: str, data: bytes, *, sequence: bool = False) -> None:
        """By hand."""
        path = self.store.root + path
        if not sequence and await self.store.session.get(path) is not None:
            await self.store.session.call(lambda client: client.set_async(path, data))
            return
        await self.store.session.call(
            lambda client: client.create_async(path, data, sequence=sequence)
        )


@pytest.fixture
async def pair(connect: str, new_store: NewStore) -> Pair:
    controller, other = await new_store(connect), await new_store(connect)
    assert (await controller.elect_controller(1)).won
    made = Pair(controller, other)
    await made.others.start()
    return made


async def test_nodes_and_announcements_are_those_of_kafka(pair: Pair) -> None:
    assert await pair.add(WORDS, READ, WRITE) is WRITTEN
    assert await pair.add(APP, READ) is WRITTEN
    assert json.loads(await pair.get("/kafka-acl/Topic/words") or b"") == {
        "version": 1,
        "acls": [
            {
                "principal": "User:alice",
                "permissionType": "Allow",
                "operation": "Read",
                "host": "*",
            },
            {
                "principal": "User:bob",
                "permissionType": "Deny",
                "operation": "DescribeConfigs",
                "host": "10.0.0.0/8",
            },
        ],
    }
    assert await pair.get("/kafka-acl-extended/prefixed/TransactionalId/app-") is not None
    [literal] = await pair.children("/kafka-acl-changes")
    [prefixed] = await pair.children("/kafka-acl-extended-changes")
    assert literal.startswith("acl_changes_")
    assert await pair.get(f"/kafka-acl-changes/{literal}") == b"TOPIC:words"
    assert json.loads(await pair.get(f"/kafka-acl-extended-changes/{prefixed}") or b"") == {
        "version": 1,
        "resourceType": "TRANSACTIONAL_ID",
        "name": "app-",
        "patternType": "PREFIXED",
    }


async def test_all_is_read_and_then_what_was_announced(pair: Pair) -> None:
    await pair.add(WORDS, READ)
    await pair.add(ALL, WRITE)
    assert await pair.others.read_changed(unheard) is None, "nothing has been read yet"
    assert await pair.read_all() == {WORDS: {READ}, ALL: {WRITE}}
    assert await pair.read_changed() == {}
    await pair.add(APP, READ)
    await pair.add(WORDS, WRITE)
    assert await pair.read_changed() == {APP: {READ}, WORDS: {READ, WRITE}}
    await pair.take(ALL, WRITE)
    assert await pair.read_changed() == {ALL: frozenset()}
    assert await pair.children("/kafka-acl/Topic") == ["words"], "an empty set has no node"


async def test_who_reads_hears_of_the_next_change_in_both_folders(pair: Pair) -> None:
    heard: list[int] = []
    await pair.others.read_all(lambda: heard.append(1))
    await pair.add(WORDS, READ)
    await until(lambda: len(heard) == 1)
    await pair.others.read_changed(lambda: heard.append(2))
    await pair.add(APP, READ)
    await until(lambda: 2 in heard or len(heard) == 2)


async def test_what_changes_nothing_is_not_written(pair: Pair) -> None:
    await pair.add(WORDS, READ)
    assert await pair.add(WORDS, READ) is WRITTEN
    assert await pair.take(APP, READ) is WRITTEN
    assert len(await pair.children("/kafka-acl-changes")) == 1


async def test_a_later_node_of_a_pattern_is_newer_than_the_one_that_was_deleted(
    pair: Pair,
) -> None:
    seen = []
    for change in (pair.add, pair.take, pair.add):
        await change(WORDS, READ)
        [node] = await pair.others.read_all(unheard) or [AclNode(WORDS, frozenset())]
        seen.append(node.mzxid)
    assert seen[0] > 0
    assert seen[1] == 0
    assert seen[2] > seen[0]


async def test_only_the_controller_writes(pair: Pair) -> None:
    assert await pair.others.alter(WORDS, lambda before: before | {READ}) is DEPOSED
    assert await pair.others.alter(WORDS, lambda before: before) is DEPOSED
    await pair.controller.resign_controller()
    assert await pair.add(WORDS, READ) is DEPOSED
    assert await pair.children("/kafka-acl/Topic") == []


async def test_two_writers_at_once_lose_nothing(pair: Pair) -> None:
    entries = [READ._replace(host=f"10.0.0.{number}") for number in range(20)]
    outcomes = await asyncio.gather(*(pair.add(WORDS, entry) for entry in entries))
    assert set(outcomes) == {WRITTEN}
    assert await pair.read_all() == {WORDS: frozenset(entries)}


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'{"version":2,"acls":[]}',
        b'{"version":1}',
        b'{"version":1,"acls":[1]}',
        b'{"version":1,"acls":[{"principal":"alice","permissionType":"Allow",'
        b'"operation":"Read","host":"*"}]}',
        b'{"version":1,"acls":[{"principal":"User:a","permissionType":"allow",'
        b'"operation":"Read","host":"*"}]}',
        b'{"version":1,"acls":[{"principal":"User:a","permissionType":"Allow",'
        b'"operation":"TwoPhaseCommit","host":"*"}]}',
        b'{"version":1,"acls":[{"principal":"User:a","permissionType":"Deny",'
        b'"operation":"Read","host":"a.example"}]}',
        b"\xff\xfe",
    ],
)
async def test_what_cannot_be_read_is_told_and_never_written_over(pair: Pair, data: bytes) -> None:
    await pair.put("/kafka-acl/Topic/words", data)
    assert await pair.read_all() == {WORDS: None}
    with pytest.raises(CorruptNodeError, match="/kafka-acl/Topic/words cannot be read"):
        await pair.add(WORDS, READ)
    assert await pair.get("/kafka-acl/Topic/words") == data
    assert "denied to all but super users" in next(iter(pair.store.unreadable.nodes.values()))


async def test_what_could_not_be_read_is_heard_of_when_it_is_put_right_by_hand(
    pair: Pair,
) -> None:
    await pair.put("/kafka-acl/Topic/words", b"{")
    heard: list[int] = []
    await pair.others.read_all(lambda: heard.append(1))
    await pair.put("/kafka-acl/Topic/words", encode_entries(frozenset({READ})))
    await until(lambda: heard)
    assert await pair.read_changed() == {WORDS: {READ}}
    assert await pair.read_changed() == {}
    assert pair.store.unreadable.nodes == {}


async def test_an_empty_node_and_an_allowed_host_that_is_none_are_as_for_kafka(pair: Pair) -> None:
    await pair.put("/kafka-acl/Topic/words", b"")
    await pair.put(
        "/kafka-acl/Group/g",
        b'{"version":1,"acls":[{"principal":"User:alice","permissionType":"Allow",'
        b'"operation":"Read","host":"a.example"}]}',
    )
    group = Pattern(ResourceType.GROUP, "g")
    assert await pair.read_all() == {
        WORDS: frozenset(),
        group: {READ._replace(host="a.example")},
    }


@pytest.mark.parametrize(
    ("folder", "data"),
    [
        ("/kafka-acl-changes", b"SEA:words"),
        ("/kafka-acl-changes", b"TOPIC"),
        ("/kafka-acl-changes", b"TOPIC:a/b"),
        ("/kafka-acl-changes", b"\xff"),
        ("/kafka-acl-extended-changes", b"{"),
        ("/kafka-acl-extended-changes", b'{"version":2}'),
    ],
)
async def test_an_announcement_that_says_nothing_makes_readers_read_all(
    pair: Pair, folder: str, data: bytes
) -> None:
    await pair.read_all()
    await pair.put(f"{folder}/acl_changes_", data, sequence=True)
    assert await pair.others.read_changed(unheard) is None
    assert await pair.read_all() == {}
    assert await pair.read_changed() == {}


async def test_many_announcements_are_not_read_one_by_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "MAX_NEWS", 2)
    await pair.read_all()
    for name in "abc":
        await pair.add(WORDS._replace(name=name), READ)
    assert await pair.others.read_changed(unheard) is None


async def test_announcements_go_when_they_have_outlived_their_use(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "LIFETIME_MS", 0)
    monkeypatch.setattr(announcements, "_S_BETWEEN_PURGES", 0.0)
    for name in "abc":
        await pair.add(WORDS._replace(name=name), READ)
    assert len(await pair.children("/kafka-acl-changes")) == 0
    await pair.read_all()
    await pair.add(WORDS, READ)
    assert await pair.others.read_changed(unheard) in (None, [])


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 5_000])
async def test_a_name_that_no_node_can_have_is_refused(pair: Pair, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        await pair.add(WORDS._replace(name=name), READ)


async def test_the_controller_makes_the_folders_if_nobody_has(
    connect: str, new_store: NewStore
) -> None:
    store = await new_store(connect)
    assert (await store.elect_controller(1)).won
    acls = ZooKeeperAcls(store.znodes(), store.root)
    assert await acls.alter(WORDS, lambda before: before | {READ}) is WRITTEN
    [node] = await acls.read_all(unheard)
    assert (node.pattern, node.entries) == (WORDS, {READ})
