from minikafka.rpc.generated import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetBrokerMetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetBrokerMetricsResponse(_message.Message):
    __slots__ = ("error", "metrics")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    metrics: BrokerMetrics
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., metrics: _Optional[_Union[BrokerMetrics, _Mapping]] = ...) -> None: ...

class BrokerMetrics(_message.Message):
    __slots__ = ("broker_id", "broker_epoch", "uptime_ms", "timestamp_ms", "process", "total", "topics", "replicas", "controller", "groups", "requests", "zookeeper_connected", "zookeeper_disconnects", "zookeeper_expires")
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    BROKER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ZOOKEEPER_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    ZOOKEEPER_DISCONNECTS_FIELD_NUMBER: _ClassVar[int]
    ZOOKEEPER_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    broker_id: int
    broker_epoch: int
    uptime_ms: int
    timestamp_ms: int
    process: ProcessUsage
    total: TopicMetrics
    topics: _containers.RepeatedCompositeFieldContainer[TopicMetrics]
    replicas: ReplicaMetrics
    controller: ControllerMetrics
    groups: GroupMetrics
    requests: _containers.RepeatedCompositeFieldContainer[RequestMetrics]
    zookeeper_connected: bool
    zookeeper_disconnects: int
    zookeeper_expires: int
    def __init__(self, broker_id: _Optional[int] = ..., broker_epoch: _Optional[int] = ..., uptime_ms: _Optional[int] = ..., timestamp_ms: _Optional[int] = ..., process: _Optional[_Union[ProcessUsage, _Mapping]] = ..., total: _Optional[_Union[TopicMetrics, _Mapping]] = ..., topics: _Optional[_Iterable[_Union[TopicMetrics, _Mapping]]] = ..., replicas: _Optional[_Union[ReplicaMetrics, _Mapping]] = ..., controller: _Optional[_Union[ControllerMetrics, _Mapping]] = ..., groups: _Optional[_Union[GroupMetrics, _Mapping]] = ..., requests: _Optional[_Iterable[_Union[RequestMetrics, _Mapping]]] = ..., zookeeper_connected: _Optional[bool] = ..., zookeeper_disconnects: _Optional[int] = ..., zookeeper_expires: _Optional[int] = ...) -> None: ...

class ProcessUsage(_message.Message):
    __slots__ = ("cpu_ms", "resident_bytes", "open_files")
    CPU_MS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    OPEN_FILES_FIELD_NUMBER: _ClassVar[int]
    cpu_ms: int
    resident_bytes: int
    open_files: int
    def __init__(self, cpu_ms: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., open_files: _Optional[int] = ...) -> None: ...

class TopicMetrics(_message.Message):
    __slots__ = ("topic", "partitions", "leaders", "size_bytes", "messages_in", "bytes_in", "bytes_out", "replication_bytes_in", "replication_bytes_out", "produce_requests", "fetch_requests", "failed_produce_requests", "failed_fetch_requests")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    LEADERS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_IN_FIELD_NUMBER: _ClassVar[int]
    BYTES_IN_FIELD_NUMBER: _ClassVar[int]
    BYTES_OUT_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_BYTES_IN_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_BYTES_OUT_FIELD_NUMBER: _ClassVar[int]
    PRODUCE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FETCH_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_PRODUCE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FETCH_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partitions: int
    leaders: int
    size_bytes: int
    messages_in: int
    bytes_in: int
    bytes_out: int
    replication_bytes_in: int
    replication_bytes_out: int
    produce_requests: int
    fetch_requests: int
    failed_produce_requests: int
    failed_fetch_requests: int
    def __init__(self, topic: _Optional[str] = ..., partitions: _Optional[int] = ..., leaders: _Optional[int] = ..., size_bytes: _Optional[int] = ..., messages_in: _Optional[int] = ..., bytes_in: _Optional[int] = ..., bytes_out: _Optional[int] = ..., replication_bytes_in: _Optional[int] = ..., replication_bytes_out: _Optional[int] = ..., produce_requests: _Optional[int] = ..., fetch_requests: _Optional[int] = ..., failed_produce_requests: _Optional[int] = ..., failed_fetch_requests: _Optional[int] = ...) -> None: ...

class ReplicaMetrics(_message.Message):
    __slots__ = ("partitions", "leaders", "offline", "under_replicated", "under_min_isr", "at_min_isr", "max_lag", "isr_shrinks", "isr_expands")
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    LEADERS_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    UNDER_REPLICATED_FIELD_NUMBER: _ClassVar[int]
    UNDER_MIN_ISR_FIELD_NUMBER: _ClassVar[int]
    AT_MIN_ISR_FIELD_NUMBER: _ClassVar[int]
    MAX_LAG_FIELD_NUMBER: _ClassVar[int]
    ISR_SHRINKS_FIELD_NUMBER: _ClassVar[int]
    ISR_EXPANDS_FIELD_NUMBER: _ClassVar[int]
    partitions: int
    leaders: int
    offline: int
    under_replicated: int
    under_min_isr: int
    at_min_isr: int
    max_lag: int
    isr_shrinks: int
    isr_expands: int
    def __init__(self, partitions: _Optional[int] = ..., leaders: _Optional[int] = ..., offline: _Optional[int] = ..., under_replicated: _Optional[int] = ..., under_min_isr: _Optional[int] = ..., at_min_isr: _Optional[int] = ..., max_lag: _Optional[int] = ..., isr_shrinks: _Optional[int] = ..., isr_expands: _Optional[int] = ...) -> None: ...

class ControllerMetrics(_message.Message):
    __slots__ = ("active", "controller_epoch", "brokers", "topics", "partitions", "offline_partitions", "preferred_imbalance", "topics_to_delete", "elections", "unclean_elections")
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    BROKERS_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    PREFERRED_IMBALANCE_FIELD_NUMBER: _ClassVar[int]
    TOPICS_TO_DELETE_FIELD_NUMBER: _ClassVar[int]
    ELECTIONS_FIELD_NUMBER: _ClassVar[int]
    UNCLEAN_ELECTIONS_FIELD_NUMBER: _ClassVar[int]
    active: bool
    controller_epoch: int
    brokers: int
    topics: int
    partitions: int
    offline_partitions: int
    preferred_imbalance: int
    topics_to_delete: int
    elections: int
    unclean_elections: int
    def __init__(self, active: _Optional[bool] = ..., controller_epoch: _Optional[int] = ..., brokers: _Optional[int] = ..., topics: _Optional[int] = ..., partitions: _Optional[int] = ..., offline_partitions: _Optional[int] = ..., preferred_imbalance: _Optional[int] = ..., topics_to_delete: _Optional[int] = ..., elections: _Optional[int] = ..., unclean_elections: _Optional[int] = ...) -> None: ...

class GroupMetrics(_message.Message):
    __slots__ = ("groups", "offsets", "empty", "preparing_rebalance", "completing_rebalance", "stable")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    PREPARING_REBALANCE_FIELD_NUMBER: _ClassVar[int]
    COMPLETING_REBALANCE_FIELD_NUMBER: _ClassVar[int]
    STABLE_FIELD_NUMBER: _ClassVar[int]
    groups: int
    offsets: int
    empty: int
    preparing_rebalance: int
    completing_rebalance: int
    stable: int
    def __init__(self, groups: _Optional[int] = ..., offsets: _Optional[int] = ..., empty: _Optional[int] = ..., preparing_rebalance: _Optional[int] = ..., completing_rebalance: _Optional[int] = ..., stable: _Optional[int] = ...) -> None: ...

class RequestMetrics(_message.Message):
    __slots__ = ("request", "count", "total_us", "p50_us", "p99_us")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_US_FIELD_NUMBER: _ClassVar[int]
    P50_US_FIELD_NUMBER: _ClassVar[int]
    P99_US_FIELD_NUMBER: _ClassVar[int]
    request: str
    count: int
    total_us: int
    p50_us: int
    p99_us: int
    def __init__(self, request: _Optional[str] = ..., count: _Optional[int] = ..., total_us: _Optional[int] = ..., p50_us: _Optional[int] = ..., p99_us: _Optional[int] = ...) -> None: ...
