from minikafka.rpc.generated import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeStatus(_message.Message):
    __slots__ = ("broker_id", "name", "started_at_ms", "cpu_percent", "rss_bytes", "disk_used_bytes", "disk_free_bytes", "bytes_in_per_s", "bytes_out_per_s", "partitions_led", "partitions_held", "partitions_offline", "offline")
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_IN_PER_S_FIELD_NUMBER: _ClassVar[int]
    BYTES_OUT_PER_S_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_LED_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_HELD_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_OFFLINE_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    broker_id: int
    name: str
    started_at_ms: int
    cpu_percent: float
    rss_bytes: int
    disk_used_bytes: int
    disk_free_bytes: int
    bytes_in_per_s: int
    bytes_out_per_s: int
    partitions_led: int
    partitions_held: int
    partitions_offline: int
    offline: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, broker_id: _Optional[int] = ..., name: _Optional[str] = ..., started_at_ms: _Optional[int] = ..., cpu_percent: _Optional[float] = ..., rss_bytes: _Optional[int] = ..., disk_used_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., bytes_in_per_s: _Optional[int] = ..., bytes_out_per_s: _Optional[int] = ..., partitions_led: _Optional[int] = ..., partitions_held: _Optional[int] = ..., partitions_offline: _Optional[int] = ..., offline: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeReport(_message.Message):
    __slots__ = ("status", "live", "updated_at_ms", "gone_at_ms")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    GONE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    status: NodeStatus
    live: bool
    updated_at_ms: int
    gone_at_ms: int
    def __init__(self, status: _Optional[_Union[NodeStatus, _Mapping]] = ..., live: _Optional[bool] = ..., updated_at_ms: _Optional[int] = ..., gone_at_ms: _Optional[int] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("error", "nodes")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    nodes: _containers.RepeatedCompositeFieldContainer[NodeReport]
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[NodeReport, _Mapping]]] = ...) -> None: ...

class UnreadableNode(_message.Message):
    __slots__ = ("path", "why")
    PATH_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    path: str
    why: str
    def __init__(self, path: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class ControllerReport(_message.Message):
    __slots__ = ("controller_id", "controller_epoch", "candidates", "unreadable")
    CONTROLLER_ID_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    controller_id: int
    controller_epoch: int
    candidates: _containers.RepeatedScalarFieldContainer[int]
    unreadable: _containers.RepeatedCompositeFieldContainer[UnreadableNode]
    def __init__(self, controller_id: _Optional[int] = ..., controller_epoch: _Optional[int] = ..., candidates: _Optional[_Iterable[int]] = ..., unreadable: _Optional[_Iterable[_Union[UnreadableNode, _Mapping]]] = ...) -> None: ...

class DescribeControllerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeControllerResponse(_message.Message):
    __slots__ = ("error", "controller")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.Error
    controller: ControllerReport
    def __init__(self, error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ..., controller: _Optional[_Union[ControllerReport, _Mapping]] = ...) -> None: ...
