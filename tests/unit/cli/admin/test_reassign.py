"""`minikafka reassign`: what may be typed, and how progress is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from minikafka.cli.admin.reassign import (
    Move,
    Progress,
    describe,
    move_document,
    read_partition,
    read_plan,
    read_replicas,
    spread,
)
from minikafka.cli.admin.reassign_throttle import read_rate
from minikafka.cli.main import cli
from minikafka.errors import UsageError
from minikafka.model import Assignment, TopicPartition

IDS = {"A": 1, "B": 2, "C": 3}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("reassign", "give one of --replicas"),
        ("reassign t", "give one of --replicas"),
        ("reassign t --replicas 1 --cancel", "give one of --replicas"),
        ("reassign --cancel", "of which partitions?"),
        ("reassign t: --replicas 1", "such as orders:0"),
        ("reassign bad/name --replicas 1", "cannot be the name of a topic"),
        ("reassign --list --wait", "leave --list out"),
        ("reassign --file nothing.json", "does not exist"),
        ("reassign --unthrottle --wait", "leave --unthrottle out"),
        ("reassign t --cancel --throttle 5MB", "--throttle is for replicas that move"),
        ("reassign t --replicas 1 --throttle fast", "such as 5000000, 500kB or 5MB"),
        ("reassign t --replicas 1 --throttle 0", "such as 5000000, 500kB or 5MB"),
    ],
)
def test_wrong_usage_says_what_would_be_right(command: str, said: str) -> None:
    done = CliRunner().invoke(cli, command.split())
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [("5000000", 5_000_000), ("500kB", 500_000), ("5 MB/s", 5_000_000), ("1GB", 10**9)],
)
def test_a_throttle_is_in_bytes_a_second(text: str, bytes_per_s: int) -> None:
    assert read_rate(text) == bytes_per_s


def test_a_partition_is_named_with_its_topic_or_all_of_them_by_it() -> None:
    assert read_partition("orders") == ("orders", None)
    assert read_partition("orders:12") == ("orders", 12)


def test_brokers_are_named_by_id_or_name() -> None:
    assert read_replicas("3, A", IDS) == [[3, 1]]
    assert read_replicas("1,2/B,C", IDS) == [[1, 2], [2, 3]]
    with pytest.raises(UsageError, match=r"no broker 'X'; there are A \(1\), B \(2\), C \(3\)"):
        read_replicas("X", IDS)


def test_one_list_for_all_partitions_gives_each_broker_as_many_to_lead() -> None:
    assert spread(range(3), [[1, 2]]) == {0: [1, 2], 1: [2, 1], 2: [1, 2]}
    assert spread([4, 5], [[1], [2]]) == {4: [1], 5: [2]}
    with pytest.raises(UsageError, match="2 lists for 3 partitions"):
        spread(range(3), [[1], [2]])


def test_a_plan_is_as_kafka_has_it(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(
        '{"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": [2, 3]}]}'
    )
    assert read_plan(plan) == {("t", 0): [2, 3]}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"partitions": [{"topic": "t"}]}', '{"partitions": []}']
)
def test_a_plan_that_is_none_is_wrong_usage(tmp_path: Path, text: str) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(text)
    with pytest.raises(UsageError, match=r"plan\.json"):
        read_plan(plan)


def test_progress_is_told_of_each_replica_that_is_being_added() -> None:
    assignment = Assignment((3, 4, 5, 1), adding=(3, 4, 5), removing=(1, 5))
    move = Move(
        TopicPartition("t", 0),
        assignment,
        (
            Progress(3, True, 100, 0, 0),
            Progress(4, False, 40, 60, 1500),
            Progress(5, False, -1, -1, -1),
        ),
    )
    assert describe(move, {4: "delta"}) == (
        "t-0 to C,delta: C in sync, delta 60 records (1.5 kB) to go, E is to leave again"
    )
    document = move_document(move)
    assert (document["origin"], document["target"]) == ([1], [3, 4])
    assert document["progress"][1] == {
        "broker": 4,
        "in_sync": False,
        "log_end_offset": 40,
        "lag": 60,
        "lag_bytes": 1500,
    }


def test_without_new_replicas_those_that_stay_are_waited_for() -> None:
    move = Move(TopicPartition("t", 0), Assignment((1, 2), removing=(2,)), ())
    assert describe(move, {}) == "t-0 to A: waits for the replicas that stay to be in sync"
