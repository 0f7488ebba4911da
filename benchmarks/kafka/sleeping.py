"""What partitions cost that nobody writes to: a lone record beside them, and an idle broker.

Most partitions of a real cluster are of this kind. Whoever replicates them by asking for each again
and again pays for them with the processor, and the record that comes waits behind them.
"""

from __future__ import annotations

import os

from benchmarks.kafka.conditions import Conditions, Watch, disturbed, why_no_comparison
from benchmarks.kafka.found import Found
from benchmarks.kafka.plan import Plan
from benchmarks.kafka.procfs import memory
from benchmarks.kafka.stage import let_pass, load, make_topic, topic, wait_for_isr
from benchmarks.kafka.system import System, pids

_AT_ONCE = 500  # partitions of a topic
_SETTLE_S = 5.0


def sleeping(system: System, plan: Plan) -> Found:
    """More and more partitions, three replicas each; the record has acks=all and another topic."""
    found = Found()
    there = 0
    with topic(system, "lone", 1) as name:
        wait_for_isr(system, name, 3)
        warming = f"--seconds={max(plan.warm_up_s / 2, 5):g}"
        load(system, "lone", name, warming, "--warm-up=0.1", f"--interval-ms={5:g}")
        for count in plan.sleeping:
            while there < count:
                more = min(_AT_ONCE, count - there)
                make_topic(system, f"sleeping-{there}", more)
                wait_for_isr(system, f"sleeping-{there}", 3)
                there += more
            let_pass(_SETTLE_S)
            found.add(idle_broker(system, plan, count))
            found.add(lone_record(system, plan, count, name))
    return found


def idle_broker(system: System, plan: Plan, count: int) -> Found:
    brokers = pids(system)
    watch = Watch(brokers, [os.getpid(), *system.zookeeper_pids])
    let_pass(plan.idle_s)
    conditions = watch.end()
    label = f"{count} sleeping partitions: idle broker"
    found = Found({f"{label} PSS, MB": sum(memory(pid).pss_mb for pid in brokers) / len(brokers)})
    why = disturbed(conditions.others, conditions.stolen)
    found.note({f"{label}, % of a core": conditions.brokers_cores / len(brokers) * 100}, why)
    return found


def lone_record(system: System, plan: Plan, count: int, name: str) -> Found:
    options = (f"--seconds={plan.lone_seconds:g}", f"--interval-ms={plan.lone_interval_ms:g}")
    measured = load(system, "lone", name, *options, "--warm-up=2")
    conditions, late_ms = Conditions.of(measured["conditions"]), measured["late_p99_ms"]
    why = why_no_comparison(conditions, measured["p50_ms"], measured["p99_ms"], late_ms)
    label = f"{count} sleeping partitions: lone record"
    found = Found()
    found.note({f"{label} {p}, ms": measured[f"{p}_ms"] for p in ("p50", "p99")}, why)
    found.note(
        {
            f"{label}, brokers' CPU, % of a core": conditions.brokers_cores * 100,
            f"{label}, client late p99, ms": late_ms,
        },
        why,
    )
    return found
