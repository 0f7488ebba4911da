"""How a broker finds the controller, and goes on when it was wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from minikafka.api.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerResponse,
    DeleteTopicsRequest,
    UpdateStateRequest,
)
from minikafka.broker.control import client
from minikafka.broker.control.client import ControllerClient
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.ports import SessionLostError
from minikafka.errors import (
    NetworkError,
    NotControllerError,
    RequestTimedOutError,
    StaleBrokerEpochError,
)
from minikafka.model import BrokerInfo
from tests.helpers.cluster_store import FakeClusterStore
from tests.helpers.replicas import BROKERS, Clock

REQUEST = DeleteTopicsRequest(["t"])


@dataclass
class Controllers:
    """All brokers' controllers; `active` is the one that answers."""

    active: int = 2
    asked: list[int] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    error: Exception | None = None

    async def _answer(self, broker_id: int) -> None:
        self.asked.append(broker_id)
        self.before()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if broker_id != self.active:
            raise NotControllerError(f"broker {broker_id} is not the controller")

    async def alter_partition(
        self, controller: BrokerInfo, request: AlterPartitionRequest, timeout_ms: int
    ) -> AlterPartitionResponse:
        await self._answer(controller.broker_id)
        return AlterPartitionResponse(1, [])

    async def controlled_shutdown(
        self, controller: BrokerInfo, request: ControlledShutdownRequest, timeout_ms: int
    ) -> ControlledShutdownResponse:
        await self._answer(controller.broker_id)
        return ControlledShutdownResponse([])

    async def controller_call(
        self, controller: BrokerInfo, request: DeleteTopicsRequest, timeout_ms: int
    ) -> ControllerResponse:
        await self._answer(controller.broker_id)
        return ControllerResponse()


@dataclass
class Local:
    """The controller of the broker at hand, 1."""

    active: bool = False
    calls: int = 0

    async def alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        self.calls += 1
        return AlterPartitionResponse(1, [])

    async def controlled_shutdown(
        self, request: ControlledShutdownRequest
    ) -> ControlledShutdownResponse:
        self.calls += 1
        return ControlledShutdownResponse([])

    async def controller_call(self, request: DeleteTopicsRequest) -> ControllerResponse:
        self.calls += 1
        return ControllerResponse()


class World:
    def __init__(self) -> None:
        self.metadata = MetadataCache()
        self.metadata.apply(UpdateStateRequest(2, 1, 100, BROKERS, [], []))
        self.store = FakeClusterStore()
        self.controllers = Controllers()
        self.local = Local()
        self.clock = Clock()
        self.controllers.before = self.pass_time
        self.client = ControllerClient(
            1,
            self.metadata,
            self.store,
            self.controllers,  # type: ignore[arg-type]
            self.local,  # type: ignore[arg-type]
            self.clock,
        )

    def pass_time(self) -> None:
        self.clock.now_ms += 60

    def elect(self, broker_id: int) -> None:
        """In ZooKeeper, without news of it to this broker."""
        self.store.zookeeper.elect(broker_id, object())
        self.store.zookeeper.controller_epoch = 5
        self.controllers.active = broker_id


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(client, "RETRY_INTERVAL_S", 0.001)
    return World()


ALTER = AlterPartitionRequest(1, 100, [])
SHUTDOWN = ControlledShutdownRequest(1, 100)


async def test_the_controller_of_this_very_broker_is_called_directly(world: World) -> None:
    world.local.active = True
    await world.client.alter_partition(ALTER)
    await world.client.controlled_shutdown(SHUTDOWN, 1000)
    await world.client.call(REQUEST, 1000)
    assert world.local.calls == 3
    assert not world.controllers.asked


async def test_another_broker_is_asked_as_the_metadata_say(world: World) -> None:
    await world.client.alter_partition(ALTER)
    await world.client.controlled_shutdown(SHUTDOWN, 1000)
    await world.client.call(REQUEST, 1000)
    assert world.controllers.asked == [2, 2, 2]
    assert not world.store.calls


@pytest.mark.parametrize("error", [NetworkError("gone"), NotControllerError("no more")])
async def test_after_a_refusal_zookeeper_is_asked_who_is_controller(
    world: World, error: Exception
) -> None:
    world.elect(3)
    world.controllers.error = error
    await world.client.call(REQUEST, 1000)
    assert world.controllers.asked == [2, 3]
    assert world.metadata.controller_id == 3


async def test_a_proposal_that_was_refused_goes_to_the_right_one_next_time(world: World) -> None:
    world.elect(3)
    with pytest.raises(NotControllerError):
        await world.client.alter_partition(ALTER)
    await world.client.alter_partition(ALTER)
    assert world.controllers.asked == [2, 3]


async def test_while_there_is_no_controller_it_is_tried_until_the_time_is_over(
    world: World,
) -> None:
    world.metadata.set_controller(-1, 1)
    reads: list[int] = []

    def wait() -> None:
        world.pass_time()
        reads.append(1)

    for _ in range(9):
        world.store.inject("read_controller", wait)
    with pytest.raises(NotControllerError, match="no active controller"):
        await world.client.call(REQUEST, 200)
    assert len(reads) == 4


async def test_other_refusals_are_the_answer(world: World) -> None:
    world.controllers.error = StaleBrokerEpochError("over")
    with pytest.raises(StaleBrokerEpochError):
        await world.client.controlled_shutdown(SHUTDOWN, 1000)
    assert world.controllers.asked == [2]


async def test_a_controller_that_does_not_answer_is_given_up_in_time(world: World) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    world.controllers.controller_call = hang  # type: ignore[method-assign, assignment]
    with pytest.raises(RequestTimedOutError, match="did not answer within 20 ms"):
        await world.client.call(REQUEST, 20)
    world.elect(3)
    await world.client.alter_partition(ALTER)
    assert world.controllers.asked == [3]


async def test_zookeeper_out_of_reach_means_no_controller_for_now(world: World) -> None:
    world.metadata.set_controller(-1, 1)
    world.store.inject("read_controller", SessionLostError("gone"))
    with pytest.raises(NotControllerError, match="ZooKeeper"):
        await world.client.alter_partition(ALTER)


async def test_a_controller_that_is_not_in_the_metadata_is_looked_up(world: World) -> None:
    world.metadata.set_controller(7, 2)
    with pytest.raises(NotControllerError, match="is gone"):
        await world.client.alter_partition(ALTER)
    newcomer = BrokerInfo(7, "G", "127.0.0.1", 7)
    world.store.zookeeper.register(newcomer, object())
    world.store.zookeeper.controller = (7, object())
    world.store.zookeeper.controller_epoch = 2
    world.controllers.active = 7
    await world.client.alter_partition(ALTER)
    assert world.controllers.asked == [7]
