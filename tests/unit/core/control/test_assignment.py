"""Topic names, counts, and where replicas go."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.core.control.assignment import (
    MAX_PARTITIONS,
    explicit_assignments,
    is_legal_name,
    place_replicas,
    ring_index,
    validate_counts,
    validate_topic_name,
)
from minikafka.errors import (
    InvalidPartitionsError,
    InvalidReplicaAssignmentError,
    InvalidReplicationFactorError,
    InvalidTopicError,
)
from minikafka.model import Assignment
from tests.helpers.controller_bench import broker

# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a", "Orders.2024_eu-west", "x" * 249, "...", "__consumer_offsets"]
)
def test_legal_topic_names_are_taken(name: str) -> None:
    validate_topic_name(name, ["other", name])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        (".", "cannot be called"),
        ("..", "cannot be called"),
        ("x" * 250, "at most 249"),
        ("a b", "only ASCII letters"),
        ("ä", "only ASCII letters"),
        ("a/b", "only ASCII letters"),
        ("a\n", "only ASCII letters"),
        ("a_b.c", "collides with the existing topic a.b_c"),
    ],
)
def test_illegal_topic_names_are_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(InvalidTopicError, match=why):
        validate_topic_name(name, ["zzz", "a.b_c"])


# --- counts --------------------------------------------------------------------------------------


def test_a_replication_factor_above_the_live_brokers_names_both_numbers() -> None:
    with pytest.raises(
        InvalidReplicationFactorError,
        match=r"Replication factor: 3 larger than available brokers: 2\.",
    ):
        validate_counts(1, 3, 2)


def test_counts_out_of_range_are_refused() -> None:
    validate_counts(1, 2, 2)
    with pytest.raises(InvalidReplicationFactorError, match="larger than 0"):
        validate_counts(1, 0, 2)
    with pytest.raises(InvalidPartitionsError, match="larger than 0"):
        validate_counts(0, 1, 2)
    with pytest.raises(InvalidPartitionsError, match="at most 10000"):
        validate_counts(MAX_PARTITIONS + 1, 1, 2)


# --- explicit assignments ------------------------------------------------------------------------


def test_explicit_assignments_are_taken_as_they_are() -> None:
    chosen = explicit_assignments({1: [2, 1], 0: [3, 2]}, {1, 2, 3})
    assert chosen == {0: Assignment((3, 2)), 1: Assignment((2, 1))}


@pytest.mark.parametrize(
    ("assignments", "why"),
    [
        ({}, "expected 0, 1, 2"),
        ({1: [1]}, "expected 0, 1, 2"),
        ({0: [1], 2: [1]}, "expected 0, 1, 2"),
        ({0: []}, "expected 1"),
        ({0: [1, 2], 1: [1]}, "expected 2, as the others"),
        ({0: [1, 1]}, "twice"),
        ({0: [1, 9]}, "no live broker 9: expected some of 1, 2, 3"),
    ],
)
def test_explicit_assignments_that_cannot_be_are_refused(
    assignments: dict[int, list[int]], why: str
) -> None:
    with pytest.raises(InvalidReplicaAssignmentError, match=why):
        explicit_assignments(assignments, {1, 2, 3})


# --- placement -----------------------------------------------------------------------------------


def test_replicas_go_round_robin_with_a_growing_distance() -> None:
    brokers = [broker(b) for b in (1, 2, 3, 4, 5)]
    placed = place_replicas(brokers, range(10), 3, start=0, shift=0)
    assert [placed[p].replicas for p in range(10)] == [
        (1, 2, 3),
        (2, 3, 4),
        (3, 4, 5),
        (4, 5, 1),
        (5, 1, 2),
        (1, 3, 4),
        (2, 4, 5),
        (3, 5, 1),
        (4, 1, 2),
        (5, 2, 3),
    ]


def test_a_random_start_and_shift_turn_the_ring() -> None:
    placed = place_replicas([broker(b) for b in (1, 2, 3)], range(2), 2, start=4, shift=7)
    assert [placed[p].replicas for p in (0, 1)] == [(2, 1), (3, 2)]


def test_one_broker_takes_all() -> None:
    assert place_replicas([broker(7)], range(2), 1, 5, 5) == {
        0: Assignment((7,)),
        1: Assignment((7,)),
    }


def test_racks_alternate_and_replicas_are_in_distinct_racks() -> None:
    racks = {1: "a", 2: "a", 3: "b", 4: "b", 5: "c", 6: "c"}
    brokers = [broker(b, rack=rack) for b, rack in racks.items()]
    placed = place_replicas(brokers, range(6), 3, start=0, shift=0)
    assert [a.replicas[0] for a in placed.values()] == [1, 3, 5, 2, 4, 6]
    for assignment in placed.values():
        assert {racks[r] for r in assignment.replicas} == {"a", "b", "c"}


def test_brokers_with_and_without_rack_do_not_mix() -> None:
    with pytest.raises(InvalidReplicaAssignmentError, match="brokers 2 have no rack"):
        place_replicas([broker(1, rack="a"), broker(2)], range(1), 1, 0, 0)


def test_where_a_broker_stands_in_the_ring() -> None:
    brokers = [broker(1, rack="a"), broker(2, rack="a"), broker(3, rack="b")]
    assert [ring_index(brokers, b) for b in (1, 3, 2, 9)] == [0, 1, 2, 0]


@given(
    racks=st.lists(st.sampled_from("abc"), min_size=1, max_size=9),
    racked=st.booleans(),
    count=st.integers(1, 30),
    start=st.integers(0, 50),
    shift=st.integers(0, 50),
    data=st.data(),
)
def test_every_placement_is_fair(
    racks: list[str], racked: bool, count: int, start: int, shift: int, data: st.DataObject
) -> None:
    """Distinct replicas; racks as even as they can be; first replicas as even as can be."""
    brokers = [broker(n + 1, rack=rack if racked else None) for n, rack in enumerate(racks)]
    factor = data.draw(st.integers(1, len(brokers)))
    placed = place_replicas(brokers, range(count), factor, start, shift)
    rack_of = {b.broker_id: b.rack for b in brokers}
    available = Counter(rack_of.values())
    for assignment in placed.values():
        replicas = assignment.replicas
        assert len(replicas) == len(set(replicas)) == factor
        used = Counter(rack_of[r] for r in replicas)
        most = max(used.values())
        assert all(used[rack] >= min(most - 1, available[rack]) for rack in available)
    leaders = Counter(assignment.replicas[0] for assignment in placed.values())
    assert max(leaders.values()) - min(leaders[b.broker_id] for b in brokers) <= 1


@pytest.mark.parametrize(
    ("name", "legal"),
    [("a.b_c-1", True), ("x" * 249, True), ("x" * 250, False), ("", False), ("..", False),
     ("a b", False), ("é", False)],
)  # fmt: skip
def test_a_name_is_legal_whatever_others_there_are(name: str, legal: bool) -> None:
    assert is_legal_name(name) is legal
