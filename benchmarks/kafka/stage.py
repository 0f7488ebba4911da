"""What measurements do with a cluster: load it, give it topics, wait for what it becomes, kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.kafka import procfs
from benchmarks.kafka import system as systems
from benchmarks.kafka.found import Found
from benchmarks.kafka.system import FailedError, Member, System, bootstrap, pids, wait_until
from tests.helpers import kafka_probe

SETTLED_TIMEOUT_S = 180.0
_LOAD_TIMEOUT_S = 300


def load(system: System, what: str, topic: str, *options: str) -> dict[str, Any]:
    """Run load.py as a process of its own; its CPU time is not this one's."""
    brokers = ",".join(map(str, pids(system)))
    beside = ",".join(map(str, system.zookeeper_pids))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.kafka.load", what, bootstrap(system), topic),
            *(f"--pids={brokers}", f"--beside={beside}", *options),
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
    make_topic(system, name, partitions)
    try:
        yield name
    finally:
        system.delete_topic(name)


def make_topic(system: System, name: str, partitions: int) -> None:
    """Returns when every living broker knows all of its leaders."""
    system.create_topic(name, partitions)
    addresses = [member.address for member in system.members if member.pid in pids(system)]

    def led() -> bool:
        for address in addresses:
            view = kafka_probe.metadata(address, [name])
            if view is None or sum(leader > 0 for leader in view.leaders.values()) < partitions:
                return False
        return True

    wait_until(led, f"leaders of {partitions} partitions of {name}", SETTLED_TIMEOUT_S)


def leaders(system: System, name: str) -> dict[int, int]:
    """By partition."""
    view = kafka_probe.metadata(system.members[0].address, [name])
    assert view is not None
    return {partition: leader for (_, partition), leader in view.leaders.items()}


def all_led_without(addresses: list[str], name: str, dead: Member) -> bool:
    """Whether these brokers know a leader of every partition, and it is not the dead one."""
    for address in addresses:
        view = kafka_probe.metadata(address, [name])
        if view is None or not view.leaders:
            return False
        if not {-1, dead.broker_id}.isdisjoint(view.leaders.values()):
            return False
    return True


def wait_for_isr(system: System, name: str, size: int) -> None:
    def whole() -> bool:
        view = kafka_probe.metadata(system.members[0].address, [name])
        return view is not None and all(len(isr) == size for isr in view.isr.values())

    wait_until(whole, f"{size} replicas of {name} in sync", SETTLED_TIMEOUT_S)


def kill(member: Member, found: Found) -> float:
    """SIGKILL; returns when, by the monotonic clock. The CPU time of a child of ours is told by the
    system once it is waited for; that of another is gone with it, and noted."""
    used_s = procfs.cpu_s([member.pid])
    if procfs.parent(member.pid) != os.getpid():
        found.gone_cpu_s += used_s
    killed = time.monotonic()
    systems.kill(member)
    return killed


def let_pass(seconds: float) -> None:
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() - begin >= seconds, "time to pass", seconds + 10)
