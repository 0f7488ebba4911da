from minikafka.rpc.generated import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobSpec(_message.Message):
    __slots__ = ("kind", "topic", "partitions", "replicas")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    topic: str
    partitions: _containers.RepeatedScalarFieldContainer[int]
    replicas: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, kind: _Optional[str] = ..., topic: _Optional[str] = ..., partitions: _Optional[_Iterable[int]] = ..., replicas: _Optional[_Iterable[int]] = ...) -> None: ...

class JobReport(_message.Message):
    __slots__ = ("job_id", "spec", "state", "attempt", "node_id", "submitted_at_ms", "updated_at_ms", "cancel_requested", "ok", "summary", "details")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
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
    details: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job_id: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., state: _Optional[str] = ..., attempt: _Optional[int] = ..., node_id: _Optional[int] = ..., submitted_at_ms: _Optional[int] = ..., updated_at_ms: _Optional[int] = ..., cancel_requested: _Optional[bool] = ..., ok: _Optional[bool] = ..., summary: _Optional[str] = ..., details: _Optional[_Iterable[str]] = ...) -> None: ...

class SubmitJobRequest(_message.Message):
    __slots__ = ("spec", "token")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    spec: JobSpec
    token: str
    def __init__(self, spec: _Optional[_Union[JobSpec, _Mapping]] = ..., token: _Optional[str] = ...) -> None: ...

class SubmitJobResponse(_message.Message):
    __slots__ = ("error", "job_id")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    job_id: str
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., job_id: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("job_ids",)
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("error", "jobs")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    jobs: _containers.RepeatedCompositeFieldContainer[JobReport]
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., jobs: _Optional[_Iterable[_Union[JobReport, _Mapping]]] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("error", "job")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    job: JobReport
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., job: _Optional[_Union[JobReport, _Mapping]] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("topic_partition", "topic_id", "segment", "position", "end_offset", "max_bytes")
    TOPIC_PARTITION_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    topic_partition: _common_pb2.TopicPartition
    topic_id: str
    segment: int
    position: int
    end_offset: int
    max_bytes: int
    def __init__(self, topic_partition: _Optional[_Union[_common_pb2.TopicPartition, _Mapping]] = ..., topic_id: _Optional[str] = ..., segment: _Optional[int] = ..., position: _Optional[int] = ..., end_offset: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("error", "segment", "position", "end_offset", "done", "batches", "size_bytes", "damage")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DAMAGE_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    segment: int
    position: int
    end_offset: int
    done: bool
    batches: int
    size_bytes: int
    damage: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., segment: _Optional[int] = ..., position: _Optional[int] = ..., end_offset: _Optional[int] = ..., done: _Optional[bool] = ..., batches: _Optional[int] = ..., size_bytes: _Optional[int] = ..., damage: _Optional[_Iterable[str]] = ...) -> None: ...

class DigestRequest(_message.Message):
    __slots__ = ("topic_partition", "topic_id", "start_offset", "end_offset", "max_bytes")
    TOPIC_PARTITION_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    topic_partition: _common_pb2.TopicPartition
    topic_id: str
    start_offset: int
    end_offset: int
    max_bytes: int
    def __init__(self, topic_partition: _Optional[_Union[_common_pb2.TopicPartition, _Mapping]] = ..., topic_id: _Optional[str] = ..., start_offset: _Optional[int] = ..., end_offset: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class EpochDigest(_message.Message):
    __slots__ = ("leader_epoch", "first_offset", "last_offset", "batches", "digest")
    LEADER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    leader_epoch: int
    first_offset: int
    last_offset: int
    batches: int
    digest: str
    def __init__(self, leader_epoch: _Optional[int] = ..., first_offset: _Optional[int] = ..., last_offset: _Optional[int] = ..., batches: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class DigestResponse(_message.Message):
    __slots__ = ("error", "next_offset", "size_bytes", "digests", "log_start_offset", "high_watermark", "log_end_offset")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    LOG_START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    HIGH_WATERMARK_FIELD_NUMBER: _ClassVar[int]
    LOG_END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    next_offset: int
    size_bytes: int
    digests: _containers.RepeatedCompositeFieldContainer[EpochDigest]
    log_start_offset: int
    high_watermark: int
    log_end_offset: int
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., next_offset: _Optional[int] = ..., size_bytes: _Optional[int] = ..., digests: _Optional[_Iterable[_Union[EpochDigest, _Mapping]]] = ..., log_start_offset: _Optional[int] = ..., high_watermark: _Optional[int] = ..., log_end_offset: _Optional[int] = ...) -> None: ...
