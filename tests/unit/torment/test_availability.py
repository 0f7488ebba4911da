"""Gaps between successful writes, by kind of fault."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.integration.torment.availability import Availability, availability, longest_gap, plot
from tests.integration.torment.availability import table as table_of
from tests.integration.torment.checker import Facts
from tests.integration.torment.history import OK, UNKNOWN, Fault, Poll, Send


@pytest.mark.parametrize(
    ("successes", "gap"),
    [
        ([9, 12, 13, 19, 22], 6),  # from 13 to 19
        ([9, 25], 15),  # from the beginning to the first success after it
        ([9, 11, 19, 27], 8),  # the last one runs on beyond the end of the fault
        ([9, 10, 20, 50], 10),  # what begins after the fault is not its own
        ([9], 30),  # never again: up to the limit
        ([], 30),
        ([12, 60], 28),  # nor beyond the next fault
    ],
)
def test_a_gap_begins_with_the_fault_and_ends_with_a_success(
    successes: list[float], gap: float
) -> None:
    assert longest_gap(successes, 10, 20, 40) == gap


def sent(partition: str, end: float, outcome: str = OK, once: bool = True) -> Send:
    return Send("p", partition, "p:0", end - 1, end, outcome, 0, once)


def test_a_row_tells_the_worst_partition_and_the_whole_cluster() -> None:
    facts = Facts.of(
        [
            *(sent("t-0", at) for at in range(1, 40)),
            sent("t-1", 1),
            sent("t-1", 12, UNKNOWN),
            sent("t-1", 13, once=False),
            sent("t-1", 16),
            *(sent("t-1", at) for at in range(21, 33)),
            sent("t-1", 36),
            *(Poll("c", "t-0", at, at, [(at, "p:0")]) for at in (9, 17, 19, 21, 26, 29, 37)),
            Poll("c", "t-0", 14, 14, []),
            Poll("passing by", "t-0", 1, 1, [(0, "p:0")]),
            Fault("kill", "A", 10, 15),
            Fault("pause", "B", 20, 22),
            Fault("kill", "C", 30, 35),
        ],
        ["c"],
    )
    assert availability(facts) == [
        Availability("kill", times=2, cluster_s=1, partition_s=6, median_s=6, read_s=7),
        Availability("pause", times=1, cluster_s=1, partition_s=1, median_s=1, read_s=5),
    ]


def test_without_any_success_the_gap_is_the_fault() -> None:
    facts = Facts.of([sent("t-0", 11, UNKNOWN), Fault("kill", "A", 10, 15)])
    assert availability(facts) == [Availability("kill", 1, 5, 5, 5)]


ROWS = [Availability("kill & <co>", 2, 1.25, 6.5, 4.0, 7.0), Availability("pause", 1, 0, 0, 0)]


def test_the_table_has_a_line_a_kind() -> None:
    lines = table_of(ROWS).splitlines()
    assert len(lines) == 4
    assert lines[2].split() == ["kill", "&", "<co>", "2", "1.25", "6.50", "4.00", "7.00"]


def test_the_plot_is_well_formed_and_names_every_kind() -> None:
    text = "".join(ElementTree.fromstring(plot(ROWS, "a title")).itertext())
    for words in ("a title", "kill & <co>", "6.5 s", "pause"):
        assert words in text
    ElementTree.fromstring(plot([], "nothing"))
