"""What brokers make of access together (minikafka/broker/access/access.py, and its wiring)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikafka.api.access import (
    AlterScramRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    ScramAlteration,
    ScramUpsertion,
)
from minikafka.broker.access.access import Access
from minikafka.broker.access.ports import UserNode
from minikafka.broker.ports import SessionLostError
from minikafka.errors import (
    BrokerNotAvailableError,
    NotControllerError,
    SecurityDisabledError,
    UnknownServerError,
)
from minikafka.security.acl import (
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    Permission,
    ResourceType,
)
from minikafka.security.authorizer import Authorizer, Rule
from minikafka.security.principal import Principal
from minikafka.security.scram import SHA_256, credential_for
from tests.helpers.access import FakeAcls, FakeUsers, SharedAccess
from tests.helpers.brokers import BrokerCluster
from tests.helpers.waiting import until

READ = Entry(Principal("User", "alice"), "*", Operation.READ, Permission.ALLOW)
RULE = Rule(Pattern(ResourceType.TOPIC, "words"), READ)
CREATE, DELETE = CreateAclsRequest([RULE]), DeleteAclsRequest([EntryFilter()])
ALTER = AlterScramRequest(
    [
        ScramAlteration(
            "alice",
            SHA_256.name,
            ScramUpsertion(4096, b"salt", SHA_256.salted("secret", b"salt", 4096)),
        )
    ]
)


class Ground:
    def __init__(self, path: Path) -> None:
        self.shared = SharedAccess()
        self.cluster = BrokerCluster(path)
        self.made: list[tuple[FakeAcls, FakeUsers]] = []
        self.failure: Exception | None = None
        self.cluster.access = self._access

    def _access(self) -> Access:
        acls, users = FakeAcls(self.shared), FakeUsers(self.shared)
        acls.failure = self.failure
        self.made.append((acls, users))
        return Access(acls, users, lambda: 0, authorizer=Authorizer(), scram=True)

    def access(self, broker_id: int) -> Access:
        found = self.cluster.running[broker_id].broker.access
        assert found is not None
        return found

    async def rules(self, broker_id: int) -> list[Rule]:
        return list(await self.cluster.service(broker_id).describe_acls(EntryFilter()))


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    made = Ground(tmp_path)
    yield made
    await made.cluster.close()


async def test_only_the_controller_writes_and_any_broker_forwards(ground: Ground) -> None:
    await ground.cluster.start(1, 2)
    for request in (CREATE, DELETE, ALTER):
        with pytest.raises(NotControllerError):
            await ground.cluster.service(2).controller_call(request)
    assert ground.shared.zxid == 0
    for request in (CREATE, ALTER):
        response = await ground.cluster.service(2).administer(request, 5000)
        assert [result.error for result in response.results] == [None]
    assert await ground.rules(2) == [RULE]
    [alice] = await ground.cluster.service(1).describe_scram(None)
    assert (alice.user, alice.credentials) == ("alice", [(SHA_256.name, 4096)])


async def test_the_next_controller_writes_on(ground: Ground) -> None:
    await ground.cluster.start(1, 2)
    await ground.cluster.service(2).administer(CREATE, 5000)
    await ground.cluster.kill(1)
    response = await ground.cluster.service(2).administer(DELETE, 20_000)
    [deletion] = response.acl_deletions
    assert [each.rule for each in deletion.deleted] == [RULE]
    assert await ground.rules(2) == []


async def test_a_broker_reads_all_before_it_registers(ground: Ground) -> None:
    ground.shared.put_acl(RULE.pattern, frozenset({READ}))
    ground.failure = SessionLostError("away")
    with pytest.raises(SessionLostError):
        await ground.cluster.start(1)
    assert ground.cluster.zookeeper.brokers == {}
    ground.failure = None
    await ground.cluster.start(2)
    assert await ground.rules(2) == [RULE]


async def test_who_is_told_hears_also_if_this_broker_cannot_catch_up(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await ground.cluster.start(1)
    [(acls, users)] = ground.made
    users.failure = acls.failure = None
    reads = FakeAcls.read_changed

    async def failing(*_: object) -> None:
        raise SessionLostError("away")

    acls.read_changed = failing  # type: ignore[method-assign,assignment]
    response = await ground.cluster.service(1).administer(CREATE, 5000)
    assert [result.error for result in response.results] == [None]
    assert "not known here yet: away" in caplog.text
    acls.read_changed = reads.__get__(acls)  # type: ignore[method-assign]
    await until(lambda: ground.access(1).acls and ground.access(1).acls.behind_ms() == 0)


async def test_without_any_of_it_a_broker_says_so(ground: Ground) -> None:
    ground.cluster.access = None
    await ground.cluster.start(1)
    service = ground.cluster.service(1)
    for request in (CREATE, DELETE, ALTER):
        with pytest.raises(SecurityDisabledError):
            await service.administer(request, 5000)
    with pytest.raises(SecurityDisabledError):
        await service.describe_acls(EntryFilter())
    with pytest.raises(SecurityDisabledError):
        await service.describe_scram(None)


async def test_where_nothing_asks_who_it_is_nothing_is_followed() -> None:
    shared = SharedAccess()
    acls, users = FakeAcls(shared), FakeUsers(shared)
    access = Access(acls, users, lambda: 0)
    await access.start()
    assert (access.duties(), acls.reads, users.reads) == ([], [], [])
    with pytest.raises(SecurityDisabledError):
        await access.describe_acls(EntryFilter())
    await access.catch_up(CREATE, 1)
    await access.catch_up(ALTER, 1)
    assert (acls.reads, users.reads) == ([], [])
    shared.put_user("alice", {SHA_256.name: credential_for(SHA_256, "x", b"salt", 4096)})
    assert [each.user for each in await access.describe_scram(None)] == ["alice"]


async def test_what_cannot_be_read_of_a_user_is_told_as_that() -> None:
    shared = SharedAccess()
    users = FakeUsers(shared)
    access = Access(FakeAcls(shared), users, lambda: 0)
    shared.users = {
        "a": UserNode("a", {}, 1, (SHA_256.name,)),
        "b": UserNode("b", {}, 2, readable=False),
        "c": UserNode("c", {}, 3),
    }
    for asked in (None, ["a", "b"]):
        told = await access.describe_scram(asked)
        assert [(each.user, type(each.error)) for each in told] == [
            ("a", UnknownServerError),
            ("b", UnknownServerError),
        ]
    users.failure = SessionLostError("away")
    with pytest.raises(BrokerNotAvailableError):
        await access.describe_scram(None)


async def test_catching_up_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    acls = FakeAcls(SharedAccess())
    access = Access(acls, FakeUsers(acls.shared), lambda: 0, authorizer=Authorizer())
    await access.start()
    acls.gate.clear()
    await asyncio.wait_for(access.catch_up(CREATE, 0.01), 10)
    assert "not known here yet" in caplog.text
