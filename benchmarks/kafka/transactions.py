"""What transactions cost: their commit, a stream in them, reading what is committed, and the death
of a broker that coordinates them. How they are done is told in transactional.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.kafka.conditions import Conditions, disturbed, why_no_comparison
from benchmarks.kafka.coordinators import dead_coordinator, make_topic
from benchmarks.kafka.found import Found
from benchmarks.kafka.plan import Plan
from benchmarks.kafka.stage import load, topic, wait_for_isr
from benchmarks.kafka.system import System

TRANSACTION_MS = 100


def transactions(system: System, plan: Plan) -> Found:
    found = Found()
    make_topic(system)
    with topic(system, "transactions") as name:
        wait_for_isr(system, name, 3)
        _warm_up(system, plan, name)
        for producers in plan.producers:
            found.add(one_record(system, plan, name, producers))
        found.add(steady(system, plan, name))
        found.add(stream(system, plan, name))
    with topic(system, "read") as name:
        wait_for_isr(system, name, 3)
        found.add(reading(system, plan, name))
    found.add(dead_coordinator(system, plan))
    return found


def _warm_up(system: System, plan: Plan, name: str) -> None:
    """Nothing of this counts. First some that are waited for however long they take."""
    load(system, "steady", name, f"--seconds={max(plan.warm_up_s / 4, 1.0):g}", "--warm-up=0")
    options = (f"--seconds={max(plan.warm_up_s / 4, 1.0):g}", "--warm-up=0.1")
    load(system, "transactions", name, f"--producers={max(plan.producers)}", *options)
    load(system, "stream", name, *options)
    load(system, "stream", name, f"--transaction-ms={TRANSACTION_MS}", *options)
    load(system, "consume", name, "--isolation=read_uncommitted", *options)


def one_record(system: System, plan: Plan, name: str, producers: int) -> Found:
    """As many transactions of one record as there can be."""
    measured = load(system, "transactions", name, f"--producers={producers}", *_times(plan))
    conditions = Conditions.of(measured["conditions"])
    why = disturbed(conditions.others, conditions.stolen)
    label = f"one record each, {producers} producer{'s' if producers > 1 else ''}"
    found = Found()
    found.note({f"{label}, transactions/s": measured["transactions_per_s"]}, why)
    for p in ("p50", "p99"):
        found.note({f"{label}: commit {p}, ms": measured["commit"][f"{p}_ms"]}, why)
    found.note({f"{label}: transaction p50, ms": measured["whole"]["p50_ms"]}, why)
    found.note({f"{label}: brokers' CPU of one, ms": measured["brokers_cpu_ms"]}, why)
    found.note({f"{label}: the client's CPU of one, ms": measured["client_cpu_ms"]}, why)
    found.note({f"{label}, machine busy, %": conditions.machine_busy * 100}, why)
    return found


def steady(system: System, plan: Plan, name: str) -> Found:
    """The latency when nobody is in a hurry; judged as a latency at a fixed rate is."""
    options = (f"--rate={plan.steady_rate:g}", f"--seconds={plan.steady_seconds:g}")
    measured = load(system, "steady", name, *options, f"--warm-up={plan.lead_in_s:g}")
    conditions, late_ms = Conditions.of(measured["conditions"]), measured["late_p99_ms"]
    commit, whole = measured["commit"], measured["whole"]
    why = why_no_comparison(conditions, whole["p50_ms"], whole["p99_ms"], late_ms)
    label = f"{plan.steady_rate:g} transactions/s"
    found = Found()
    found.note({f"{label}: commit {p}, ms": commit[f"{p}_ms"] for p in ("p50", "p99")}, why)
    found.note({f"{label}: transaction {p}, ms": whole[f"{p}_ms"] for p in ("p50", "p99")}, why)
    found.note(
        {
            f"{label}: brokers' CPU, % of a core": conditions.brokers_cores * 100,
            f"{label}: brokers waited for a core, %": conditions.brokers_waited * 100,
            f"{label}: client late p99, ms": late_ms,
            f"{label}: machine busy, %": conditions.machine_busy * 100,
        },
        why,
    )
    return found


def stream(system: System, plan: Plan, name: str) -> Found:
    """Records in transactions, between the same without any before and after."""
    in_transactions = f"stream in transactions of {TRANSACTION_MS} ms"

    def streaming(*options: str) -> dict[str, Any]:
        return load(system, "stream", name, *options, *_times(plan))

    found, measured = _beside(
        in_transactions,
        "stream of an idempotent producer",
        lambda: streaming(f"--transaction-ms={TRANSACTION_MS}"),
        streaming,
    )
    why = next(iter(found.no_comparison.values()), None)
    found.note({f"{in_transactions}: one takes p50, ms": measured["whole"]["p50_ms"]}, why)
    return found


def reading(system: System, plan: Plan, name: str) -> Found:
    """The MB of the log that a reader gets past, aborted records or not: of every ten transactions
    one is aborted."""
    filled = load(system, "fill", name, f"--count={plan.filled}")
    everything = filled["records"]

    def reader(isolation: str, visible: int) -> dict[str, Any]:
        options = (f"--isolation={isolation}", f"--visible={visible}")
        measured = load(system, "consume", name, *options, *_times(plan))
        return measured | {"mb_per_s": measured["mb_per_s"] * everything / visible}

    found, _ = _beside(
        "consume transactions read_committed",
        "consume transactions read_uncommitted",
        lambda: reader("read_committed", everything - filled["aborted"]),
        lambda: reader("read_uncommitted", everything),
    )
    return found


def _beside(
    label: str,
    plain_label: str,
    measure: Callable[[], dict[str, Any]],
    measure_plain: Callable[[], dict[str, Any]],
) -> tuple[Found, dict[str, Any]]:
    """MB/s of this, and of the plain kind, which is measured before and after it: what changes on
    the machine meanwhile changes both. And the share of the one in the other."""
    before, measured, after = measure_plain(), measure(), measure_plain()
    reasons = []
    for each in (before, measured, after):
        conditions = Conditions.of(each["conditions"])
        reasons.append(disturbed(conditions.others, conditions.stolen))
    why = next((reason for reason in reasons if reason), None)
    plain = (before["mb_per_s"] + after["mb_per_s"]) / 2
    found = Found()
    found.note({f"{plain_label}, MB/s": plain, f"{label}, MB/s": measured["mb_per_s"]}, why)
    found.note({f"{label}, % of without": measured["mb_per_s"] / plain * 100}, why)
    return found, measured


def _times(plan: Plan) -> tuple[str, str]:
    return (f"--seconds={plan.seconds:g}", f"--warm-up={plan.lead_in_s:g}")
