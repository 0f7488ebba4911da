"""The controller's work on reassignments: replicas of a partition move to other brokers.

reassignment.py decides; here it is written and told, in its order. What remains to be done follows
from the topics and States alone, so every rule is applied whenever something happened that it could
be waiting for (`settle`, a change of the ISR), and by a new controller when it takes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control import reassignment
from minikafka.core.control.commands import DeposedError, Operation, UpdateTopicNode
from minikafka.core.control.deciding import ControllerBase, event
from minikafka.core.control.election import Decision, PartitionView
from minikafka.errors import (
    MinikafkaError,
    NoReassignmentInProgressError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import Assignment, TopicDescription, TopicPartition

Results: TypeAlias = list[tuple[str, MinikafkaError | None]]


class ReassignmentController(ControllerBase):
    """The part of the controller that is about reassignments."""

    @event
    def alter_partition_reassignments(
        self, targets: Mapping[TopicPartition, Sequence[int] | None]
    ) -> Operation[Results]:
        """Move partitions to other replicas, in order of preference; None cancels. A reassignment
        that is under way is replaced."""
        errors: dict[TopicPartition, MinikafkaError | None] = {}
        planned: dict[TopicPartition, Assignment] = {}
        for tp, target in targets.items():
            try:
                assignment = self._plan_reassignment(tp, target)
                if assignment != self.context.assignment(tp):
                    planned[tp] = assignment
                errors[tp] = None
            except MinikafkaError as refused:
                errors[tp] = refused.with_traceback(None)
        written = yield from self._write_assignments(planned)
        for tp in planned.keys() - set(written):
            errors[tp] = UnknownTopicOrPartitionError(f"{tp} has just been deleted")
        yield from self._announce(written)
        yield from self.settle()
        return [(str(tp), error) for tp, error in errors.items()]

    def _plan_reassignment(self, tp: TopicPartition, target: Sequence[int] | None) -> Assignment:
        assignment = self.context.assignment(tp)
        if assignment is None:
            raise UnknownTopicOrPartitionError(f"there is no partition {tp}")
        if target is not None:
            available = self.context.brokers.keys() - self.context.shutting_down.keys()
            reassignment.validate_target(target, assignment.origin, available)
        elif assignment.in_progress:
            target = assignment.origin
        else:
            raise NoReassignmentInProgressError(f"{tp} is not being reassigned")
        return reassignment.begin(assignment, target)

    def reassignments(self) -> dict[TopicPartition, Assignment]:
        """Those that are under way."""
        found = ((tp, self.context.assignment(tp)) for tp in sorted(self.context.moving))
        return {tp: each for tp, each in found if each is not None}

    # --- the steps ---

    def settle(self) -> Operation[None]:
        """As before; then whoever can leave for good, leaves."""
        yield from super().settle()
        yield from self.in_turns(list(self.reassignments()), self.retire_replicas)

    def resume_reassignments(self) -> Operation[None]:
        """A new controller cannot know whether those that it finds were announced."""
        epoch = self.context.controller_epoch
        unknown = [
            tp
            for tp in self.reassignments()
            if (state := self.context.states.get(tp)) and state.controller_epoch < epoch
        ]
        yield from self._announce(unknown)

    def _announce(self, among: Sequence[TopicPartition]) -> Operation[None]:
        """A new State tells the replicas of a new assignment, unless there is more to be said."""

        def rule(tp: TopicPartition, view: PartitionView) -> Decision | None:
            if reassignment.retirement(view, self.min_insync(tp.topic)) is not None:
                return None
            return reassignment.announcement(view)

        yield from self.commit_once(among, rule)

    def retire_replicas(self, among: Iterable[TopicPartition]) -> Operation[None]:
        """Let replicas of these partitions leave, where they can."""
        after: dict[TopicPartition, Assignment] = {}

        def rule(tp: TopicPartition, view: PartitionView) -> Decision | None:
            step = reassignment.retirement(view, self.min_insync(tp.topic))
            if step is None:
                return None
            after[tp] = step.assignment
            return step.decision

        moving = [tp for tp in among if (a := self.context.assignment(tp)) and a.in_progress]
        written = yield from self.commit_once(moving, rule, tell=False)
        yield from self._write_assignments({tp: after[tp] for tp in written})
        for tp in written:
            metadata = self.context.metadata(tp)
            self.outbox.put_state(metadata)
            for replica in self.context.topics[tp.topic].assignments[tp.partition].dropped:
                self.outbox.put_drop(replica, metadata)

    def tell_dropped(self, broker_id: int) -> None:
        """Let a broker delete the logs that it should have deleted while it was away."""
        for tp in self.context.present(self.context.dropping):
            assignment = self.context.assignment(tp)
            if assignment and broker_id in assignment.dropped and tp in self.context.states:
                self.outbox.put_drop(broker_id, self.context.metadata(tp))

    def forget_dropped(
        self, broker_id: int, partitions: Iterable[TopicPartition]
    ) -> Operation[None]:
        """A broker has deleted the logs of replicas that were dropped. If a disk had failed under
        one, that was about this log: should the replica come back, it begins with a new one."""
        remaining = {
            tp: reassignment.without_dropped(assignment, broker_id)
            for tp in partitions
            if (assignment := self.context.assignment(tp)) and broker_id in assignment.dropped
        }
        for tp in remaining:
            self.context.failed_replicas.get(tp, {}).pop(broker_id, None)
        yield from self._write_assignments(remaining)

    # --- the topic's node ---

    def _write_assignments(
        self, assignments: Mapping[TopicPartition, Assignment]
    ) -> Operation[list[TopicPartition]]:
        """One write a topic. Returns the partitions whose topic was still there."""
        by_topic: dict[str, list[TopicPartition]] = {}
        for tp in assignments:
            by_topic.setdefault(tp.topic, []).append(tp)
        written: list[TopicPartition] = []
        for name, partitions in by_topic.items():
            topic = self.context.topics[name]
            changed = {tp.partition: assignments[tp] for tp in partitions}
            topic = replace(topic, assignments={**topic.assignments, **changed})
            if (yield from self.update_topic(topic)):
                written += partitions
        return written

    def update_topic(self, topic: TopicDescription) -> Operation[bool]:
        """Write a topic's node; False if it is gone."""
        outcome: WriteOutcome = yield UpdateTopicNode(topic)
        self.require_term(outcome)
        if outcome is WriteOutcome.CONFLICT:
            return False
        self.context.put_topic(topic)
        return True

    @staticmethod
    def require_term(outcome: WriteOutcome) -> None:
        if outcome is WriteOutcome.DEPOSED:
            raise DeposedError("another controller has been elected")
