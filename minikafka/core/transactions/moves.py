"""How one record of a transactional id follows on another.

Pure functions from a value to the next. Epochs rise by one and by nothing else: when a producer
comes, when it is fenced or timed out, and in TV2 with every end. Where the last epoch that a client
may hold is reached, a fresh producer id takes over with epoch 0: at once if nothing is open, else
with the Complete (`next_producer_id`), so that the markers still carry the id that wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from minikafka.core.transactions.values import (
    NO_PRODUCER_ID,
    NO_TIMESTAMP,
    Marker,
    TransactionState,
    TransactionValue,
    TransactionVersion,
)
from minikafka.model import TopicPartition


def first(fresh: int, timeout_ms: int, timestamp_ms: int) -> TransactionValue:
    """Of an id that nothing is known of."""
    return TransactionValue(
        fresh,
        0,
        timeout_ms,
        TransactionState.EMPTY,
        last_update_timestamp_ms=timestamp_ms,
    )


def initialized(
    value: TransactionValue, fresh: int, last_epoch: int, timeout_ms: int, timestamp_ms: int
) -> TransactionValue:
    """The next epoch, for a producer that begins (`last_epoch` -1) or goes on. `fresh` -1: there is
    an epoch left."""
    return replace(
        _raised(value, fresh),
        timeout_ms=timeout_ms,
        state=TransactionState.EMPTY,
        last_update_timestamp_ms=timestamp_ms,
        start_timestamp_ms=NO_TIMESTAMP,
        last_epoch=last_epoch,
        version=TransactionVersion.TV1,
    )


def added(
    value: TransactionValue, partitions: Iterable[TopicPartition], timestamp_ms: int
) -> TransactionValue:
    """The partitions belong to the transaction, which may begin with them."""
    begins = value.state is not TransactionState.ONGOING
    return replace(
        value,
        state=TransactionState.ONGOING,
        partitions=value.partitions.union(partitions),
        last_update_timestamp_ms=timestamp_ms,
        start_timestamp_ms=timestamp_ms if begins else value.start_timestamp_ms,
        version=TransactionVersion.TV1 if begins else value.version,
    )


def ended(value: TransactionValue, *, commits: bool, timestamp_ms: int) -> TransactionValue:
    """The decision, in TV1: the epoch stays."""
    return replace(
        value,
        state=TransactionState.PREPARE_COMMIT if commits else TransactionState.PREPARE_ABORT,
        last_update_timestamp_ms=timestamp_ms,
        version=TransactionVersion.TV1,
    )


def ended_raising(
    value: TransactionValue, fresh: int, last_epoch: int, *, commits: bool, timestamp_ms: int
) -> TransactionValue:
    """The decision, in TV2 or by a fence. `fresh` -1: there is an epoch left for a client."""
    return replace(
        ended(value, commits=commits, timestamp_ms=timestamp_ms),
        producer_epoch=value.producer_epoch + 1,
        last_epoch=last_epoch,
        next_producer_id=fresh,
        version=TransactionVersion.TV2,
    )


def aborted_nothing(value: TransactionValue, fresh: int, timestamp_ms: int) -> TransactionValue:
    """An abort in TV2 of what has not begun: it raises the epoch as every end does."""
    return replace(
        _raised(value, fresh),
        state=TransactionState.COMPLETE_ABORT,
        last_update_timestamp_ms=timestamp_ms,
        start_timestamp_ms=timestamp_ms,
        last_epoch=value.producer_epoch,
        version=TransactionVersion.TV2,
    )


def completed(value: TransactionValue, timestamp_ms: int) -> TransactionValue:
    """Every partition has confirmed."""
    assert value.state.is_prepare, value
    done = replace(
        value,
        state=(
            TransactionState.COMPLETE_COMMIT
            if value.state.commits
            else TransactionState.COMPLETE_ABORT
        ),
        partitions=frozenset(),
        last_update_timestamp_ms=timestamp_ms,
    )
    if value.next_producer_id == NO_PRODUCER_ID:
        return done
    return replace(
        done,
        producer_id=value.next_producer_id,
        producer_epoch=0,
        previous_producer_id=value.producer_id,
        next_producer_id=NO_PRODUCER_ID,
    )


def _raised(value: TransactionValue, fresh: int) -> TransactionValue:
    if fresh == NO_PRODUCER_ID:
        return replace(value, producer_epoch=value.producer_epoch + 1)
    return replace(
        value, producer_id=fresh, producer_epoch=0, previous_producer_id=value.producer_id
    )


def marker_of(transactional_id: str, value: TransactionValue) -> Marker:
    """What a Prepare tells its partitions."""
    assert value.state.is_prepare, value
    return Marker(
        transactional_id,
        value.producer_id,
        value.producer_epoch,
        value.state.commits,
        value.version is TransactionVersion.TV2,
    )
