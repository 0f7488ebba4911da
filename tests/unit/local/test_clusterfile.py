"""cluster.json: the documented form, whole files only, changes that lose nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minikafka.errors import UsageError
from minikafka.local import clusterfile
from minikafka.local.clusterfile import BrokerEntry, ClusterFile, ZooKeeperEntry

CLUSTER = ClusterFile(
    ZooKeeperEntry("embedded", "127.0.0.1:2181", (41,), ("7@b",)),
    (
        BrokerEntry(1, "A", 42, "127.0.0.1:19092", started="8@b"),
        BrokerEntry(2, "B", None, "127.0.0.1:19093", "127.0.0.1:9093", "127.0.0.1:9405"),
    ),
)


def test_a_saved_cluster_is_loaded_as_it_was(tmp_path: Path) -> None:
    clusterfile.save(tmp_path, CLUSTER)
    assert clusterfile.load(tmp_path) == CLUSTER


def test_the_file_has_the_documented_form(tmp_path: Path) -> None:
    clusterfile.save(tmp_path, CLUSTER)
    assert json.loads((tmp_path / "cluster.json").read_text()) == {
        "zookeeper": {
            "mode": "embedded",
            "hosts": "127.0.0.1:2181",
            "pids": [41],
            "started": ["7@b"],
        },
        "brokers": [
            {
                "id": 1,
                "name": "A",
                "pid": 42,
                "grpc": "127.0.0.1:19092",
                "kafka": None,
                "metrics": None,
                "started": "8@b",
            },
            {
                "id": 2,
                "name": "B",
                "pid": None,
                "grpc": "127.0.0.1:19093",
                "kafka": "127.0.0.1:9093",
                "metrics": "127.0.0.1:9405",
                "started": None,
            },
        ],
    }


def test_the_form_of_the_specification_is_read(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(
        '{"zookeeper": {"mode": "embedded", "hosts": "127.0.0.1:2181"}, "brokers": '
        '[{"id": 1, "name": "A", "pid": 4242, "grpc": "127.0.0.1:19092", "kafka": null}]}'
    )
    assert clusterfile.load(tmp_path) == ClusterFile(
        ZooKeeperEntry("embedded", "127.0.0.1:2181"),
        (BrokerEntry(1, "A", 4242, "127.0.0.1:19092"),),
    )


def test_a_directory_without_a_cluster_has_none(tmp_path: Path) -> None:
    assert clusterfile.load(tmp_path) is None
    assert clusterfile.load(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"zookeeper": {"mode": "x", "hosts": "y"}, "brokers": [{}]}']
)
def test_a_damaged_file_is_told_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(UsageError, match=r"cluster\.json is damaged"):
        clusterfile.load(tmp_path)


def test_saving_leaves_no_other_file_behind(tmp_path: Path) -> None:
    clusterfile.save(tmp_path, CLUSTER)
    clusterfile.save(tmp_path, CLUSTER)
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.json"]


def test_changes_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    brokers = tuple(BrokerEntry(each, str(each), None, "h:1") for each in range(1, 21))
    clusterfile.save(tmp_path, ClusterFile(CLUSTER.zookeeper, brokers))
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda each: clusterfile.change_broker(tmp_path, each.id, 1000 + each.id), brokers
            )
        )
    loaded = clusterfile.load(tmp_path)
    assert loaded is not None
    assert [each.pid for each in loaded.brokers] == [1000 + each.id for each in brokers]


@pytest.mark.parametrize("text", ["2", "B", "b"])
def test_a_broker_is_found_by_number_or_name(text: str) -> None:
    assert CLUSTER.broker(text) == CLUSTER.brokers[1]


@pytest.mark.parametrize("text", ["3", "C", "", "AB"])
def test_a_broker_that_is_not_there_is_answered_with_those_that_are(text: str) -> None:
    with pytest.raises(UsageError, match=r"there are A \(1\), B \(2\)"):
        CLUSTER.broker(text)
