"""Which connections the Kafka door lets in."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from minikafka.kafka.admission import YIELDS_AFTER_S, Admission, ConnectionLimits
from tests.helpers.waiting import until
from tests.unit.kafka.conftest import Ground
from tests.unit.kafka.test_server import bystander_is_served


@dataclass(eq=False)
class Caller:
    host: str = "10.0.0.1"
    idle: bool = True
    last_active_s: float = 0.0
    closed: list[str] = field(default_factory=list)

    def close(self, reason: str = "") -> None:
        self.closed.append(reason)


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def admission(clock: Clock, total: int = 3, per_host: int = 100) -> Admission[Caller]:
    return Admission(ConnectionLimits(total, per_host), clock)


def test_one_address_may_have_so_many_and_another_may_still_come() -> None:
    door = admission(Clock(), total=100, per_host=2)
    first, second = Caller(), Caller()
    assert door.admit(first)
    assert door.admit(second)
    assert not door.admit(Caller())
    assert door.admit(Caller("10.0.0.2"))
    door.leave(first)
    assert door.admit(Caller())
    assert not door.admit(Caller())


def test_an_address_may_have_a_limit_of_its_own() -> None:
    limits = ConnectionLimits(100, 1, {"10.0.0.9": 2, "10.0.0.8": 0})
    door: Admission[Caller] = Admission(limits, Clock())
    assert [door.admit(Caller("10.0.0.9")) for _ in range(3)] == [True, True, False]
    assert not door.admit(Caller("10.0.0.8"))
    assert [door.admit(Caller("10.0.0.7")) for _ in range(2)] == [True, False]


def test_the_one_that_has_been_idle_for_the_longest_yields_to_a_newcomer() -> None:
    clock = Clock()
    door = admission(clock)
    busy = Caller(idle=False, last_active_s=1)
    idle = Caller(last_active_s=2)
    idle_for_less = Caller(last_active_s=3)
    for each in (busy, idle_for_less, idle):
        assert door.admit(each)
    newcomer = Caller(last_active_s=clock.now_s)
    assert door.admit(newcomer)
    assert (idle.closed, idle_for_less.closed, busy.closed) == ([""], [], [])
    assert len(door) == 3
    door.leave(idle)
    assert len(door) == 3, "it had left already"


def test_where_nobody_is_idle_a_newcomer_has_to_go() -> None:
    clock = Clock()
    door = admission(clock, total=2)
    assert door.admit(Caller(idle=False))
    assert door.admit(Caller(last_active_s=clock.now_s - YIELDS_AFTER_S / 2))
    assert not door.admit(Caller())
    clock.now_s += YIELDS_AFTER_S
    assert door.admit(Caller())


def test_a_flood_is_told_in_one_line_and_again_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    door = admission(clock, total=0)
    with caplog.at_level(logging.WARNING):
        for _ in range(500):
            assert not door.admit(Caller())
        assert len(caplog.records) == 1
        clock.now_s += 60
        assert not door.admit(Caller())
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == [
        1,
        500,
    ]


async def test_a_connection_too_many_is_closed_and_those_that_are_there_go_on(
    ground: Ground,
) -> None:
    await ground.start(limits=ConnectionLimits(per_host=2))
    first, second = await ground.connect(), await ground.connect()
    await bystander_is_served(first)
    await bystander_is_served(second)
    await (await ground.connect()).receive_end()
    await bystander_is_served(first)
    second.writer.close()
    assert ground.listener is not None
    listener = ground.listener
    await until(lambda: listener.connection_count == 1)
    await bystander_is_served(await ground.connect())
