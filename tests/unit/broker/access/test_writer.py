"""What the controller judges and writes (minikafka/broker/access/writer.py)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from minikafka.api.access import (
    AclDeletion,
    AlterScramRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    DeletedRule,
    ScramAlteration,
    ScramUpsertion,
)
from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.access import writer
from minikafka.broker.access.ports import Entries
from minikafka.broker.access.writer import AccessWriter
from minikafka.broker.ports import SessionLostError, UnreadableNodeError
from minikafka.errors import (
    DuplicateResourceError,
    InvalidRequestError,
    NotControllerError,
    RequestTimedOutError,
    ResourceNotFoundError,
    UnacceptableCredentialError,
    UnsupportedSaslMechanismError,
)
from minikafka.security.acl import (
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    PatternFilter,
    PatternType,
    Permission,
    ResourceType,
)
from minikafka.security.authorizer import Rule
from minikafka.security.principal import Principal
from minikafka.security.scram import SHA_256, SHA_512, credential_for
from tests.helpers.access import FakeAcls, FakeUsers, SharedAccess
from tests.helpers.waiting import until

ALICE, BOB = Principal("User", "alice"), Principal("User", "bob")
READ = Entry(ALICE, "*", Operation.READ, Permission.ALLOW)
WRITE = Entry(BOB, "*", Operation.WRITE, Permission.ALLOW)
WORDS = Pattern(ResourceType.TOPIC, "words")
APP = Pattern(ResourceType.TOPIC, "app-", PatternType.PREFIXED)
GROUP = Pattern(ResourceType.GROUP, "words")
SHORT, LONG = SHA_256.name, SHA_512.name


def made(password: str = "one", iterations: int = 4096, kind=SHA_256) -> ScramUpsertion:
    salted = kind.salted(password, b"salt", max(iterations, 1))
    return ScramUpsertion(iterations, b"salt", salted)


class Ground:
    def __init__(self) -> None:
        self.shared = SharedAccess()
        self.acls, self.users = FakeAcls(self.shared), FakeUsers(self.shared)
        self.writer = AccessWriter(self.acls, self.users)

    async def create(self, *rules: Rule) -> list[type[Exception] | None]:
        response = await self.writer.carry_out(CreateAclsRequest(rules))
        assert [result.name for result in response.results] == list(map(str, rules))
        return [result.error and type(result.error) for result in response.results]

    async def delete(self, *filters: EntryFilter) -> list[AclDeletion]:
        response = await self.writer.carry_out(DeleteAclsRequest(filters))
        return list(response.acl_deletions)

    async def alter(self, *alterations: ScramAlteration) -> dict[str, type[Exception] | None]:
        response = await self.writer.carry_out(AlterScramRequest(alterations))
        return {result.name: result.error and type(result.error) for result in response.results}

    def held(self) -> dict[Pattern, Entries | None]:
        return {pattern: node.entries for pattern, node in self.shared.acls.items()}


@pytest.fixture
async def ground() -> Ground:
    return Ground()


# --- entries -------------------------------------------------------------------------------------


async def test_right_rules_are_written_once_a_pattern_and_wrong_ones_refused(
    ground: Ground,
) -> None:
    answers = await ground.create(
        Rule(WORDS, READ),
        Rule(WORDS._replace(name=""), READ),
        Rule(WORDS._replace(name="a/b"), READ),
        Rule(GROUP, WRITE),
        Rule(WORDS, READ._replace(host="a.example")),
        Rule(Pattern(ResourceType.CLUSTER, "mine"), READ._replace(operation=Operation.ALTER)),
        Rule(APP, READ),
        Rule(WORDS, WRITE),
        Rule(WORDS, READ),
    )
    wrong = InvalidRequestError
    assert answers == [None, wrong, wrong, wrong, wrong, wrong, None, None, None]
    assert ground.held() == {WORDS: {READ, WRITE}, APP: {READ}}
    assert len(ground.shared.acl_changes) == 2


async def test_each_rule_that_goes_is_with_the_first_filter_that_finds_it(ground: Ground) -> None:
    await ground.create(Rule(WORDS, READ), Rule(WORDS, WRITE), Rule(APP, READ), Rule(GROUP, READ))
    deletions = await ground.delete(
        EntryFilter(name="none"),
        EntryFilter(principal=BOB),
        EntryFilter(ResourceType.TOPIC, "app-1", PatternFilter.MATCH),
        EntryFilter(ResourceType.TOPIC),
    )
    assert deletions == [
        AclDeletion(None, []),
        AclDeletion(None, [DeletedRule(Rule(WORDS, WRITE))]),
        AclDeletion(None, [DeletedRule(Rule(APP, READ))]),
        AclDeletion(None, [DeletedRule(Rule(WORDS, READ))]),
    ]
    assert ground.held() == {GROUP: {READ}}


async def test_what_cannot_be_read_is_an_error_of_the_filters_that_mean_it(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ground.create(Rule(WORDS, READ), Rule(GROUP, READ))
    real = ground.acls.alter

    async def alter(pattern: Pattern, change: Callable[[Entries], Entries]) -> WriteOutcome:
        if pattern == WORDS:
            raise UnreadableNodeError("what is that?")
        return await real(pattern, change)

    monkeypatch.setattr(ground.acls, "alter", alter)
    topics, groups = await ground.delete(
        EntryFilter(ResourceType.TOPIC), EntryFilter(ResourceType.GROUP)
    )
    assert isinstance(topics.error, UnreadableNodeError)
    assert groups == AclDeletion(None, [DeletedRule(Rule(GROUP, READ))])
    assert await ground.create(Rule(WORDS, WRITE)) == [UnreadableNodeError]


@pytest.mark.parametrize(
    "request_",
    [
        CreateAclsRequest([Rule(WORDS, WRITE)]),
        DeleteAclsRequest([EntryFilter()]),
        AlterScramRequest([ScramAlteration("alice", SHORT, made())]),
    ],
)
async def test_who_is_no_controller_any_more_writes_nothing_and_another_is_asked(
    ground: Ground, request_: CreateAclsRequest | DeleteAclsRequest | AlterScramRequest
) -> None:
    await ground.create(Rule(WORDS, READ))
    before = ground.held()
    for store in (ground.acls, ground.users):
        store.outcome = WriteOutcome.DEPOSED
    with pytest.raises(NotControllerError):
        await ground.writer.carry_out(request_)
    for store in (ground.acls, ground.users):
        store.outcome = WriteOutcome.WRITTEN
        store.failure = SessionLostError("away")
    with pytest.raises(NotControllerError):
        await ground.writer.carry_out(request_)
    assert (ground.held(), ground.shared.users) == (before, {})


async def test_who_is_deposed_half_way_tells_what_was_done(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ground.create(Rule(GROUP, READ), Rule(WORDS, READ))
    real = ground.acls.alter

    async def alter(pattern: Pattern, change: Callable[[Entries], Entries]) -> WriteOutcome:
        done = await real(pattern, change)
        ground.acls.outcome = WriteOutcome.DEPOSED
        return done

    monkeypatch.setattr(ground.acls, "alter", alter)
    [deletion] = await ground.delete(EntryFilter())
    assert [each.error for each in deletion.deleted] == [None]
    assert isinstance(deletion.error, NotControllerError), "the rest was not looked at"


async def test_changes_of_entries_and_users_are_in_the_log(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "minikafka.authorizer")
    await ground.create(Rule(WORDS._replace(name="a\nb"), READ))
    await ground.delete(EntryFilter())
    await ground.alter(ScramAlteration("al\x1bice", SHORT, made()))
    await ground.alter(ScramAlteration("al\x1bice", SHORT))
    assert [record.getMessage() for record in caplog.records] == [
        "created: allow User:alice Read from * on literal Topic a\\nb",
        "deleted: allow User:alice Read from * on literal Topic a\\nb",
        "set the SCRAM-SHA-256 credential of al\\x1bice",
        "deleted the SCRAM-SHA-256 credential of al\\x1bice",
    ]


async def test_a_bounded_number_waits(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 2)
    gate = asyncio.Event()
    real = ground.acls.alter

    async def alter(pattern: Pattern, change: Callable[[Entries], Entries]) -> WriteOutcome:
        await gate.wait()
        return await real(pattern, change)

    monkeypatch.setattr(ground.acls, "alter", alter)
    waiting = [asyncio.create_task(ground.create(Rule(WORDS, each))) for each in (READ, WRITE)]
    await until(lambda: ground.writer._waiting == 2)
    with pytest.raises(RequestTimedOutError, match="try later"):
        await ground.create(Rule(APP, READ))
    gate.set()
    assert await asyncio.gather(*waiting) == [[None], [None]]
    assert ground.held() == {WORDS: {READ, WRITE}}


# --- users ---------------------------------------------------------------------------------------


async def test_what_is_kept_is_what_the_client_salted(ground: Ground) -> None:
    answers = await ground.alter(
        ScramAlteration("alice", SHORT, made("secret", 5000)),
        ScramAlteration("alice", LONG, made("secret", 4096, SHA_512)),
    )
    assert answers == {"alice": None}
    assert ground.shared.users["alice"].credentials == {
        SHORT: credential_for(SHA_256, "secret", b"salt", 5000),
        LONG: credential_for(SHA_512, "secret", b"salt", 4096),
    }
    assert await ground.alter(ScramAlteration("alice", SHORT)) == {"alice": None}
    assert list(ground.shared.users["alice"].credentials) == [LONG]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ([ScramAlteration("alice", "PLAIN", made())], UnsupportedSaslMechanismError),
        ([ScramAlteration("alice", "mechanism 0")], UnsupportedSaslMechanismError),
        ([ScramAlteration("", SHORT, made())], UnacceptableCredentialError),
        ([ScramAlteration("", "mechanism 0")], UnacceptableCredentialError),
        ([ScramAlteration("..", SHORT, made())], UnacceptableCredentialError),
        ([ScramAlteration("a" * 1_025, SHORT, made())], UnacceptableCredentialError),
        *(
            ([ScramAlteration("alice", SHORT, made(iterations=number))], error)
            for number, error in [
                (-1, UnacceptableCredentialError),
                (0, UnacceptableCredentialError),
                (4095, UnacceptableCredentialError),
                (16385, UnacceptableCredentialError),
            ]
        ),
        (
            [ScramAlteration("alice", SHORT, ScramUpsertion(2**31 - 1, b"s", bytes(32)))],
            UnacceptableCredentialError,
        ),
        (
            [ScramAlteration("alice", SHORT, ScramUpsertion(4096, b"", bytes(32)))],
            UnacceptableCredentialError,
        ),
        (
            [ScramAlteration("alice", SHORT, ScramUpsertion(4096, bytes(1_025), bytes(32)))],
            UnacceptableCredentialError,
        ),
        (
            [ScramAlteration("alice", LONG, ScramUpsertion(4096, b"s", bytes(32)))],
            UnacceptableCredentialError,
        ),
        ([ScramAlteration("alice", SHORT, made())] * 2, DuplicateResourceError),
        (
            [ScramAlteration("alice", SHORT), ScramAlteration("alice", SHORT, made())],
            DuplicateResourceError,
        ),
        ([ScramAlteration("alice", SHORT)], ResourceNotFoundError),
    ],
)
async def test_a_user_has_all_or_nothing_and_others_do_not_mind(
    ground: Ground, wrong: list[ScramAlteration], error: type[Exception]
) -> None:
    user = wrong[0].user
    answers = await ground.alter(
        ScramAlteration("bob", SHORT, made()),
        *wrong,
        ScramAlteration(user, LONG, made(kind=SHA_512))
        if wrong[0].mechanism != LONG
        else ScramAlteration(user, SHORT, made()),
    )
    assert answers == {"bob": None, user: error}
    assert list(ground.shared.users) == ["bob"]


async def test_nothing_that_prints_a_request_shows_what_was_salted() -> None:
    request = AlterScramRequest([ScramAlteration("alice", SHORT, made("planted"))])
    assert "alice" in repr(request)
    assert repr(made("planted")) == "ScramUpsertion(iterations=4096)"
    assert repr(made("planted").salted_password)[2:-1] not in repr(request)
