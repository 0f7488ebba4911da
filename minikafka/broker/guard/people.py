"""What people look at, and what brokers look into of each other: nodes, jobs, replicas."""

from __future__ import annotations

from collections.abc import Sequence

from minikafka.api.jobs import JobReport, JobService, JobSpec
from minikafka.api.nodes import ControllerReport, NodeReport, NodeService
from minikafka.broker.guard.asking import Asking
from minikafka.broker.guard.audit import AUDIT, Audit
from minikafka.broker.jobs.ports import (
    DigestRequest,
    DigestResult,
    ReplicaService,
    VerifyRequest,
    VerifyResult,
)
from minikafka.security.acl import Operation
from minikafka.security.authorizer import Authorizer
from minikafka.security.principal import Caller


def nodes_for(
    nodes: NodeService, authorizer: Authorizer | None, caller: Caller, audit: Audit = AUDIT
) -> NodeService:
    """See `service_for`."""
    return nodes if authorizer is None else GuardedNodes(nodes, Asking(authorizer, caller, audit))


def jobs_for(
    jobs: JobService, authorizer: Authorizer | None, caller: Caller, audit: Audit = AUDIT
) -> JobService:
    """See `service_for`."""
    return jobs if authorizer is None else GuardedJobs(jobs, Asking(authorizer, caller, audit))


def replicas_for(
    replicas: ReplicaService, authorizer: Authorizer | None, caller: Caller, audit: Audit = AUDIT
) -> ReplicaService:
    """See `service_for`."""
    if authorizer is None:
        return replicas
    return GuardedReplicas(replicas, Asking(authorizer, caller, audit))


class GuardedNodes:
    """Implements NodeService: Describe on the cluster."""

    def __init__(self, nodes: NodeService, asking: Asking) -> None:
        self._nodes = nodes
        self._asking = asking

    async def list_nodes(self) -> Sequence[NodeReport]:
        self._asking.require("ListNodes", Operation.DESCRIBE)
        return await self._nodes.list_nodes()

    async def describe_controller(self) -> ControllerReport:
        self._asking.require("DescribeController", Operation.DESCRIBE)
        return await self._nodes.describe_controller()


class GuardedJobs:
    """Implements JobService: Describe on the cluster to see jobs, Alter for the rest."""

    def __init__(self, jobs: JobService, asking: Asking) -> None:
        self._jobs = jobs
        self._asking = asking

    async def submit_job(self, spec: JobSpec, token: str) -> str:
        self._asking.require("SubmitJob", Operation.ALTER)
        return await self._jobs.submit_job(spec, token)

    async def list_jobs(self, job_ids: Sequence[str]) -> Sequence[JobReport]:
        self._asking.require("ListJobs", Operation.DESCRIBE)
        return await self._jobs.list_jobs(job_ids)

    async def cancel_job(self, job_id: str) -> JobReport:
        self._asking.require("CancelJob", Operation.ALTER)
        return await self._jobs.cancel_job(job_id)


class GuardedReplicas:
    """Implements ReplicaService: ClusterAction."""

    def __init__(self, replicas: ReplicaService, asking: Asking) -> None:
        self._replicas = replicas
        self._asking = asking

    async def verify(self, request: VerifyRequest) -> VerifyResult:
        self._asking.require("Verify", Operation.CLUSTER_ACTION)
        return await self._replicas.verify(request)

    async def digest(self, request: DigestRequest) -> DigestResult:
        self._asking.require("Digest", Operation.CLUSTER_ACTION)
        return await self._replicas.digest(request)
