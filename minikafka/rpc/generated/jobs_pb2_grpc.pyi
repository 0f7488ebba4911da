from collections.abc import AsyncIterator

import grpc.aio

from minikafka.rpc.generated import jobs_pb2

class JobServiceStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    SubmitJob: grpc.aio.UnaryUnaryMultiCallable[jobs_pb2.SubmitJobRequest, jobs_pb2.SubmitJobResponse]
    ListJobs: grpc.aio.UnaryUnaryMultiCallable[jobs_pb2.ListJobsRequest, jobs_pb2.ListJobsResponse]
    CancelJob: grpc.aio.UnaryUnaryMultiCallable[jobs_pb2.CancelJobRequest, jobs_pb2.CancelJobResponse]

class JobServiceServicer:
    async def SubmitJob(self, request: jobs_pb2.SubmitJobRequest, context: grpc.aio.ServicerContext[jobs_pb2.SubmitJobRequest, jobs_pb2.SubmitJobResponse]) -> jobs_pb2.SubmitJobResponse: ...
    async def ListJobs(self, request: jobs_pb2.ListJobsRequest, context: grpc.aio.ServicerContext[jobs_pb2.ListJobsRequest, jobs_pb2.ListJobsResponse]) -> jobs_pb2.ListJobsResponse: ...
    async def CancelJob(self, request: jobs_pb2.CancelJobRequest, context: grpc.aio.ServicerContext[jobs_pb2.CancelJobRequest, jobs_pb2.CancelJobResponse]) -> jobs_pb2.CancelJobResponse: ...

def add_JobServiceServicer_to_server(
    servicer: JobServiceServicer, server: grpc.aio.Server
) -> None: ...

class ReplicaServiceStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Verify: grpc.aio.UnaryUnaryMultiCallable[jobs_pb2.VerifyRequest, jobs_pb2.VerifyResponse]
    Digest: grpc.aio.UnaryUnaryMultiCallable[jobs_pb2.DigestRequest, jobs_pb2.DigestResponse]

class ReplicaServiceServicer:
    async def Verify(self, request: jobs_pb2.VerifyRequest, context: grpc.aio.ServicerContext[jobs_pb2.VerifyRequest, jobs_pb2.VerifyResponse]) -> jobs_pb2.VerifyResponse: ...
    async def Digest(self, request: jobs_pb2.DigestRequest, context: grpc.aio.ServicerContext[jobs_pb2.DigestRequest, jobs_pb2.DigestResponse]) -> jobs_pb2.DigestResponse: ...

def add_ReplicaServiceServicer_to_server(
    servicer: ReplicaServiceServicer, server: grpc.aio.Server
) -> None: ...
