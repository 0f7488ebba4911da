"""Whatever entries there are, the guard does what a table says that it should, judged by a twin
that looks at every entry: what is refused, by which error and in which place, and what reaches the
service behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.api.access import AlterScramRequest, CreateAclsRequest, DeleteAclsRequest
from minikafka.api.groups import (
    COORDINATES_TRANSACTIONS,
    DeleteGroupsRequest,
    DescribeGroupsRequest,
    FindCoordinatorRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchGroup,
    OffsetFetchRequest,
    SyncGroupRequest,
)
from minikafka.api.jobs import JobSpec
from minikafka.api.requests import (
    AllocateProducerIdsRequest,
    AlterBrokerConfigRequest,
    AlterPartitionRequest,
    AlterReassignmentsRequest,
    AlterTopicConfigRequest,
    ControlledShutdownRequest,
    CreatePartitionsRequest,
    CreateTopic,
    CreateTopicsRequest,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    EpochEndQuery,
    FetchPartition,
    FetchRequest,
    ListOffsetsPartition,
    ListReassignmentsRequest,
    ProducePartition,
    ProduceRequest,
    ReportFailedReplicas,
)
from minikafka.api.transactions import (
    AbortPartition,
    AddOffsetsRequest,
    AddPartitionsRequest,
    EndTransactionRequest,
    InitProducerIdRequest,
    NewestOf,
    TxnOffsetCommitRequest,
)
from minikafka.broker.guard import jobs_for, nodes_for, replicas_for, service_for
from minikafka.broker.guard.audit import Audit
from minikafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    MinikafkaError,
    OperationNotAttemptedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)
from minikafka.model import TopicPartition
from minikafka.security.acl import (
    CLUSTER_NAME,
    IMPLIED_BY,
    SUPPORTED,
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
from tests.helpers.amounts import amount
from tests.helpers.raw_service import RawService, Recorder

ALICE = Caller(Principal("User", "alice"), "10.1.2.3", "INSIDE")
BOB = Caller(Principal("User", "bob"), "10.1.2.4", "INSIDE")
TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
ID = ResourceType.TRANSACTIONAL_ID
O = Operation  # noqa: E741
NO_TOPIC, NO_GROUP = TopicAuthorizationFailedError, GroupAuthorizationFailedError
NO_ID, NO_CLUSTER = TransactionalIdAuthorizationFailedError, ClusterAuthorizationFailedError
NAMES = ("a", "ab", "b")

May = Callable[[Operation, ResourceType, str], bool]
Wrong = type[MinikafkaError] | None
Names = Sequence[str]


class Outcome(NamedTuple):
    """`errors`: of each thing that was asked for, in order. `reached`: the names of those that the
    service behind was asked for, call by call."""

    errors: list[Wrong]
    reached: list[list[str]]


class Row(NamedTuple):
    """`ask` asks the guard for things of these names; `errors` reads the answer; `names` reads what
    reached the service; `twin` says what is to be."""

    ask: Callable[[Any, Names], Any]
    errors: Callable[[Any], list[Wrong]]
    names: Callable[[Any], list[str]]
    twin: Callable[[May, Names], Outcome]


def wrong(error: MinikafkaError | None) -> Wrong:
    return None if error is None else type(error)


def tp(name: str) -> TopicPartition:
    return TopicPartition(name, 0)


def each_of(items: Sequence[Any]) -> list[Wrong]:
    return [wrong(each.error) for each in items]


# --- what is to be -------------------------------------------------------------------------------


def by_item(
    operation: Operation, type: ResourceType, error: Wrong, *, once: bool = False
) -> Callable[[May, Names], Outcome]:
    def twin(may: May, names: Names) -> Outcome:
        asked = list(dict.fromkeys(names)) if once else list(names)
        allowed = [name for name in asked if may(operation, type, name)]
        if len(allowed) == len(asked):
            allowed = list(names)
        errors = [None if may(operation, type, name) else error for name in asked]
        return Outcome(errors, [allowed] if allowed else [])

    return twin


def of_group_and_topics(
    on_group: Operation, on_topics: Operation, on_id: Operation | None = None
) -> Callable[[May, Names], Outcome]:
    """Of group g, in the name of id t if `on_id` says so."""

    def twin(may: May, names: Names) -> Outcome:
        asked = list(dict.fromkeys(names))
        if on_id is not None and not may(on_id, ID, "t"):
            return Outcome([NO_ID] * len(asked), [])
        if not may(on_group, GROUP, "g"):
            return Outcome([NO_GROUP] * len(asked), [])
        return by_item(on_topics, TOPIC, NO_TOPIC, once=True)(may, names)

    return twin


def first_of_topics(names: Any) -> list[str]:
    return [each.topic_partition.topic for each in names]


TOPICS: dict[str, Row] = {
    "produce": Row(
        lambda s, names: s.produce(
            ProduceRequest(-1, 1, [ProducePartition(tp(name), b"x") for name in names])
        ),
        each_of,
        lambda args: first_of_topics(args[0].partitions),
        by_item(O.WRITE, TOPIC, NO_TOPIC),
    ),
    "fetch": Row(
        lambda s, names: s.fetch(
            FetchRequest(500, 1, 1, [FetchPartition(tp(name), 0, 1) for name in names])
        ),
        each_of,
        lambda args: first_of_topics(args[0].partitions),
        by_item(O.READ, TOPIC, NO_TOPIC),
    ),
    "list_offsets": Row(
        lambda s, names: s.list_offsets([ListOffsetsPartition(tp(n), -1) for n in names]),
        each_of,
        lambda args: first_of_topics(args[0]),
        by_item(O.DESCRIBE, TOPIC, NO_TOPIC),
    ),
    "epoch_ends": Row(
        lambda s, names: s.epoch_ends([EpochEndQuery(tp(name), 1) for name in names]),
        each_of,
        lambda args: first_of_topics(args[0]),
        by_item(O.DESCRIBE, TOPIC, NO_TOPIC),
    ),
    "delete_records": Row(
        lambda s, names: s.delete_records(
            DeleteRecordsRequest(1, [DeleteRecordsPartition(tp(name), 0) for name in names])
        ),
        each_of,
        lambda args: first_of_topics(args[0].partitions),
        by_item(O.DELETE, TOPIC, NO_TOPIC),
    ),
    "describe_partitions": Row(
        lambda s, names: s.describe_partitions([tp(name) for name in names]),
        each_of,
        lambda args: [each.topic for each in args[0]],
        by_item(O.DESCRIBE, TOPIC, NO_TOPIC, once=True),
    ),
    "transactions.describe_producers": Row(
        lambda s, names: s.transactions.describe_producers([tp(name) for name in names]),
        each_of,
        lambda args: [each.topic for each in args[0]],
        by_item(O.READ, TOPIC, NO_TOPIC, once=True),
    ),
    "groups.commit_offsets": Row(
        lambda s, names: s.groups.commit_offsets(
            OffsetCommitRequest("g", [OffsetCommitPartition(tp(name), 1) for name in names])
        ),
        lambda result: each_of(result.partitions),
        lambda args: first_of_topics(args[0].partitions),
        of_group_and_topics(O.READ, O.READ),
    ),
    "groups.commit_offsets_in_transaction": Row(
        lambda s, names: s.groups.commit_offsets_in_transaction(
            TxnOffsetCommitRequest(
                "t", 1, 1, "g", [OffsetCommitPartition(tp(name), 1) for name in names]
            )
        ),
        lambda result: each_of(result.partitions),
        lambda args: first_of_topics(args[0].partitions),
        of_group_and_topics(O.READ, O.READ, O.WRITE),
    ),
    "groups.delete_offsets": Row(
        lambda s, names: s.groups.delete_offsets(
            OffsetDeleteRequest("g", list(dict.fromkeys(tp(name) for name in names)))
        ),
        lambda result: each_of(result.partitions) if result.error is None else [],
        lambda args: [each.topic for each in args[0].partitions],
        lambda may, names: (
            _deleted(may, list(dict.fromkeys(names)))
            if may(O.DELETE, GROUP, "g")
            else Outcome([], [])
        ),
    ),
}


def _deleted(may: May, names: Names) -> Outcome:
    return by_item(O.READ, TOPIC, NO_TOPIC, once=True)(may, names)


def by_id(operation: Operation) -> Callable[[May, Names], Outcome]:
    return by_item(operation, ID, NO_ID, once=True)


def by_group(operation: Operation) -> Callable[[May, Names], Outcome]:
    return by_item(operation, GROUP, NO_GROUP, once=True)


NAMED: dict[str, Row] = {
    "groups.find_coordinator": Row(
        lambda s, names: s.groups.find_coordinator(FindCoordinatorRequest(names)),
        lambda result: each_of(result.coordinators),
        lambda args: list(args[0].keys),
        by_group(O.DESCRIBE),
    ),
    "groups.describe_groups": Row(
        lambda s, names: s.groups.describe_groups(DescribeGroupsRequest(names)),
        lambda result: each_of(result.groups),
        lambda args: list(args[0].group_ids),
        by_group(O.DESCRIBE),
    ),
    "groups.delete_groups": Row(
        lambda s, names: s.groups.delete_groups(DeleteGroupsRequest(names)),
        lambda result: each_of(result.groups),
        lambda args: list(args[0].group_ids),
        by_group(O.DELETE),
    ),
    "transactions.find_coordinator": Row(
        lambda s, names: s.transactions.find_coordinator(
            FindCoordinatorRequest(names, COORDINATES_TRANSACTIONS)
        ),
        lambda result: each_of(result.coordinators),
        lambda args: list(args[0].keys),
        by_id(O.DESCRIBE),
    ),
    "transactions.describe_transactions": Row(
        lambda s, names: s.transactions.describe_transactions(names),
        each_of,
        lambda args: list(args[0]),
        by_id(O.DESCRIBE),
    ),
    "administer/delete": Row(
        lambda s, names: s.administer(DeleteTopicsRequest(names), 1),
        lambda result: each_of(result.results),
        lambda args: list(args[0].names),
        lambda may, names: by_item(O.DELETE, TOPIC, NO_TOPIC)(may, list(dict.fromkeys(names))),
    ),
    "administer/create": Row(
        lambda s, names: s.administer(CreateTopicsRequest([CreateTopic(n) for n in names]), 1),
        lambda result: each_of(result.results),
        lambda args: [each.name for each in args[0].topics],
        lambda may, names: (
            Outcome([None] * len(names), [list(names)])
            if may(O.CREATE, CLUSTER, CLUSTER_NAME)
            else by_item(O.CREATE, TOPIC, NO_TOPIC)(may, names)
        ),
    ),
}
NAMED_ONCE = {"administer/delete", "administer/create"}  # the doors refuse what is named twice


def _added(may: May, names: Names) -> Outcome:
    if not may(O.WRITE, ID, "t"):
        return Outcome([NO_ID] * len(names), [])
    refused = {name for name in names if not may(O.WRITE, TOPIC, name)}
    if not refused:
        return Outcome([None] * len(names), [list(names)])
    others = OperationNotAttemptedError
    return Outcome([NO_TOPIC if name in refused else others for name in names], [])


ADDED = Row(
    lambda s, names: s.transactions.add_partitions(
        AddPartitionsRequest("t", 1, 1, [tp(name) for name in names])
    ),
    lambda result: [wrong(error) for error in result.values()],
    lambda args: [each.topic for each in args[0].partitions],
    _added,
)


# --- what is asked as a whole --------------------------------------------------------------------

Need = list[tuple[Operation, ResourceType, str, Wrong]]


class Whole(NamedTuple):
    """`needs`: all of them; the first that is not there is the error."""

    ask: Callable[[Any], Any]
    needs: Need


def of_cluster(ask: Callable[[Any], Any], operation: Operation) -> Whole:
    return Whole(ask, [(operation, CLUSTER, CLUSTER_NAME, NO_CLUSTER)])


def of_topic(ask: Callable[[Any], Any], operation: Operation) -> Whole:
    return Whole(ask, [(operation, TOPIC, "a", NO_TOPIC)])


def of_group(ask: Callable[[Any], Any]) -> Whole:
    return Whole(ask, [(O.READ, GROUP, "a", NO_GROUP)])


WRITE_ID = (O.WRITE, ID, "a", NO_ID)

WHOLE: dict[str, Whole] = {
    "groups.join_group": of_group(
        lambda s: s.groups.join_group(JoinGroupRequest("a", "", "consumer", [], 1, 1))
    ),
    "groups.sync_group": of_group(lambda s: s.groups.sync_group(SyncGroupRequest("a", 1, "m"))),
    "groups.heartbeat": of_group(lambda s: s.groups.heartbeat(HeartbeatRequest("a", 1, "m"))),
    "groups.leave_group": of_group(lambda s: s.groups.leave_group(LeaveGroupRequest("a", []))),
    "transactions.init_producer_id": Whole(
        lambda s: s.transactions.init_producer_id(InitProducerIdRequest("a", 1)), [WRITE_ID]
    ),
    "transactions.end": Whole(
        lambda s: s.transactions.end(EndTransactionRequest("a", 1, 1, True, 5)), [WRITE_ID]
    ),
    "transactions.add_offsets": Whole(
        lambda s: s.transactions.add_offsets(AddOffsetsRequest("a", 1, 1, "b")),
        [WRITE_ID, (O.READ, GROUP, "b", NO_GROUP)],
    ),
    "describe_topic_configs": of_topic(lambda s: s.describe_topic_configs("a"), O.DESCRIBE_CONFIGS),
    "describe_configs": of_topic(lambda s: s.describe_configs("a"), O.DESCRIBE_CONFIGS),
    "describe_new_topic": of_topic(
        lambda s: s.describe_new_topic(CreateTopic("a")), O.DESCRIBE_CONFIGS
    ),
    "check_topic_configs": of_topic(lambda s: s.check_topic_configs("a", {}), O.ALTER_CONFIGS),
    "describe_broker_configs": of_cluster(
        lambda s: s.describe_broker_configs("7"), O.DESCRIBE_CONFIGS
    ),
    "broker_overrides": of_cluster(lambda s: s.broker_overrides("7"), O.DESCRIBE_CONFIGS),
    "check_broker_configs": of_cluster(lambda s: s.check_broker_configs("7", {}), O.ALTER_CONFIGS),
    "describe_log_dir": of_cluster(lambda s: s.describe_log_dir(), O.DESCRIBE),
    "broker_metrics": of_cluster(lambda s: s.broker_metrics(), O.DESCRIBE),
    "replica_fetch": of_cluster(lambda s: s.replica_fetch("any"), O.CLUSTER_ACTION),
    "check_partitions": of_cluster(lambda s: s.check_partitions("any"), O.CLUSTER_ACTION),
    "write_markers": of_cluster(lambda s: s.write_markers("any"), O.CLUSTER_ACTION),
    "update_state": of_cluster(lambda s: s.update_state("any"), O.CLUSTER_ACTION),
    "alter_partition": of_cluster(
        lambda s: s.alter_partition(AlterPartitionRequest(1, 1, [])), O.CLUSTER_ACTION
    ),
    "controlled_shutdown": of_cluster(
        lambda s: s.controlled_shutdown(ControlledShutdownRequest(1, 1)), O.CLUSTER_ACTION
    ),
    "controller_call": of_cluster(
        lambda s: s.controller_call(DeleteTopicsRequest(["a"])), O.CLUSTER_ACTION
    ),
    "administer/partitions": of_topic(
        lambda s: s.administer(CreatePartitionsRequest("a", 3), 1), O.ALTER
    ),
    "administer/topic configs": of_topic(
        lambda s: s.administer(AlterTopicConfigRequest("a", {}), 1), O.ALTER_CONFIGS
    ),
    "administer/broker configs": of_cluster(
        lambda s: s.administer(AlterBrokerConfigRequest("1", {}), 1), O.ALTER_CONFIGS
    ),
    "administer/elect": of_cluster(
        lambda s: s.administer(ElectLeadersRequest(False, []), 1), O.ALTER
    ),
    "administer/reassign": of_cluster(
        lambda s: s.administer(AlterReassignmentsRequest({}), 1), O.ALTER
    ),
    "administer/reassignments": of_cluster(
        lambda s: s.administer(ListReassignmentsRequest(), 1), O.DESCRIBE
    ),
    "administer/failed": of_cluster(
        lambda s: s.administer(ReportFailedReplicas(1, 1, []), 1), O.CLUSTER_ACTION
    ),
    "administer/create acls": of_cluster(lambda s: s.administer(CreateAclsRequest([]), 1), O.ALTER),
    "administer/delete acls": of_cluster(lambda s: s.administer(DeleteAclsRequest([]), 1), O.ALTER),
    "administer/scram": of_cluster(lambda s: s.administer(AlterScramRequest([]), 1), O.ALTER),
    "describe_acls": of_cluster(lambda s: s.describe_acls(EntryFilter()), O.DESCRIBE),
    "describe_scram": of_cluster(lambda s: s.describe_scram(["a"]), O.DESCRIBE),
    "administer/producer ids": of_cluster(
        lambda s: s.administer(AllocateProducerIdsRequest(1, 1), 1), O.CLUSTER_ACTION
    ),
    "nodes.list_nodes": of_cluster(lambda s: s.nodes.list_nodes(), O.DESCRIBE),
    "nodes.describe_controller": of_cluster(lambda s: s.nodes.describe_controller(), O.DESCRIBE),
    "jobs.list_jobs": of_cluster(lambda s: s.jobs.list_jobs([]), O.DESCRIBE),
    "jobs.submit_job": of_cluster(lambda s: s.jobs.submit_job(JobSpec("scrub", "a"), ""), O.ALTER),
    "jobs.cancel_job": of_cluster(lambda s: s.jobs.cancel_job("1"), O.ALTER),
    "replicas.verify": of_cluster(lambda s: s.replicas.verify("any"), O.CLUSTER_ACTION),
    "replicas.digest": of_cluster(lambda s: s.replicas.digest("any"), O.CLUSTER_ACTION),
}
# --- the twin, and what is tried -----------------------------------------------------------------


class Ground:
    """A guard of everything that a caller may ask for, over services that write down what comes."""

    def __init__(self, authorizer: Authorizer, caller: Caller = ALICE) -> None:
        self.raw = RawService()
        self.service: Any = service_for(self.raw, authorizer, caller, Audit(lambda: 0.0))
        raw: Any = Recorder(self.raw.calls, {})
        self.nodes = nodes_for(raw, authorizer, caller)
        self.jobs = jobs_for(raw, authorizer, caller)
        self.replicas = replicas_for(raw, authorizer, caller)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.service, name)

    async def outcome(self, asked: Callable[[Any], Any]) -> Any:
        try:
            answer = asked(self)
            return await answer if isinstance(answer, Awaitable) else answer
        except MinikafkaError as error:
            return error


def twin(rules: Sequence[Rule], caller: Caller) -> May:
    """The order of the judge, entry by entry, for who is no super user."""

    def may(operation: Operation, type: ResourceType, name: str) -> bool:
        about = [
            entry
            for pattern, entry in rules
            if pattern.type is type
            and (
                name.startswith(pattern.name)
                if pattern.kind is PatternType.PREFIXED
                else pattern.name in (name, "*")
            )
            and entry.principal in (caller.principal, EVERYBODY)
            and entry.host in ("*", caller.host)
        ]
        denied = any(
            entry.permission is Permission.DENY and entry.operation in (operation, O.ALL)
            for entry in about
        )
        giving = {*IMPLIED_BY.get(operation, ()), operation, O.ALL}
        allowed = any(
            entry.permission is Permission.ALLOW and entry.operation in giving for entry in about
        )
        return allowed and not denied

    return may


@st.composite
def rule(draw: st.DrawFn) -> Rule:
    type = draw(st.sampled_from([TOPIC, GROUP, CLUSTER, ID]))
    operation = draw(st.sampled_from(sorted({*SUPPORTED[type], O.ALL})))
    if type is CLUSTER:
        pattern = Pattern(type, CLUSTER_NAME)
    else:
        kind = draw(st.sampled_from(PatternType))
        names = st.sampled_from([*NAMES, "g", "t"])
        if kind is PatternType.LITERAL:
            names |= st.just("*")
        pattern = Pattern(type, draw(names), kind)
    entry = Entry(
        draw(st.sampled_from([ALICE.principal, BOB.principal, EVERYBODY])),
        draw(st.sampled_from(["*", "*", ALICE.host, BOB.host])),
        operation,
        draw(st.sampled_from([Permission.ALLOW, Permission.ALLOW, Permission.DENY])),
    )
    return Rule(pattern, entry)


def judge(rules: Sequence[Rule]) -> Authorizer:
    entries: dict[Pattern, set[Entry]] = {}
    for pattern, entry in rules:
        entries.setdefault(pattern, set()).add(entry)
    authorizer = Authorizer()
    authorizer.replace(entries)
    return authorizer


RULES = st.lists(rule(), max_size=12)
SOME_NAMES = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)
ROWS = {**TOPICS, **NAMED, "transactions.add_partitions": ADDED}


@settings(max_examples=amount(100), deadline=None, database=None)
@given(RULES, SOME_NAMES)
def test_what_is_asked_of_many_is_refused_one_by_one(rules: list[Rule], names: list[str]) -> None:
    async def check() -> None:
        for name, row in ROWS.items():
            once = name in NAMED_ONCE or row is ADDED
            await _check(row, rules, list(dict.fromkeys(names)) if once else names)

    asyncio.run(check())


async def _check(row: Row, rules: list[Rule], names: list[str]) -> None:
    ground = Ground(judge(rules))
    answer = await ground.outcome(lambda service: row.ask(service, names))
    reached = [row.names(args) for _, args in ground.raw.calls]
    assert Outcome(row.errors(answer), reached) == row.twin(twin(rules, ALICE), names), row


def refusal(answer: Any) -> Wrong:
    """Of what was asked as a whole, in whichever way it is said."""
    if isinstance(answer, MinikafkaError):
        return type(answer)
    results = getattr(answer, "results", None)
    return wrong(getattr(results[0] if results else answer, "error", None))


@settings(max_examples=amount(100), deadline=None, database=None)
@given(RULES)
def test_what_is_asked_as_a_whole_is_refused_or_handed_on(rules: list[Rule]) -> None:
    async def check() -> None:
        for name, whole in WHOLE.items():
            await _check_whole(name, whole, rules)

    asyncio.run(check())


async def _check_whole(name: str, whole: Whole, rules: list[Rule]) -> None:
    may = twin(rules, ALICE)
    missing = (error for op, type, of, error in whole.needs if not may(op, type, of))
    expected = next(missing, None)
    ground = Ground(judge(rules))
    answer = await ground.outcome(whole.ask)
    assert refusal(answer) is expected, name
    method = name.partition("/")[0].rpartition(".")[2]
    assert [called for called, _ in ground.raw.calls] == ([] if expected else [method])


# --- those that are like no other ----------------------------------------------------------------


@settings(max_examples=amount(100), deadline=None, database=None)
@given(RULES, st.lists(st.sampled_from([*NAMES, "new", "abnew"]), max_size=5), st.booleans())
def test_metadata_shows_what_may_be_described_and_makes_what_may_be_created(
    rules: list[Rule], names: list[str], makes_topics: bool
) -> None:
    async def check() -> None:
        may = twin(rules, ALICE)
        ground = Ground(judge(rules))
        ground.raw.topics, ground.raw.makes_topics = list(NAMES), makes_topics
        found = await ground.metadata(names, True)
        expected: list[tuple[str, int]] = []
        for name in dict.fromkeys(names):
            creates = may(O.CREATE, CLUSTER, CLUSTER_NAME) or may(O.CREATE, TOPIC, name)
            if not may(O.DESCRIBE, TOPIC, name):
                expected.append((name, 29))
            elif name in NAMES or (makes_topics and creates):
                expected.append((name, 0))
            else:
                expected.append((name, 29 if makes_topics else 3))
        answers = [(each.name, each.error.code if each.error else 0) for each in found.topics]
        assert answers == expected
        made = {name for name, code in expected if code == 0} - {*NAMES}
        assert set(ground.raw.topics) == {*NAMES} | made
        everything = await ground.metadata(None, True)
        seen = [name for name in ground.raw.topics if may(O.DESCRIBE, TOPIC, name)]
        assert [each.name for each in everything.topics] == seen

    asyncio.run(check())


@settings(max_examples=amount(100), deadline=None, database=None)
@given(RULES, st.lists(st.sampled_from(NAMES), max_size=3), st.lists(st.sampled_from(NAMES)))
def test_committed_offsets_are_told_of_groups_and_topics_that_may_be_described(
    rules: list[Rule], groups: list[str], topics: list[str]
) -> None:
    async def check() -> None:
        may = twin(rules, ALICE)
        ground = Ground(judge(rules))
        named = [OffsetFetchGroup(each, [tp(topic) for topic in topics]) for each in groups]
        whole = [OffsetFetchGroup(each, None) for each in groups]
        found = await ground.groups.fetch_offsets(OffsetFetchRequest([*named, *whole]))
        expected = []
        for group in named:
            if not may(O.DESCRIBE, GROUP, group.group_id):
                expected.append((group.group_id, NO_GROUP, []))
                continue
            wanted = [(t, None if may(O.DESCRIBE, TOPIC, t) else NO_TOPIC) for t in topics]
            expected.append((group.group_id, None, wanted))
        for group in whole:
            if not may(O.DESCRIBE, GROUP, group.group_id):
                expected.append((group.group_id, NO_GROUP, []))
                continue
            seen = [(t, None) for t in "abc" if may(O.DESCRIBE, TOPIC, t)]
            expected.append((group.group_id, None, seen))
        answers = [
            (
                each.group_id,
                wrong(each.error),
                [(one.topic_partition.topic, wrong(one.error)) for one in each.partitions],
            )
            for each in found.groups
        ]
        assert answers == expected
        reached = [
            topic.topic
            for _, (request,) in ground.raw.calls
            for group in request.groups
            for topic in [TopicPartition("", 0), *(group.partitions or ())][1:]
            if not may(O.DESCRIBE, TOPIC, topic.topic)
        ]
        assert not reached
        assert all(
            may(O.DESCRIBE, GROUP, group.group_id)
            for _, (request,) in ground.raw.calls
            for group in request.groups
        )

    asyncio.run(check())


@settings(max_examples=amount(100), deadline=None, database=None)
@given(RULES)
def test_of_all_that_there_are_those_are_listed_that_may_be_described(rules: list[Rule]) -> None:
    async def check() -> None:
        may = twin(rules, ALICE)
        ground = Ground(judge(rules))
        groups = (await ground.groups.list_groups("any")).groups
        everything = may(O.DESCRIBE, CLUSTER, CLUSTER_NAME)
        seen = [name for name in "abc" if everything or may(O.DESCRIBE, GROUP, name)]
        assert [each.group_id for each in groups] == seen
        transactions = (await ground.transactions.list_transactions("any")).transactions
        ids = [name for name in "abc" if may(O.DESCRIBE, ID, name)]
        assert [each.transactional_id for each in transactions] == ids
        described = await ground.transactions.describe_transactions(["a"])
        topics = [topic for topic in "abc" if may(O.DESCRIBE, TOPIC, topic)]
        assert [each.topic for each in described[0].partitions] == (topics if "a" in ids else [])

    asyncio.run(check())


@settings(max_examples=amount(100), deadline=None, database=None)
@given(RULES)
def test_what_one_may_do_is_told_bit_by_bit(rules: list[Rule]) -> None:
    may = twin(rules, ALICE)
    ground = Ground(judge(rules))
    for type, name in ((TOPIC, "ab"), (GROUP, "a"), (ID, "a")):
        bits = sum(1 << each for each in SUPPORTED[type] if may(each, type, name))
        assert ground.authorized_operations(type, name) == bits
    bits = sum(1 << each for each in SUPPORTED[CLUSTER] if may(each, CLUSTER, CLUSTER_NAME))
    if not may(O.DESCRIBE, CLUSTER, CLUSTER_NAME):
        bits = 0
    assert ground.authorized_operations(CLUSTER, CLUSTER_NAME) == bits
    assert not ground.raw.calls


@settings(max_examples=amount(100), deadline=None, database=None)
@given(RULES)
def test_who_may_not_write_under_an_id_speaks_for_nobody(rules: list[Rule]) -> None:
    ground = Ground(judge(rules))
    speaks = twin(rules, ALICE)(O.WRITE, ID, "a")
    assert ground.transactions.fences("a", 1, 1) is not speaks
    assert ground.transactions.hears("a", NewestOf.OFFSETS, 1) is not speaks
    called = [name for name, _ in ground.raw.calls]
    assert called == (["fences", "hears"] if speaks else [])


@settings(max_examples=amount(100), deadline=None, database=None)
@given(RULES)
def test_hanging_transactions_are_aborted_by_who_may_alter_the_cluster_or_is_a_broker(
    rules: list[Rule],
) -> None:
    async def check() -> None:
        may = twin(rules, ALICE)
        ground = Ground(judge(rules))
        errors = await ground.transactions.abort_partitions([AbortPartition(tp("a"), 1, 1, 1)] * 2)
        allowed = any(may(each, CLUSTER, CLUSTER_NAME) for each in (O.ALTER, O.CLUSTER_ACTION))
        assert [wrong(error) for error in errors] == ([None] if allowed else [NO_CLUSTER]) * 2
        assert len(ground.raw.calls) == allowed

    asyncio.run(check())


@settings(max_examples=amount(100), deadline=None, database=None)
@given(RULES)
def test_who_may_write_somewhere_gets_a_producer_id(rules: list[Rule]) -> None:
    """Names longer than those of entries stand for whichever topic there could be."""

    async def check() -> None:
        may = twin(rules, ALICE)
        ground = Ground(judge(rules))
        somewhere = any(
            may(O.WRITE, TOPIC, f"{pattern.name}{tail}")
            for pattern, _ in rules
            for tail in ("", "~")
        )
        answer = await ground.outcome(lambda service: service.init_producer_id())
        if may(O.IDEMPOTENT_WRITE, CLUSTER, CLUSTER_NAME) or somewhere:
            assert answer == "init_producer_id"
        else:
            assert refusal(answer) in (NO_CLUSTER, None)
            if refusal(answer) is None:  # dominating denies count, and others do not (KIP-679)
                assert any(entry.permission is Permission.DENY for _, entry in rules)
        assert len(ground.raw.calls) == (refusal(answer) is None)

    asyncio.run(check())
