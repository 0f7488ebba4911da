"""coordinator.py: how a client finds the coordinator of a group, and finds it again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from minikafka.api.groups import (
    FindCoordinatorResult,
    FoundCoordinator,
    HeartbeatRequest,
    HeartbeatResult,
)
from minikafka.client.consuming.coordinator import Coordinator
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    MinikafkaError,
    NetworkError,
    NotCoordinatorError,
    RequestTimedOutError,
    UnknownMemberIdError,
)
from minikafka.model import BrokerInfo

BROKERS = {number: BrokerInfo(number, "ABC"[number - 1], "host", number) for number in (1, 2)}
BEAT = HeartbeatRequest("g", 1, "m")


class World:
    """Two brokers; `answers` are what the coordinators say, one after another."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.coordinator: BrokerInfo | MinikafkaError | None = BROKERS[1]
        self.asked: list[str] = []
        self.failed: list[int] = []

    def uniform(self) -> float:
        return 0.5

    def broker_failed(self, broker_id: int) -> None:
        self.failed.append(broker_id)

    async def call_any(self, ask: Any) -> Any:
        return await ask(self.channel_to("any"))

    def channel_to(self, address: str) -> Any:
        world = self

        class Groups:
            async def find_coordinator(self, request: Any) -> FindCoordinatorResult:
                world.asked.append("find")
                error = world.coordinator if isinstance(world.coordinator, MinikafkaError) else None
                broker = world.coordinator if isinstance(world.coordinator, BrokerInfo) else None
                return FindCoordinatorResult([FoundCoordinator("g", error, broker)])

            async def heartbeat(self, request: Any) -> HeartbeatResult:
                world.asked.append(address)
                answer = world.answers.pop(0)
                if isinstance(answer, NetworkError):
                    raise answer
                return HeartbeatResult(answer)

        class Channel:
            groups = Groups()

        return Channel()


async def beat(world: World, timeout_ms: float = 5_000) -> HeartbeatResult:
    coordinator = Coordinator(world, "g")  # type: ignore[arg-type]
    return await coordinator.call(lambda groups: groups.heartbeat(BEAT), timeout_ms)


async def test_the_coordinator_is_looked_up_once() -> None:
    world = World(None, None)
    coordinator = Coordinator(world, "g")  # type: ignore[arg-type]
    for _ in range(2):
        assert (await coordinator.call(lambda groups: groups.heartbeat(BEAT), 1_000)).error is None
    assert world.asked == ["find", "host:1", "host:1"]


async def test_who_refuses_or_cannot_be_reached_is_looked_up_anew() -> None:
    world = World(NotCoordinatorError(), NetworkError("gone"), None)
    assert (await beat(world)).error is None
    assert world.asked == ["find", "host:1"] * 3
    assert world.failed == [1]


async def test_a_coordinator_that_loads_is_asked_again() -> None:
    world = World(CoordinatorLoadInProgressError(), None)
    assert (await beat(world)).error is None
    assert world.asked == ["find", "host:1", "host:1"]


async def test_a_final_error_is_the_answer() -> None:
    assert isinstance((await beat(World(UnknownMemberIdError()))).error, UnknownMemberIdError)


async def test_what_stays_wrong_is_raised_when_the_time_is_over() -> None:
    world = World(*[NotCoordinatorError() for _ in range(100)])
    with pytest.raises(NotCoordinatorError):
        await beat(world)


async def test_no_coordinator_at_all_is_raised_too() -> None:
    world = World()
    world.coordinator = CoordinatorNotAvailableError("no leader")
    with pytest.raises(CoordinatorNotAvailableError, match="no leader"):
        await beat(world, 200)
    world.coordinator = None
    with pytest.raises(CoordinatorNotAvailableError):
        await beat(world, 200)
    world.coordinator = UnknownMemberIdError("final")
    with pytest.raises(UnknownMemberIdError):
        await beat(world, 200)


async def test_a_coordinator_that_does_not_answer_in_time_is_told() -> None:
    world = World()
    coordinator = Coordinator(world, "g")  # type: ignore[arg-type]
    with pytest.raises(RequestTimedOutError, match="200 ms"):
        await coordinator.call(lambda groups: asyncio.sleep(60), 200)
