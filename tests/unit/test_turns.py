"""Long work on the loop, in slices."""

from __future__ import annotations

import asyncio
from time import perf_counter

from minikafka import turns
from minikafka.turns import SLICE_S, UPKEEP, in_slices


def _work(duration_s: float) -> None:
    end_s = perf_counter() + duration_s
    while perf_counter() < end_s:
        pass


async def test_short_work_is_not_interrupted() -> None:
    turns_of_the_loop = 0

    def count() -> None:
        nonlocal turns_of_the_loop
        turns_of_the_loop += 1

    asyncio.get_running_loop().call_soon(count)
    assert [item async for item in in_slices(range(100))] == list(range(100))
    assert turns_of_the_loop == 0


async def test_long_works_side_by_side_leave_others_one_slice_to_wait() -> None:
    waits: list[float] = []

    async def other() -> None:
        while True:
            before_s = perf_counter()
            await asyncio.sleep(0)
            waits.append(perf_counter() - before_s)

    async def long_work() -> int:
        done = 0
        await turns.next_turn()
        async for _ in in_slices(range(60)):
            _work(SLICE_S / 10)
            done += 1
        return done

    watching = asyncio.create_task(other())
    assert await asyncio.gather(*(long_work() for _ in range(10))) == [60] * 10
    watching.cancel()
    assert len(waits) >= 50, "at least one turn of the loop for each slice"
    waits.sort()
    assert waits[len(waits) // 2] < 3 * SLICE_S, "half of the waits: a busy machine adds to some"


async def test_upkeep_lets_others_run_more_often() -> None:
    turns_of_the_loop = 0

    async def count() -> None:
        nonlocal turns_of_the_loop
        while True:
            turns_of_the_loop += 1
            await asyncio.sleep(0)

    watching = asyncio.create_task(count())
    async for _ in in_slices(range(9), UPKEEP):
        _work(SLICE_S * UPKEEP)
    watching.cancel()
    assert turns_of_the_loop >= 8


async def test_one_that_is_cancelled_while_it_waits_holds_nobody_up() -> None:
    waiting = [asyncio.create_task(turns.next_turn()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    await asyncio.wait_for(waiting[2], 5)
    assert waiting[0].cancelled()
