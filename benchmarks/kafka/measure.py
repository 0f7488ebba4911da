"""What is measured of a system (the names of figures: found.py)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from benchmarks.kafka import procfs
from benchmarks.kafka.conditions import Conditions, Watch, disturbed, why_no_comparison
from benchmarks.kafka.deaths import dead_controller, dead_leader, many_partitions
from benchmarks.kafka.found import Found
from benchmarks.kafka.plan import Plan
from benchmarks.kafka.sleeping import sleeping
from benchmarks.kafka.stage import let_pass, load, topic
from benchmarks.kafka.system import System, pids
from benchmarks.kafka.transactions import transactions


def warm_up(system: System, plan: Plan) -> None:
    """Nothing of this counts: batches, lone records, and reading, until the code is hot."""
    share = max(plan.warm_up_s / 4, 1.0)
    with topic(system, "warm-up") as name:
        for options in (("--codec=lz4",), ("--size=100",)):
            load(system, "produce", name, f"--seconds={share:g}", "--warm-up=0.1", *options)
        load(system, "consume", name, f"--seconds={share:g}", "--warm-up=0.1")
        load(system, "latency", name, f"--seconds={share:g}", "--warm-up=0.1", "--rate-mb=0.5")


def throughput(system: System, plan: Plan) -> Found:
    found = Found()
    time_options = (f"--seconds={plan.seconds:g}", f"--warm-up={plan.lead_in_s:g}")
    for size in plan.sizes:
        for codec in plan.codecs:
            for acks in plan.acks:
                with topic(system, f"load-{size}-{codec}-{acks}") as name:
                    options = (f"--size={size}", f"--codec={codec}", f"--acks={acks}")
                    measured = load(system, "produce", name, *options, *time_options)
                    _note(found, f"produce {size} B {codec} acks={acks}", measured)
                    if acks == plan.acks[-1]:
                        measured = load(system, "consume", name, *options, *time_options)
                        _note(found, f"consume {size} B {codec}", measured)
    return found


def _note(found: Found, label: str, measured: dict[str, Any]) -> None:
    found.note({f"{label}, MB/s": measured["mb_per_s"]})
    found.note({f"{label}, brokers' CPU-s/GB": measured["brokers_cpu_s_per_gb"]})


def latency(system: System, plan: Plan) -> Found:
    """Each rate beside what the brokers had of the processor meanwhile; judged by itself."""
    found = Found()
    for rate in plan.rates_mb:
        with topic(system, f"latency-{rate:g}") as name:
            options = (f"--rate-mb={rate:g}", f"--seconds={plan.latency_seconds:g}")
            measured = load(system, "latency", name, *options, f"--warm-up={plan.lead_in_s:g}")
        conditions, late_ms = Conditions.of(measured["conditions"]), measured["late_p99_ms"]
        why = why_no_comparison(conditions, measured["p50_ms"], measured["p99_ms"], late_ms)
        label = f"latency at {rate:g} MB/s"
        found.note({f"{label} {p}, ms": measured[f"{p}_ms"] for p in ("p50", "p99", "p99.9")}, why)
        found.note(
            {
                f"{label}, brokers' CPU, % of a core": conditions.brokers_cores * 100,
                f"{label}, brokers' CPU-s/GB": measured["brokers_cpu_s_per_gb"],
                f"{label}, brokers waited for a core, %": conditions.brokers_waited * 100,
                f"{label}, client late p99, ms": late_ms,
                f"{label}, machine busy, %": conditions.machine_busy * 100,
                f"{label}, others on this machine, %": conditions.others * 100,
                f"{label}, stolen by the host, %": conditions.stolen * 100,
            },
            why,
        )
    return found


def memory(system: System, plan: Plan) -> Found:
    """Of the brokers as they are now, with all that was asked of them before."""
    found = Found(memory_of(system, "a broker now", "the cluster now"))
    alive = pids(system)
    found.note(
        {"RSS of a broker at its peak, MB": sum(map(procfs.peak_rss_mb, alive)) / len(alive)}
    )
    if system.zookeeper_pids:
        found.note({"RSS of ZooKeeper, MB": sum(map(procfs.rss_mb, system.zookeeper_pids))})
    return found


def memory_of(system: System, broker: str, cluster: str) -> dict[str, float]:
    """Of one broker on the average, and of all processes together. What processes of one machine
    share (libraries, a forked image) is divided among them in PSS, and counted in each of them in
    RSS."""
    brokers = [procfs.memory(pid) for pid in pids(system)]
    beside = [procfs.memory(pid) for pid in system.zookeeper_pids]
    count = len(brokers)
    return {
        f"RSS of {broker}, MB": sum(each.rss_mb for each in brokers) / count,
        f"PSS of {broker}, MB": sum(each.pss_mb for each in brokers) / count,
        f"private memory of {broker}, MB": sum(each.private_mb for each in brokers) / count,
        f"shared memory of {broker}, MB": sum(each.shared_mb for each in brokers) / count,
        f"PSS of {cluster}, MB": sum(e.pss_mb for e in [*brokers, *beside]),
    }


def idle(system: System, plan: Plan) -> Found:
    """Right after the start: nobody asks for anything."""
    watch = Watch(pids(system), [os.getpid(), *system.zookeeper_pids])
    let_pass(plan.idle_s)
    conditions = watch.end()
    share = conditions.brokers_cores / len(pids(system))
    found = Found(memory_of(system, "an idle broker", "an idle cluster"))
    why = disturbed(conditions.others, conditions.stolen)
    found.note({"idle broker, % of a core": share * 100}, why)
    return found


MEASUREMENTS: dict[str, Callable[[System, Plan], Found]] = {
    "idle": idle,
    "throughput": throughput,
    "latency": latency,
    "memory": memory,
    "failover": dead_leader,
    "controller": dead_controller,
    "partitions": many_partitions,
    "sleeping": sleeping,
    "transactions": transactions,
}
# These say themselves what is no comparison; of the others, all that was measured is none if other
# processes had much of the machine meanwhile.
JUDGED_BY_THEMSELVES = {"idle", "latency", "memory", "sleeping", "transactions"}
# On a cluster of its own, which has not been loaded and holds nothing else.
ALONE = {"sleeping", "transactions"}
