"""What `topics describe` and `status` know of partitions: collected, as JSON documents, as rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minikafka.api.requests import ClusterMetadata, ClusterUpdate
from minikafka.cli.kit.screen import name_set
from minikafka.model import PartitionMetadata, TopicPartition
from minikafka.watching.board import Board, is_leaderless

if TYPE_CHECKING:
    from minikafka.client import AsyncAdmin

COLUMNS = (
    "topic",
    "partition",
    "leader",
    "epoch",
    "version",
    "replicas",
    "isr",
    "log end offset",
    "high watermark",
)
PATIENCE_MS = 4_000.0  # with a broker that is silent, while a person waits


@dataclass(frozen=True, slots=True)
class Offsets:
    """Of one partition, -1 where its leader did not tell."""

    log_start_offset: int = -1
    log_end_offset: int = -1
    high_watermark: int = -1


def board_of(metadata: ClusterMetadata, names: Mapping[int, str]) -> Board:
    """The picture that one answer gives. `names`: of brokers that may be dead now."""
    board = Board(names=dict(names))
    board.apply(
        "metadata",
        ClusterUpdate(
            partitions=[each for topic in metadata.topics for each in topic.partitions],
            deleted_topics=(),
            brokers=metadata.brokers,
            controller_id=metadata.controller_id,
            controller_epoch=metadata.controller_epoch,
        ),
    )
    return board


async def read_offsets(admin: AsyncAdmin, board: Board) -> dict[TopicPartition, Offsets]:
    """Ask the leaders. One that does not answer leaves its partitions out: the picture without
    their offsets is better than none."""
    asked = [key for key, each in board.partitions.items() if not is_leaderless(each)]
    return {
        answer.topic_partition: Offsets(
            answer.log_start_offset, answer.log_end_offset, answer.high_watermark
        )
        for answer in await admin.describe_partitions(asked)
        if answer.error is None
    }


def state_document(partition: PartitionMetadata) -> dict[str, Any]:
    """The fields that come from the controller (docs/cli.md)."""
    return {
        "topic": partition.topic_partition.topic,
        "partition": partition.topic_partition.partition,
        "leader": partition.state.leader,
        "leader_epoch": partition.state.leader_epoch,
        "partition_version": partition.state.partition_version,
        "replicas": list(partition.assignment.replicas),
        "isr": list(partition.state.isr),
        "topic_id": partition.topic_id,
    }


def partition_document(partition: PartitionMetadata, offsets: Offsets) -> dict[str, Any]:
    return state_document(partition) | {
        "log_start_offset": offsets.log_start_offset,
        "log_end_offset": offsets.log_end_offset,
        "high_watermark": offsets.high_watermark,
    }


def documents(board: Board, offsets: Mapping[TopicPartition, Offsets]) -> list[dict[str, Any]]:
    """One a partition, by topic and number."""
    return [
        partition_document(board.partitions[key], offsets.get(key, Offsets()))
        for key in sorted(board.partitions)
    ]


def rows(board: Board, offsets: Mapping[TopicPartition, Offsets]) -> list[list[object]]:
    """The same for COLUMNS; brokers by name, `-` for what is not known."""
    table: list[list[object]] = []
    for key in sorted(board.partitions):
        partition = board.partitions[key]
        state, known = partition.state, offsets.get(key, Offsets())
        table.append(
            [
                key.topic,
                key.partition,
                "none" if is_leaderless(partition) else board.name(state.leader),
                state.leader_epoch,
                state.partition_version,
                name_set(board, partition.assignment.replicas),
                name_set(board, sorted(state.isr)),
                "-" if known.log_end_offset < 0 else known.log_end_offset,
                "-" if known.high_watermark < 0 else known.high_watermark,
            ]
        )
    return table
