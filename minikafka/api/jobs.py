"""Jobs, as clients and doors see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

SCRUB = "scrub"
COMPARE = "compare"
REASSIGN = "reassign"
PREFERRED_ELECTION = "preferred-election"
KINDS = (SCRUB, COMPARE, REASSIGN, PREFERRED_ELECTION)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What is to be done. No `partitions`: all of the topic; `replicas` are those of a reassign."""

    kind: str
    topic: str
    partitions: Sequence[int] = ()
    replicas: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job as people are told of it. `state` is a JobState's value; `node_id` is -1 while there is
    no worker; `summary` is a sentence: how far it is, what came out, or why it failed. `ok` says
    of a job that is done that nothing was found to be wrong; `details` are lines of text."""

    job_id: str
    spec: JobSpec
    state: str
    attempt: int
    node_id: int
    submitted_at_ms: int
    updated_at_ms: int
    cancel_requested: bool
    ok: bool
    summary: str
    details: Sequence[str]


class JobService(Protocol):
    """As the doors call it. Raises MinikafkaError."""

    async def submit_job(self, spec: JobSpec, token: str) -> str: ...
    async def list_jobs(self, job_ids: Sequence[str]) -> Sequence[JobReport]:
        """All, or these, which must be there, by submission."""

    async def cancel_job(self, job_id: str) -> JobReport:
        """The job as it was when the request was made. InvalidRequestError if it had ended or was
        being cancelled already."""
