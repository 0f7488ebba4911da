"""dashboard/reasons.py: why a state changed, and "unknown" where nothing says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minikafka.dashboard.history import BrokerView, PartitionView
from minikafka.dashboard.reasons import RECENT_MS, Lag, Reason, Witness, why
from tests.helpers.dashboard import broker_view, partition_view

NOW_MS = 1_000_000


def witness(
    *brokers: BrokerView, came: dict[int, int] | None = None, lag: Lag | None = None
) -> Witness:
    """Brokers 1 to 3 are well but for those given. `lag`: of every follower."""
    known = {each: broker_view(each) for each in (1, 2, 3)}
    known |= {each.broker_id: each for each in brokers}
    return Witness(NOW_MS, known, came or {}, lambda key, broker_id: lag)


DEAD_3 = broker_view(3, registered=False, process="ended")
GONE_3 = broker_view(3, registered=False, process="")
PAUSED_3 = broker_view(3, registered=True, process="paused")
DEAD_1 = broker_view(1, registered=True, process="ended")

FULL: dict[str, Any] = {"leader": 1, "epoch": 0, "isr": (1, 2, 3)}
WITHOUT_3: dict[str, Any] = {"leader": 1, "epoch": 1, "isr": (1, 2)}
WITHOUT_1: dict[str, Any] = {"leader": 2, "epoch": 1, "isr": (2, 3)}

CASES = {
    "a follower's process ended": (FULL, WITHOUT_3, witness(DEAD_3), "C died"),
    "a follower's registration is gone": (FULL, WITHOUT_3, witness(GONE_3), "C died"),
    "a follower is paused": (FULL, WITHOUT_3, witness(PAUSED_3), "C is paused"),
    "a follower fell behind": (
        FULL,
        WITHOUT_3,
        witness(lag=Lag(1234, 30_500)),
        "C fell behind (1234 records, 30.5 s)",
    ),
    "a follower that keeps up is removed": (
        FULL,
        WITHOUT_3,
        witness(lag=Lag(3, 20)),
        "unknown: C is alive",
    ),
    "nothing is known of its lag": (FULL, WITHOUT_3, witness(), "unknown: C is alive"),
    "a follower was started anew": (
        {**FULL, "admitted": ((1, 1), (3, 0))},
        WITHOUT_3,
        witness(came={3: NOW_MS - 10}),
        "C restarted",
    ),
    "a follower that came back a moment ago goes again": (
        {**FULL, "admitted": ((1, 1), (3, 1))},
        WITHOUT_3,
        witness(came={3: NOW_MS - 10}),
        "unknown: C is alive",
    ),
    "the leader's process ended": (FULL, WITHOUT_1, witness(DEAD_1), "A died"),
    "a live leader hands over": (
        FULL,
        WITHOUT_1,
        witness(lag=Lag(99, 9_999)),
        "unknown: A is alive",
    ),
    "the last in-sync replica died": (
        {"leader": 1, "epoch": 3, "isr": (1,)},
        {"leader": -1, "epoch": 4, "isr": (1,)},
        witness(DEAD_1),
        "A died; no in-sync replica is alive",
    ),
    "the last in-sync replica came back": (
        {"leader": -1, "epoch": 4, "isr": (1,)},
        {"leader": 1, "epoch": 5, "isr": (1,)},
        witness(),
        "A came back",
    ),
    "a replica that was not in sync leads": (
        {"leader": -1, "epoch": 4, "isr": (1,)},
        {"leader": 2, "epoch": 5, "isr": (2,)},
        witness(DEAD_1),
        "A died; unclean election: the new leader was not in sync",
    ),
    "the preferred replica leads again": (
        {"leader": 2, "epoch": 4, "isr": (1, 2, 3)},
        {"leader": 1, "epoch": 5, "isr": (1, 2, 3)},
        witness(),
        "preferred replica elected",
    ),
    "another than the preferred replica leads": (
        FULL,
        {"leader": 2, "epoch": 1, "isr": (1, 2, 3)},
        witness(),
        "unknown: the leader before is alive and in sync",
    ),
    "a leader that is paused loses its place and not its membership": (
        FULL,
        {"leader": 2, "epoch": 1, "isr": (1, 2, 3)},
        witness(replace(DEAD_1, process="paused")),
        "A is paused",
    ),
    "a follower caught up": (WITHOUT_3, {**FULL, "epoch": 1}, witness(), "C caught up"),
    "a follower that came back caught up": (
        WITHOUT_3,
        {**FULL, "epoch": 1},
        witness(came={3: NOW_MS - RECENT_MS}),
        "C came back and caught up",
    ),
    "some came back and some did not": (
        {"leader": 1, "epoch": 1, "isr": (1,)},
        {"leader": 1, "epoch": 1, "isr": (1, 2, 3)},
        witness(came={2: NOW_MS}),
        "B came back and caught up; C caught up",
    ),
    "two caught up at once": (
        {"leader": 1, "epoch": 1, "isr": (1,)},
        {"leader": 1, "epoch": 1, "isr": (1, 2, 3)},
        witness(came={3: NOW_MS - RECENT_MS - 1}),
        "B and C caught up",
    ),
    "the epoch moves and nothing else": (FULL, {**FULL, "epoch": 1}, witness(), "unknown"),
    "the replicas are others": (
        FULL,
        {**FULL, "replicas": (1, 2, 3, 4)},
        witness(),
        "reassignment",
    ),
    "a replica is taken off": (
        FULL,
        {"leader": 1, "epoch": 1, "isr": (1, 2), "replicas": (1, 2)},
        witness(),
        "C is no longer a replica; reassignment",
    ),
    "two died": (
        FULL,
        {"leader": 2, "epoch": 1, "isr": (2,)},
        witness(DEAD_1, DEAD_3),
        "A died; C died",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_change_has_the_reason_that_was_seen(name: str) -> None:
    before, after, seen, expected = CASES[name]
    assert why(partition_view(**before), partition_view(**after), seen).text == expected


def test_a_broker_that_leaves_though_it_seems_well_is_named() -> None:
    found = why(partition_view(**FULL), partition_view(**WITHOUT_3), witness())
    assert found == Reason("unknown: C is alive", frozenset({3}))
    found = why(partition_view(**FULL), partition_view(**WITHOUT_3), witness(DEAD_3))
    assert found.left_alive == frozenset()


@pytest.mark.parametrize("before", [None, partition_view(topic_id="another")])
def test_a_new_partition_was_created(before: PartitionView | None) -> None:
    assert why(before, partition_view(), witness()) == Reason("created")


def test_of_a_broker_that_nobody_has_told_of_nothing_is_claimed() -> None:
    seen = Witness(NOW_MS, {}, {}, lambda key, broker_id: None)
    assert why(partition_view(**FULL), partition_view(**WITHOUT_3), seen).text == "unknown"
    assert why(partition_view(**FULL), partition_view(leader=-1, epoch=1), seen).text == (
        "no in-sync replica is alive"
    )
