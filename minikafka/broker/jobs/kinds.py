"""What workers do: one function a kind of job. Each is cut into small steps with awaits between,
so that it can be cancelled at any of them, and can be done again from the start: it changes
nothing, or asks for what may be there already.

A job fails (MinikafkaError) if it cannot be done: the topic is unknown or was deleted meanwhile. A
replica that cannot be reached, or is damaged, or differs, is a result.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from minikafka.api.jobs import COMPARE, PREFERRED_ELECTION, REASSIGN, SCRUB, JobSpec
from minikafka.api.requests import (
    AlterReassignmentsRequest,
    ElectLeadersRequest,
    ListReassignmentsRequest,
)
from minikafka.broker.control.client import ControllerClient
from minikafka.broker.jobs.ports import (
    DigestRequest,
    DigestResult,
    JobResult,
    JobStore,
    ReplicaAccess,
    VerifyRequest,
)
from minikafka.broker.metadata import MetadataCache
from minikafka.errors import (
    ElectionNotNeededError,
    InvalidRequestError,
    MinikafkaError,
    NetworkError,
    NotLeaderOrFollowerError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import PartitionMetadata, TopicPartition

SLICE_BYTES = 1 << 20
_SLICES_PER_S = 8
_LEAST_SLICE_BYTES = 16 << 10
_PATIENCE_S = 15.0
_RETRY_S = 0.5
_CALL_TIMEOUT_MS = 30_000
_MAX_DETAILS = 1_000
_POLL_S = 0.2

T = TypeVar("T")
Progress = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class JobEnvironment:
    """What a worker works with. `bytes_per_s` is the rate of scrub and compare, of the sum of all
    replicas; `max_reassignments` is how many reassign jobs go on at once in the cluster."""

    metadata: MetadataCache
    replicas: ReplicaAccess
    controller: ControllerClient
    store: JobStore
    bytes_per_s: int
    max_reassignments: int
    patience_s: float = _PATIENCE_S


@dataclass(slots=True)
class Work:
    """One job being done. `progress` tells people how far it is."""

    environment: JobEnvironment
    spec: JobSpec
    progress: Progress
    details: list[str] = field(default_factory=list)
    ok: bool = True
    size_bytes: int = 0

    def find(self, topic_partition: TopicPartition, topic_id: str = "") -> PartitionMetadata:
        """The partition as it is now. With the id of the topic as it was: the same topic."""
        found = self.environment.metadata.partition(topic_partition)
        if topic_id and (found is None or found.topic_id != topic_id):
            raise UnknownTopicOrPartitionError(
                f"topic {topic_partition.topic} was deleted while the job ran"
            )
        if found is None:
            raise UnknownTopicOrPartitionError(f"there is no partition {topic_partition}")
        return found

    def partitions(self) -> list[PartitionMetadata]:
        """Those that the job is about."""
        known = self.environment.metadata.topics.get(self.spec.topic)
        if known is None:
            raise UnknownTopicOrPartitionError(f"there is no topic {self.spec.topic!r}")
        numbers = sorted(set(self.spec.partitions)) or sorted(known)
        return [self.find(TopicPartition(self.spec.topic, number)) for number in numbers]

    def note(self, text: str) -> None:
        """Something that is wrong."""
        self.ok = False
        if len(self.details) < _MAX_DETAILS:
            self.details.append(text)

    def name(self, broker_id: int) -> str:
        broker = self.environment.metadata.brokers.get(broker_id)
        return f"{broker.name} ({broker_id})" if broker is not None else str(broker_id)

    async def ask(
        self, partition: PartitionMetadata, broker_id: int, call: Callable[..., Awaitable[T]]
    ) -> T:
        """`call(service of that broker)`, again and again for a while if it cannot be reached. An
        error of the last attempt is raised, unless the topic is gone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.environment.patience_s
        while True:
            self.find(partition.topic_partition, partition.topic_id)
            broker = self.environment.metadata.brokers.get(broker_id)
            try:
                if broker is None:
                    raise NetworkError("its broker is not there")
                return await call(self.environment.replicas.at(broker))
            except MinikafkaError as error:
                self.find(partition.topic_partition, partition.topic_id)
                passing = isinstance(error, NetworkError | NotLeaderOrFollowerError)
                if not passing or loop.time() >= deadline:
                    raise
            await asyncio.sleep(_RETRY_S)

    @property
    def slice_bytes(self) -> int:
        return max(
            _LEAST_SLICE_BYTES, min(SLICE_BYTES, self.environment.bytes_per_s // _SLICES_PER_S)
        )

    async def pace(self, size_bytes: int) -> None:
        """Hold the rate, and let others go on in any case."""
        self.size_bytes += size_bytes
        await asyncio.sleep(size_bytes / self.environment.bytes_per_s)


# --- scrub ---------------------------------------------------------------------------------------


async def scrub(work: Work) -> JobResult:
    """Check every CRC of every replica, on the broker that holds it."""
    replicas = 0
    for partition in work.partitions():
        for broker_id in partition.assignment.replicas:
            replicas += 1
            try:
                await _scrub_replica(work, partition, broker_id)
            except MinikafkaError as error:
                work.find(partition.topic_partition, partition.topic_id)
                where = f"{partition.topic_partition} on {work.name(broker_id)}"
                work.note(f"{where}: not checked to the end: {error}")
    found = f"{replicas} replicas, {work.size_bytes} bytes"
    bad = f"{found}: {len(work.details)} problems"
    return JobResult(work.ok, f"{found}: no damage" if work.ok else bad, work.details)


async def _scrub_replica(work: Work, partition: PartitionMetadata, broker_id: int) -> None:
    segment = position = 0
    end_offset = -1
    done = False
    where = f"{partition.topic_partition} on {work.name(broker_id)}"
    while not done:
        request = VerifyRequest(
            partition.topic_partition,
            partition.topic_id,
            segment,
            position,
            end_offset,
            work.slice_bytes,
        )
        result = await work.ask(partition, broker_id, lambda at, r=request: at.verify(r))
        for line in result.damage:
            work.note(f"{where}: {line}")
        segment, position, done = result.segment, result.position, result.done
        end_offset = result.end_offset
        await work.progress(f"{where}: {work.size_bytes} bytes checked so far")
        await work.pace(result.size_bytes)


# --- compare -------------------------------------------------------------------------------------


async def compare(work: Work) -> JobResult:
    """Compare the replicas of each partition with its leader's, below the high watermark."""
    partitions = work.partitions()
    for partition in partitions:
        if partition.state.leader < 0:
            work.note(f"{partition.topic_partition}: not compared: it has no leader")
            continue
        others = [each for each in partition.assignment.replicas if each != partition.state.leader]
        for broker_id in others:
            where = f"{partition.topic_partition} on {work.name(broker_id)}"
            try:
                await _compare_replica(work, partition, broker_id, where)
            except InvalidRequestError:  # it is compacted
                raise
            except MinikafkaError as error:
                work.find(partition.topic_partition, partition.topic_id)
                work.note(f"{where}: not compared to the end: {error}")
    found = f"{len(partitions)} partitions, {work.size_bytes} bytes"
    bad = f"{found}: {len(work.details)} differences or problems"
    return JobResult(work.ok, f"{found}: all replicas equal" if work.ok else bad, work.details)


async def _compare_replica(
    work: Work, partition: PartitionMetadata, broker_id: int, where: str
) -> None:
    """Slice by slice: the leader digests about so many bytes, the other one what they hold. A log
    that begins later by now (retention) is compared from there on."""
    leader = partition.state.leader

    async def digest(at_broker: int, start: int, end: int, max_bytes: int) -> DigestResult:
        request = DigestRequest(
            partition.topic_partition, partition.topic_id, start, end, max_bytes
        )
        return await work.ask(partition, at_broker, lambda at: at.digest(request))

    mine, theirs = await digest(leader, 0, -1, 1), await digest(broker_id, 0, -1, 1)
    end = min(mine.high_watermark, theirs.log_end_offset)
    offset = max(mine.log_start_offset, theirs.log_start_offset)
    while offset < end:
        mine = await digest(leader, offset, end, work.slice_bytes)
        if offset < mine.log_start_offset:
            offset = mine.log_start_offset
            continue
        if mine.next_offset <= offset:
            return  # a batch that straddles the end, which both shall have later
        theirs = await digest(broker_id, offset, mine.next_offset, mine.size_bytes)
        if offset < theirs.log_start_offset:
            offset = theirs.log_start_offset
            continue
        if mine.digests != theirs.digests:
            work.note(f"{where}: differs from the leader {work.name(leader)} {_range(mine)}")
        offset = mine.next_offset
        await work.progress(f"{where}: equal up to offset {offset}" if work.ok else where)
        await work.pace(mine.size_bytes + theirs.size_bytes)


def _range(result: DigestResult) -> str:
    first, last = result.digests[0], result.digests[-1]
    epochs = f"{first.leader_epoch}"
    if last is not first:
        epochs += f" to {last.leader_epoch}"
    return f"in offsets {first.first_offset} to {last.last_offset} (leader epoch {epochs})"


# --- through the controller ----------------------------------------------------------------------


async def elect_preferred(work: Work) -> JobResult:
    """Give leadership back to the preferred replicas."""
    wanted = [partition.topic_partition for partition in work.partitions()]
    response = await work.environment.controller.call(
        ElectLeadersRequest(False, wanted), _CALL_TIMEOUT_MS
    )
    moved = already = 0
    for result in response.partitions:
        if result.error is None:
            moved += 1
        elif isinstance(result.error, ElectionNotNeededError):
            already += 1
        else:
            work.note(f"{result.name}: {result.error}")
    summary = f"{moved} partitions moved to their preferred leader, {already} had it already"
    if not work.ok:
        summary += f", {len(work.details)} could not move"
    return JobResult(work.ok, summary, work.details)


async def reassign(work: Work) -> JobResult:
    """Move partitions to other replicas, and wait until they are there; under a permit."""
    target = tuple(work.spec.replicas)
    async with _permit(work):
        partitions = work.partitions()
        request = AlterReassignmentsRequest(
            {partition.topic_partition: target for partition in partitions}
        )
        response = await work.environment.controller.call(request, _CALL_TIMEOUT_MS)
        for result in response.partitions:
            if result.error is not None:
                raise result.error
        await _until_moved(work, partitions, target)
    names = ", ".join(work.name(each) for each in target)
    return JobResult(True, f"{len(partitions)} partitions are on {names}")


async def _until_moved(
    work: Work, partitions: Sequence[PartitionMetadata], target: tuple[int, ...]
) -> None:
    """The controller tells what is under way; what is not is there, or was cancelled (this broker
    may hear of it a little later)."""
    loop = asyncio.get_running_loop()
    over_since_s: dict[TopicPartition, float] = {}
    left = list(partitions)
    while True:
        request = ListReassignmentsRequest([each.topic_partition for each in left])
        response = await work.environment.controller.call(request, _CALL_TIMEOUT_MS)
        waiting = []
        for partition in left:
            tp = partition.topic_partition
            now = work.find(tp, partition.topic_id).assignment
            going = response.reassignments.get(tp)
            if going is None and now.replicas == target and not now.in_progress:
                continue
            waiting.append(partition)
            if going is not None and going.target != target:
                raise InvalidRequestError(f"another reassignment of {tp} took the place of this")
            if going is not None:
                over_since_s.pop(tp, None)
            elif (
                loop.time() - over_since_s.setdefault(tp, loop.time()) > work.environment.patience_s
            ):
                raise InvalidRequestError(f"the reassignment of {tp} was cancelled or replaced")
        left = waiting
        if not left:
            return
        await work.progress(f"{len(partitions) - len(left)} of {len(partitions)} moved")
        await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def _permit(work: Work) -> AsyncIterator[None]:
    """One of so many permits of the cluster; it goes with this worker's session at the latest."""
    store, slots = work.environment.store, work.environment.max_reassignments
    while (slot := await store.acquire(REASSIGN, slots)) is None:
        await work.progress(f"waits: {slots} reassignments are under way already")
        await asyncio.sleep(_RETRY_S)
    try:
        yield
    finally:
        await store.release(REASSIGN, slot)


KINDS: dict[str, Callable[[Work], Awaitable[JobResult]]] = {
    SCRUB: scrub,
    COMPARE: compare,
    REASSIGN: reassign,
    PREFERRED_ELECTION: elect_preferred,
}
