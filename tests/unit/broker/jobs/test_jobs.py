"""broker/job_*.py: the service, the master in the controller's queue, the worker and its kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from minikafka.api import jobs
from minikafka.api.jobs import JobReport, JobSpec
from minikafka.api.nodes import NodeStatus
from minikafka.api.outcomes import WriteOutcome
from minikafka.api.requests import (
    AlterReassignmentsRequest,
    ControllerResponse,
    ElectLeadersRequest,
    ListReassignmentsRequest,
    PartitionResult,
    UpdateStateRequest,
)
from minikafka.broker.jobs import kinds
from minikafka.broker.jobs.kinds import JobEnvironment
from minikafka.broker.jobs.master import JobMaster
from minikafka.broker.jobs.ports import (
    DigestRequest,
    DigestResult,
    EpochDigest,
    JobRecord,
    JobResult,
    ReplicaService,
    VerifyRequest,
    VerifyResult,
)
from minikafka.broker.jobs.service import MAX_UNFINISHED, BrokerJobService
from minikafka.broker.jobs.worker import JobWorker
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.nodes.ports import LiveNode
from minikafka.broker.ports import SessionLostError, StoreEvent
from minikafka.core.control.commands import DeposedError
from minikafka.core.jobs.master import Assign, Entry, JobEffect, JobState, JobView
from minikafka.errors import (
    BrokerNotAvailableError,
    ElectionNotNeededError,
    InvalidRequestError,
    NetworkError,
    PreferredLeaderNotAvailableError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from tests.helpers.waiting import until

TOKEN = "token12345"
T0 = TopicPartition("t", 0)


def metadata_of(*partitions: PartitionMetadata) -> MetadataCache:
    cache = MetadataCache()
    brokers = [BrokerInfo(n, name, "h", 1, broker_epoch=n) for n, name in enumerate("ABC", 1)]
    cache.apply(
        UpdateStateRequest(
            1, 1, 1, brokers=brokers, shutting_down=[], partitions=partitions, deletions=[],
            deleted_topics=[], full=True, number=1,
        )
    )  # fmt: skip
    return cache


def partition(
    number: int = 0, replicas: tuple[int, ...] = (1, 2), leader: int = 1, topic_id: str = "id"
) -> PartitionMetadata:
    state = PartitionState(leader, 0, replicas, 1, 0)
    return PartitionMetadata(TopicPartition("t", number), topic_id, Assignment(replicas), state)


def record(job_id: str, state: JobState = JobState.SUBMITTED, order: int = 0) -> JobRecord:
    report = JobReport(
        job_id, JobSpec("scrub", "t"), state.value, 0, -1, 0, 0, False, False, "", ()
    )
    return JobRecord(JobView(job_id, order, state), report)


@dataclass
class Hold:
    spec: JobSpec
    counts: bool = True
    told: list[str] = field(default_factory=list)
    ended: asyncio.Queue[tuple[JobState, JobResult]] = field(default_factory=asyncio.Queue)

    async def progress(self, summary: str) -> bool:
        self.told.append(summary)
        return self.counts

    async def finish(self, state: JobState, result: JobResult) -> bool:
        self.ended.put_nowait((state, result))
        return self.counts


@dataclass
class FakeJobs:
    """The JobStore in memory, as far as each part uses it."""

    records: list[JobRecord] = field(default_factory=list)
    folder: list[Entry] = field(default_factory=list)
    holds: dict[str, Hold | None] = field(default_factory=dict)
    effects: list[JobEffect] = field(default_factory=list)
    outcome: WriteOutcome = WriteOutcome.WRITTEN
    error: Exception | None = None
    cancelled: set[str] = field(default_factory=set)
    permits: set[int] = field(default_factory=set)
    notify: Callable[[], None] | None = None

    async def read_jobs(self, notify: Callable[[], None] | None = None) -> Sequence[JobRecord]:
        if self.error is not None:
            raise self.error
        return list(self.records)

    async def read_entries(self) -> Sequence[Entry]:
        return []

    async def carry_out(self, effect: JobEffect) -> WriteOutcome:
        self.effects.append(effect)
        return self.outcome

    async def read_folder(
        self, node_id: int, notify: Callable[[], None] | None = None
    ) -> Sequence[Entry]:
        if self.error is not None:
            raise self.error
        self.notify = notify
        return list(self.folder)

    async def take_up(self, entry: Entry) -> Hold | None:
        return self.holds[entry.job_id]

    async def acquire(self, name: str, slots: int) -> int | None:
        free = set(range(slots)) - self.permits
        if not free:
            return None
        self.permits.add(min(free))
        return min(free)

    async def release(self, name: str, slot: int) -> None:
        self.permits.remove(slot)

    async def submit(self, spec: JobSpec, token: str, now_timestamp_ms: int) -> str:
        return f"task-{token}-0"

    async def request_cancel(self, job_id: str) -> bool:
        known = job_id in self.cancelled
        self.cancelled.add(job_id)
        return not known


# --- the service --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "error", "why"),
    [
        (JobSpec("scrib", "t"), InvalidRequestError, "did you mean scrub"),
        (JobSpec("scrub", "nope"), UnknownTopicOrPartitionError, "no topic 'nope'"),
        (JobSpec("scrub", "t", (3,)), UnknownTopicOrPartitionError, "partitions 0 to 0"),
        (JobSpec("reassign", "t", (), (1, 9)), InvalidRequestError, "no live broker 9"),
    ],
)
async def test_the_desk_refuses_what_cannot_be_done(
    spec: JobSpec, error: type[Exception], why: str
) -> None:
    service = BrokerJobService(FakeJobs(), metadata_of(partition()), lambda: 0)
    with pytest.raises(error, match=why):
        await service.submit_job(spec, TOKEN)


async def test_the_desk_takes_so_many_jobs_and_needs_a_token_and_zookeeper() -> None:
    store = FakeJobs()
    service = BrokerJobService(store, metadata_of(partition()), lambda: 0)
    assert await service.submit_job(JobSpec("scrub", "t"), TOKEN) == f"task-{TOKEN}-0"
    with pytest.raises(InvalidRequestError, match="8 to 64"):
        await service.submit_job(JobSpec("scrub", "t"), "a/b")
    store.records = [record(str(n)) for n in range(MAX_UNFINISHED)]
    with pytest.raises(InvalidRequestError, match="1000 jobs wait already"):
        await service.submit_job(JobSpec("scrub", "t"), TOKEN)
    store.error = SessionLostError("gone")
    with pytest.raises(BrokerNotAvailableError, match="cannot be reached"):
        await service.list_jobs([])


async def test_a_job_is_cancelled_once_and_not_after_its_end() -> None:
    store = FakeJobs([record("task-a"), record("task-b", JobState.DONE)])
    service = BrokerJobService(store, metadata_of(partition()), lambda: 0)
    assert (await service.cancel_job("task-a")).state == "submitted"
    with pytest.raises(InvalidRequestError, match="being cancelled already"):
        await service.cancel_job("task-a")
    with pytest.raises(InvalidRequestError, match="is done already"):
        await service.cancel_job("task-b")
    with pytest.raises(InvalidRequestError, match="did you mean task-"):
        await service.cancel_job("task-c")
    assert [each.job_id for each in await service.list_jobs(["task-b"])] == ["task-b"]


# --- the master ----------------------------------------------------------------------------------


class Term:
    def __init__(self) -> None:
        self.events: list[Callable[[], Awaitable[None]]] = []

    def enqueue(self, event: Callable[[], Awaitable[None]]) -> None:
        self.events.append(event)

    async def serve_one(self) -> None:
        await self.events.pop(0)()


async def test_the_master_waits_for_the_nodes_then_assigns_and_looks_again_after_a_conflict() -> (
    None
):
    store, term = FakeJobs([record("task-a")]), Term()
    live: dict[str, Any] = {"nodes": None}
    master = JobMaster(store, lambda: live["nodes"], 1_000, 1_000, lambda: 0, lambda: 0)
    master.begin(term)
    await term.serve_one()
    assert not store.effects
    live["nodes"] = {2: LiveNode(NodeStatus(2, "B", 0), 7, 0)}
    store.outcome = WriteOutcome.CONFLICT
    master.look_soon()
    master.look_soon()
    assert len(term.events) == 1
    await term.serve_one()
    assign = Assign(Entry("task-a", 2, 7, 1), -1, -1)
    assert store.effects == [assign]
    store.outcome = WriteOutcome.WRITTEN
    await term.serve_one()
    assert store.effects == [assign, assign]
    store.outcome = WriteOutcome.DEPOSED
    master.on_store_event(StoreEvent.RECONNECTED)
    with pytest.raises(DeposedError):
        await term.serve_one()
    master.end()
    master.look_soon()
    assert not term.events


async def test_a_master_that_cannot_read_tries_again_and_does_nothing_for_a_term_that_is_over() -> (
    None
):
    store, term = FakeJobs(error=InvalidRequestError("not JSON")), Term()
    master = JobMaster(store, dict, 1_000, 1_000, lambda: 0, lambda: 0)
    master.begin(term)
    await term.serve_one()
    assert master._timer is not None
    master.look_soon()
    master.end()
    store.error = AssertionError("nobody reads")
    await term.serve_one()


# --- the worker ----------------------------------------------------------------------------------


@dataclass
class Controller:
    """What the controller answers, by the kind of request."""

    answers: dict[type, Callable[[Any], ControllerResponse]] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)

    async def call(self, request: Any, timeout_ms: int) -> ControllerResponse:
        self.requests.append(request)
        return self.answers[type(request)](request)


@dataclass
class Access:
    """The ReplicaAccess: a service for each broker."""

    services: dict[int, ReplicaService] = field(default_factory=dict)

    def at(self, broker: BrokerInfo) -> ReplicaService:
        return self.services[broker.broker_id]


@dataclass
class Bench:
    store: FakeJobs
    metadata: MetadataCache
    access: Access
    controller: Controller
    worker: JobWorker
    incarnation: int = 7

    async def do(self, spec: JobSpec) -> tuple[JobState, JobResult]:
        """Have the running worker do a job; how it ended."""
        hold = Hold(spec)
        self.store.holds["j"] = hold
        self.store.folder = [Entry("j", 1, self.incarnation, 1)]
        self.worker.look()
        try:
            async with asyncio.timeout(20):
                return await hold.ended.get()
        finally:
            self.store.folder = []
            self.worker.look()


@pytest.fixture
async def bench() -> Any:
    store, access, controller = FakeJobs(), Access(), Controller()
    metadata = metadata_of(partition())
    environment = JobEnvironment(
        metadata,
        access,
        controller,
        store,
        1 << 40,
        1,
        patience_s=0.0,  # type: ignore[arg-type]
    )
    made = Bench(store, metadata, access, controller, None)  # type: ignore[arg-type]
    made.worker = JobWorker(store, 1, lambda: made.incarnation, environment, 60_000)
    task = asyncio.create_task(made.worker.run())
    yield made
    task.cancel()
    await asyncio.wait([task])


class Healthy(ReplicaService):
    """A replica of ten batches, one an offset; `damage` is found in the second slice."""

    def __init__(self, damage: tuple[str, ...] = (), content: str = "x", start: int = 0) -> None:
        self.damage, self.content, self.start = damage, content, start
        self.gate: asyncio.Event | None = None
        self.asked = 0

    async def verify(self, request: VerifyRequest) -> VerifyResult:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        last = request.position >= 1
        damage = self.damage if last else ()
        return VerifyResult(0, request.position + 1, 10, last, 5, 500, damage)

    async def digest(self, request: DigestRequest) -> DigestResult:
        begin = request.start_offset
        if not self.start <= begin < request.end_offset:
            return DigestResult(begin, 0, (), self.start, 10, 10)
        end = min(begin + 4, request.end_offset)
        digest = EpochDigest(0, begin, end - 1, end - begin, f"{self.content}{begin}")
        return DigestResult(end, 100, (digest,), self.start, 10, 10)


async def test_a_scrub_looks_at_every_replica_to_its_end(bench: Bench) -> None:
    bench.access.services = {1: Healthy(), 2: Healthy()}
    state, result = await bench.do(JobSpec("scrub", "t"))
    assert state is JobState.DONE
    assert result == JobResult(True, "2 replicas, 2000 bytes: no damage", [])


async def test_damage_and_a_replica_that_cannot_be_reached_are_results(bench: Bench) -> None:
    class Away(Healthy):
        async def verify(self, request: VerifyRequest) -> VerifyResult:
            raise NetworkError("B cannot be reached")

    bench.access.services = {1: Healthy(("log at 5: fails its CRC",)), 2: Away()}
    state, result = await bench.do(JobSpec("scrub", "t", (0,)))
    assert (state, result.ok) == (JobState.DONE, False)
    assert result.details == [
        "t-0 on A (1): log at 5: fails its CRC",
        "t-0 on B (2): not checked to the end: B cannot be reached",
    ]


async def test_a_compare_finds_where_a_replica_differs(bench: Bench) -> None:
    bench.access.services = {1: Healthy(), 2: Healthy(start=3)}
    state, result = await bench.do(JobSpec("compare", "t"))
    assert result.ok, result
    bench.access.services[2] = Healthy(content="y", start=6)
    state, result = await bench.do(JobSpec("compare", "t"))
    assert (state, result.ok) == (JobState.DONE, False)
    assert result.details == [
        "t-0 on B (2): differs from the leader A (1) in offsets 6 to 9 (leader epoch 0)"
    ]


async def test_jobs_that_cannot_be_done_fail_with_the_reason(bench: Bench) -> None:
    class Compacted(Healthy):
        async def digest(self, request: DigestRequest) -> DigestResult:
            raise InvalidRequestError("t is compacted")

    bench.access.services = {1: Compacted(), 2: Compacted()}
    assert (await bench.do(JobSpec("compare", "t")))[1].summary == "t is compacted"
    state, result = await bench.do(JobSpec("scrub", "nope"))
    assert (state, result.summary) == (JobState.FAILED, "there is no topic 'nope'")
    state, result = await bench.do(JobSpec("scrub", "t", (5,)))
    assert (state, result.summary) == (JobState.FAILED, "there is no partition t-5")
    state, result = await bench.do(JobSpec("dance", "t"))
    assert (state, result.summary) == (JobState.FAILED, "no worker knows the kind 'dance'")
    bench.access.services = {}
    state, result = await bench.do(JobSpec("scrub", "t"))
    assert state is JobState.FAILED
    assert result.summary.startswith("an error of minikafka: KeyError")


async def test_a_topic_that_is_deleted_while_a_job_runs_fails_it(bench: Bench) -> None:
    deleting = Healthy()

    async def verify(request: VerifyRequest) -> VerifyResult:
        bench.metadata.topics.clear()
        raise UnknownTopicOrPartitionError("there is no topic 't'")

    deleting.verify = verify  # type: ignore[method-assign]
    bench.access.services = {1: deleting}
    state, result = await bench.do(JobSpec("scrub", "t"))
    assert (state, result.summary) == (
        JobState.FAILED,
        "topic t was deleted while the job ran",
    )


async def test_a_preferred_election_tells_who_moved_and_who_could_not(bench: Bench) -> None:
    bench.controller.answers[ElectLeadersRequest] = lambda request: ControllerResponse(
        partitions=[
            PartitionResult(T0, None),
            PartitionResult(TopicPartition("t", 1), ElectionNotNeededError("A leads already")),
            PartitionResult(
                TopicPartition("t", 2), PreferredLeaderNotAvailableError("B is not alive")
            ),
        ]
    )
    state, result = await bench.do(JobSpec("preferred-election", "t"))
    assert (state, result.ok) == (JobState.DONE, False)
    assert result.summary.startswith("1 partitions moved to their preferred leader, 1 had it")
    assert result.details == ["t-2: B is not alive"]


async def test_a_reassign_waits_for_a_permit_and_until_the_replicas_are_there(bench: Bench) -> None:
    moving = [Assignment((3, 1, 2), (3,), (2,)), None]

    def under_way(request: ListReassignmentsRequest) -> ControllerResponse:
        assert bench.store.permits == {0}
        now = moving.pop(0)
        if now is None:
            bench.metadata.topics["t"][0] = partition(replicas=(3, 1))
            return ControllerResponse()
        return ControllerResponse(reassignments={T0: now})

    bench.controller.answers = {
        AlterReassignmentsRequest: lambda request: ControllerResponse(
            partitions=[PartitionResult(T0, None)]
        ),
        ListReassignmentsRequest: under_way,
    }
    bench.store.permits = {0}
    doing = asyncio.create_task(bench.do(JobSpec("reassign", "t", (), (3, 1))))
    await until(lambda: bench.store.holds.get("j") is not None and bench.store.holds["j"].told)
    assert not bench.controller.requests
    bench.store.permits.clear()
    state, result = await doing
    assert (state, result.summary) == (JobState.DONE, "1 partitions are on C (3), A (1)")
    assert bench.controller.requests[0].targets == {T0: (3, 1)}
    assert not bench.store.permits


async def test_a_reassign_that_is_refused_replaced_or_cancelled_fails(bench: Bench) -> None:
    spec = JobSpec("reassign", "t", (), (3, 1))
    refused = InvalidRequestError("broker 3 is not alive")
    answers = bench.controller.answers
    answers[AlterReassignmentsRequest] = lambda _: ControllerResponse(
        partitions=[PartitionResult(T0, refused)]
    )
    assert await bench.do(spec) == (JobState.FAILED, JobResult(False, refused.message, []))
    answers[AlterReassignmentsRequest] = lambda _: ControllerResponse(
        partitions=[PartitionResult(T0, None)]
    )
    other = Assignment((2, 1), (2,), (1,))
    answers[ListReassignmentsRequest] = lambda _: ControllerResponse(reassignments={T0: other})
    assert "took the place of this" in (await bench.do(spec))[1].summary
    answers[ListReassignmentsRequest] = lambda _: ControllerResponse()
    assert "was cancelled or replaced" in (await bench.do(spec))[1].summary
    assert not bench.store.permits


async def test_what_is_in_the_folder_no_more_is_ended_and_what_is_for_another_is_left(
    bench: Bench,
) -> None:
    gate = asyncio.Event()
    replica = Healthy()
    replica.gate = gate
    bench.access.services = {1: replica, 2: replica}
    hold = Hold(JobSpec("scrub", "t"))
    bench.store.holds = {"mine": hold, "old": None}
    mine, old = Entry("mine", 1, 7, 2), Entry("old", 1, 7, 1)
    bench.store.folder = [mine, old, Entry("other", 1, 6, 1)]
    bench.worker.look()
    await until(lambda: replica.asked and old not in bench.worker._doing)
    assert list(bench.worker._doing) == [mine]
    bench.store.folder = []
    assert bench.store.notify is not None
    bench.store.notify()
    await until(lambda: not bench.worker._doing)
    assert hold.ended.empty()


@pytest.mark.parametrize("lost_by", ["session", "progress"])
async def test_who_has_lost_its_session_or_its_attempt_stops_and_writes_nothing(
    bench: Bench, lost_by: str
) -> None:
    replica = Healthy()
    bench.access.services = {1: replica, 2: replica}
    hold = Hold(JobSpec("scrub", "t"), counts=False)
    if lost_by == "session":
        replica.gate, hold.counts = asyncio.Event(), True
    bench.store.holds = {"j": hold}
    bench.store.folder = [Entry("j", 1, 7, 1)]
    bench.worker.look()
    await until(lambda: replica.asked)
    bench.incarnation = 0
    if lost_by == "session":
        bench.worker.on_store_event(StoreEvent.LOST)
    await until(lambda: not bench.worker._doing)
    assert hold.ended.empty()


async def test_a_worker_outlives_a_folder_that_cannot_be_read(bench: Bench) -> None:
    for error in (SessionLostError("gone"), InvalidRequestError("not JSON")):
        bench.store.error = error
        bench.worker.on_store_event(StoreEvent.RECONNECTED)
        for _ in range(5):
            await asyncio.sleep(0)
    bench.store.error = None
    bench.access.services = {1: Healthy(), 2: Healthy()}
    assert (await bench.do(JobSpec("scrub", "t")))[0] is JobState.DONE


def test_slices_are_small_when_the_rate_is_low() -> None:
    environment = JobEnvironment(MetadataCache(), Access(), None, None, 1, 1)  # type: ignore[arg-type]

    async def progress(_: str) -> None: ...

    work = kinds.Work(environment, JobSpec("scrub", "t"), progress)
    assert work.slice_bytes == 16 << 10
    work.environment = replace(environment, bytes_per_s=1 << 21)
    assert work.slice_bytes == 1 << 18


def test_every_kind_that_can_be_asked_for_is_done() -> None:
    assert set(kinds.KINDS) == set(jobs.KINDS)
