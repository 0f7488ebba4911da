"""Builders for tests of the pure core: headers, States and partitions with everything defaulted.

Broker 1 is A, 2 is B and so on; the broker epoch of broker n is 100 * n unless a test says other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from minikafka.core.replication.events import StateReceived
from minikafka.core.replication.leader import Leader
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.partition import Partition
from minikafka.core.replication.settings import PartitionSettings
from minikafka.model import (
    CONTROL,
    TRANSACTIONAL,
    Assignment,
    BatchHeader,
    EpochEntry,
    FollowerPosition,
    PartitionState,
    TopicPartition,
)

TP = TopicPartition("t", 0)
TOPIC_ID = "topic-id"
LAG_MS = 1000
ELIGIBLE = {1: 100, 2: 200, 3: 300, 4: 400, 5: 500}


def batch(
    base_offset: int = 0,
    count: int = 1,
    leader_epoch: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    sequence: int = -1,
    timestamp_ms: int = 0,
    attributes: int = 0,
) -> BatchHeader:
    """The header of a batch of `count` records."""
    return BatchHeader(
        base_offset,
        61 + 10 * count,
        leader_epoch,
        0,
        attributes,
        count - 1,
        timestamp_ms,
        timestamp_ms,
        producer_id,
        producer_epoch,
        sequence,
        count,
    )


def in_transaction(
    base_offset: int = 0,
    sequence: int = 0,
    count: int = 1,
    producer_id: int = 7,
    producer_epoch: int = 0,
    leader_epoch: int = 0,
) -> BatchHeader:
    """The header of a batch of a transaction."""
    return batch(
        base_offset,
        count,
        leader_epoch,
        producer_id,
        producer_epoch,
        sequence,
        attributes=TRANSACTIONAL,
    )


def marker(
    base_offset: int = 0, producer_id: int = 7, producer_epoch: int = 0, leader_epoch: int = 0
) -> BatchHeader:
    """The header of a control batch that ends a transaction."""
    return batch(
        base_offset,
        1,
        leader_epoch,
        producer_id,
        producer_epoch,
        attributes=TRANSACTIONAL | CONTROL,
    )


def state(
    leader: int = 1,
    leader_epoch: int = 0,
    isr: Sequence[int] = (1, 2, 3),
    version: int = 0,
) -> PartitionState:
    return PartitionState(leader, leader_epoch, tuple(isr), 1, version)


def replica(
    broker_id: int = 1,
    log: LogState | None = None,
    eligible: Mapping[int, int] | None = None,
    min_insync: int = 1,
    flush_before_ack: bool = False,
) -> Partition:
    """A partition that has adopted nothing yet."""
    return Partition(
        TP,
        TOPIC_ID,
        broker_id,
        100 * broker_id,
        LogState() if log is None else log,
        PartitionSettings(min_insync, LAG_MS, flush_before_ack),
        ELIGIBLE if eligible is None else eligible,
    )


def leading(
    adopted: PartitionState | None = None,
    log: LogState | None = None,
    replicas: Sequence[int] = (1, 2, 3),
    eligible: Mapping[int, int] | None = None,
    min_insync: int = 1,
    flush_before_ack: bool = False,
) -> Leader:
    """The leading side of broker 1, which has adopted `adopted` at time 0."""
    partition = replica(1, log, eligible, min_insync, flush_before_ack)
    given = state() if adopted is None else adopted
    partition.step(StateReceived(given, Assignment(tuple(replicas))), 0)
    return leader_of(partition)


def leader_of(partition: Partition) -> Leader:
    """Its leading side, which it hands out to nobody else."""
    assert partition._leader is not None, partition.explain("does not lead")
    return partition._leader


def position(
    offset: int,
    last_epoch: int = 0,
    current_epoch: int = 0,
    log_start: int = 0,
    topic_id: str = TOPIC_ID,
) -> FollowerPosition:
    return FollowerPosition(TP, topic_id, offset, last_epoch, current_epoch, log_start)


def entries(*pairs: tuple[int, int]) -> tuple[EpochEntry, ...]:
    """(epoch, start offset) pairs as entries."""
    return tuple(EpochEntry(epoch, start) for epoch, start in pairs)


def log_of(*epochs: int, high_watermark: int = 0, log_start_offset: int = 0) -> LogState:
    """A log with one record for each of these epochs, from offset `log_start_offset` on."""
    log = LogState(log_start_offset, log_start_offset)
    log.appended(
        [batch(log_start_offset + i, leader_epoch=epoch) for i, epoch in enumerate(epochs)]
    )
    log.high_watermark = max(log_start_offset, high_watermark)
    log.check()
    return log
