"""Long work of the controller, in turns: others are heard between one turn and the next.

Pure, and without state: what is not yet worked on is remembered by whoever works (an event that is
broken off leaves it in the context's `unsettled`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minikafka.core.control.commands import NextTurn, Operation
from minikafka.model import TopicPartition

AT_ONCE = 200  # partitions that are worked on in one turn


def in_turns(
    partitions: Sequence[TopicPartition],
    work: Callable[[Sequence[TopicPartition]], Operation[None]],
) -> Operation[None]:
    """Work on many partitions, and let others have their turn in between."""
    for start in range(0, len(partitions), AT_ONCE):
        if start:
            yield NextTurn()
        yield from work(partitions[start : start + AT_ONCE])
