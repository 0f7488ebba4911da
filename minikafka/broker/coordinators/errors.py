"""What a coordinator tells its clients when a record of its own could not be written."""

from __future__ import annotations

from collections.abc import Mapping

from minikafka.errors import (
    BrokerNotAvailableError,
    CoordinatorNotAvailableError,
    KafkaStorageError,
    MinikafkaError,
    NotCoordinatorError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    UnknownTopicOrPartitionError,
)

_MEANS: Mapping[type[MinikafkaError], type[MinikafkaError]] = {
    UnknownTopicOrPartitionError: CoordinatorNotAvailableError,
    NotEnoughReplicasError: CoordinatorNotAvailableError,
    NotEnoughReplicasAfterAppendError: CoordinatorNotAvailableError,
    BrokerNotAvailableError: CoordinatorNotAvailableError,
    NotLeaderOrFollowerError: NotCoordinatorError,
    KafkaStorageError: NotCoordinatorError,
}


def coordinator_error(error: MinikafkaError) -> MinikafkaError:
    """As its clients know what to do about it: look for the coordinator anew, mostly."""
    kind = _MEANS.get(type(error))
    return error if kind is None else kind(f"the coordinator cannot write its records: {error}")
