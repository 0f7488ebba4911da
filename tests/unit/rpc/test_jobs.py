"""rpc/jobs.py: jobs and looks into replicas over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from minikafka.api.jobs import JobReport, JobService, JobSpec
from minikafka.broker.jobs.ports import (
    DigestRequest,
    DigestResult,
    EpochDigest,
    ReplicaService,
    VerifyRequest,
    VerifyResult,
)
from minikafka.errors import InvalidRequestError, UnknownTopicOrPartitionError
from minikafka.model import BrokerInfo, TopicPartition
from minikafka.rpc import jobs
from minikafka.rpc.channel import BrokerChannel
from minikafka.rpc.peers import GrpcPeers
from minikafka.rpc.server import GrpcServer
from tests.unit.rpc.conftest import FakeService

SPEC = JobSpec("reassign", "orders", (0, 2), (3, 1))
REPORT = JobReport("task-1", SPEC, "running", 2, -1, 2**41, 2**41, True, False, "half", ("a", "b"))
ORDERS = TopicPartition("orders", 1)


class FakeJobs(JobService):
    async def submit_job(self, spec: JobSpec, token: str) -> str:
        assert (spec, token) == (SPEC, "token123")
        return "task-1"

    async def list_jobs(self, job_ids: Sequence[str]) -> Sequence[JobReport]:
        if job_ids:
            raise InvalidRequestError(f"there is no job {job_ids[0]!r}")
        return [REPORT]

    async def cancel_job(self, job_id: str) -> JobReport:
        return REPORT


class Replicas(ReplicaService):
    def __init__(self) -> None:
        self.asked: list[object] = []

    async def verify(self, request: VerifyRequest) -> VerifyResult:
        self.asked.append(request)
        return VerifyResult(2**40, 7, 9, True, 3, 2**33, ("x",))

    async def digest(self, request: DigestRequest) -> DigestResult:
        self.asked.append(request)
        if request.end_offset < 0:
            raise UnknownTopicOrPartitionError("there is no topic 'orders'")
        return DigestResult(5, 6, (EpochDigest(1, 2, 3, 4, "ff"),), 0, 8, 9)


async def test_jobs_and_slices_arrive_as_they_are_and_errors_do_too() -> None:
    replicas = Replicas()
    more = {
        jobs.JOB_SERVICE: jobs.job_methods(FakeJobs()),
        jobs.REPLICA_SERVICE: jobs.replica_methods(replicas),
    }
    server = GrpcServer(FakeService(), more=more)
    port = await server.start("127.0.0.1", 0)
    channel, peers = BrokerChannel(f"127.0.0.1:{port}"), GrpcPeers()
    own = Replicas()
    access = jobs.PeerReplicas(peers, 1, own)
    try:
        assert await channel.jobs.submit_job(SPEC, "token123") == "task-1"
        assert list(await channel.jobs.list_jobs([])) == [REPORT]
        assert await channel.jobs.cancel_job("task-1") == REPORT
        with pytest.raises(InvalidRequestError, match="no job 'x'"):
            await channel.jobs.list_jobs(["x"])
        other = access.at(BrokerInfo(2, "B", "127.0.0.1", port))
        verify = VerifyRequest(ORDERS, "id", 2**40, 5, -1, 100)
        assert await other.verify(verify) == await own.verify(verify)
        digest = DigestRequest(ORDERS, "id", 2**40, 2**41, 100)
        assert await other.digest(digest) == await own.digest(digest)
        with pytest.raises(UnknownTopicOrPartitionError, match="orders"):
            await other.digest(DigestRequest(ORDERS, "id", 0, -1))
        assert replicas.asked[:2] == [verify, digest]
        assert access.at(BrokerInfo(1, "A", "127.0.0.1", port)) is own
    finally:
        await channel.close()
        await peers.close()
        await server.stop()
