"""What is counted and measured, and the lines that tell it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.cli.kit.tally import Tally
from minikafka.cli.perf.command import payloads
from minikafka.cli.perf.perfline import Latencies, perf_document, perf_line

SHARES = (0.5, 0.95, 0.99, 0.999)


def latencies(*values: float) -> Latencies:
    made = Latencies()
    for value in values:
        made.add(value)
    return made


def test_the_line_is_that_of_kafkas_tool() -> None:
    line = perf_line(1000, 1000 * 1024, 2.0, latencies(*range(1, 1001)))
    assert line == (
        "1000 records sent, 500.0 records/sec (0.49 MB/sec), 500.50 ms avg latency, "
        "1000.00 ms max latency, 500.00 ms 50th, 950.00 ms 95th, 990.00 ms 99th, "
        "999.00 ms 99.9th."
    )


def test_the_line_can_be_read_by_what_reads_kafkas() -> None:
    pattern = (
        r"(\d+) records sent, ([\d.]+) records/sec \(([\d.]+) MB/sec\), ([\d.]+) ms avg latency, "
        r"([\d.]+) ms max latency, ([\d.]+) ms 50th, ([\d.]+) ms 95th, ([\d.]+) ms 99th, "
        r"([\d.]+) ms 99\.9th\."
    )
    assert re.fullmatch(pattern, perf_line(3, 300, 0.5, latencies(1.25, 2, 3)))


def test_nothing_measured_is_zero() -> None:
    assert latencies().quantiles(SHARES) == [0.0] * 4
    assert perf_line(0, 0, 0.0, latencies()).startswith("0 records sent, 0.0 records/sec")


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.integers(1, 5)), min_size=1, max_size=50),
    st.lists(st.floats(0.001, 1), min_size=1, max_size=5).map(sorted),
)
def test_quantiles_are_those_of_the_written_out_list(
    counted: list[tuple[float, int]], shares: list[float]
) -> None:
    made = Latencies()
    for value, times in counted:
        made.add(value, times)
    written_out = sorted(value for value, times in counted for _ in range(times))
    expected = [
        next(
            value
            for rank, value in enumerate(written_out, start=1)
            if rank >= share * len(written_out)
        )
        for share in shares
    ]
    assert made.quantiles(shares) == expected
    assert made.max_ms == written_out[-1]


def test_the_document_of_a_measurement() -> None:
    document = perf_document(100, 1_048_576, 0.5, latencies(1, 2, 3, 4))
    assert document == {
        "records": 100,
        "bytes": 1_048_576,
        "elapsed_ms": 500.0,
        "records_per_second": 200.0,
        "mb_per_second": 2.0,
        "latency_avg_ms": 2.5,
        "latency_max_ms": 4,
        "latency_p50_ms": 2,
        "latency_p95_ms": 4,
        "latency_p99_ms": 4,
        "latency_p999_ms": 4,
    }
    assert "latency_avg_ms" not in perf_document(100, 1, 0.5, None)


@pytest.mark.parametrize("size", [1, 100, 1024, 5_000_000])
def test_payloads_are_letters_of_the_size_that_was_asked_for(size: int) -> None:
    made = payloads(size)
    some = [next(made) for _ in range(5)]
    assert {len(each) for each in some} == {size}
    assert all(each.isalpha() and each.isupper() for each in some)
    assert size < 100 or len(set(some)) == 5


def test_what_was_acknowledged_is_told_by_partition() -> None:
    tally = Tally("orders")
    for partition, offset in [(1, 7), (0, 5), (1, 8), (0, 6), (1, 9)]:
        tally.add(partition, offset, 10)
    assert tally.line() == (
        "acknowledged 5 records (50 bytes) to orders: "
        "partition 0 offsets 5..6, partition 1 offsets 7..9"
    )
    assert tally.document() == {
        "topic": "orders",
        "records": 5,
        "bytes": 50,
        "partitions": [
            {"partition": 0, "records": 2, "first_offset": 5, "last_offset": 6},
            {"partition": 1, "records": 3, "first_offset": 7, "last_offset": 9},
        ],
    }


def test_one_record_and_none_are_told_as_such() -> None:
    tally = Tally("t")
    assert tally.line() == "acknowledged 0 records (0 bytes) to t"
    tally.add(0, 3, 2)
    assert tally.line() == "acknowledged 1 record (2 bytes) to t: partition 0 offsets 3..3"


def test_without_acknowledgement_no_offsets_are_told() -> None:
    tally = Tally("t")
    tally.add(0, -1, 2)
    assert tally.line(acknowledged=False) == (
        "sent 1 record (2 bytes) to t, without acknowledgement (acks=0)"
    )
