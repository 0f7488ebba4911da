"""Attempts at transactions, and what is known of their outcome. Those who do them share the list:
the loop and the threads of other clients, each with transactional ids of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minikafka.model import TopicPartition

TOPIC = "transacted"
PARTITIONS = tuple(TopicPartition(TOPIC, number) for number in range(3))
COMMITTED, ABORTED, UNKNOWN = "committed", "aborted", "unknown"
TIMEOUT_MS = 10_000  # of transactions
CALL_MS = 15_000


@dataclass
class Attempt:
    """At a transaction. `values`: by partition, in the order in which they were sent."""

    name: str
    values: dict[TopicPartition, list[str]] = field(default_factory=dict)
    outcome: str = UNKNOWN

    def next_value(self, partition: TopicPartition) -> str:
        values = self.values.setdefault(partition, [])
        values.append(f"{self.name}-{partition.partition}:{len(values)}")
        return values[-1]


class Attempts(list[Attempt]):
    """All of them, in the order in which they began."""

    def begin(self, transactional_id: str) -> Attempt:
        made = Attempt(f"{transactional_id}.{len(self) + 1}")
        self.append(made)
        return made
