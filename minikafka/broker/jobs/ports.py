"""Jobs, as clients, the master and workers see them, and the ports by which they do.

A job's task is written once, by the client; its status, in a node of its own, is written by the
master and the worker in turn, each over the version that it has seen (core/jobs/master.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from minikafka.api.jobs import (
    JobReport,
    JobSpec,
)
from minikafka.api.outcomes import WriteOutcome
from minikafka.core.jobs.master import Assign, End, Entry, Forget, JobState, JobView, RemoveEntry
from minikafka.model import BrokerInfo, TopicPartition


@dataclass(frozen=True, slots=True)
class JobResult:
    """What came out of a job that was done."""

    ok: bool
    summary: str
    details: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as ZooKeeper holds it."""

    view: JobView
    report: JobReport


class JobHold(Protocol):
    """A job that a worker has taken up. Its writes count only while the attempt is the present
    one: False says that it is not, and nothing was written."""

    spec: JobSpec

    async def progress(self, summary: str) -> bool: ...
    async def finish(self, state: JobState, result: JobResult) -> bool: ...


class JobStore(Protocol):
    """`notify` is called once when something that was read is another; not if the connection
    breaks before. Raises SessionLostError as the ClusterStore does."""

    async def read_jobs(self, notify: Callable[[], None] | None = None) -> Sequence[JobRecord]: ...

    # The master's; fenced.
    async def read_entries(self) -> Sequence[Entry]: ...
    async def carry_out(self, effect: Assign | End | RemoveEntry | Forget) -> WriteOutcome: ...

    # A worker's.
    async def read_folder(
        self, node_id: int, notify: Callable[[], None] | None = None
    ) -> Sequence[Entry]: ...
    async def take_up(self, entry: Entry) -> JobHold | None:
        """None: the entry is not of the present attempt."""

    async def acquire(self, name: str, slots: int) -> int | None:
        """Take one of so many permits, which goes with this session at the latest; its number, or
        None if all are taken."""

    async def release(self, name: str, slot: int) -> None: ...

    # Anybody's.
    async def submit(self, spec: JobSpec, token: str, now_timestamp_ms: int) -> str:
        """The id of the job. The same token again gives the same job."""

    async def request_cancel(self, job_id: str) -> bool:
        """False: it was requested before. InvalidRequestError if there is no such job."""


# --- looking into replicas -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """Check the CRCs of a replica from `position` in the segment `segment` (its base offset) on,
    for at least `max_bytes` if there are as many, up to `end_offset` (-1: the present log end)."""

    topic_partition: TopicPartition
    topic_id: str
    segment: int = 0
    position: int = 0
    end_offset: int = -1
    max_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Where to go on (`done`: nowhere), what was looked at, and what is damaged, a line each."""

    segment: int
    position: int
    end_offset: int
    done: bool
    batches: int
    size_bytes: int
    damage: Sequence[str]


@dataclass(frozen=True, slots=True)
class DigestRequest:
    """Digest whole batches of a replica from the one with `start_offset` on, for about `max_bytes`,
    none at or above `end_offset` (-1: nothing is read, the answer tells what there is)."""

    topic_partition: TopicPartition
    topic_id: str
    start_offset: int
    end_offset: int
    max_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class EpochDigest:
    """The batches of one leader epoch in a range: first to last offset, and a digest of their
    bytes."""

    leader_epoch: int
    first_offset: int
    last_offset: int
    batches: int
    digest: str


@dataclass(frozen=True, slots=True)
class DigestResult:
    """`next_offset` is where to go on. The log's own offsets are those of the moment."""

    next_offset: int
    size_bytes: int
    digests: Sequence[EpochDigest]
    log_start_offset: int
    high_watermark: int
    log_end_offset: int


class ReplicaService(Protocol):
    """What a broker tells of the replicas that it holds. Raises MinikafkaError."""

    async def verify(self, request: VerifyRequest) -> VerifyResult: ...
    async def digest(self, request: DigestRequest) -> DigestResult: ...


class ReplicaAccess(Protocol):
    """The same of any broker. NetworkError if it cannot be reached."""

    def at(self, broker: BrokerInfo) -> ReplicaService: ...
