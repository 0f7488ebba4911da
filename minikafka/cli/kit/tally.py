"""What was acknowledged, counted per partition. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class PartitionTally:
    """Records of one partition; offsets are those of the first and the last, -1 if nobody told."""

    records: int = 0
    first_offset: int = -1
    last_offset: int = -1


@dataclass(slots=True)
class Tally:
    """`size_bytes`: keys and values, without newlines and separators. `begun`: there was a producer
    at all."""

    topic: str
    records: int = 0
    size_bytes: int = 0
    begun: bool = False
    partitions: dict[int, PartitionTally] = field(default_factory=dict)

    def add(self, partition: int, offset: int, size_bytes: int) -> None:
        """One more record."""
        of_partition = self.partitions.get(partition)
        if of_partition is None:
            of_partition = self.partitions[partition] = PartitionTally(first_offset=offset)
        of_partition.records += 1
        of_partition.first_offset = min(of_partition.first_offset, offset)
        of_partition.last_offset = max(of_partition.last_offset, offset)
        self.records += 1
        self.size_bytes += size_bytes

    def take(self, other: Tally) -> None:
        """All that the other one has counted."""
        for number, more in other.partitions.items():
            mine = self.partitions.get(number)
            if mine is None:
                mine = self.partitions[number] = PartitionTally(first_offset=more.first_offset)
            mine.records += more.records
            mine.first_offset = min(mine.first_offset, more.first_offset)
            mine.last_offset = max(mine.last_offset, more.last_offset)
        self.records += other.records
        self.size_bytes += other.size_bytes

    def line(self, acknowledged: bool = True) -> str:
        """`acknowledged 3 records (12 bytes) to orders: partition 0 offsets 5..7`"""
        records = "1 record" if self.records == 1 else f"{self.records} records"
        words = f"{records} ({self.size_bytes} bytes) to {self.topic}"
        if not acknowledged:
            return f"sent {words}, without acknowledgement (acks=0)"
        if not self.records:
            return f"acknowledged {words}"
        parts = ", ".join(
            f"partition {number} offsets {each.first_offset}..{each.last_offset}"
            for number, each in sorted(self.partitions.items())
        )
        return f"acknowledged {words}: {parts}"

    def document(self) -> dict[str, Any]:
        """The JSON document (docs/cli.md)."""
        return {
            "topic": self.topic,
            "records": self.records,
            "bytes": self.size_bytes,
            "partitions": [
                {
                    "partition": number,
                    "records": each.records,
                    "first_offset": each.first_offset,
                    "last_offset": each.last_offset,
                }
                for number, each in sorted(self.partitions.items())
            ],
        }
