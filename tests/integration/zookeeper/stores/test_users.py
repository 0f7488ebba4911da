"""zookeeper/stores/users.py on a real server of either kind."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Mapping

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.access.ports import UserNode
from minikafka.errors import InvalidRequestError, ResourceNotFoundError
from minikafka.security.scram import (
    SHA_256,
    SHA_512,
    Credential,
    credential_for,
    write_credential,
)
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.stores.store import ZooKeeperStore
from minikafka.zookeeper.stores.users import ZooKeeperUsers, desanitized, sanitized
from tests.helpers.waiting import until
from tests.integration.zookeeper.conftest import NewStore

SHORT, LONG = SHA_256.name, SHA_512.name
ONE = credential_for(SHA_256, "one", b"salt", 4096)
TWO = credential_for(SHA_512, "two", b"salt", 8192)
WRITTEN, DEPOSED = WriteOutcome.WRITTEN, WriteOutcome.DEPOSED


def unheard() -> None:
    """Of who does not care."""


def setting(changes: Mapping[str, Credential | None]):
    def change(there: Collection[str]) -> Mapping[str, Credential | None]:
        return changes

    return change


class Pair:
    """The controller's, and another broker's."""

    def __init__(self, controller: ZooKeeperStore, other: ZooKeeperStore) -> None:
        self.controller, self.store = controller, other
        self.users = ZooKeeperUsers(controller.znodes(), controller.root)
        self.others = ZooKeeperUsers(other.znodes(), other.root)

    async def give(self, user: str, **changes: Credential | None) -> WriteOutcome:
        named = {"short": SHORT, "long": LONG}
        return await self.users.alter(
            user, setting({named[name]: each for name, each in changes.items()})
        )

    async def get(self, path: str) -> bytes | None:
        found = await self.store.session.get(self.store.root + path)
        return None if found is None else found[0]

    async def put(self, path: str, data: bytes, *, sequence: bool = False) -> None:
        """By hand."""
        path = self.store.root + path
        await self.store.session.call(
            lambda client: client.create_async(path, data, sequence=sequence)
        )

    async def changed(self) -> list[tuple[str, Mapping[str, Credential]]]:
        nodes = await self.others.read_changed(unheard)
        assert nodes is not None
        return [(node.user, node.credentials) for node in nodes]


@pytest.fixture
async def pair(connect: str, new_store: NewStore) -> Pair:
    controller, other = await new_store(connect), await new_store(connect)
    assert (await controller.elect_controller(1)).won
    made = Pair(controller, other)
    await made.others.start()
    return made


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("alice", "alice"),
        ("a b", "a%20b"),
        ("*", "%2A"),
        ("a+b/c", "a%2Bb%2Fc"),
        ("CN=a,O=b", "CN%3Da%2CO%3Db"),
        ("<default>", "%3Cdefault%3E"),
        ("A-z_0.9~", "A-z_0.9%7E"),
        ("ä\n%", "%C3%A4%0A%25"),
    ],
)
def test_a_name_is_encoded_as_java_does_it(name: str, node: str) -> None:
    assert sanitized(name) == node
    assert desanitized(node) == name


@pytest.mark.parametrize("node", ["%FF", "a b", "%2a", "<default>", "~", "a+b"])
def test_what_nobody_would_write_is_no_users_name(node: str) -> None:
    assert desanitized(node) is None


async def test_nodes_and_announcements_are_those_of_kafka(pair: Pair) -> None:
    assert await pair.give("a b", short=ONE) is WRITTEN
    assert json.loads(await pair.get("/config/users/a%20b") or b"") == {
        "version": 1,
        "config": {SHORT: write_credential(ONE)},
    }
    [name] = await pair.store.znodes().children(pair.store.root + "/config/changes")
    assert json.loads(await pair.get(f"/config/changes/{name}") or b"") == {
        "version": 2,
        "entity_path": "users/a%20b",
    }


async def test_what_else_is_kept_of_a_user_stays(pair: Pair) -> None:
    quotas = {"producer_byte_rate": "1024", "x": "y"}
    await pair.put("/config/users/alice", json.dumps({"version": 1, "config": quotas}).encode())
    await pair.give("alice", short=ONE, long=TWO)
    await pair.give("alice", short=None)
    assert json.loads(await pair.get("/config/users/alice") or b"") == {
        "version": 1,
        "config": {LONG: write_credential(TWO), **quotas},
    }
    await pair.give("alice", long=None)
    assert json.loads(await pair.get("/config/users/alice") or b"")["config"] == quotas


async def test_all_is_read_and_then_what_was_announced_of_users(pair: Pair) -> None:
    await pair.give("alice", short=ONE)
    assert await pair.others.read_changed(unheard) is None, "nothing has been read yet"
    [alice] = await pair.others.read_all(unheard)
    assert (alice.user, alice.credentials) == ("alice", {SHORT: ONE})
    await pair.controller.write_topic_config("words", {"retention.ms": "1"})
    assert await pair.changed() == [], "a topic is no user"
    await pair.give("bob", long=TWO)
    await pair.give("alice", short=None)
    assert await pair.changed() == [("bob", {LONG: TWO}), ("alice", {})]


async def test_quotas_of_clients_and_of_all_are_nobodys_credentials(pair: Pair) -> None:
    config = json.dumps({"version": 1, "config": {}}).encode()
    await pair.put("/config/users/<default>", config)
    await pair.others.read_all(unheard)
    for path in ("users/<default>", "users/alice/clients/c", "clients/c"):
        change = json.dumps({"version": 2, "entity_path": path}).encode()
        await pair.put("/config/changes/config_change_", change, sequence=True)
    assert await pair.changed() == []
    assert await pair.others.read_all(unheard) == []


async def test_who_reads_hears_of_the_next_change(pair: Pair) -> None:
    heard: list[int] = []
    await pair.others.read_all(lambda: heard.append(1))
    await pair.give("alice", short=ONE)
    await until(lambda: heard)


async def test_users_are_asked_for_by_name_or_all(pair: Pair) -> None:
    await pair.give("alice", short=ONE)
    await pair.give("bob", long=TWO)
    found = await pair.others.read(["bob", "", ".", "nobody"])
    assert [(node.user, node.credentials) for node in found] == [
        ("bob", {LONG: TWO}),
        ("", {}),
        (".", {}),
        ("nobody", {}),
    ]
    assert [node.user for node in await pair.others.read(None)] == ["alice", "bob"]


async def test_who_alters_is_told_what_is_there_and_may_refuse(pair: Pair) -> None:
    await pair.give("alice", short=ONE)
    told: list[list[str]] = []

    def refuse(there: Collection[str]) -> Mapping[str, Credential | None]:
        told.append(list(there))
        raise ResourceNotFoundError("no")

    for user in ("alice", "bob"):
        with pytest.raises(ResourceNotFoundError):
            await pair.users.alter(user, refuse)
    assert told == [[SHORT], []]
    assert [node.user for node in await pair.others.read(None)] == ["alice"]


async def test_two_writers_at_once_lose_nothing(pair: Pair) -> None:
    await asyncio.gather(pair.give("alice", short=ONE), pair.give("alice", long=TWO))
    [alice] = await pair.others.read_all(unheard)
    assert alice.credentials == {SHORT: ONE, LONG: TWO}


async def test_only_the_controller_writes(pair: Pair) -> None:
    assert await pair.others.alter("alice", setting({SHORT: ONE})) is DEPOSED
    assert await pair.others.read(None) == []


@pytest.mark.parametrize("user", ["", ".", ".."])
async def test_a_name_that_no_node_can_have_is_refused(pair: Pair, user: str) -> None:
    with pytest.raises(InvalidRequestError):
        await pair.give(user, short=ONE)


@pytest.mark.parametrize(
    "data",
    [
        b"planted-secret",
        b'{"version":1,"config":{"SCRAM-SHA-256":["planted-secret"]}}',
        b'{"version":"planted-secret"}',
    ],
)
async def test_a_node_that_cannot_be_read_is_told_without_what_it_holds(
    pair: Pair, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "minikafka")
    await pair.put("/config/users/alice", data)
    [alice] = await pair.others.read_all(unheard)
    assert alice == UserNode("alice", {}, alice.mzxid, readable=False)
    with pytest.raises(CorruptNodeError) as raised:
        await pair.give("alice", short=ONE)
    assert "/config/users/alice" in caplog.text
    for text in (caplog.text, str(raised.value), *pair.store.unreadable.nodes.values()):
        assert "planted-secret" not in text


async def test_what_could_not_be_read_is_heard_of_when_it_is_put_right_by_hand(
    pair: Pair,
) -> None:
    await pair.put("/config/users/alice", b"{")
    heard: list[int] = []
    await pair.others.read_all(lambda: heard.append(1))
    path = pair.store.root + "/config/users/alice"
    right = json.dumps({"version": 1, "config": {SHORT: write_credential(ONE)}}).encode()
    await pair.store.session.call(lambda client: client.set_async(path, right))
    await until(lambda: heard)
    assert await pair.changed() == [("alice", {SHORT: ONE})]
    assert await pair.changed() == []
    assert pair.store.unreadable.nodes == {}


async def test_a_credential_that_is_none_counts_as_none_and_can_be_replaced(pair: Pair) -> None:
    config = {SHORT: "planted-secret", LONG: write_credential(TWO)}
    await pair.put("/config/users/alice", json.dumps({"version": 1, "config": config}).encode())
    [alice] = await pair.others.read_all(unheard)
    assert alice == UserNode("alice", {LONG: TWO}, alice.mzxid, (SHORT,))
    [why] = pair.store.unreadable.nodes.values()
    assert SHORT in why
    assert "planted-secret" not in why
    await pair.give("alice", short=ONE)
    assert await pair.changed() == [("alice", {SHORT: ONE, LONG: TWO})]
    assert pair.store.unreadable.nodes == {}


async def test_the_decoy_is_made_once_for_all(pair: Pair) -> None:
    keys = await asyncio.gather(
        *(users.decoy_key() for users in (pair.users, pair.others, pair.users))
    )
    assert len(set(keys)) == 1
    assert await pair.get("/security/decoy") == keys[0]
    assert len(keys[0]) == 32


async def test_a_decoy_of_another_length_is_not_taken(pair: Pair) -> None:
    await pair.put("/security", b"")
    await pair.put("/security/decoy", b"short")
    with pytest.raises(CorruptNodeError, match="32 random"):
        await pair.users.decoy_key()
