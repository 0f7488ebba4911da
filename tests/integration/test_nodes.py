"""The status of brokers as people see it, while real brokers die and come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    cluster = ProcessCluster(tmp_path)
    try:
        yield cluster
    finally:
        cluster.down()


def nodes(cluster: ProcessCluster) -> dict[str, dict[str, Any]]:
    listed = json.loads(cluster.minikafka("nodes", "--format", "json").stdout)
    return {node["name"]: node for node in listed}


async def test_a_node_that_goes_away_is_named_with_when_even_if_it_was_the_controller(
    cluster: ProcessCluster,
) -> None:
    cluster.up(3, "embedded", "node.status.interval.ms=200")
    await until(lambda: [node["live"] for node in nodes(cluster).values()] == [True] * 3, 60)
    before = nodes(cluster)
    assert before["A"]["rss_bytes"] > 10_000_000
    status = json.loads(cluster.minikafka("status", "--format", "json").stdout)
    controller = chr(ord("A") + status["controller"] - 1)
    cluster.kill(controller)
    await until(lambda: not nodes(cluster)[controller]["live"], 60)

    def noted() -> bool:
        gone = nodes(cluster)[controller]
        return bool(
            gone["gone_at_ms"] == gone["updated_at_ms"] == nodes(cluster)[controller]["gone_at_ms"]
        )

    await until(noted, 60)
    gone = nodes(cluster)[controller]
    assert gone["gone_at_ms"] > before[controller]["updated_at_ms"]
    assert gone["started_at_ms"] == before[controller]["started_at_ms"]
    cluster.restart(controller)
    await until(lambda: nodes(cluster)[controller]["live"], 60)
    assert nodes(cluster)[controller]["started_at_ms"] > gone["gone_at_ms"]
