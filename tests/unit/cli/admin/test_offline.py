"""cli/admin/offline.py: which replicas are offline, and why."""

from __future__ import annotations

from minikafka.api.nodes import NodeReport, NodeStatus
from minikafka.cli.admin import offline
from minikafka.errors import NetworkError
from minikafka.model import Assignment, PartitionMetadata, PartitionState, TopicPartition
from minikafka.watching.board import Board


class FakeAdmin:
    def __init__(self, *reports: NodeReport) -> None:
        self.reports = reports

    async def list_nodes(self):
        if not self.reports:
            raise NetworkError("nobody answers")
        return self.reports


def report(broker_id: int, *reasons: str, more: int = 0, live: bool = True) -> NodeReport:
    status = NodeStatus(
        broker_id, "X", 0, partitions_offline=len(reasons) + more, offline=tuple(reasons)
    )
    return NodeReport(status, live, 0, 0)


async def test_only_live_brokers_with_failed_replicas_are_named_with_how_many_more_there_are():
    admin = FakeAdmin(report(1), report(2, "t-1: no", more=3), report(3, "t-2: no", live=False))
    assert await offline.read_offline(admin) == {
        2: ("t-1: no", "and 3 more: its log says why"),
    }


async def test_that_it_cannot_be_read_is_told_and_no_more(capsys):
    assert await offline.read_offline(FakeAdmin()) == {}
    assert "could not be read: nobody answers" in capsys.readouterr().err


def test_of_a_topic_only_what_names_its_partitions_is_shown(capsys):
    tp = TopicPartition("t", 1)
    board = Board({1: "A"})
    board.partitions[tp] = PartitionMetadata(
        tp, "id", PartitionState(1, 0, (1,), 0, 0), Assignment((1,))
    )
    reasons = {
        1: ["the log of t-1 in /data/t-1 failed\x1b[2J", "t-10: no", "other.t-1: no"],
        2: ["t-11: no"],
    }
    found = offline.of_board(reasons, board)
    assert found == {1: reasons[1][:1]}
    offline.show_offline(board, found)
    out = capsys.readouterr().out
    assert out.startswith("\noffline on A:\n  the log of t-1 in /data/t-1 failed")
    assert "\x1b" not in out
