"""zookeeper/recipes/barrier.py on a real server of either kind: threads stand for processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from kazoo.client import KazooClient

from minikafka.zookeeper.paths import split_connect
from minikafka.zookeeper.recipes.barrier import BarrierBrokenError, DoubleBarrier, open_barrier
from tests.helpers.waiting import DEADLINE_S, until

COUNT = 3


def children(connect: str, name: str) -> list[str]:
    hosts, layout = split_connect(connect)
    client = KazooClient(hosts=hosts)
    client.start()
    try:
        path = f"{layout.root}/perf/{name}"
        return sorted(client.get_children(path)) if client.exists(path) else []
    finally:
        client.stop()
        client.close()


def go(
    pool: ThreadPoolExecutor, connect: str, who: str, inside: Callable[[DoubleBarrier], None]
) -> Future[None]:
    def work() -> None:
        with open_barrier(connect, "run", COUNT, who) as barrier:
            inside(barrier)

    return pool.submit(work)


async def until_members(connect: str, count: int) -> None:
    await until(lambda: len(children(connect, "run")) == count)


async def test_all_begin_together_and_end_together_and_nothing_is_left(connect: str) -> None:
    may_end, begun, ended = threading.Event(), [], []

    def inside(barrier: DoubleBarrier) -> None:
        barrier.enter(DEADLINE_S)
        begun.append(barrier)
        if len(begun) == COUNT:
            assert may_end.wait(DEADLINE_S)
        barrier.leave()
        ended.append(barrier)

    with ThreadPoolExecutor(COUNT) as pool:
        jobs = [go(pool, connect, f"p{number}", inside) for number in range(COUNT - 1)]
        await until_members(connect, COUNT - 1)
        assert begun == []
        jobs.append(go(pool, connect, "last", inside))
        await until(lambda: len(begun) == COUNT)
        assert ended == []  # one of them has not left yet
        may_end.set()
        for job in jobs:
            job.result(DEADLINE_S)
    assert len(ended) == COUNT
    assert children(connect, "run") == []


async def test_who_leaves_before_all_are_there_keeps_nobody_waiting(connect: str) -> None:
    waiting: list[DoubleBarrier] = []

    def inside(barrier: DoubleBarrier) -> None:
        waiting.append(barrier)
        barrier.enter(DEADLINE_S)

    hosts, layout = split_connect(connect)
    dying = KazooClient(hosts=hosts)
    dying.start()
    with ThreadPoolExecutor(COUNT) as pool:
        job = go(pool, connect, "one", inside)
        await until_members(connect, 1)
        dying.create(f"{layout.root}/perf/run/member-two-", ephemeral=True, sequence=True)
        await until(lambda: len(waiting[0]._seen) == 2)
        dying.stop()
        dying.close()
        with pytest.raises(BarrierBrokenError, match="two left before all were there"):
            job.result(DEADLINE_S)


def test_who_waits_in_vain_says_who_has_come(connect: str) -> None:
    with (
        open_barrier(connect, "run", COUNT, "alone") as barrier,
        pytest.raises(BarrierBrokenError, match=r"1 of 3 processes came within 0\.2 s: alone"),
    ):
        barrier.enter(0.2)
    assert children(connect, "run") == []


async def test_who_dies_inside_is_not_waited_for(connect: str) -> None:
    hosts, layout = split_connect(connect)
    dying = KazooClient(hosts=hosts)
    dying.start()
    left = threading.Event()

    def inside(barrier: DoubleBarrier) -> None:
        barrier.enter(DEADLINE_S)
        barrier.leave()
        left.set()

    with ThreadPoolExecutor(COUNT) as pool:
        jobs = [go(pool, connect, f"p{number}", inside) for number in range(COUNT - 1)]
        await until_members(connect, COUNT - 1)
        dying.create(f"{layout.root}/perf/run/member-dying-", ephemeral=True, sequence=True)
        await until(lambda: [n[:6] for n in children(connect, "run")] == ["member", "ready"])
        assert not left.is_set()
        dying.stop()
        dying.close()
        for job in jobs:
            job.result(DEADLINE_S)


async def test_who_comes_too_late_is_told(connect: str) -> None:
    hosts, layout = split_connect(connect)
    client = KazooClient(hosts=hosts)
    client.start()
    client.create(f"{layout.root}/perf/run/ready", makepath=True)
    client.stop()
    client.close()
    with (
        open_barrier(connect, "run", COUNT, "late") as barrier,
        pytest.raises(BarrierBrokenError, match="have begun already"),
    ):
        barrier.enter(DEADLINE_S)
