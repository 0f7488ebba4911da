from __future__ import annotations

import struct
from ctypes import string_at

import pytest

pytest.importorskip("confluent_kafka")

from benchmarks.kafka.latency import due_by, stamped, summary_ms
from benchmarks.kafka.payload import payload_pool


def test_percentiles_are_of_the_ordered_values() -> None:
    taken_ns = [number * 1_000_000 for number in range(1001)]
    assert summary_ms(taken_ns[::-1]) == {
        "p50_ms": 500.0,
        "p99_ms": 990.0,
        "p99.9_ms": 999.0,
        "max_ms": 1000.0,
    }


def test_a_record_is_due_at_its_time_whatever_was_answered() -> None:
    assert due_by(0.0, 0.001, 5000) == 1
    assert due_by(0.0105, 0.001, 5000) == 11
    # A second of standing still later all of its records are due, at once.
    assert due_by(1.0105, 0.001, 5000) == 1011
    assert due_by(60.0, 0.001, 5000) == 5000


def test_each_record_carries_when_it_was_due_and_not_when_it_was_sent() -> None:
    messages, held = stamped(payload_pool(), 100, range(3, 6), begin=10.0, interval_s=0.5)
    found = [struct.unpack("<qq", string_at(each.payload, 16)) for each in messages]
    assert found == [(11_500_000_000, 3), (12_000_000_000, 4), (12_500_000_000, 5)]
    assert [each.size for each in messages] == [100, 100, 100]
    assert len(held) == 300
