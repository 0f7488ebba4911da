"""The part of AsyncAdmin that is about jobs. No state of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from minikafka.api.jobs import JobReport, JobSpec
from minikafka.client.metadata import Cluster


class JobAdmin:
    """What it needs of the rest of the admin stands first."""

    _cluster: Cluster
    _timeout_ms: float

    async def submit_job(self, spec: JobSpec, token: str | None = None) -> str:
        """Have a job done; returns its id. The same `token` (8 to 64 letters and digits; by default
        a new one) again is the same job, so that a submission may be repeated.

        Raises UnknownTopicOrPartitionError, InvalidRequestError for what can be no job.
        """
        chosen = token or uuid.uuid4().hex[:12]
        return await self._cluster.call_any(
            lambda channel: channel.jobs.submit_job(spec, chosen), self._timeout_ms / 1000
        )

    async def list_jobs(self, job_ids: Iterable[str] = ()) -> Sequence[JobReport]:
        """All jobs, or these, by submission. InvalidRequestError names one that is not there."""
        wanted = list(job_ids)
        return await self._cluster.call_any(
            lambda channel: channel.jobs.list_jobs(wanted), self._timeout_ms / 1000
        )

    async def cancel_job(self, job_id: str) -> JobReport:
        """Ask for an end of a job; returns it as it was. InvalidRequestError if it has ended, or is
        being cancelled already."""
        return await self._cluster.call_any(
            lambda channel: channel.jobs.cancel_job(job_id),
            self._timeout_ms / 1000,
            self._timeout_ms / 1000,  # one broker after another: asked twice, it would be refused
        )
