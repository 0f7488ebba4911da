from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Error(_message.Message):
    __slots__ = ("code", "name", "message", "retriable")
    CODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRIABLE_FIELD_NUMBER: _ClassVar[int]
    code: int
    name: str
    message: str
    retriable: bool
    def __init__(self, code: _Optional[int] = ..., name: _Optional[str] = ..., message: _Optional[str] = ..., retriable: _Optional[bool] = ...) -> None: ...

class TopicPartition(_message.Message):
    __slots__ = ("topic", "partition")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ...) -> None: ...

class PartitionState(_message.Message):
    __slots__ = ("leader", "leader_epoch", "isr", "controller_epoch", "partition_version", "isr_storage")
    class IsrStorageEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    LEADER_FIELD_NUMBER: _ClassVar[int]
    LEADER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ISR_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    PARTITION_VERSION_FIELD_NUMBER: _ClassVar[int]
    ISR_STORAGE_FIELD_NUMBER: _ClassVar[int]
    leader: int
    leader_epoch: int
    isr: _containers.RepeatedScalarFieldContainer[int]
    controller_epoch: int
    partition_version: int
    isr_storage: _containers.ScalarMap[int, str]
    def __init__(self, leader: _Optional[int] = ..., leader_epoch: _Optional[int] = ..., isr: _Optional[_Iterable[int]] = ..., controller_epoch: _Optional[int] = ..., partition_version: _Optional[int] = ..., isr_storage: _Optional[_Mapping[int, str]] = ...) -> None: ...

class KafkaListener(_message.Message):
    __slots__ = ("name", "protocol", "host", "port")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    name: str
    protocol: str
    host: str
    port: int
    def __init__(self, name: _Optional[str] = ..., protocol: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class Broker(_message.Message):
    __slots__ = ("broker_id", "name", "grpc_host", "grpc_port", "kafka_host", "kafka_port", "rack", "storage_id", "dirty", "broker_epoch", "transaction_level", "kafka_listeners")
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GRPC_HOST_FIELD_NUMBER: _ClassVar[int]
    GRPC_PORT_FIELD_NUMBER: _ClassVar[int]
    KAFKA_HOST_FIELD_NUMBER: _ClassVar[int]
    KAFKA_PORT_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    STORAGE_ID_FIELD_NUMBER: _ClassVar[int]
    DIRTY_FIELD_NUMBER: _ClassVar[int]
    BROKER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_LEVEL_FIELD_NUMBER: _ClassVar[int]
    KAFKA_LISTENERS_FIELD_NUMBER: _ClassVar[int]
    broker_id: int
    name: str
    grpc_host: str
    grpc_port: int
    kafka_host: str
    kafka_port: int
    rack: str
    storage_id: str
    dirty: bool
    broker_epoch: int
    transaction_level: int
    kafka_listeners: _containers.RepeatedCompositeFieldContainer[KafkaListener]
    def __init__(self, broker_id: _Optional[int] = ..., name: _Optional[str] = ..., grpc_host: _Optional[str] = ..., grpc_port: _Optional[int] = ..., kafka_host: _Optional[str] = ..., kafka_port: _Optional[int] = ..., rack: _Optional[str] = ..., storage_id: _Optional[str] = ..., dirty: _Optional[bool] = ..., broker_epoch: _Optional[int] = ..., transaction_level: _Optional[int] = ..., kafka_listeners: _Optional[_Iterable[_Union[KafkaListener, _Mapping]]] = ...) -> None: ...

class Partition(_message.Message):
    __slots__ = ("topic_partition", "topic_id", "replicas", "adding", "removing", "state")
    TOPIC_PARTITION_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    ADDING_FIELD_NUMBER: _ClassVar[int]
    REMOVING_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    topic_partition: TopicPartition
    topic_id: str
    replicas: _containers.RepeatedScalarFieldContainer[int]
    adding: _containers.RepeatedScalarFieldContainer[int]
    removing: _containers.RepeatedScalarFieldContainer[int]
    state: PartitionState
    def __init__(self, topic_partition: _Optional[_Union[TopicPartition, _Mapping]] = ..., topic_id: _Optional[str] = ..., replicas: _Optional[_Iterable[int]] = ..., adding: _Optional[_Iterable[int]] = ..., removing: _Optional[_Iterable[int]] = ..., state: _Optional[_Union[PartitionState, _Mapping]] = ...) -> None: ...
