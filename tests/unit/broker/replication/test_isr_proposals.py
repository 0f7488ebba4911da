"""ISR proposals on their way to the controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from minikafka.api.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionResult,
    IsrProposal,
)
from minikafka.broker.replication import isr_proposals
from minikafka.broker.replication.isr_proposals import IsrProposals
from minikafka.broker.replication.replica import Replica
from minikafka.errors import (
    IneligibleReplicaError,
    MinikafkaError,
    NetworkError,
    NotControllerError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import PartitionState
from tests.helpers.core_builders import leader_of
from tests.helpers.replicas import TP, Bench, partition, settle
from tests.helpers.waiting import until


@dataclass
class Controller:
    """Answers each request by the next of `script`; without one it does not answer."""

    script: list[Callable[[AlterPartitionRequest], AlterPartitionResponse]] = field(
        default_factory=list
    )
    requests: list[AlterPartitionRequest] = field(default_factory=list)
    in_touch: bool = True

    async def send(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        self.requests.append(request)
        while not self.script:
            await asyncio.wait_for(asyncio.Event().wait(), None)
        return self.script.pop(0)(request)


def answers(
    error: MinikafkaError | None, state: PartitionState | None, controller_epoch: int = 1
) -> Callable[[AlterPartitionRequest], AlterPartitionResponse]:
    def answer(request: AlterPartitionRequest) -> AlterPartitionResponse:
        results = [
            AlterPartitionResult(each.topic_partition, error, state) for each in request.proposals
        ]
        return AlterPartitionResponse(controller_epoch, results)

    return answer


def fails(error: MinikafkaError) -> Callable[[AlterPartitionRequest], AlterPartitionResponse]:
    def answer(_: AlterPartitionRequest) -> AlterPartitionResponse:
        raise error

    return answer


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(isr_proposals, "FIRST_BACKOFF_S", 0.001)
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


@pytest.fixture
async def controller(bench: Bench) -> AsyncIterator[Controller]:
    controller = Controller()
    bench.proposals = IsrProposals(controller.send, lambda: (1, 100), lambda: controller.in_touch)
    bench.manager._proposals = bench.proposals
    task = asyncio.ensure_future(bench.proposals.run())
    yield controller
    assert not task.done()
    task.cancel()


async def shrink(bench: Bench) -> Replica:
    """Broker 1 leads with an ISR of 1, 2 and 3, and proposes 1 alone."""
    replica = await bench.lead(1, 2, 3)
    bench.clock.now_ms += 5000
    replica.check_lag()
    return replica


def pending(replica: Replica) -> IsrProposal | None:
    return leader_of(replica.core).isr.pending


async def test_a_proposal_is_sent_and_its_state_adopted(
    bench: Bench, controller: Controller
) -> None:
    after = partition(1, 1, isr=(1,), version=1).state
    controller.script = [answers(None, after)]
    replica = await shrink(bench)
    await until(lambda: replica.core.state == after)
    assert [p.isr for p in controller.requests[0].proposals] == [((1, 100),)]
    assert pending(replica) is None


@pytest.mark.parametrize(
    "first",
    [
        fails(NetworkError("lost")),
        answers(NotControllerError("stale"), None),
        answers(UnknownTopicOrPartitionError("no"), None),
        lambda request: AlterPartitionResponse(1, []),
    ],
)
async def test_the_same_proposal_is_sent_until_it_is_answered(
    bench: Bench,
    controller: Controller,
    first: Callable[[AlterPartitionRequest], AlterPartitionResponse],
) -> None:
    after = partition(1, 1, isr=(1,), version=1).state
    controller.script = [first, first, answers(None, after)]
    replica = await shrink(bench)
    await until(lambda: replica.core.state == after)
    assert len(controller.requests) == 3
    assert controller.requests[0] == controller.requests[2]


async def test_nothing_is_sent_while_zookeeper_is_out_of_touch(
    bench: Bench, controller: Controller
) -> None:
    controller.in_touch = False
    replica = await shrink(bench)
    await settle(200)
    assert not controller.requests
    controller.in_touch = True
    controller.script = [answers(None, partition(1, 1, isr=(1,), version=1).state)]
    await until(lambda: pending(replica) is None)


async def test_a_proposal_that_was_overtaken_is_not_sent_again(
    bench: Bench, controller: Controller
) -> None:
    controller.in_touch = False
    await shrink(bench)
    await settle()
    await bench.update(partition(1, 1, isr=(1, 2), version=1))
    controller.in_touch = True
    await until(lambda: not bench.proposals._waiting)
    assert not controller.requests


async def test_the_answer_of_an_older_controller_counts_for_nothing(
    bench: Bench, controller: Controller
) -> None:
    after = partition(1, 1, isr=(1,), version=1).state
    wrong = replace(after, isr=(1, 2))
    controller.script = [
        answers(NotControllerError("wait"), None, 7),
        answers(None, wrong, 6),
        answers(None, after, 7),
    ]
    replica = await shrink(bench)
    await until(lambda: replica.core.state == after)
    assert len(controller.requests) == 3


async def test_after_a_refused_addition_the_committed_isr_is_proposed(
    bench: Bench, controller: Controller
) -> None:
    replica = await bench.lead(1, 2)
    leader = leader_of(replica.core)
    held = replica.core.state
    controller.script = [answers(IneligibleReplicaError("it leaves"), held)]
    replica.apply(leader._propose({1, 2, 3}, "C caught up"))
    await until(lambda: len(controller.requests) == 2)
    assert [m for m, _ in controller.requests[1].proposals[0].isr] == [1, 2]


async def test_a_replica_that_was_deleted_while_its_proposal_was_under_way_stays_so(
    bench: Bench, controller: Controller
) -> None:
    replica = await shrink(bench)
    await until(lambda: controller.requests)
    after = partition(2, 1, isr=(2,), version=1).state

    def answer_late(request: AlterPartitionRequest) -> AlterPartitionResponse:
        replica.stop(NetworkError("gone"))
        del bench.manager.replicas[TP]
        return answers(None, after)(request)

    controller.script = [answer_late]
    bench.proposals._something.set()
    # The first request is never answered: begin anew with one that is.
    task = asyncio.ensure_future(bench.proposals.run())
    bench.proposals.submit(replica, controller.requests[0].proposals[0])
    await until(lambda: not controller.script)
    await settle()
    task.cancel()
    assert replica.core.leader_epoch == 0
    assert not bench.peers.streams
    bench.proposals.submit(replica, controller.requests[0].proposals[0])
    await settle()
    assert len(controller.requests) == 2
