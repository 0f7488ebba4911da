"""What the commands print of a cluster, a log and ZooKeeper: rows, lines and JSON documents."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from minikafka.api.nodes import ControllerReport, NodeReport
from minikafka.api.requests import (
    ClusterMetadata,
    DeleteRecordsResult,
    PartitionStatus,
    TopicMetadata,
)
from minikafka.cli.admin.partitions import board_of
from minikafka.cli.admin.status import Standing, assess
from minikafka.cli.kit.output import human_bytes, plain_table
from minikafka.cli.looking.zk import node_document, tree_lines
from minikafka.cli.main import cli
from minikafka.config import parse_broker_config, parse_properties, topic_config
from minikafka.config.overrides import BrokerLayers, ConfigDescription, describe_topic
from minikafka.errors import (
    BrokerNotAvailableError,
    LeaderNotAvailableError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from minikafka.local.layout import format_properties, tail
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.zookeeper.node import Node, NodeStat


class FakeAdmin:
    """Stands in for AsyncAdmin: brokers A, B, C live, orders-0 well, orders-1 as it is told."""

    def __init__(self, second: PartitionState, live: Sequence[int] = (1, 2, 3)) -> None:
        states = [PartitionState(1, 3, (1, 2, 3), 7, 4), second]
        self.partitions = [
            PartitionMetadata(
                TopicPartition("orders", number), "id-1", Assignment((1, 2, 3)), state
            )
            for number, state in enumerate(states)
        ]
        self.brokers = [
            BrokerInfo(each, "", "h", each, broker_epoch=10 + each, rack=None) for each in live
        ]
        for index, broker in enumerate(self.brokers):
            named = chr(64 + broker.broker_id)
            self.brokers[index] = BrokerInfo(
                broker.broker_id, named, "h", broker.broker_id, broker_epoch=broker.broker_epoch
            )
        self.controller: ControllerReport | None = ControllerReport(2, 5, (3, 1))
        self.silent: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.altered: list[tuple[object, ...]] = []

    async def metadata(self, topics: Sequence[str] | None = None) -> ClusterMetadata:
        known = {"orders": TopicMetadata("orders", "id-1", None, self.partitions)}
        missing = UnknownTopicOrPartitionError("unknown")
        wanted = ["orders"] if topics is None else topics
        found = [known.get(name) or TopicMetadata(name, "", missing) for name in wanted]
        return ClusterMetadata("c", 2, 5, self.brokers, found)

    async def list_nodes(self) -> list[NodeReport]:
        return []

    async def describe_partitions(self, asked: Sequence[TopicPartition]) -> list[PartitionStatus]:
        return [
            PartitionStatus(each, None, 10, 42, 41)
            if each.partition == 0
            else PartitionStatus(each, LeaderNotAvailableError("no leader"))
            for each in asked
        ]

    async def delete_records(
        self, before_offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, DeleteRecordsResult]:
        return {
            each: DeleteRecordsResult(each, None, 41 if before == -1 else before)
            if before <= 41
            else DeleteRecordsResult(each, OffsetOutOfRangeError("41 is the high watermark"))
            for each, before in before_offsets.items()
        }

    async def describe_configs(self, topic: str) -> list[ConfigDescription]:
        static = {"broker.id": "1", "zookeeper.connect": "h:1", "log.dirs": "d"}
        layers = BrokerLayers(
            parse_broker_config(static | {"log.segment.bytes": "1000000"}),
            of_all={"message.max.bytes": "1000", "log.retention.ms": "8000"},
            own={"message.max.bytes": "2000"},
        )
        overrides = {"min.insync.replicas": "2"}
        config = topic_config(overrides, layers.effective().topic_defaults())
        return describe_topic(layers, overrides, config)

    async def describe_controller(self, address: str | None = None) -> ControllerReport:
        if self.controller is None:
            raise BrokerNotAvailableError("ZooKeeper cannot be read now")
        return self.controller

    async def create_topic(self, name: str, **options: Any) -> None:
        if name == "taken":
            raise TopicAlreadyExistsError("topic taken already exists")
        self.created.append({"name": name} | options)

    async def create_partitions(self, topic: str, count: int) -> None:
        self.altered.append((topic, count))

    async def alter_topic_config(self, topic: str, changes: dict[str, str | None]) -> None:
        self.altered.append((topic, changes))

    async def delete_topic(self, name: str) -> None:
        self.altered.append(("delete", name))


WELL = PartitionState(2, 0, (1, 2, 3), 7, 0)
SHRUNK = PartitionState(2, 1, (2, 3), 7, 1)
LEADERLESS = PartitionState(-1, 2, (1,), 7, 2)


def run(monkeypatch: pytest.MonkeyPatch, admin: FakeAdmin, *arguments: str) -> Result:
    @contextlib.asynccontextmanager
    async def open_admin(*_: object) -> AsyncIterator[FakeAdmin]:
        yield admin

    async def answers(address: str, _: float) -> bool:
        return address not in admin.silent

    monkeypatch.setattr("minikafka.cli.kit.connection.open_admin", open_admin)
    monkeypatch.setattr("minikafka.cli.kit.connection.answers", answers)
    return CliRunner().invoke(cli, [*arguments, "--bootstrap", "h:1"])


# --- topics --------------------------------------------------------------------------------------


def test_a_description_shows_each_partition_with_brokers_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = run(monkeypatch, FakeAdmin(LEADERLESS), "topics", "describe", "orders")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "TOPIC   PARTITION  LEADER  EPOCH  VERSION  REPLICAS  ISR      LOG END OFFSET  "
        "HIGH WATERMARK",
        "orders          0  A           3        4  {A,B,C}   {A,B,C}  42              41",
        "orders          1  none        2        2  {A,B,C}   {A}      -               -",
    ]


def test_a_description_in_json_has_the_documented_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, FakeAdmin(LEADERLESS), "topics", "describe", "--format", "json")
    assert json.loads(done.stdout) == [
        {
            "topic": "orders",
            "partition": 0,
            "leader": 1,
            "leader_epoch": 3,
            "partition_version": 4,
            "replicas": [1, 2, 3],
            "isr": [1, 2, 3],
            "log_start_offset": 10,
            "log_end_offset": 42,
            "high_watermark": 41,
            "topic_id": "id-1",
        },
        {
            "topic": "orders",
            "partition": 1,
            "leader": -1,
            "leader_epoch": 2,
            "partition_version": 2,
            "replicas": [1, 2, 3],
            "isr": [1],
            "log_start_offset": -1,
            "log_end_offset": -1,
            "high_watermark": -1,
            "topic_id": "id-1",
        },
    ]


def test_a_description_can_include_the_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, FakeAdmin(WELL), "topics", "describe", "--configs")
    _, title, table = done.stdout.partition("topic orders\n")
    assert title
    assert ["min.insync.replicas", "2", "topic"] in [line.split() for line in table.splitlines()]
    arguments = ["topics", "describe", "--configs", "--format", "json"]
    document = json.loads(run(monkeypatch, FakeAdmin(WELL), *arguments).stdout)
    assert document[0]["configs"]["min.insync.replicas"] == "2"


def test_both_commands_tell_the_same_of_where_a_property_comes_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where it is the broker's, dynamic or static: no default."""
    of_topic = run(monkeypatch, FakeAdmin(WELL), "topics", "describe", "--configs").stdout
    of_configs = run(
        monkeypatch, FakeAdmin(WELL), "configs", "describe", "--topic", "orders", "--all"
    ).stdout
    assert of_topic.endswith(f"topic orders\n{of_configs}")
    found = {line.split()[0]: line.split()[-1] for line in of_configs.splitlines()}
    named = ("min.insync.replicas", "max.message.bytes", "retention.ms", "segment.bytes")
    assert [found[name] for name in (*named, "flush.before.ack")] == [
        "topic",
        "broker",
        "broker-default",
        "static",
        "default",
    ]


def test_topics_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, FakeAdmin(WELL), "topics", "list", "--format", "json")
    assert json.loads(done.stdout) == [
        {"topic": "orders", "topic_id": "id-1", "partitions": 2, "replication_factor": 3}
    ]
    done = run(monkeypatch, FakeAdmin(WELL), "topics", "list")
    assert done.stdout.splitlines()[1] == "orders           2                   3  id-1"


@pytest.mark.parametrize("command", ["describe", "alter --partitions 9", "delete"])
def test_a_topic_that_is_not_there_is_told_with_the_one_that_was_meant(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = FakeAdmin(WELL)
    done = run(monkeypatch, admin, "topics", *command.split(), "ordres")
    assert done.exit_code == 1
    assert done.stderr == "Error: there is no topic 'ordres'; did you mean orders?\n"
    assert admin.altered == []


def test_a_topic_is_created_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = FakeAdmin(WELL)
    options = [
        "--partitions",
        "3",
        "--replication-factor",
        "2",
        "--config",
        "min.insync.replicas=2",
    ]
    done = run(monkeypatch, admin, "topics", "create", "new", *options)
    assert (done.exit_code, done.stdout) == (0, "topic new created\n")
    run(monkeypatch, admin, "topics", "create", "other", "--replicas", "2,1")
    assert admin.created == [
        {
            "name": "new",
            "num_partitions": 3,
            "replication_factor": 2,
            "configs": {"min.insync.replicas": "2"},
            "assignments": {},
        },
        {
            "name": "other",
            "num_partitions": -1,
            "replication_factor": -1,
            "configs": {},
            "assignments": {0: [2, 1]},
        },
    ]


def test_what_the_cluster_refuses_is_a_failed_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, FakeAdmin(WELL), "topics", "create", "taken")
    assert (done.exit_code, done.stderr) == (1, "Error: topic taken already exists\n")


def test_records_are_deleted_below_an_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["topics", "delete-records", "orders", "--partition", "0", "--before"]
    done = run(monkeypatch, FakeAdmin(WELL), *command, "20")
    assert (done.exit_code, done.stdout) == (0, "orders-0 begins at offset 20 now\n")
    done = run(monkeypatch, FakeAdmin(WELL), *command, "-1", "--format", "json")
    assert json.loads(done.stdout) == {"topic": "orders", "partition": 0, "log_start_offset": 41}
    done = run(monkeypatch, FakeAdmin(WELL), *command, "42")
    assert (done.exit_code, done.stderr) == (1, "Error: 41 is the high watermark\n")


def test_a_topic_is_altered_and_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = FakeAdmin(WELL)
    options = [
        "--partitions",
        "5",
        "--config",
        "retention.ms=1000",
        "--delete-config",
        "segment.ms",
    ]
    done = run(monkeypatch, admin, "topics", "alter", "orders", *options)
    assert (done.exit_code, done.stdout) == (0, "topic orders altered\n")
    done = run(monkeypatch, admin, "topics", "delete", "orders")
    assert (done.exit_code, done.stdout) == (0, "topic orders deleted\n")
    assert admin.altered == [
        ("orders", 5),
        ("orders", {"retention.ms": "1000", "segment.ms": None}),
        ("delete", "orders"),
    ]


# --- status --------------------------------------------------------------------------------------


def test_a_healthy_cluster_is_told_in_one_line_and_by_the_exit_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = run(monkeypatch, FakeAdmin(WELL), "status")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == (
        "healthy: 3 brokers, controller B (epoch 5), 1 topic, 0 leaderless, 0 under-replicated"
    )


@pytest.mark.parametrize(
    ("second", "live", "line"),
    [
        (
            SHRUNK,
            (1, 2, 3),
            "unhealthy: 3 brokers, controller B (epoch 5), 1 topic, 0 leaderless, "
            "1 under-replicated",
        ),
        (
            LEADERLESS,
            (1, 2, 3),
            "unhealthy: 3 brokers, controller B (epoch 5), 1 topic, 1 leaderless, "
            "1 under-replicated",
        ),
        (
            WELL,
            (1, 2),
            "unhealthy: 2 brokers, controller B (epoch 5), 1 topic, 0 leaderless, "
            "0 under-replicated, missing: C",
        ),
        (
            WELL,
            (1, 3),
            "unhealthy: 2 brokers, controller B (epoch 5) does not answer, next in line: C, A, "
            "1 topic, 0 leaderless, 0 under-replicated, missing: B",
        ),
    ],
)
def test_what_is_not_well_is_told_in_one_line_and_by_the_exit_status(
    second: PartitionState,
    live: Sequence[int],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = run(monkeypatch, FakeAdmin(second, live), "status")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == line


@pytest.mark.parametrize(
    ("report", "silent", "words"),
    [
        # What the broker that is asked was told is older: B, with epoch 5.
        (ControllerReport(3, 6, (1,)), [], "healthy: 3 brokers, controller C (epoch 6)"),
        (
            ControllerReport(-1, 5, (3, 1)),
            [],
            "unhealthy: 3 brokers, no controller since epoch 5, next in line: C, A",
        ),
        (
            ControllerReport(-1, 5, ()),
            [],
            "unhealthy: 3 brokers, no controller since epoch 5, next in line: nobody",
        ),
        (
            ControllerReport(2, 5, (3, 1)),
            ["h:2"],
            "unhealthy: 3 brokers, controller B (epoch 5) does not answer, next in line: C, A",
        ),
        # What ZooKeeper has is older, for once: a server of it that lags behind.
        (ControllerReport(1, 4, ()), [], "healthy: 3 brokers, controller B (epoch 5)"),
        (None, [], "healthy: 3 brokers, controller B (epoch 5), as last heard"),
    ],
)
def test_controllership_that_moves_is_told_as_it_is_now(
    report: ControllerReport | None, silent: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = FakeAdmin(WELL)
    admin.controller, admin.silent = report, silent
    done = run(monkeypatch, admin, "status")
    assert done.stdout.splitlines()[0] == f"{words}, 1 topic, 0 leaderless, 0 under-replicated"
    assert done.exit_code == (0 if words.startswith("healthy") else 1)
    told = "could not be read: ZooKeeper cannot be read now" in done.stderr
    assert told == (report is None)


def test_a_cluster_that_never_had_a_controller_has_none_yet() -> None:
    metadata = ClusterMetadata("c", -1, 0, [BrokerInfo(1, "A", "h", 1, broker_epoch=1)], [])
    health = assess(board_of(metadata, {}), (), Standing((1,), False))
    assert health.line.startswith(
        "unhealthy: 1 broker, no controller yet, next in line: A, 0 topics"
    )


def test_the_status_in_json_has_the_documented_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, FakeAdmin(SHRUNK, (2, 3)), "status", "--format", "json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    partitions = document.pop("partitions")
    assert [each["isr"] for each in partitions] == [[1, 2, 3], [2, 3]]
    assert document == {
        "offline_replicas": [],
        "unreadable": [],
        "healthy": False,
        "controller": 2,
        "controller_epoch": 5,
        "controller_answers": True,
        "candidates": [3, 1],
        "brokers": [
            {
                "id": each,
                "name": name,
                "grpc": f"h:{each}",
                "kafka": None,
                "rack": None,
                "broker_epoch": 10 + each,
            }
            for each, name in ((2, "B"), (3, "C"))
        ],
        "missing_brokers": [1],
        "topics": 1,
        "leaderless_partitions": 0,
        "under_replicated_partitions": 1,
    }


def test_a_broker_of_this_machines_cluster_is_missed_though_it_has_no_replicas() -> None:
    metadata = ClusterMetadata("c", 1, 1, [BrokerInfo(1, "A", "h", 1, broker_epoch=1)], [])
    assert assess(board_of(metadata, {}), {}).healthy
    health = assess(board_of(metadata, {1: "A", 2: "B"}), {1: "A", 2: "B"})
    assert (health.healthy, health.missing) == (False, (2,))


def test_a_cluster_without_controller_is_not_healthy() -> None:
    metadata = ClusterMetadata("c", -1, -1, [BrokerInfo(1, "A", "h", 1, broker_epoch=1)], [])
    health = assess(board_of(metadata, {}))
    assert health.line == (
        "unhealthy: 1 broker, no controller, 0 topics, 0 leaderless, 0 under-replicated"
    )


# --- ZooKeeper -----------------------------------------------------------------------------------


def node(path: str, data: bytes = b"", owner: int = 0, children: tuple[Node, ...] = ()) -> Node:
    stat = NodeStat(3, 1, 2, 3, 4, 5, 6, owner, len(data), len(children))
    return Node(path, data, stat, children)


def test_the_tree_is_drawn_with_data_versions_and_owners() -> None:
    leaf = node("/a/b", b'{"x":1}', owner=255)
    root = node("/", children=(node("/a", children=(leaf, node("/a/c"))), node("/d", b"\xff")))
    assert tree_lines(root) == [
        "/  (version 3)",
        "├── a  (version 3)",
        '│   ├── b  {"x":1}  (version 3)  ephemeral, session 0xff',
        "│   └── c  (version 3)",
        "└── d  b'\\xff'  (version 3)",
    ]


def test_the_document_of_a_node_has_its_data_as_json_where_they_are() -> None:
    document = node_document(node("/a", b'{"x":1}', children=(node("/a/b", b"no"),)), True)
    assert document["data"] == '{"x":1}'
    assert document["json"] == {"x": 1}
    [child] = document["children"]
    assert (child["path"], child["data"], child["json"]) == ("/a/b", "no", None)
    assert child["version"] == 3


# --- files ---------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_properties_are_read_back_as_they_were_written(pairs: dict[str, str]) -> None:
    assert parse_properties(format_properties(pairs)) == pairs


def test_the_tail_of_a_file_is_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(path, 3) == ""
    path.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert tail(path, 2) == "line 4998\nline 4999"


def test_a_plain_table_is_aligned_with_numbers_on_the_right() -> None:
    assert plain_table(("name", "count"), [["a", "1"], ["bcdef", "20"]]) == [
        "NAME   COUNT",
        "a          1",
        "bcdef     20",
    ]
    assert plain_table(("name", "count"), []) == ["NAME  COUNT"]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB")]
)
def test_bytes_are_told_in_units_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text
