"""The guard's own rules: nobody gets past it by a method that it has not heard of, what is allowed
is handed through as it is, transactions are judged by the batches, and order is kept."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from struct import pack_into
from typing import Any

import pytest

from minikafka.api.groups import OffsetFetchGroup, OffsetFetchRequest
from minikafka.api.jobs import JobService
from minikafka.api.nodes import NodeService
from minikafka.api.requests import (
    ControllerRequest,
    CreateTopic,
    CreateTopicsRequest,
    FetchPartition,
    FetchRequest,
    ProducePartition,
    ProduceRequest,
    ProduceResult,
)
from minikafka.api.service import BrokerService, GroupService, TransactionService
from minikafka.broker.guard import (
    GuardedService,
    jobs_for,
    nodes_for,
    people,
    producing,
    replicas_for,
    service_for,
)
from minikafka.broker.guard.groups import GuardedGroups
from minikafka.broker.guard.transactions import GuardedTransactions
from minikafka.broker.jobs.ports import ReplicaService
from minikafka.errors import (
    ClusterAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)
from minikafka.model import TRANSACTIONAL, TopicPartition
from minikafka.security.acl import Entry, Operation, Pattern, Permission, ResourceType
from minikafka.security.authorizer import Authorizer
from minikafka.security.principal import Caller, Principal
from tests.helpers.brokers import batch_of
from tests.helpers.raw_service import RawService
from tests.unit.broker.guard.test_guard_against_the_table import ROWS, WHOLE, Ground

ALICE = Caller(Principal("User", "alice"), "10.1.2.3", "INSIDE")
TOPIC, ID = ResourceType.TOPIC, ResourceType.TRANSACTIONAL_ID
WRITE, READ = Operation.WRITE, Operation.READ

GUARDS: dict[type, type] = {
    BrokerService: GuardedService,
    GroupService: GuardedGroups,
    TransactionService: GuardedTransactions,
    NodeService: people.GuardedNodes,
    JobService: people.GuardedJobs,
    ReplicaService: people.GuardedReplicas,
}
_PREFIXES = {
    BrokerService: "",
    GroupService: "groups.",
    TransactionService: "transactions.",
    NodeService: "nodes.",
    JobService: "jobs.",
    ReplicaService: "replicas.",
}
# Those that need nothing, and those that have tests of their own.
OPEN = {"groups", "transactions", "broker_id"}
ELSEWHERE = {
    *("produce", "metadata", "watch", "authorized_operations", "init_producer_id", "administer"),
    *("groups.fetch_offsets", "groups.list_groups"),
    *("transactions.fences", "transactions.hears", "transactions.prepare_offsets"),
    *("transactions.list_transactions", "transactions.abort_partitions"),
}


def methods_of(protocol: type) -> list[str]:
    return [name for name in vars(protocol) if not name.startswith("_")]


def judge(*allowed: tuple[Operation, ResourceType, str]) -> Authorizer:
    authorizer = Authorizer()
    by_name: dict[tuple[ResourceType, str], list[Entry]] = {}
    for operation, type, name in allowed:
        entry = Entry(ALICE.principal, "*", operation, Permission.ALLOW)
        by_name.setdefault((type, name), []).append(entry)
    for (type, name), entries in by_name.items():
        authorizer.put(Pattern(type, name), entries)
    return authorizer


EVERYTHING = judge(
    *((Operation.ALL, type, "*") for type in ResourceType if type is not ResourceType.CLUSTER),
    (Operation.ALL, ResourceType.CLUSTER, "kafka-cluster"),
)


def produce_request(*topics: str, records: bytes = b"", **more: Any) -> ProduceRequest:
    records = records or batch_of(b"value")
    items = [ProducePartition(TopicPartition(topic, 0), records) for topic in topics]
    return ProduceRequest(-1, 1000, items, **more)


def transactional(records: bytes) -> bytes:
    changed = bytearray(records)
    changed[22] |= TRANSACTIONAL
    return bytes(changed)


# --- nothing gets past it ------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", GUARDS)
def test_every_method_of_a_service_has_a_guard(protocol: type) -> None:
    guard = GUARDS[protocol]
    missing = [name for name in methods_of(protocol) if not hasattr(guard, name)]
    assert not missing, f"{guard.__name__} lets {missing} through unseen, or has none"
    assert not hasattr(guard, "__getattr__"), "what a guard has not heard of is not delegated"


@pytest.mark.parametrize("protocol", GUARDS)
def test_every_method_of_a_service_is_in_the_table_or_has_a_test_of_its_own(
    protocol: type,
) -> None:
    tried = {name.partition("/")[0] for name in (*ROWS, *WHOLE)} | OPEN | ELSEWHERE
    prefix = _PREFIXES[protocol]
    assert not {f"{prefix}{name}" for name in methods_of(protocol)} - tried


@pytest.mark.parametrize("protocol", GUARDS)
def test_a_guard_takes_what_the_service_takes(protocol: type) -> None:
    for name in methods_of(protocol):
        asked = getattr(protocol, name)
        if inspect.isfunction(asked):
            here = inspect.signature(getattr(GUARDS[protocol], name))
            assert list(here.parameters) == list(inspect.signature(asked).parameters)


def test_each_kind_of_request_to_the_controller_is_in_the_table() -> None:
    tried = {*ROWS, *WHOLE}
    kinds = [name for name in tried if name.startswith("administer/")]
    assert len(kinds) == len(ControllerRequest.__args__)


async def test_a_kind_of_request_that_nobody_has_heard_of_is_refused() -> None:
    ground = Ground(EVERYTHING, ALICE)
    with pytest.raises(ClusterAuthorizationFailedError, match="User:alice may not ClusterAction"):
        await ground.administer("something new", 1)
    assert not ground.raw.calls


def test_where_nobody_judges_there_is_no_guard() -> None:
    service: Any = RawService()
    assert service_for(service, None, ALICE) is service
    assert nodes_for(service, None, ALICE) is service
    assert jobs_for(service, None, ALICE) is service
    assert replicas_for(service, None, ALICE) is service


# --- what is allowed is handed through -----------------------------------------------------------


async def test_where_all_is_allowed_the_request_is_the_same_object() -> None:
    ground = Ground(EVERYTHING, ALICE)
    for row in ROWS.values():
        ground.raw.calls.clear()
        await ground.outcome(lambda service, row=row: row.ask(service, ["a", "b"]))
        assert len(ground.raw.calls) == 1
    asked = produce_request("a", "b")
    fetch = FetchRequest(1, 1, 1, [FetchPartition(TopicPartition("a", 0), 0, 1)])
    create = CreateTopicsRequest([CreateTopic("a")])
    ground.raw.calls.clear()
    started = ground.produce(asked)
    assert type(started) is asyncio.Future
    await ground.fetch(fetch)
    await ground.administer(create, 1)
    for (_, args), request in zip(ground.raw.calls, (asked, fetch, create), strict=True):
        assert args[0] is request


async def test_what_is_started_is_handed_back_as_it_is() -> None:
    raw: Any = RawService()
    started = object()
    raw.answers["produce"] = lambda request: started
    assert service_for(raw, EVERYTHING, ALICE).produce(produce_request("a")) is started


# --- produce -------------------------------------------------------------------------------------


def errors_of(results: Sequence[ProduceResult]) -> list[tuple[str, int]]:
    return [(r.topic_partition.topic, r.error.code if r.error else 0) for r in results]


async def test_a_batch_of_a_transaction_needs_its_id_whatever_the_request_says() -> None:
    records = transactional(batch_of(b"value"))
    for entries, transactional_id, code in (
        ([(WRITE, ID, "mine")], "mine", 0),
        ([(WRITE, ID, "mine")], "yours", 53),
        ([(WRITE, ID, "*")], None, 53),
        ([], "mine", 53),
    ):
        ground = Ground(judge((WRITE, TOPIC, "a"), (WRITE, TOPIC, "b"), *entries), ALICE)
        request = produce_request("a", records=records, transactional_id=transactional_id)
        request.partitions = [*produce_request("b").partitions, *request.partitions]
        results = await ground.produce(request)
        assert errors_of(results) == [("b", code), ("a", code)]
        assert len(ground.raw.calls) == (code == 0)


async def test_an_id_alone_makes_no_transaction() -> None:
    ground = Ground(judge((WRITE, TOPIC, "a")), ALICE)
    results = await ground.produce(produce_request("a", transactional_id="yours"))
    assert errors_of(results) == [("a", 0)]


def test_each_batch_is_looked_at() -> None:
    plain = batch_of(b"value")
    assert not producing.is_of_transaction(plain * 3)
    for place in range(3):
        batches = [plain] * 3
        batches[place] = transactional(plain)
        assert producing.is_of_transaction(memoryview(b"".join(batches)))
    assert not producing.is_of_transaction(b"")
    assert not producing.is_of_transaction(transactional(plain)[:60])


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 48, 2**31 - 1])
def test_a_length_that_nobody_takes_ends_the_look(length: int) -> None:
    broken = bytearray(batch_of(b"value") * 2)
    pack_into(">i", broken, 8, length)
    assert not producing.is_of_transaction(broken)


async def test_a_request_for_many_partitions_goes_before_what_comes_after_it() -> None:
    authorizer = judge((WRITE, TOPIC, "a"), (WRITE, TOPIC, "b"))
    ground = Ground(authorizer, ALICE)
    many = produce_request("c")
    many.partitions = [
        ProducePartition(TopicPartition(topic, number), b"x")
        for number in range(producing.FEW)
        for topic in ("a", "c")
    ]
    first, second = ground.produce(many), ground.produce(produce_request("b"))
    third = ground.produce(produce_request("c"))
    results = await asyncio.gather(first, second, third)
    reached = [
        [each.topic_partition.topic for each in r.partitions] for _, (r,) in ground.raw.calls
    ]
    assert reached == [["a"] * producing.FEW, ["b"]]
    assert errors_of(results[0]) == [("a", 0), ("c", 29)] * producing.FEW
    assert [errors_of(each) for each in results[1:]] == [[("b", 0)], [("c", 29)]]
    assert type(ground.produce(produce_request("b"))) is asyncio.Future  # nothing is ahead


async def test_a_long_request_is_judged_by_its_batches_too() -> None:
    ground = Ground(judge((WRITE, TOPIC, "a")), ALICE)
    records = transactional(batch_of(b"value"))
    items = [ProducePartition(TopicPartition("a", n), records) for n in range(producing.FEW + 1)]
    results = await ground.produce(ProduceRequest(-1, 1, items, transactional_id="yours"))
    assert {type(each.error) for each in results} == {TransactionalIdAuthorizationFailedError}
    assert len(results) == len(items)
    assert not ground.raw.calls


async def test_who_gives_up_does_not_stop_what_comes_after() -> None:
    ground = Ground(judge((WRITE, TOPIC, "a")), ALICE)
    many = produce_request(*["a"] * (producing.FEW + 1))
    first: Any = ground.produce(many)
    second = ground.produce(produce_request("a"))
    first.cancel()
    async with asyncio.timeout(10):
        assert errors_of(await second) == [("a", 0)]


async def test_who_gives_up_does_not_let_others_go_before_what_came_first() -> None:
    ground = Ground(judge(*((WRITE, TOPIC, name) for name in "abc")), ALICE)
    many = [produce_request(*[name] * (producing.FEW + 1)) for name in "ab"]
    first: Any = ground.produce(many[0])
    second: Any = ground.produce(many[1])
    third: Any = ground.produce(produce_request("c"))
    second.cancel()
    await asyncio.gather(first, third)
    reached = [request.partitions[0].topic_partition.topic for _, (request,) in ground.raw.calls]
    assert reached == ["a", "c"]


@pytest.mark.parametrize(
    ("makes_topics", "creates", "code"),
    [(False, False, 3), (False, True, 3), (True, False, 29), (True, True, 0)],
)
async def test_a_topic_that_is_not_there_is_made_by_who_may_create_it(
    makes_topics: bool, creates: bool, code: int
) -> None:
    entries = [(Operation.CREATE, TOPIC, "new")] if creates else []
    ground = Ground(judge((Operation.DESCRIBE, TOPIC, "*"), *entries), ALICE)
    ground.raw.makes_topics = makes_topics
    found = await ground.metadata(["new", "a"], True)
    assert [(t.name, t.error.code if t.error else 0) for t in found.topics] == [
        ("new", code),
        ("a", 0),
    ]
    assert ("new" in ground.raw.topics) is (code == 0)


async def test_a_group_is_not_asked_for_offsets_of_topics_that_are_refused() -> None:
    ground = Ground(judge((Operation.DESCRIBE, ResourceType.GROUP, "g")), ALICE)
    wanted = OffsetFetchGroup("g", [TopicPartition("a", 0)])
    [group] = (await ground.groups.fetch_offsets(OffsetFetchRequest([wanted]))).groups
    assert group.error is None
    assert isinstance(group.partitions[0].error, TopicAuthorizationFailedError)
    assert not ground.raw.calls


async def test_a_fetch_of_what_is_refused_is_answered_at_once() -> None:
    ground = Ground(judge((READ, TOPIC, "a")), ALICE)
    ground.raw.answers["fetch"] = lambda request: pytest.fail("this would wait")
    request = FetchRequest(600_000, 1, 1, [FetchPartition(TopicPartition("b", 0), 0, 1)])
    async with asyncio.timeout(10):
        [result] = await ground.fetch(request)
    assert isinstance(result.error, TopicAuthorizationFailedError)


# --- the judge -----------------------------------------------------------------------------------


class Broken(Authorizer):
    def decide(self, *args: Any) -> Any:
        raise RuntimeError("what now?")

    decide_any = decide


async def test_what_cannot_be_judged_is_denied() -> None:
    ground = Ground(Broken(), ALICE)
    for row in ROWS.values():
        answer = await ground.outcome(lambda service, row=row: row.ask(service, ["a"]))
        assert None not in row.errors(answer)
    with pytest.raises(ClusterAuthorizationFailedError):
        await ground.init_producer_id()
    await ground.transactions.prepare_offsets()
    assert ground.authorized_operations(TOPIC, "a") == 0
    assert not ground.raw.calls


class Counting(Authorizer):
    def __init__(self) -> None:
        super().__init__(allow_if_no_acl=True)
        self.asked: list[str] = []

    def allows(self, caller: Caller, operation: Operation, type: ResourceType, name: str) -> bool:
        self.asked.append(name)
        return super().allows(caller, operation, type, name)


async def test_the_judge_is_asked_once_a_topic() -> None:
    authorizer = Counting()
    ground = Ground(authorizer, ALICE)
    for name in ("produce", "fetch", "list_offsets", "describe_partitions"):
        authorizer.asked.clear()
        await ground.outcome(lambda service, name=name: ROWS[name].ask(service, list("abab")))
        assert sorted(authorizer.asked) == ["a", "b"], name


async def test_a_change_of_the_entries_holds_at_once() -> None:
    authorizer = judge((WRITE, TOPIC, "a"))
    ground = Ground(authorizer, ALICE)
    assert errors_of(await ground.produce(produce_request("a"))) == [("a", 0)]
    authorizer.put(Pattern(TOPIC, "a"), ())
    assert errors_of(await ground.produce(produce_request("a"))) == [("a", 29)]


async def test_what_a_connection_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minikafka.broker.guard.asking.MAX_OPEN", 3)
    ground = Ground(EVERYTHING, ALICE)
    for number in range(20):
        await ground.produce(produce_request(f"t{number}", "a" * 300))
        known = ground.service._asking._open[WRITE]
        assert len(known) <= 3
        assert "a" * 300 not in known


async def test_offsets_have_a_place_made_by_who_may_write_under_some_id() -> None:
    for authorizer, called in ((judge(), []), (judge((WRITE, ID, "mine")), ["prepare_offsets"])):
        ground = Ground(authorizer, ALICE)
        await ground.transactions.prepare_offsets()
        assert [name for name, _ in ground.raw.calls] == called


async def test_an_error_says_who_may_not_do_what() -> None:
    ground = Ground(judge(), ALICE)
    [result] = await ground.produce(produce_request("evil\n" + "x" * 1000))
    shown = "evil\\n" + "x" * 250
    assert str(result.error) == f"User:alice may not Write the Topic '{shown}'"
