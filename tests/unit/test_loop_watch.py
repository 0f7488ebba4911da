"""The watch on the loop's lag, and that the tests' own one fails what holds a loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from minikafka.loop_watch import LoopWatch, Wanted, wanted
from tests.helpers.held_loops import HeldLoops
from tests.helpers.waiting import until


def burn(duration_s: float) -> None:
    end_s = time.thread_time() + duration_s
    while time.thread_time() < end_s:
        pass


@pytest.mark.holds_the_loop("it is what is watched for")
async def test_a_loop_that_is_held_is_told_with_what_held_it() -> None:
    told: list[tuple[int, str]] = []
    watch = LoopWatch(100, lambda held_ms, by: told.append((held_ms, by)))
    watch.start()
    try:
        asyncio.get_running_loop().call_soon(burn, 0.3)
        await until(lambda: told)
    finally:
        watch.stop()
    [(held_ms, by)] = told
    assert held_ms >= 290
    assert "burn (test_loop_watch.py:" in by


async def test_a_loop_that_waits_or_whose_machine_is_busy_is_not_held() -> None:
    told: list[int] = []
    watch = LoopWatch(100, lambda held_ms, by: told.append(held_ms))
    watch.start()
    try:  # a thread that does not run, as on a machine that is busy with others
        time.sleep(0.3)  # noqa: ASYNC251
        await asyncio.sleep(0)
        for _ in range(20):
            burn(0.005)
            await asyncio.sleep(0.011)
    finally:
        watch.stop()
    assert told == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", None), ("x", None), ("100", Wanted(100, "")), ("50:/tmp/a:b", Wanted(50, "/tmp/a:b"))],
)
def test_the_environment_says_whether_a_broker_watches(
    text: str, expected: Wanted | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIKAFKA_LOOP_WATCH", text)
    assert wanted() == expected


@pytest.mark.holds_the_loop("it is what is watched for")
async def test_the_watch_of_the_tests_names_the_callback_that_held_the_loop() -> None:
    held = HeldLoops(bound_ms=50)
    done = asyncio.Event()

    def callback() -> None:
        burn(0.1)
        done.set()

    with held:
        asyncio.get_running_loop().call_soon(callback)
        await done.wait()
        await asyncio.sleep(0)
    [line] = held.found
    assert "callback" in line
    assert "held its loop for 1" in line
