"""Several clusters on one machine that do not know of one another."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.processes import ProcessCluster

pytestmark = pytest.mark.slow


def test_clusters_that_are_started_at_the_same_moment_do_not_share_a_port(tmp_path: Path) -> None:
    clusters = [ProcessCluster(tmp_path / name) for name in ("x", "y", "z")]
    for cluster in clusters:
        cluster.path.mkdir()
    try:
        with ThreadPoolExecutor(len(clusters)) as pool:
            list(pool.map(lambda cluster: cluster.up(1, "embedded"), clusters))
        taken = []
        for cluster in clusters:
            document = json.loads((cluster.path / "cluster.json").read_text())
            [broker] = document["brokers"]
            taken += [document["zookeeper"]["hosts"], broker["grpc"], broker["kafka"]]
            taken.append(broker["metrics"])
            # What the broker registered is where cluster.json says that it is.
            status = json.loads(cluster.minikafka("status", "--format", "json").stdout)
            [registered] = status["brokers"]
            assert (registered["grpc"], registered["kafka"]) == (broker["grpc"], broker["kafka"])
        assert len(set(taken)) == len(taken) == 12
        before = clusters[-1].document()["brokers"]
        clusters[-1].kill("A")
        clusters[-1].restart("A")
        [after] = clusters[-1].document()["brokers"]  # type: ignore[misc]
        process = {"pid": None, "started": None}
        assert [after | process] == [each | process for each in before]  # type: ignore[attr-defined]
    finally:
        for cluster in clusters:
            cluster.down()
