"""The controller's work on deletions: topics that are to go.

A deletion is durable with its marker: every replica deletes its log, those on brokers that are down
when they come back; when all have, the nodes go, the marker last. Any controller resumes it from
the marker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minikafka.core.control.commands import MarkTopicDeleted, Operation, Results
from minikafka.core.control.context import ClusterContext
from minikafka.core.control.outbox import Outbox
from minikafka.core.control.topic_nodes import TopicNodes
from minikafka.errors import TopicDeletionDisabledError, UnknownTopicOrPartitionError
from minikafka.model import TopicDescription, TopicPartition


class Deletions:
    """Those that are asked for, and those that are marked."""

    def __init__(self, context: ClusterContext, outbox: Outbox, nodes: TopicNodes) -> None:
        self._context = context
        self._outbox = outbox
        self._nodes = nodes

    # --- asked for, marked ---

    def mark(self, names: Sequence[str], *, enabled: bool) -> Operation[Results]:
        """Mark topics as deleted and begin to delete them; one that is marked already is fine.
        `enabled`: delete.topic.enable."""
        if not enabled:
            refused = TopicDeletionDisabledError("delete.topic.enable=false on the controller")
            return [(name, refused) for name in names]
        results: Results = []
        for name in names:
            if name in self._context.topics:
                yield MarkTopicDeleted(name)
                results.append((name, None))
            else:
                unknown = UnknownTopicOrPartitionError(f"there is no topic {name}")
                results.append((name, unknown))
        yield from self.start({name for name, error in results if error is None})
        return results

    def start(self, marked: set[str]) -> Operation[None]:
        """Stop and delete the replicas of topics that are marked. A marker for a topic that does
        not exist goes, lest it strike a later one of that name."""
        context = self._context
        for name in sorted(marked - context.topics.keys() - context.unreadable_topics):
            yield from self._nodes.remove(TopicDescription(name, "", {}))
        for name in sorted((marked & context.topics.keys()) - context.deletions):
            context.deletions.add(name)
            for broker_id in self._outbox.brokers():
                self._tell(name, broker_id)
        yield from self.finish()

    # --- what brokers are to delete, have deleted ---

    def tell_all(self, broker_id: int) -> None:
        """Let a broker delete what it should have deleted while it was away."""
        for name in sorted(self._context.deletions):
            self._tell(name, broker_id)

    def _tell(self, name: str, broker_id: int) -> None:
        """Let a broker forget a topic, and delete the replicas that it has of it."""
        for tp, topic_id, replica in self._context.undeleted_replicas(name):
            if replica == broker_id:
                self._outbox.put_deletion(broker_id, tp, topic_id)
        topic_id = self._context.topics[name].topic_id
        self._outbox.put_deleted_topic(name, topic_id, to=[broker_id])

    def note_deleted_replicas(
        self, broker_id: int, replicas: Iterable[tuple[TopicPartition, str]]
    ) -> list[TopicPartition]:
        """A broker has deleted replicas (partition, topic id). Returns those whose topic stays: a
        reassignment has dropped them."""
        dropped: list[TopicPartition] = []
        for tp, topic_id in replicas:
            topic = self._context.topics.get(tp.topic)
            if topic is None or topic.topic_id != topic_id:
                continue
            if self._outbox.is_to_go(broker_id, tp, topic_id):
                continue  # it may have become a replica since, and is to be deleted again
            if tp.topic in self._context.deletions:
                self._context.deleted_replicas.add((tp, topic_id, broker_id))
            else:
                dropped.append(tp)
        return dropped

    def finish(self) -> Operation[None]:
        """Remove the topics of which no replica is left."""
        for name in sorted(self._context.deletions):
            if self._context.undeleted_replicas(name):
                continue
            if (yield from self._nodes.remove(self._context.topics[name])):
                self._context.forget_topic(name)

    def waits_for_absent(self, name: str) -> bool:
        """Whether the deletion of a topic has to wait for a broker that is not there."""
        return name in self._context.deletions and any(
            replica not in self._context.brokers
            for _, _, replica in self._context.undeleted_replicas(name)
        )
