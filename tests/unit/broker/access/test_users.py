"""The cache of users: whom it finds, and when it reads (minikafka/broker/access/users.py)."""

from __future__ import annotations

import asyncio

import pytest

from minikafka.broker.access.ports import UserNode
from minikafka.broker.access.users import UserCache
from minikafka.broker.ports import StoreEvent
from minikafka.security.mechanism import Authenticated, Challenge, Failed
from minikafka.security.principal import Principal
from minikafka.security.scram import (
    SHA_256,
    SHA_512,
    Found,
    ScramClient,
    ScramServer,
    credential_for,
)
from tests.helpers.access import FakeUsers, SharedAccess
from tests.helpers.waiting import until

ONE = credential_for(SHA_256, "one", b"salt", 4096)
SLOW = credential_for(SHA_256, "slow", b"salt", 8192)
LONG = credential_for(SHA_512, "long", b"salt", 16384)
ALICE = Principal("User", "alice")


class Ground:
    def __init__(self) -> None:
        self.shared = SharedAccess()
        self.store = FakeUsers(self.shared)
        self.cache = UserCache(self.store, lambda: 0)

    def find(self, user: str, kind=SHA_256, *, by_token: bool = False) -> Found | None:
        return self.cache.users(kind).find(user, by_token)


@pytest.fixture
async def ground() -> Ground:
    made = Ground()
    made.shared.put_user("alice", {SHA_256.name: ONE, SHA_512.name: LONG})
    await made.cache.start()
    return made


async def test_a_user_is_found_by_each_mechanism_that_it_has_a_credential_for(
    ground: Ground,
) -> None:
    ground.shared.put_user("bob", {SHA_256.name: SLOW})
    await ground.cache.catch_up()
    for user, kind, credential in (
        ("alice", SHA_256, ONE),
        ("alice", SHA_512, LONG),
        ("bob", SHA_256, SLOW),
    ):
        found = ground.find(user, kind)
        assert found is not None
        assert (found.credential, found.principal) == (credential, Principal("User", user))
        assert (found.by_token, found.expires_ms) == (False, None)
    assert ground.find("bob", SHA_512) is None
    assert ground.find("nobody") is None


async def test_a_real_exchange_goes_by_what_is_held(ground: Ground) -> None:
    def log_in(password: str) -> Authenticated | Failed:
        server = ScramServer(SHA_256, ground.cache.users(SHA_256), "servernonce")
        client = ScramClient(SHA_256, "alice", password, "clientnonce")
        first = server.step(client.first())
        assert isinstance(first, Challenge)
        last = server.step(client.final(first.token))
        assert isinstance(last, Authenticated | Failed)
        return last

    logged_in = log_in("one")
    assert isinstance(logged_in, Authenticated)
    assert logged_in.principal == ALICE
    assert isinstance(log_in("two"), Failed)
    ground.shared.put_user("alice", {SHA_256.name: SLOW})
    await ground.cache.catch_up()
    assert isinstance(log_in("one"), Failed)
    assert isinstance(log_in("slow"), Authenticated)


async def test_a_token_is_no_user_and_a_user_no_token(ground: Ground) -> None:
    assert ground.find("alice", by_token=True) is None
    token = Found(SLOW, ALICE, by_token=True, expires_ms=5)
    ground.cache.find_token = lambda user, mechanism: (
        token if (user, mechanism) == ("t-1", SHA_256.name) else None
    )
    assert ground.find("t-1", by_token=True) is token
    assert ground.find("t-1") is None
    assert ground.find("t-1", SHA_512, by_token=True) is None


async def test_a_decoy_looks_like_most_users(ground: Ground) -> None:
    users = ground.cache.users(SHA_256)
    assert (users.decoy_key, users.iterations) == (b"decoy" * 6 + b"!!", 4096)
    assert ground.cache.users(SHA_256) is users, "nothing is made for each exchange"
    for name in "bc":
        ground.shared.put_user(name, {SHA_256.name: SLOW})
    await ground.cache.catch_up()
    assert ground.cache.users(SHA_256).iterations == 8192
    assert ground.cache.users(SHA_512).iterations == 16384
    ground.shared.put_user("b", {})
    await ground.cache.catch_up()
    assert ground.cache.users(SHA_256).iterations == 4096, "of two that are as common the smaller"
    for name in ("alice", "c"):
        ground.shared.put_user(name, {})
    await ground.cache.catch_up()
    assert ground.cache.users(SHA_256).iterations == 4096, "the least, where nobody has any"


async def test_who_has_no_credential_any_more_is_told_of_once(ground: Ground) -> None:
    gone: list[str] = []
    ground.cache.gone_listeners.append(gone.append)
    ground.shared.put_user("alice", {SHA_512.name: LONG})
    await ground.cache.catch_up()
    assert gone == [], "another mechanism is left"
    ground.shared.put_user("alice", {})
    ground.shared.put_user("bob", {})
    await ground.cache.catch_up()
    await ground.cache.catch_up()
    assert gone == ["alice"]
    assert ground.find("alice", SHA_512) is None


async def test_after_a_new_connection_all_is_read_and_who_is_gone_is_forgotten(
    ground: Ground,
) -> None:
    gone: list[str] = []
    ground.cache.gone_listeners.append(gone.append)
    ground.shared.users = {"bob": UserNode("bob", {SHA_256.name: SLOW}, 100)}
    task = asyncio.create_task(ground.cache.run())
    ground.cache.on_store_event(StoreEvent.RECONNECTED)
    await until(lambda: ground.find("bob") is not None)
    task.cancel()
    await asyncio.wait({task})
    assert gone == ["alice"]
    assert ground.find("alice") is None


async def test_an_older_read_never_wins(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    old = ground.shared.users["alice"]
    ground.shared.put_user("alice", {SHA_256.name: SLOW})
    await ground.cache.catch_up()

    async def late(notify: object) -> list[UserNode]:
        return [old]

    monkeypatch.setattr(ground.store, "read_changed", late)
    await ground.cache.catch_up()
    assert ground.cache.credential("alice", SHA_256.name) == SLOW


async def test_nothing_that_prints_shows_a_key(ground: Ground) -> None:
    node = ground.shared.users["alice"]
    for each in (repr(node), repr(ground.cache.users(SHA_256)), repr(ground.find("alice"))):
        for key in (ONE.stored_key, ONE.server_key, ONE.salt, b"decoy"):
            assert repr(key)[2:-1] not in each
