"""cli/admin/nodes.py: how nodes are told of."""

from __future__ import annotations

from minikafka.api.nodes import NodeReport, NodeStatus
from minikafka.cli.admin import nodes

NOW_S = 1_700_000_000.0
NOW_MS = int(NOW_S * 1000)


def report(
    broker_id: int, name: str, *, gone_ms: int = 0, started_ms: int = NOW_MS - 90_000
) -> NodeReport:
    status = NodeStatus(broker_id, name, started_ms, 12.0, 60_000_000, 5_000, 7_000, 10, 20, 1, 3)
    return NodeReport(status, not gone_ms, NOW_MS - 4_000, gone_ms)


def test_a_row_tells_the_load_of_a_live_node_and_since_when_another_is_gone():
    live, gone = nodes.rows([report(1, "A"), report(2, "B", gone_ms=NOW_MS - 1_000)], NOW_S)
    assert dict(zip(nodes.COLUMNS, live, strict=True)) == {
        "node": "A",
        "id": "1",
        "state": "live",
        "cpu %": "12",
        "memory": "60.0 MB",
        "disk used": "5.0 kB",
        "disk free": "7.0 kB",
        "in/s": "10 B",
        "out/s": "20 B",
        "leads": "1",
        "holds": "3",
        "up": "90 s",
        "told": "4 s ago",
    }
    assert gone[:3] == ["B", "2", f"gone since {nodes._when(NOW_S - 1, NOW_S)}"]
    assert gone[-2:] == ["-", "-"]


def test_an_age_is_told_in_the_unit_that_fits():
    assert [nodes._span(each) for each in (-1, 99, 100, 7_200, 200_000)] == [
        "0 s",
        "99 s",
        "2 min",
        "2.0 h",
        "2.3 d",
    ]
    assert len(nodes._when(NOW_S - 100_000, NOW_S)) == len("2023-11-13 12:00:00")


def test_changes_are_who_came_went_or_is_another_process():
    before = {1: report(1, "A"), 2: report(2, "B"), 3: report(3, "C")}
    restarted = report(3, "C", started_ms=NOW_MS)
    now = [report(1, "A"), report(2, "B", gone_ms=5), restarted, report(4, "D")]
    assert nodes.changes(before, now) == now[1:]
    assert [nodes.describe_change(each, each.status.broker_id in before) for each in now[1:]] == [
        "node B (2) went away",
        "node C (3) is there again",
        "node D (4) is there",
    ]
    assert nodes.changes({}, [report(9, "I", gone_ms=5)]) == [], "it went before anybody looked"


def test_the_document_has_plain_names_and_null_for_a_node_that_is_there():
    document = nodes.document(report(1, "A"))
    assert document["id"] == 1
    assert document["gone_at_ms"] is None
    assert document["rss_bytes"] == 60_000_000
    assert "broker_id" not in document
