"""What an error says about the fate of a batch: was it written, and what is its user told. No
state."""

from __future__ import annotations

from minikafka.client.producing.accumulator import Batch
from minikafka.errors import (
    CorruptMessageError,
    InvalidProducerEpochError,
    InvalidRecordError,
    MessageTooLargeError,
    MinikafkaError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumberError,
    RequestTimedOutError,
    UnknownProducerIdError,
)

# After each of these the batch is certainly not in the log; after any other it may be, or may be
# yet (replication.md section 3, Produce).
_NOT_WRITTEN = (
    NotEnoughReplicasError,
    OutOfOrderSequenceNumberError,
    InvalidProducerEpochError,
    UnknownProducerIdError,
    MessageTooLargeError,
    CorruptMessageError,
    InvalidRecordError,
)


def certainly_not_written(error: MinikafkaError) -> bool:
    return isinstance(error, _NOT_WRITTEN)


def expiry_error(batch: Batch, unknown: bool, delivery_timeout_ms: float) -> MinikafkaError:
    """What a batch that ran out of time fails with: the error that kept it back, or
    RequestTimedOutError where that one would promise more than is known (`unknown`: it may have
    been written)."""
    cause = batch.lane.last_error
    message = (
        f"{batch.record_count} records for {batch.lane.topic_partition} were not acknowledged "
        f"within {delivery_timeout_ms:.0f} ms{'; they may have been written' if unknown else ''}"
    )
    if cause is None:
        return RequestTimedOutError(message)
    if unknown and certainly_not_written(cause):
        return RequestTimedOutError(f"{message}: {cause}")
    return type(cause)(f"{message}: {cause}")
