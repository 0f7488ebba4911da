"""`minikafka status` while controllership moves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import ProcessCluster

pytestmark = pytest.mark.slow

DEADLINE_S = 60


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    made = ProcessCluster(tmp_path)
    try:
        made.up(3, "embedded")
        yield made
    finally:
        made.down()


def status(cluster: ProcessCluster) -> dict[str, Any]:
    done = cluster.minikafka("status", "--format", "json", check=False)
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if document["healthy"] else 1)
    return document


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_controller_that_is_gone_is_never_told_as_one_that_is_well(
    cluster: ProcessCluster, signal: str
) -> None:
    before = status(cluster)
    assert before["healthy"]
    assert before["controller_answers"]
    gone, epoch = before["controller"], before["controller_epoch"]
    assert sorted([gone, *before["candidates"]]) == [1, 2, 3]
    cluster.kill(str(gone), signal)
    deadline = time.monotonic() + DEADLINE_S
    while (seen := status(cluster))["controller_epoch"] == epoch:
        assert not seen["healthy"]
        assert (seen["controller"], seen["controller_answers"]) in [(gone, False), (-1, False)]
        assert set(seen["candidates"]) <= set(before["candidates"])
        assert time.monotonic() < deadline
    assert seen["controller_epoch"] > epoch
