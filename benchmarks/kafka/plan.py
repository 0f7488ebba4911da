"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plan:
    """`warm_up_s` of load comes first, once a system: a Java broker needs it, and its figures are
    meant to be those of a broker that has been running. `sleeping` are numbers of partitions that
    nobody writes to, in ascending order; `producers` are numbers of producers of transactions side
    by side; `filled` are the transactions that are read; `steady_seconds` are those of transactions
    at a modest rate, and `transactional_ids` those that coordinators know when one dies."""

    sizes: tuple[int, ...] = (100, 1024, 10_240)
    codecs: tuple[str, ...] = ("none", "lz4")
    acks: tuple[str, ...] = ("1", "all")
    rates_mb: tuple[float, ...] = (1, 10, 50)
    seconds: float = 8.0
    latency_seconds: float = 15.0
    lead_in_s: float = 3.0
    warm_up_s: float = 40.0
    idle_s: float = 15.0
    many_partitions: int = 1000
    sleeping: tuple[int, ...] = (0, 500, 3000)
    lone_seconds: float = 20.0
    lone_interval_ms: float = 20.0
    producers: tuple[int, ...] = (1, 8)
    filled: int = 200
    steady_rate: float = 20.0
    steady_seconds: float = 30.0
    transactional_ids: int = 10_000


FULL = Plan()
LONG = replace(
    FULL,
    sleeping=(*FULL.sleeping, 10_000),
    latency_seconds=60.0,
    lone_seconds=60.0,
    steady_seconds=120.0,
    transactional_ids=100_000,
)
QUICK = Plan(
    sizes=(1024,),
    codecs=("none",),
    acks=("all",),
    rates_mb=(1, 10),
    seconds=4.0,
    latency_seconds=6.0,
    lead_in_s=2.0,
    warm_up_s=12.0,
    idle_s=5.0,
    many_partitions=200,
    sleeping=(0, 200),
    lone_seconds=6.0,
    filled=50,
    steady_seconds=8.0,
    transactional_ids=1000,
)
