"""Access control entries and SCRAM credentials by Kafka's protocol, over real brokers: the client
asks one that is not the controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minikafka.broker.access.access import Access
from minikafka.broker.request_memory import RequestMemory
from minikafka.errors import InvalidRequestError
from minikafka.kafka import requests
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.handlers.security import _filter
from minikafka.kafka.server import KafkaServer
from minikafka.security.acl import Operation, PatternFilter, ResourceType
from minikafka.security.authorizer import Authorizer
from minikafka.security.principal import Caller, Principal
from minikafka.security.scram import SHA_256, SHA_512, credential_for
from tests.helpers.access import FakeAcls, FakeUsers, SharedAccess
from tests.helpers.brokers import BrokerCluster
from tests.helpers.listeners import start_plaintext
from tests.helpers.waiting import until
from tests.unit.kafka.conftest import Client

ALICE = Caller(Principal("User", "alice"), "10.0.0.1", "EXTERNAL")
RULE = {
    "resource_type": 2,
    "resource_name": "words",
    "resource_pattern_type": 3,
    "principal": "User:alice",
    "host": "*",
    "operation": 3,
    "permission_type": 3,
}
ANY = {
    "resource_type_filter": 1,
    "resource_name_filter": None,
    "pattern_type_filter": 1,
    "principal_filter": None,
    "host_filter": None,
    "operation": 1,
    "permission_type": 1,
}


class Ground:
    """Two brokers: the first is the controller, the client speaks to the second."""

    def __init__(self, path: Path) -> None:
        self.shared = SharedAccess()
        self.cluster = BrokerCluster(path)
        self.authorizes = True

    async def start(self) -> None:
        self.cluster.access = self._access
        await self.cluster.start(1, 2)
        assert self.cluster.running[1].broker.controller.active
        self.listener = KafkaServer(
            self.cluster.service(2),
            RequestMemory(1_000_000),
            max_request_bytes=1_000_000,
            max_idle_ms=60_000,
            max_fetch_sessions=10,
        )
        port = await start_plaintext(self.listener)
        self.client = Client(*await asyncio.open_connection("127.0.0.1", port))

    def _access(self) -> Access:
        authorizer = Authorizer() if self.authorizes else None
        return Access(
            FakeAcls(self.shared),
            FakeUsers(self.shared),
            lambda: 0,
            authorizer=authorizer,
            scram=self.authorizes,
        )

    async def close(self) -> None:
        self.client.writer.close()
        await self.listener.stop()
        await self.cluster.close()

    async def ask(self, api: ApiKey, version: int = 0, **values: Any) -> Any:
        return await self.client.ask(api, version, values)

    async def create(self, *rules: dict[str, Any], version: int = 2) -> list[int]:
        answer = await self.ask(ApiKey.CREATE_ACLS, version, creations=list(rules))
        return [int(result.error_code) for result in answer.results]

    def may_read(self, broker_id: int) -> bool:
        access = self.cluster.running[broker_id].broker.access
        assert access is not None
        assert access.acls is not None
        judge = access.acls.authorizer
        return judge.allows(ALICE, Operation.READ, ResourceType.TOPIC, "words")


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    made = Ground(tmp_path)
    await made.start()
    yield made
    await made.close()


def versions(api: ApiKey) -> range:
    return range(APIS[api].min_version, APIS[api].max_version + 1)


def rule(**changes: object) -> dict[str, Any]:
    return {**RULE, **changes}


# --- entries -------------------------------------------------------------------------------------


async def test_what_is_created_holds_at_once_where_it_was_answered_and_soon_elsewhere(
    ground: Ground,
) -> None:
    assert not ground.may_read(2)
    assert await ground.create(RULE) == [0]
    assert ground.may_read(2)
    await until(lambda: ground.may_read(1))


async def test_entries_are_described_by_pattern(ground: Ground) -> None:
    other = rule(principal="User:bob", host="10.0.0.0/8", operation=9 + 1, permission_type=2)
    prefixed = rule(resource_type=5, resource_name="app-", resource_pattern_type=4, operation=4)
    assert await ground.create(RULE, other, prefixed) == [0, 0, 0]
    for version in versions(ApiKey.DESCRIBE_ACLS):
        answer = await ground.ask(ApiKey.DESCRIBE_ACLS, version, **ANY)
        assert (int(answer.error_code), answer.error_message) == (0, None)
        told = [
            (
                (each.resource_type, each.resource_name, each.pattern_type),
                [(a.principal, a.host, a.operation, a.permission_type) for a in each.acls],
            )
            for each in answer.resources
        ]
        assert told == [
            ((2, "words", 3), [("User:alice", "*", 3, 3), ("User:bob", "10.0.0.0/8", 10, 2)]),
            ((5, "app-", 4), [("User:alice", "*", 4, 3)]),
        ]
        named = {**ANY, "resource_name_filter": "app-1", "pattern_type_filter": 2}
        answer = await ground.ask(ApiKey.DESCRIBE_ACLS, version, **named)
        assert [each.resource_name for each in answer.resources] == ["app-"]


async def test_wrong_rules_are_refused_one_by_one(ground: Ground) -> None:
    wrong = [
        rule(resource_type=0),
        rule(resource_type=1),
        rule(resource_type=127),
        rule(resource_name=""),
        rule(resource_type=4, operation=7),
        rule(resource_pattern_type=2),
        rule(principal="alice"),
        rule(host="a.example"),
        rule(operation=1),
        rule(operation=12),
        rule(operation=-1),
        rule(permission_type=1),
    ]
    for version in versions(ApiKey.CREATE_ACLS):
        assert await ground.create(*wrong, RULE, version=version) == [42] * len(wrong) + [0]
    assert await ground.create(*wrong) == [42] * len(wrong)
    assert len(ground.shared.acls) == 1
    assert await ground.create() == []


async def test_what_filters_find_is_deleted_and_told(ground: Ground) -> None:
    for version in versions(ApiKey.DELETE_ACLS):
        await ground.create(RULE, rule(resource_name="others"))
        filters = [
            {**ANY, "resource_name_filter": "words"},
            {**ANY, "operation": 99},
            {**ANY, "principal_filter": "User:nobody"},
            ANY,
        ]
        answer = await ground.ask(ApiKey.DELETE_ACLS, version, filters=filters)
        told = [
            (
                int(each.error_code),
                [
                    (
                        int(a.error_code),
                        *(a.resource_type, a.resource_name, a.pattern_type),
                        *(a.principal, a.host, a.operation, a.permission_type),
                    )
                    for a in each.matching_acls
                ],
            )
            for each in answer.filter_results
        ]
        rest = ("User:alice", "*", 3, 3)
        assert told == [
            (0, [(0, 2, "words", 3, *rest)]),
            (42, []),
            (0, []),
            (0, [(0, 2, "others", 3, *rest)]),
        ]
        assert not ground.may_read(2)
    assert ground.shared.acls == {}


async def test_many_rules_go_in_parts_and_too_many_are_refused(ground: Ground) -> None:
    rules = [rule(resource_name=f"t-{number}") for number in range(450)]
    assert await ground.create(*rules) == [0] * 450
    assert len(ground.shared.acls) == 450
    answer = await ground.ask(ApiKey.DELETE_ACLS, 2, filters=[ANY] * 1_001)
    assert {int(each.error_code) for each in answer.filter_results} == {44}
    named = [{**ANY, "resource_name_filter": f"t-{number}"} for number in range(450)]
    answer = await ground.ask(ApiKey.DELETE_ACLS, 2, filters=named)
    assert [len(each.matching_acls) for each in answer.filter_results] == [1] * 450
    assert ground.shared.acls == {}


async def test_without_an_authorizer_there_are_none(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.authorizes = False
    await ground.start()
    try:
        assert await ground.create(RULE, rule(operation=1)) == [54, 54]
        answer = await ground.ask(ApiKey.DESCRIBE_ACLS, 2, **ANY)
        assert (int(answer.error_code), answer.resources) == (54, ())
        answer = await ground.ask(ApiKey.DELETE_ACLS, 2, filters=[ANY])
        assert [int(each.error_code) for each in answer.filter_results] == [54]
        assert await alter(ground, upsertion("alice")) == {"alice": 0}, "before anybody logs in"
    finally:
        await ground.close()


def test_every_filter_is_what_kafka_means_by_it() -> None:
    values = {**ANY, "resource_type_filter": 7, "pattern_type_filter": 2, "operation": 14}
    values |= {"principal_filter": "User:a:b", "host_filter": "h", "permission_type": 2}
    asked = _filter(requests.AclFilter(values))
    assert (asked.type, asked.name) == (ResourceType.USER, None)
    assert asked.pattern_filter is PatternFilter.MATCH
    assert (asked.principal, asked.host) == (Principal("User", "a:b"), "h")
    assert (asked.operation, asked.permission) == (14, 2)
    for name in ("resource_type_filter", "pattern_type_filter", "operation", "permission_type"):
        for number in (0, -1, 127):
            with pytest.raises(InvalidRequestError):
                _filter(requests.AclFilter({**ANY, name: number}))


# --- credentials ---------------------------------------------------------------------------------


def upsertion(user: str, mechanism: int = 1, iterations: int = 4096) -> dict[str, Any]:
    kind = SHA_256 if mechanism == 1 else SHA_512
    return {
        "name": user,
        "mechanism": mechanism,
        "iterations": iterations,
        "salt": b"salt",
        "salted_password": kind.salted("secret", b"salt", 4096),
    }


async def alter(
    ground: Ground, *upsertions: dict[str, Any], deletions: tuple[tuple[str, int], ...] = ()
) -> dict[str, int]:
    answer = await ground.ask(
        ApiKey.ALTER_USER_SCRAM_CREDENTIALS,
        deletions=[{"name": user, "mechanism": mechanism} for user, mechanism in deletions],
        upsertions=list(upsertions),
    )
    return {each.user: int(each.error_code) for each in answer.results}


async def describe(ground: Ground, *users: str) -> list[tuple[str, int, list[tuple[int, int]]]]:
    answer = await ground.ask(
        ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, users=[{"name": user} for user in users]
    )
    assert int(answer.error_code) == 0
    return [
        (
            each.user,
            int(each.error_code),
            [(info.mechanism, info.iterations) for info in each.credential_infos],
        )
        for each in answer.results
    ]


async def test_a_credential_is_set_told_and_taken_away(ground: Ground) -> None:
    assert await alter(ground, upsertion("bob", 2, 4097), upsertion("alice")) == {
        "bob": 0,
        "alice": 0,
    }
    assert ground.shared.users["alice"].credentials == {
        SHA_256.name: credential_for(SHA_256, "secret", b"salt", 4096)
    }
    access = ground.cluster.running[2].broker.access
    assert access is not None
    assert access.users is not None
    assert access.users.credential("alice", SHA_256.name) is not None, "at once where it is told"
    everybody = [("alice", 0, [(1, 4096)]), ("bob", 0, [(2, 4097)])]
    assert await describe(ground) == everybody
    answer = await ground.ask(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, users=None)
    assert [each.user for each in answer.results] == ["alice", "bob"]
    assert await describe(ground, "bob", "nobody", "", "alice", "alice") == [
        ("bob", 0, [(2, 4097)]),
        ("nobody", 91, []),
        ("", 91, []),
        ("alice", 92, []),
    ]
    assert await alter(ground, deletions=(("alice", 1), ("bob", 1))) == {"alice": 0, "bob": 91}
    assert await describe(ground) == everybody[1:]


async def test_what_is_wrong_with_credentials_is_told_by_user(ground: Ground) -> None:
    assert await alter(
        ground,
        upsertion("few", iterations=4095),
        upsertion("many", iterations=2**31 - 1),
        upsertion("strange", 3),
        upsertion("twice"),
        upsertion("twice"),
        upsertion(""),
        upsertion("right"),
        deletions=(("absent", 1), ("unknown", 0)),
    ) == {
        "absent": 91,
        "unknown": 33,
        "few": 93,
        "many": 93,
        "strange": 33,
        "twice": 92,
        "": 93,
        "right": 0,
    }
    assert list(ground.shared.users) == ["right"]
    assert await alter(ground) == {}


async def test_more_users_than_one_request_may_name_are_refused(ground: Ground) -> None:
    answer = await ground.ask(
        ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, users=[{"name": "a"}] * 10_001
    )
    assert (int(answer.error_code), answer.results) == (44, ())
    assert await alter(ground, deletions=tuple(("a", 1) for _ in range(10_001))) == {"a": 44}


def test_a_request_that_is_printed_shows_no_password() -> None:
    item = requests.ScramCredentialUpsertion(upsertion("alice"))
    whole = requests.AlterUserScramCredentials({"deletions": [], "upsertions": [item]})
    assert repr(item) == "ScramCredentialUpsertion('alice')"
    assert repr(upsertion("alice")["salted_password"])[2:-1] not in repr(whole)
