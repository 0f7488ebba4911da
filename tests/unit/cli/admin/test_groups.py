"""cli/admin/groups.py and group_documents.py: what is refused, and how groups are shown."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from minikafka.cli.admin.group_documents import _new_offsets, lag_rows, member_rows
from minikafka.cli.admin.groups import read_partitions
from minikafka.cli.main import cli
from minikafka.errors import UsageError
from minikafka.model import TopicPartition

TP = TopicPartition("t", 0)


def refusal(*arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments), prog_name="minikafka")
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--topic", "t"], "exactly one of --to-earliest"),
        (["--topic", "t", "--to-earliest", "--to-latest"], "exactly one of"),
        (["--to-earliest"], "either --topic"),
        (["--topic", "t", "--all-topics", "--to-earliest"], "either --topic"),
        (["--topic", "t", "--to-earliest", "--dry-run", "--execute"], "contradict each other"),
        (["--topic", "t", "--to-datetime", "yesterday"], "--to-datetime 'yesterday' is no time"),
        (["--topic", "t:x", "--to-earliest"], "partition numbers"),
    ],
)
def test_a_reset_that_is_not_clear_is_wrong_usage(options: list[str], words: str) -> None:
    assert words in refusal("groups", "reset-offsets", "g", *options)


@pytest.mark.parametrize(
    "options",
    [["--offset", "1"], ["--since", "1h"], ["--partition", "0"]],
    ids=lambda each: each[0],
)
def test_a_group_contradicts_what_says_where_to_begin(options: list[str]) -> None:
    assert f"{options[0]} contradicts --group" in refusal("consume", "t", "--group", "g", *options)


def test_a_group_has_a_name() -> None:
    assert "--group is blank" in refusal("consume", "t", "--group", " ")


def test_topics_and_partitions_are_read() -> None:
    assert read_partitions("orders") == ("orders", None)
    assert read_partitions("orders:2, 0,2") == ("orders", [0, 2])
    with pytest.raises(UsageError):
        read_partitions("or/ders")


MEMBER = {"member_id": "m", "instance_id": None, "client_id": "c", "host": "/h", "partitions": []}
PARTITION = {
    "topic": "t",
    "partition": 0,
    "current_offset": 5,
    "log_end_offset": 7,
    "lag": 2,
    "member_id": "m",
    "host": "/h",
    "client_id": "c",
    "metadata": "",
}


def test_a_group_has_a_row_for_each_partition_and_for_each_member_without_one() -> None:
    idle = {**MEMBER, "member_id": "idle"}
    busy = {**MEMBER, "partitions": [{"topic": "t", "partition": 0}]}
    document: dict[str, Any] = {"group": "g", "partitions": [PARTITION], "members": [busy, idle]}
    assert lag_rows(document) == [
        ["g", "t", 0, 5, 7, 2, "m", "/h", "c"],
        ["g", "-", "-", "-", "-", "-", "idle", "/h", "c"],
    ]
    assert member_rows(document) == [
        ["g", "m", "/h", "c", 1, "t-0"],
        ["g", "idle", "/h", "c", 0, "-"],
    ]


def test_what_is_not_known_is_a_dash() -> None:
    nothing = dict.fromkeys(PARTITION, None) | {"topic": "t", "partition": 0}
    document: dict[str, Any] = {"group": "g", "partitions": [nothing], "members": []}
    assert lag_rows(document) == [["g", "t", 0, "-", "-", "-", "-", "-", "-"]]


class Reader:
    """Of a partition whose offsets 3 to 10 are there."""

    async def beginning_offsets(self, partitions: object) -> dict[TopicPartition, int]:
        return {TP: 3}

    async def end_offsets(self, partitions: object) -> dict[TopicPartition, int]:
        return {TP: 10}

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> Any:
        return {TP: 6 if times[TP] < 100 else None}


@pytest.mark.parametrize(
    ("target", "current", "expected"),
    [
        (("--to-earliest", 1), {TP: 5}, {TP: (5, 3)}),
        (("--to-latest", 1), {}, {TP: (None, 10)}),
        (("--to-offset", 7), {TP: 5}, {TP: (5, 7)}),
        (("--to-offset", 99), {TP: 5}, {TP: (5, 10)}),
        (("--to-offset", 0), {TP: 5}, {TP: (5, 3)}),
        (("--to-datetime", 50), {TP: 5}, {TP: (5, 6)}),
        (("--to-datetime", 500), {TP: 5}, {TP: (5, 10)}),
        (("--shift-by", 2), {TP: 5}, {TP: (5, 7)}),
        (("--shift-by", -4), {TP: 5}, {TP: (5, 3)}),
        (("--shift-by", 2), {}, {}),
    ],
)
async def test_the_new_offset_is_the_nearest_one_that_is_there(
    target: tuple[str, int], current: dict[TopicPartition, int], expected: object
) -> None:
    assert await _new_offsets(Reader(), [TP], current, target) == expected  # type: ignore[arg-type]
