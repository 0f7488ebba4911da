"""How the controller's core writes States, and what it does when it cannot."""

from __future__ import annotations

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import DeposedError, GaveUpError, StateChange
from minikafka.core.control.state_writer import MAX_CONFLICTS, check_transition
from minikafka.errors import (
    InvalidUpdateVersionError,
)
from minikafka.model import NO_LEADER, PartitionState, TopicPartition
from tests.helpers.controller_bench import TP, Bench, alter, proposal

# --- writes that fail ----------------------------------------------------------------------------


def test_after_a_conflict_the_state_is_read_and_decided_again(five: Bench) -> None:
    """Our own write of which we do not know is found, and the failure decided over it."""

    def another_write() -> None:
        state = five.zookeeper.states[TP]
        five.zookeeper.states[TP] = PartitionState(
            1, 1, (1, 2, 4, 5), 1, 1, {m: state.isr_storage[m] for m in (1, 2, 4, 5)}
        )

    five.kill(5)
    five.injected.append(another_write)
    five.see_brokers()
    assert five.line() == "Leader=A Epoch=2 ISR={A,B,D}"
    assert five.messages()[1].partitions[0].state.partition_version == 2


def test_a_state_that_is_gone_is_created_again(five: Bench) -> None:
    five.kill(5)
    five.injected.append(lambda: five.zookeeper.states.clear())
    five.see_brokers()
    assert five.line() == "Leader=A Epoch=0 ISR={A,B,C,D}"


def test_proposals_beside_one_in_conflict_succeed(five: Bench) -> None:
    five.create("u", [1, 2])
    u0 = TopicPartition("u", 0)
    both = [proposal(five, 1, 2, 3, 4), proposal(five, 1, tp=u0)]
    five.zookeeper.states[u0] = PartitionState(
        1, 0, (1, 2), 1, 1, dict(five.zookeeper.states[u0].isr_storage)
    )
    judged = alter(five, *both)
    assert [j.error and type(j.error) for j in judged] == [None, InvalidUpdateVersionError]
    assert [j.state for j in judged] == [five.zookeeper.states[TP], five.zookeeper.states[u0]]


def test_conflicts_without_end_end_the_term(five: Bench) -> None:
    five.kill(5)
    five.injected = [[WriteOutcome.CONFLICT]] * MAX_CONFLICTS
    with pytest.raises(GaveUpError):
        five.see_brokers()


def test_a_controller_that_was_deposed_stops(five: Bench) -> None:
    five.kill(5)
    five.zookeeper.controller_epoch += 1
    with pytest.raises(DeposedError):
        five.see_brokers()
    assert five.zookeeper.states[TP].leader_epoch == 0


def test_what_was_written_before_the_fence_fell_is_known(five: Bench) -> None:
    five.create("u", [1, 5])
    five.kill(5)
    five.injected.append([WriteOutcome.WRITTEN, WriteOutcome.DEPOSED])
    with pytest.raises(DeposedError):
        five.see_brokers()
    assert five.core.context.states[TP].leader_epoch == 1


def test_a_state_of_a_later_controller_ends_the_term(five: Bench) -> None:
    five.kill(5)

    def written_by_another() -> None:
        five.zookeeper.states[TP] = PartitionState(1, 1, (1,), 9, 1)

    five.injected.append(written_by_another)
    with pytest.raises(DeposedError, match="controller epoch 9"):
        five.see_brokers()


# --- our own bugs ---------------------------------------------------------------------------------


OLD = PartitionState(1, 5, (1, 2), 3, 7)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OLD, PartitionState(1, 5, (1, 2), 3, 9)),
        (OLD, PartitionState(1, 6, (1, 2), 3, 8)),
        (OLD, PartitionState(1, 5, (1,), 3, 8)),
        (OLD, PartitionState(2, 5, (1, 2), 3, 8)),
        (OLD, PartitionState(2, 7, (1, 2), 3, 8)),
        (OLD, PartitionState(1, 5, (1, 2), 2, 8)),
        (OLD, PartitionState(3, 6, (1, 2), 3, 8)),
        (OLD, PartitionState(1, 5, (1, 2, 2), 3, 8)),
        (OLD, PartitionState(1, 5, (1, 2), 3, 8, {9: "x"})),
        (None, PartitionState(1, 1, (1, 2), 3, 0)),
        (None, PartitionState(NO_LEADER, 0, (), 3, 0)),
    ],
    ids=[
        "version skips",
        "bump without cause",
        "removal without bump",
        "leader without bump",
        "bump by two",
        "older controller",
        "leader outside",
        "member twice",
        "mark of a stranger",
        "begins in epoch 1",
        "begins without leader",
    ],
)
def test_a_transition_that_must_not_be_is_never_written(
    old: PartitionState | None, new: PartitionState
) -> None:
    with pytest.raises(AssertionError):
        check_transition(StateChange(TP, old, new, ""))
