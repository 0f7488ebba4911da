"""broker/coordinators/timers.py: a timer for each of many things."""

from __future__ import annotations

import asyncio

from minikafka.broker.coordinators.timers import Timers
from tests.helpers.waiting import until


class Watched:
    """Timers over the clock of the loop."""

    def __init__(self) -> None:
        self.due: list[str] = []
        self.timers = Timers(self.now_ms, self.due.append)

    @staticmethod
    def now_ms() -> int:
        return int(asyncio.get_running_loop().time() * 1000)


async def test_a_deadline_that_has_come_already_is_due_in_the_next_turn() -> None:
    watched = Watched()
    watched.timers.arm("a", watched.now_ms() - 1_000)
    assert watched.due == []
    await until(lambda: watched.due == ["a"])


async def test_an_earlier_deadline_takes_the_place_of_a_later_one() -> None:
    watched = Watched()
    watched.timers.arm("a", watched.now_ms() + 3_600_000)
    watched.timers.arm("a", watched.now_ms() + 1)
    await until(lambda: watched.due == ["a"])


async def test_a_deadline_that_has_moved_on_is_noticed_when_the_old_one_has_come() -> None:
    watched = Watched()
    watched.timers.arm("a", watched.now_ms() + 1)
    watched.timers.arm("a", watched.now_ms() + 3_600_000)
    await until(lambda: watched.due == ["a"])


async def test_what_is_cancelled_or_closed_is_not_due() -> None:
    watched = Watched()
    for name in ("a", "b", "c"):
        watched.timers.arm(name, watched.now_ms())
    watched.timers.arm("a", None)
    watched.timers.cancel("b")
    watched.timers.cancel("b")
    watched.timers.close()
    watched.timers.arm("d", watched.now_ms())
    await until(lambda: watched.due == ["d"])
