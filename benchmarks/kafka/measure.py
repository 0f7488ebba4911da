"""The measurements of one system, each a function from a running system to figures by name.

A figure's name says everything that distinguishes it, and ends with its unit; whether more or less
is better is told by the unit (report.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer

from benchmarks.kafka import procfs
from benchmarks.kafka.system import (
    FailedError,
    System,
    bootstrap,
    kill,
    member_of,
    pids,
    wait_until,
)
from tests.helpers import kafka_probe

Figures = dict[str, float]
_LOAD_TIMEOUT_S = 300
_FAILOVER_TIMEOUT_S = 90.0
_IDLE_S = 5.0


@dataclass(frozen=True)
class Plan:
    """How much is measured. `warm_up_s` of load comes first, once a system: a Java broker needs it,
    and its figures are meant to be those of a broker that has been running."""

    sizes: tuple[int, ...] = (100, 1024, 10_240)
    codecs: tuple[str, ...] = ("none", "lz4")
    acks: tuple[str, ...] = ("1", "all")
    rates_mb: tuple[float, ...] = (1, 10, 50)
    seconds: float = 8.0
    latency_seconds: float = 15.0
    lead_in_s: float = 3.0
    warm_up_s: float = 40.0
    many_partitions: int = 1000


QUICK = Plan(
    sizes=(1024,),
    codecs=("none",),
    acks=("all",),
    rates_mb=(1, 10),
    seconds=4.0,
    latency_seconds=6.0,
    lead_in_s=2.0,
    warm_up_s=12.0,
    many_partitions=200,
)


def load(system: System, what: str, topic: str, *options: str) -> dict[str, Any]:
    """Run load.py as a process of its own; its CPU time is not this one's."""
    own = ",".join(str(pid) for pid in pids(system))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.kafka.load", what, bootstrap(system), topic),
            *(f"--pids={own}", *options),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LOAD_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise FailedError(f"{system.title}: {what} {' '.join(options)}: {done.stderr.strip()}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@contextmanager
def topic(system: System, name: str, partitions: int = 3) -> Iterator[str]:
    system.create_topic(name, partitions)
    _wait_for_leaders(system, name, partitions)
    try:
        yield name
    finally:
        system.delete_topic(name)


def _wait_for_leaders(system: System, name: str, partitions: int) -> None:
    addresses = [member.address for member in system.members if member.pid in pids(system)]

    def led() -> bool:
        for address in addresses:
            view = kafka_probe.metadata(address, [name])
            if view is None or sum(leader > 0 for leader in view.leaders.values()) < partitions:
                return False
        return True

    wait_until(led, f"leaders of {partitions} partitions of {name}", _FAILOVER_TIMEOUT_S)


def warm_up(system: System, plan: Plan) -> Figures:
    """Nothing of this counts: batches, lone records, and reading, until the code is hot."""
    share = max(plan.warm_up_s / 4, 1.0)
    with topic(system, "warm-up") as name:
        for options in (("--codec=lz4",), ("--size=100",)):
            load(system, "produce", name, f"--seconds={share:g}", "--warm-up=0.1", *options)
        load(system, "consume", name, f"--seconds={share:g}", "--warm-up=0.1")
        load(system, "latency", name, f"--seconds={share:g}", "--warm-up=0.1", "--rate-mb=0.5")
    return {}


# --- load ----------------------------------------------------------------------------------------


def throughput(system: System, plan: Plan) -> Figures:
    figures: Figures = {}
    time_options = (f"--seconds={plan.seconds:g}", f"--warm-up={plan.lead_in_s:g}")
    for size in plan.sizes:
        for codec in plan.codecs:
            for acks in plan.acks:
                with topic(system, f"load-{size}-{codec}-{acks}") as name:
                    options = (f"--size={size}", f"--codec={codec}", f"--acks={acks}")
                    found = load(system, "produce", name, *options, *time_options)
                    label = f"produce {size} B {codec} acks={acks}"
                    _note(figures, label, found)
                    if acks == plan.acks[-1]:
                        found = load(system, "consume", name, *options, *time_options)
                        _note(figures, f"consume {size} B {codec}", found)
    return figures


def _note(figures: Figures, label: str, found: dict[str, Any]) -> None:
    figures[f"{label}, MB/s"] = found["mb_per_s"]
    figures[f"{label}, brokers' CPU-s/GB"] = found["brokers_cpu_s_per_gb"]


def latency(system: System, plan: Plan) -> Figures:
    figures: Figures = {}
    for rate in plan.rates_mb:
        with topic(system, f"latency-{rate:g}") as name:
            options = (f"--rate-mb={rate:g}", f"--seconds={plan.latency_seconds:g}")
            found = load(system, "latency", name, *options, f"--warm-up={plan.lead_in_s:g}")
        for percentile in ("p50", "p99", "p99.9"):
            figures[f"latency at {rate:g} MB/s {percentile}, ms"] = found[f"{percentile}_ms"]
        figures[f"latency at {rate:g} MB/s, brokers' CPU-s/GB"] = found["brokers_cpu_s_per_gb"]
    return figures


def memory(system: System, plan: Plan) -> Figures:
    """Of the brokers as they are now, with all that was asked of them before."""
    alive = pids(system)
    return {
        "RSS of a broker now, MB": sum(map(procfs.rss_mb, alive)) / len(alive),
        "RSS of a broker at its peak, MB": sum(map(procfs.peak_rss_mb, alive)) / len(alive),
        "RSS of ZooKeeper, MB": sum(map(procfs.rss_mb, system.zookeeper_pids)),
    }


def idle(system: System, plan: Plan) -> Figures:
    """Right after the start: nobody asks for anything."""
    alive = pids(system)
    before_s, begin = procfs.cpu_s(alive), time.monotonic()
    wait_until(lambda: time.monotonic() - begin >= _IDLE_S, "time to pass")
    used = (procfs.cpu_s(alive) - before_s) / (time.monotonic() - begin) / len(alive)
    return {
        "idle broker, % of a core": used * 100,
        "RSS of an idle broker, MB": sum(map(procfs.rss_mb, alive)) / len(alive),
    }


# --- a death -------------------------------------------------------------------------------------


def failover(system: System, plan: Plan) -> Figures:
    """SIGKILL to the leader of a partition that is produced to with acks=all."""
    deliveries: list[float] = []

    def on_delivery(error: object, message: object) -> None:
        if error is None:
            deliveries.append(time.monotonic())

    with topic(system, "failover", 1) as name:
        leader = _leader(system, name)
        others = [m.address for m in system.members if m.broker_id != leader.broker_id]
        producer = Producer({"bootstrap.servers": bootstrap(system), "linger.ms": 0})

        def produce_until(condition: Callable[[], bool]) -> None:
            deadline = time.monotonic() + _FAILOVER_TIMEOUT_S
            while not condition():
                producer.produce(name, b"record", on_delivery=on_delivery)
                producer.poll(0.01)
                if time.monotonic() > deadline:
                    raise FailedError(f"{system.title}: the partition did not come back")

        produce_until(lambda: len(deliveries) >= 100)
        killed = time.monotonic()
        kill(leader)
        led: list[float] = []

        def is_led() -> bool:
            views = [kafka_probe.metadata(address, [name]) for address in others]
            new = [view.leaders.get((name, 0), -1) if view else -1 for view in views]
            if not led and all(each not in (-1, leader.broker_id) for each in new):
                led.append(time.monotonic())
            return bool(led) and deliveries[-1] > led[0]

        produce_until(is_led)
        producer.flush(30)
        system.restart(leader.name)
        _wait_for_isr(system, name, 3)
    first_after = min(moment for moment in deliveries if moment > led[0])
    return {
        "without a leader after a kill, s": led[0] - killed,
        "nothing acknowledged after a kill, s": first_after - killed,
    }


def _leader(system: System, name: str) -> Any:
    view = kafka_probe.metadata(system.members[0].address, [name])
    assert view is not None
    return member_of(system, view.leaders[name, 0])


def _wait_for_isr(system: System, name: str, size: int) -> None:
    def whole() -> bool:
        view = kafka_probe.metadata(system.members[0].address, [name])
        return view is not None and all(len(isr) == size for isr in view.isr.values())

    wait_until(whole, f"{size} replicas of {name} in sync", _FAILOVER_TIMEOUT_S)


def many_partitions(system: System, plan: Plan) -> Figures:
    """A topic with a thousand partitions: made, loaded, and without one of the brokers."""
    count = plan.many_partitions
    label = f"{count} partitions"
    begin = time.monotonic()
    with topic(system, "many", count) as name:
        created_s = time.monotonic() - begin
        alive = pids(system)
        before_s, begin = procfs.cpu_s(alive), time.monotonic()
        wait_until(lambda: time.monotonic() - begin >= _IDLE_S, "time to pass")
        idle_share = (procfs.cpu_s(alive) - before_s) / (time.monotonic() - begin) / len(alive)
        options = (f"--partitions={count}", f"--seconds={plan.seconds:g}")
        found = load(system, "produce", name, *options, f"--warm-up={plan.lead_in_s:g}")
        rss = sum(map(procfs.rss_mb, alive)) / len(alive)
        victim = system.members[-1]
        others = [member.address for member in system.members[:-1]]
        killed = time.monotonic()
        kill(victim)

        def all_led() -> bool:
            for address in others:
                view = kafka_probe.metadata(address, [name])
                if view is None or not set(view.leaders.values()).isdisjoint(
                    {-1, victim.broker_id}
                ):
                    return False
            return True

        wait_until(all_led, "leaders after a death", _FAILOVER_TIMEOUT_S)
        failover_s = time.monotonic() - killed
        system.restart(victim.name)
        _wait_for_isr(system, name, 3)
    return {
        f"{label}: creation, s": created_s,
        f"{label}: idle broker, % of a core": idle_share * 100,
        f"{label}: produce 1024 B acks=all, MB/s": found["mb_per_s"],
        f"{label}: RSS of a broker, MB": rss,
        f"{label}: all led again after a kill, s": failover_s,
    }


MEASUREMENTS: dict[str, Callable[[System, Plan], Figures]] = {
    "idle": idle,
    "throughput": throughput,
    "latency": latency,
    "memory": memory,
    "failover": failover,
    "partitions": many_partitions,
}
