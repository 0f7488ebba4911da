"""The controller's work on reassignments: replicas of a partition move to other brokers.

reassignment.py decides; here it is written and told, in its order. What remains to be done follows
from the topics and States alone, so every rule is applied whenever something happened that it could
be waiting for (when all is settled, after a change of the ISR), and by a new controller when it
takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from minikafka.core.control import reassignment
from minikafka.core.control.commands import Operation
from minikafka.core.control.context import ClusterContext
from minikafka.core.control.election import Decision, PartitionView
from minikafka.core.control.outbox import Outbox
from minikafka.core.control.state_writer import StateWriter
from minikafka.core.control.topic_nodes import TopicNodes
from minikafka.errors import (
    MinikafkaError,
    NoReassignmentInProgressError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import Assignment, TopicPartition


class Reassignments:
    """Begins them, takes their steps, ends them. `min_insync(topic)`: the topic's
    min.insync.replicas as it is now."""

    def __init__(
        self,
        context: ClusterContext,
        outbox: Outbox,
        states: StateWriter,
        nodes: TopicNodes,
        min_insync: Callable[[str], int],
    ) -> None:
        self._context = context
        self._outbox = outbox
        self._states = states
        self._nodes = nodes
        self._min_insync = min_insync

    def under_way(self) -> dict[TopicPartition, Assignment]:
        """Those that are in progress."""
        found = ((tp, self._context.assignment(tp)) for tp in sorted(self._context.moving))
        return {tp: each for tp, each in found if each is not None}

    # --- what is asked for ---

    def alter(
        self, targets: Mapping[TopicPartition, Sequence[int] | None]
    ) -> Operation[dict[TopicPartition, MinikafkaError | None]]:
        """Move partitions to other replicas, in order of preference; None cancels. A reassignment
        that is under way is replaced."""
        errors: dict[TopicPartition, MinikafkaError | None] = {}
        planned: dict[TopicPartition, Assignment] = {}
        for tp, target in targets.items():
            try:
                assignment = self._plan(tp, target)
                if assignment != self._context.assignment(tp):
                    planned[tp] = assignment
                errors[tp] = None
            except MinikafkaError as refused:
                errors[tp] = refused.with_traceback(None)
        written = yield from self._nodes.write_assignments(planned)
        for tp in planned.keys() - set(written):
            errors[tp] = UnknownTopicOrPartitionError(f"{tp} has just been deleted")
        yield from self._announce(written)
        return errors

    def _plan(self, tp: TopicPartition, target: Sequence[int] | None) -> Assignment:
        context = self._context
        assignment = context.assignment(tp)
        if assignment is None:
            raise UnknownTopicOrPartitionError(f"there is no partition {tp}")
        if target is not None:
            available = context.brokers.keys() - context.shutting_down.keys()
            reassignment.validate_target(target, assignment.origin, available)
        elif assignment.in_progress:
            target = assignment.origin
        else:
            raise NoReassignmentInProgressError(f"{tp} is not being reassigned")
        return reassignment.begin(assignment, target)

    # --- the steps ---

    def resume(self) -> Operation[None]:
        """A new controller cannot know whether those that it finds were announced."""
        epoch = self._context.controller_epoch
        unknown = [
            tp
            for tp in self.under_way()
            if (state := self._context.states.get(tp)) and state.controller_epoch < epoch
        ]
        yield from self._announce(unknown)

    def _announce(self, among: Sequence[TopicPartition]) -> Operation[None]:
        """A new State tells the replicas of a new assignment, unless there is more to be said."""

        def rule(tp: TopicPartition, view: PartitionView) -> Decision | None:
            if reassignment.retirement(view, self._min_insync(tp.topic)) is not None:
                return None
            return reassignment.announcement(view)

        yield from self._states.commit_once(among, rule)

    def retire(self, among: Iterable[TopicPartition]) -> Operation[None]:
        """Let replicas of these partitions leave for good, where they can."""
        after: dict[TopicPartition, Assignment] = {}

        def rule(tp: TopicPartition, view: PartitionView) -> Decision | None:
            step = reassignment.retirement(view, self._min_insync(tp.topic))
            if step is None:
                return None
            after[tp] = step.assignment
            return step.decision

        moving = [tp for tp in among if (a := self._context.assignment(tp)) and a.in_progress]
        written = yield from self._states.commit_once(moving, rule, tell=False)
        yield from self._nodes.write_assignments({tp: after[tp] for tp in written})
        for tp in written:
            metadata = self._context.metadata(tp)
            self._outbox.put_state(metadata)
            for replica in self._context.topics[tp.topic].assignments[tp.partition].dropped:
                self._outbox.put_drop(replica, metadata)

    def tell_dropped(self, broker_id: int) -> None:
        """Let a broker delete the logs that it should have deleted while it was away."""
        for tp in self._context.present(self._context.dropping):
            assignment = self._context.assignment(tp)
            if assignment and broker_id in assignment.dropped and tp in self._context.states:
                self._outbox.put_drop(broker_id, self._context.metadata(tp))

    def forget_dropped(
        self, broker_id: int, partitions: Iterable[TopicPartition]
    ) -> Operation[None]:
        """A broker has deleted the logs of replicas that were dropped. If a disk had failed under
        one, that was about this log: should the replica come back, it begins with a new one."""
        remaining = {
            tp: reassignment.without_dropped(assignment, broker_id)
            for tp in partitions
            if (assignment := self._context.assignment(tp)) and broker_id in assignment.dropped
        }
        for tp in remaining:
            self._context.failed_replicas.get(tp, {}).pop(broker_id, None)
        yield from self._nodes.write_assignments(remaining)
