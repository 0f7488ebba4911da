"""The nodes of topics in ZooKeeper: the only way in which the controller changes a topic.

No state: what was written goes into the context. Whoever finds itself deposed by a write ends the
term (`DeposedError`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import (
    CreateTopicNode,
    Operation,
    RemoveTopic,
    UpdateTopicNode,
    require_term,
)
from minikafka.core.control.context import ClusterContext
from minikafka.model import Assignment, TopicDescription, TopicPartition


class TopicNodes:
    """Creates, updates and removes them, fenced."""

    def __init__(self, context: ClusterContext) -> None:
        self._context = context

    def create(self, topic: TopicDescription, overrides: Mapping[str, str]) -> Operation[bool]:
        """False if there is one already."""
        outcome: WriteOutcome = yield CreateTopicNode(topic, overrides)
        require_term(outcome)
        if outcome is WriteOutcome.CONFLICT:
            return False
        self._context.put_topic(topic)
        return True

    def update(self, topic: TopicDescription) -> Operation[bool]:
        """False if it is gone."""
        outcome: WriteOutcome = yield UpdateTopicNode(topic)
        require_term(outcome)
        if outcome is WriteOutcome.CONFLICT:
            return False
        self._context.put_topic(topic)
        return True

    def write_assignments(
        self, assignments: Mapping[TopicPartition, Assignment]
    ) -> Operation[list[TopicPartition]]:
        """One write a topic. Returns the partitions whose topic was still there."""
        by_topic: dict[str, list[TopicPartition]] = {}
        for tp in assignments:
            by_topic.setdefault(tp.topic, []).append(tp)
        written: list[TopicPartition] = []
        for name, partitions in by_topic.items():
            topic = self._context.topics[name]
            changed = {tp.partition: assignments[tp] for tp in partitions}
            topic = replace(topic, assignments={**topic.assignments, **changed})
            if (yield from self.update(topic)):
                written += partitions
        return written

    def remove(self, topic: TopicDescription) -> Operation[bool]:
        """A topic with all that belongs to it, its deletion marker last. False if the node is that
        of another topic by now, or cannot be read."""
        outcome: WriteOutcome = yield RemoveTopic(topic)
        require_term(outcome)
        return outcome is WriteOutcome.WRITTEN
