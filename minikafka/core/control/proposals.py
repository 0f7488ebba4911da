"""The controller's work on proposals: leaders want other ISRs (AlterPartition).

alter_partition.py judges one proposal; here a leader's request with many is judged and written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from minikafka.api.requests import AlterPartitionResult
from minikafka.core.control.alter_partition import Applied, judge
from minikafka.core.control.commands import Operation, StateChange
from minikafka.core.control.context import ClusterContext
from minikafka.core.control.election import Decision, PartitionView
from minikafka.core.control.state_writer import StateWriter
from minikafka.errors import (
    InvalidRequestError,
    MinikafkaError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import IsrProposal, PartitionState, TopicPartition


class Proposals:
    """Those of the live incarnation of a broker."""

    def __init__(self, context: ClusterContext, states: StateWriter) -> None:
        self._context = context
        self._states = states

    def carry_out(
        self, broker_id: int, proposals: Sequence[IsrProposal]
    ) -> Operation[dict[TopicPartition, MinikafkaError | None]]:
        """Write what may be written. Returns why the others may not."""
        waiting: dict[TopicPartition, IsrProposal] = {}
        errors: dict[TopicPartition, MinikafkaError | None] = {}
        for proposal in proposals:
            if proposal.topic_partition in waiting:
                twice = f"{proposal.topic_partition} is in the request twice"
                raise InvalidRequestError(twice)
            waiting[proposal.topic_partition] = proposal

        def decide() -> list[StateChange]:
            """Judge what waits; a proposal that was written before a conflict elsewhere in the
            request is judged again, and found applied."""
            changes = []
            for tp, proposal in waiting.items():
                verdict, view = self._judge(broker_id, proposal)
                errors[tp] = verdict if isinstance(verdict, MinikafkaError) else None
                if view is not None and isinstance(verdict, Decision):
                    changes.append(self._states.change(tp, view, verdict))
            return changes

        yield from self._states.commit(decide)
        return errors

    def _judge(
        self, broker_id: int, proposal: IsrProposal
    ) -> tuple[Decision | Applied | MinikafkaError, PartitionView | None]:
        tp = proposal.topic_partition
        view = self._context.view(tp)
        if view is None:
            return UnknownTopicOrPartitionError(f"there is no partition {tp}"), None
        if self._context.topics[tp.topic].topic_id != proposal.topic_id:
            return UnknownTopicIdError(f"{tp}: there is no topic of id {proposal.topic_id}"), None
        return judge(view, broker_id, proposal), view

    def answers(
        self,
        proposals: Sequence[IsrProposal],
        errors: Mapping[TopicPartition, MinikafkaError | None],
    ) -> list[AlterPartitionResult]:
        """What the leader hears: each with the State as it is now, which it adopts."""
        return [
            AlterPartitionResult(
                each.topic_partition, errors[each.topic_partition], self._known_state(each)
            )
            for each in proposals
        ]

    def _known_state(self, proposal: IsrProposal) -> PartitionState | None:
        topic = self._context.topic(proposal.topic_partition.topic)
        if topic is None or topic.topic_id != proposal.topic_id:
            return None
        return self._context.states.get(proposal.topic_partition)
