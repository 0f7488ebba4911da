"""Jobs, for clients: any broker takes them and tells of them. What is wrong with a job is told here
as far as it can be known before it is done."""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from minikafka.api.jobs import KINDS, REASSIGN, JobReport, JobSpec
from minikafka.broker.jobs.ports import JobStore
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.ports import SessionLostError
from minikafka.core.jobs.master import JobState
from minikafka.errors import (
    BrokerNotAvailableError,
    InvalidRequestError,
    UnknownTopicOrPartitionError,
)

MAX_UNFINISHED = 1_000

T = TypeVar("T")


class BrokerJobService:
    """The JobService of any broker."""

    def __init__(
        self, store: JobStore, metadata: MetadataCache, now_timestamp_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._metadata = metadata
        self._now_timestamp_ms = now_timestamp_ms

    async def submit_job(self, spec: JobSpec, token: str) -> str:
        check_spec(spec)
        if not re.fullmatch(r"[0-9A-Za-z]{8,64}", token):
            raise InvalidRequestError("the token of a job is 8 to 64 letters and digits")
        partitions = self._metadata.topics.get(spec.topic)
        if partitions is None:
            raise self._metadata.missing(f"there is no topic {spec.topic!r}")
        for number in spec.partitions:
            if number not in partitions:
                raise UnknownTopicOrPartitionError(
                    f"topic {spec.topic} has partitions 0 to {len(partitions) - 1}; "
                    f"there is no partition {number}"
                )
        for broker_id in spec.replicas:
            if broker_id not in self._metadata.brokers:
                raise InvalidRequestError(f"there is no live broker {broker_id}")
        records = await self._in_touch(self._store.read_jobs())
        waiting = sum(not record.view.state.ended for record in records)
        if waiting >= MAX_UNFINISHED:
            raise InvalidRequestError(f"{waiting} jobs wait already: cancel some, or come later")
        return await self._in_touch(self._store.submit(spec, token, self._now_timestamp_ms()))

    async def list_jobs(self, job_ids: Sequence[str]) -> Sequence[JobReport]:
        records = await self._in_touch(self._store.read_jobs())
        reports = {record.report.job_id: record.report for record in records}
        for job_id in job_ids:
            if job_id not in reports:
                raise _no_job(job_id, list(reports))
        wanted = set(job_ids) or reports.keys()
        return [report for job_id, report in reports.items() if job_id in wanted]

    async def cancel_job(self, job_id: str) -> JobReport:
        [report] = await self.list_jobs([job_id])
        if JobState(report.state).ended:
            raise InvalidRequestError(f"job {job_id} is {report.state} already")
        if not await self._in_touch(self._store.request_cancel(job_id)):
            raise InvalidRequestError(f"job {job_id} is being cancelled already")
        return report

    async def _in_touch(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except SessionLostError as lost:
            raise BrokerNotAvailableError(f"ZooKeeper cannot be reached now: {lost}") from lost


def check_spec(spec: JobSpec) -> None:
    """InvalidRequestError for what can be no job in any cluster."""
    if spec.kind not in KINDS:
        raise InvalidRequestError(unknown_kind(spec.kind))
    if spec.kind == REASSIGN and not spec.replicas:
        raise InvalidRequestError("a reassign needs the replicas that there shall be")
    if spec.kind != REASSIGN and spec.replicas:
        raise InvalidRequestError(f"a {spec.kind} takes no replicas")
    if len(set(spec.replicas)) != len(spec.replicas):
        raise InvalidRequestError("the replicas name a broker twice")


def unknown_kind(kind: str) -> str:
    """What to say of a kind of job that there is not."""
    near = difflib.get_close_matches(kind.lower(), KINDS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}"
    return f"there is no kind of job {kind!r}; {hint}"


def _no_job(job_id: str, known: Sequence[str]) -> InvalidRequestError:
    near = difflib.get_close_matches(job_id, known, n=1, cutoff=0.7)
    hint = f"; did you mean {near[0]}?" if near else "; `minikafka jobs list` lists all"
    return InvalidRequestError(f"there is no job {job_id!r}{hint}")
