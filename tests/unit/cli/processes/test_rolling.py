"""cli/processes/rolling.py: what stops a rolling restart, and what is said then."""

from __future__ import annotations

import pytest

from minikafka.cli.processes import rolling
from minikafka.local.clusterfile import BrokerEntry, ClusterFile, ZooKeeperEntry
from minikafka.model import TopicPartition
from minikafka.zookeeper.recipes.rolling import LockLostError, PartitionHealth

A, B, C = (BrokerEntry(number, name, None, "h:1") for number, name in enumerate("ABC", start=1))
CLUSTER = ClusterFile(ZooKeeperEntry("embedded", "h:2"), (A, B, C))


def health(partition: int, *missing: int, leader: bool = True) -> PartitionHealth:
    return PartitionHealth(TopicPartition("t", partition), (1, 2, 3), missing, leader)


class ZooKeeper:
    """What the command reads, as the test has it."""

    def __init__(self, *partitions: PartitionHealth, controller: int | None = 1) -> None:
        self._partitions, self._controller = partitions, controller

    def partitions(self) -> list[PartitionHealth]:
        return list(self._partitions)

    def controller(self) -> int | None:
        return self._controller

    def registered(self) -> set[int]:
        return {1, 2}


def test_the_controller_is_restarted_last():
    assert rolling._order(CLUSTER, ZooKeeper(controller=1)) == [B, C, A]
    assert rolling._order(CLUSTER, ZooKeeper(controller=None)) == [A, B, C]


def test_what_is_missing_is_named_and_what_is_more_is_counted():
    broken = [health(0, 3), health(1, leader=False), health(2, 2, 7), health(3, 1), health(4, 1)]
    assert rolling.describe(broken, CLUSTER.brokers) == (
        "t-0 lacks C (3) in sync; t-1 has no leader; t-2 lacks B (2), 7 in sync; "
        "and 2 more partitions"
    )


def test_nothing_is_restarted_while_a_replica_is_missing():
    rolling._require_whole(ZooKeeper(health(0)), CLUSTER.brokers)
    with pytest.raises(rolling.NotWhole, match=r"nothing is restarted .* t-1 lacks B"):
        rolling._require_whole(ZooKeeper(health(0), health(1, 2)), CLUSTER.brokers)


def test_after_a_restart_broker_controller_and_replicas_are_waited_for():
    assert rolling._missing(ZooKeeper(), C) == "broker C (3) is not registered"
    assert rolling._missing(ZooKeeper(controller=None), A) == "there is no controller"
    assert rolling._missing(ZooKeeper(health(0), health(1, 1)), A) == "t-1 lacks A (1) in sync"
    assert rolling._missing(ZooKeeper(health(0)), A) == ""


def test_waiting_ends_when_all_is_whole_when_it_takes_too_long_or_when_the_lock_is_lost():
    left = iter(["t-0 lacks A", ""])
    checks: list[int] = []
    rolling._wait_whole(lambda: next(left), 60, lambda: checks.append(1), "broker A")
    assert checks == [1]
    with pytest.raises(rolling.NotWhole, match=r"0 s after broker A served again, t-0 lacks A"):
        rolling._wait_whole(lambda: "t-0 lacks A", 0, lambda: None, "broker A")

    def lost() -> None:
        raise LockLostError("the session is lost")

    with pytest.raises(LockLostError):
        rolling._wait_whole(lambda: "t-0 lacks A", 60, lost, "broker A")
