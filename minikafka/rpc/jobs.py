"""Jobs over gRPC: what a broker serves to clients, and to the workers of other brokers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from minikafka.api.jobs import JobReport, JobService, JobSpec
from minikafka.api.service import BrokerService
from minikafka.broker.jobs.ports import (
    DigestRequest,
    DigestResult,
    ReplicaService,
    VerifyRequest,
    VerifyResult,
)
from minikafka.model import BrokerInfo
from minikafka.rpc.calls import Connection
from minikafka.rpc.convert import raise_error_of
from minikafka.rpc.generated import jobs_pb2 as wire
from minikafka.rpc.generated.jobs_pb2_grpc import JobServiceStub, ReplicaServiceStub
from minikafka.rpc.mirror import all_from_wire, all_to_wire, from_wire, to_wire
from minikafka.rpc.peers import GrpcPeers
from minikafka.rpc.unary import Method

JOB_SERVICE = "minikafka.v1.JobService"
REPLICA_SERVICE = "minikafka.v1.ReplicaService"
_SLICE_TIMEOUT_MS = 10_000


# --- serving -------------------------------------------------------------------------------------


def job_methods(jobs: JobService) -> dict[str, Method]:
    """For GrpcServer."""

    async def submit(_: BrokerService, message: wire.SubmitJobRequest) -> Message:
        spec = from_wire(message.spec, JobSpec)
        return wire.SubmitJobResponse(job_id=await jobs.submit_job(spec, message.token))

    async def list_jobs(_: BrokerService, message: wire.ListJobsRequest) -> Message:
        reports = await jobs.list_jobs(list(message.job_ids))
        return wire.ListJobsResponse(jobs=all_to_wire(reports, wire.JobReport))

    async def cancel(_: BrokerService, message: wire.CancelJobRequest) -> Message:
        report = await jobs.cancel_job(message.job_id)
        return wire.CancelJobResponse(job=to_wire(report, wire.JobReport))

    return {
        "SubmitJob": Method(wire.SubmitJobRequest, wire.SubmitJobResponse, submit),
        "ListJobs": Method(wire.ListJobsRequest, wire.ListJobsResponse, list_jobs),
        "CancelJob": Method(wire.CancelJobRequest, wire.CancelJobResponse, cancel),
    }


def replica_methods(replicas: ReplicaService) -> dict[str, Method]:
    """For GrpcServer."""

    async def verify(_: BrokerService, message: wire.VerifyRequest) -> Message:
        result = await replicas.verify(from_wire(message, VerifyRequest))
        return to_wire(result, wire.VerifyResponse)

    async def digest(_: BrokerService, message: wire.DigestRequest) -> Message:
        result = await replicas.digest(from_wire(message, DigestRequest))
        return to_wire(result, wire.DigestResponse)

    return {
        "Verify": Method(wire.VerifyRequest, wire.VerifyResponse, verify),
        "Digest": Method(wire.DigestRequest, wire.DigestResponse, digest),
    }


# --- calling -------------------------------------------------------------------------------------


class _Stub:
    def __init__(self, connection: Connection, timeout_ms: int) -> None:
        self._connection = connection
        self._timeout_ms = timeout_ms

    async def _call(self, start: Callable[[grpc.aio.Channel, float], Awaitable[Any]]) -> Any:
        response = await self._connection.call(start, self._timeout_ms)
        raise_error_of(response)
        return response


class JobStub(_Stub, JobService):
    """The JobService of the broker at the other end of a connection. Raises NetworkError besides
    what the broker answers."""

    async def submit_job(self, spec: JobSpec, token: str) -> str:
        message = wire.SubmitJobRequest(spec=to_wire(spec, wire.JobSpec), token=token)
        response = await self._call(
            lambda channel, timeout: JobServiceStub(channel).SubmitJob(message, timeout=timeout)
        )
        return str(response.job_id)

    async def list_jobs(self, job_ids: Sequence[str]) -> Sequence[JobReport]:
        message = wire.ListJobsRequest(job_ids=job_ids)
        response = await self._call(
            lambda channel, timeout: JobServiceStub(channel).ListJobs(message, timeout=timeout)
        )
        return all_from_wire(response.jobs, JobReport)

    async def cancel_job(self, job_id: str) -> JobReport:
        message = wire.CancelJobRequest(job_id=job_id)
        response = await self._call(
            lambda channel, timeout: JobServiceStub(channel).CancelJob(message, timeout=timeout)
        )
        return from_wire(response.job, JobReport)


class ReplicaStub(_Stub, ReplicaService):
    """The ReplicaService of another broker."""

    async def verify(self, request: VerifyRequest) -> VerifyResult:
        message = to_wire(request, wire.VerifyRequest)
        response = await self._call(
            lambda channel, timeout: ReplicaServiceStub(channel).Verify(message, timeout=timeout)
        )
        return from_wire(response, VerifyResult)

    async def digest(self, request: DigestRequest) -> DigestResult:
        message = to_wire(request, wire.DigestRequest)
        response = await self._call(
            lambda channel, timeout: ReplicaServiceStub(channel).Digest(message, timeout=timeout)
        )
        return from_wire(response, DigestResult)


class PeerReplicas:
    """The ReplicaAccess of a broker: itself without the network, others by `peers`."""

    def __init__(self, peers: GrpcPeers, broker_id: int, own: ReplicaService) -> None:
        self._peers = peers
        self._broker_id = broker_id
        self._own = own

    def at(self, broker: BrokerInfo) -> ReplicaService:
        if broker.broker_id == self._broker_id:
            return self._own
        return ReplicaStub(self._peers.connection(broker), _SLICE_TIMEOUT_MS)
