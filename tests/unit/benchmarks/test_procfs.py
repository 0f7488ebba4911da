from __future__ import annotations

import os

import pytest

from benchmarks.kafka import procfs
from benchmarks.kafka.procfs import Machine, Memory, Scheduled, between, parse_machine

STAT = """\
cpu  3000 200 600 9000 400 10 90 500 70 0
cpu0 1500 100 300 4500 200 5 45 250 35 0
"""
ROLLUP = """\
555e373f0000-7ffcaa156000 ---p 00000000 00:00 0                          [rollup]
Rss:               60000 kB
Pss:               40000 kB
Pss_Dirty:         30000 kB
Shared_Clean:      20000 kB
Shared_Dirty:       5000 kB
Private_Clean:      1000 kB
Private_Dirty:     34000 kB
Swap:                  0 kB
"""


def test_the_machine_is_busy_with_all_but_idling_waiting_for_disks_and_what_is_stolen() -> None:
    assert parse_machine(STAT, 100) == Machine(busy_s=39.0, stolen_s=5.0)


def test_schedstat_is_nanoseconds_on_a_core_and_on_a_run_queue() -> None:
    parsed = procfs.parse_schedstat("1500000000 250000000 42\n")
    assert parsed == Scheduled(ran_s=1.5, waited_s=0.25)


def test_new_threads_count_whole_and_ended_ones_do_not_count() -> None:
    before = {1: Scheduled(10.0, 1.0), 2: Scheduled(5.0, 5.0)}
    after = {1: Scheduled(12.0, 1.5), 3: Scheduled(0.5, 0.25)}
    assert between(before, after) == Scheduled(2.5, 0.75)


def test_private_memory_is_told_from_shared() -> None:
    found = procfs.parse_rollup(ROLLUP)
    assert found == Memory(61.44, 40.96, pytest.approx(35.84), pytest.approx(25.6))
    assert found.private_mb + found.shared_mb == pytest.approx(found.rss_mb)


def test_this_process_has_threads_memory_and_a_parent() -> None:
    assert procfs.schedule([os.getpid()])[os.getpid()].ran_s > 0
    found = procfs.memory(os.getpid())
    assert 0 < found.private_mb <= found.pss_mb <= found.rss_mb
    assert procfs.parent(os.getpid()) == os.getppid()
