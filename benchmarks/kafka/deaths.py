"""A broker that dies: a leader, the controller, and one of a thousand partitions."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from confluent_kafka import Producer

from benchmarks.kafka import wire
from benchmarks.kafka.conditions import Watch
from benchmarks.kafka.found import Found
from benchmarks.kafka.plan import Plan
from benchmarks.kafka.procfs import memory
from benchmarks.kafka.stage import (
    all_led_without,
    kill,
    leaders,
    let_pass,
    load,
    topic,
    wait_for_isr,
)
from benchmarks.kafka.system import (
    FailedError,
    Member,
    System,
    bootstrap,
    member_of,
    pids,
    wait_until,
)

_FAILOVER_TIMEOUT_S = 90.0
_PROBE_S = 0.02


def dead_leader(system: System, plan: Plan) -> Found:
    """SIGKILL to the leader of a partition that is produced to with acks=all."""
    found = Found()
    deliveries: list[float] = []

    def on_delivery(error: object, message: object) -> None:
        if error is None:
            deliveries.append(time.monotonic())

    with topic(system, "failover", 1) as name:
        leader = member_of(system, leaders(system, name)[0])
        others = _addresses_without(system, leader)
        # The library says of each connection to the dead broker that it failed; that is known here.
        settings = {"bootstrap.servers": bootstrap(system), "linger.ms": 0, "log_level": 0}
        producer = Producer(settings)

        def produce_until(condition: Callable[[], bool]) -> None:
            deadline = time.monotonic() + _FAILOVER_TIMEOUT_S
            while not condition():
                producer.produce(name, b"record", on_delivery=on_delivery)
                producer.poll(0.01)
                if time.monotonic() > deadline:
                    raise FailedError(f"{system.title}: the partition did not come back")

        produce_until(lambda: len(deliveries) >= 100)
        killed = kill(leader, found)
        led: list[float] = []

        def is_led() -> bool:
            if not led and all_led_without(others, name, leader):
                led.append(time.monotonic())
            return bool(led) and deliveries[-1] > led[0]

        produce_until(is_led)
        producer.flush(30)
        system.restart(leader.name)
        wait_for_isr(system, name, 3)
    first_after = min(moment for moment in deliveries if moment > led[0])
    found.note({"without a leader after a kill, s": led[0] - killed})
    found.note({"nothing acknowledged after a kill, s": first_after - killed})
    return found


def dead_controller(system: System, plan: Plan) -> Found:
    """SIGKILL to the controller, which is a broker everywhere, and leads partitions: until another
    is controller, until there are leaders, and until a topic can be made."""
    found = Found()
    with topic(system, "controller", 6) as name:
        controllers: list[int] = []

        def has_controller() -> bool:
            controllers.append(system.controller_id() or 0)
            return controllers[-1] > 0

        wait_until(has_controller, "a controller")
        victim = member_of(system, controllers[-1])
        others = _addresses_without(system, victim)
        made = _Maker(others, "made-without-the-controller")
        killed = kill(victim, found)
        made.start()
        moments: dict[str, float] = {}

        def is_over() -> bool:
            if "another" not in moments and system.controller_id() not in (None, victim.broker_id):
                moments["another"] = time.monotonic()
            if "led" not in moments and all_led_without(others, name, victim):
                moments["led"] = time.monotonic()
            return len(moments) == 2 and not made.is_alive()

        wait_until(is_over, "life without that controller", _FAILOVER_TIMEOUT_S)
        if made.moment is None:
            raise FailedError(f"{system.title}: no topic could be made without that controller")
        system.restart(victim.name)
        wait_for_isr(system, name, 3)
        system.delete_topic(made.topic)
    found.note(
        {
            "controller killed: until another is known, s": moments["another"] - killed,
            "controller killed: until all are led again, s": moments["led"] - killed,
            "controller killed: until a topic can be made, s": made.moment - killed,
        }
    )
    return found


class _Maker(threading.Thread):
    """Asks one broker after another to make a topic with two replicas, until it is made; `moment`
    is when, None if it never was."""

    def __init__(self, addresses: list[str], topic: str) -> None:
        super().__init__(daemon=True)
        self.topic = topic
        self.moment: float | None = None
        self._addresses = addresses

    def run(self) -> None:
        deadline = time.monotonic() + _FAILOVER_TIMEOUT_S
        while time.monotonic() < deadline:
            for address in self._addresses:
                if wire.creates_topic(address, self.topic, replicas=2):
                    self.moment = time.monotonic()
                    return
            time.sleep(_PROBE_S)


def many_partitions(system: System, plan: Plan) -> Found:
    """A topic with a thousand partitions: made, loaded, and without one of the brokers."""
    count = plan.many_partitions
    label = f"{count} partitions"
    found = Found()
    begin = time.monotonic()
    with topic(system, "many", count) as name:
        created_s = time.monotonic() - begin
        alive = pids(system)
        watch = Watch(alive, [os.getpid(), *system.zookeeper_pids])
        let_pass(plan.idle_s)
        idle_share = watch.end().brokers_cores / len(alive)
        options = (f"--partitions={count}", f"--seconds={plan.seconds:g}")
        loaded = load(system, "produce", name, *options, f"--warm-up={plan.lead_in_s:g}")
        after = [memory(pid) for pid in alive]
        victim = system.members[-1]
        others = _addresses_without(system, victim)
        killed = kill(victim, found)
        wait_until(
            lambda: all_led_without(others, name, victim),
            "leaders after a death",
            _FAILOVER_TIMEOUT_S,
        )
        failover_s = time.monotonic() - killed
        system.restart(victim.name)
        wait_for_isr(system, name, 3)
    found.note(
        {
            f"{label}: creation, s": created_s,
            f"{label}: idle broker, % of a core": idle_share * 100,
            f"{label}: produce 1024 B acks=all, MB/s": loaded["mb_per_s"],
            f"{label}: RSS of a broker, MB": sum(each.rss_mb for each in after) / len(after),
            f"{label}: PSS of a broker, MB": sum(each.pss_mb for each in after) / len(after),
            f"{label}: all led again after a kill, s": failover_s,
        }
    )
    return found


def _addresses_without(system: System, dead: Member) -> list[str]:
    return [each.address for each in system.members if each.broker_id != dead.broker_id]
