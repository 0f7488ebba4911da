"""Where everything lies in ZooKeeper."""

from __future__ import annotations

import pytest

from minikafka.config.overrides import DEFAULT_BROKER
from minikafka.zookeeper.paths import Layout, split_connect


def test_the_layout_is_kafkas():
    layout = Layout()
    assert layout.controller == "/controller"
    assert layout.controller_epoch == "/controller_epoch"
    assert layout.broker(3) == "/brokers/ids/3"
    assert layout.topic("words") == "/brokers/topics/words"
    assert layout.state("words", 0) == "/brokers/topics/words/partitions/0/state"
    assert layout.topic_config("words") == "/config/topics/words"
    assert layout.broker_config(DEFAULT_BROKER) == "/config/brokers/<default>"
    assert layout.config_change_prefix == "/config/changes/config_change_"
    assert layout.delete_topic("words") == "/admin/delete_topics/words"
    assert layout.preferred_election == "/admin/preferred_replica_election"
    assert layout.producer_id_block == "/latest_producer_id_block"
    assert layout.cluster_id == "/cluster/id"


@pytest.mark.parametrize(
    ("connect", "hosts", "root"),
    [
        ("a:1", "a:1", ""),
        ("a:1,b:2", "a:1,b:2", ""),
        ("a:1/", "a:1", ""),
        ("a:1/kafka", "a:1", "/kafka"),
        ("a:1,b:2/x/y/", "a:1,b:2", "/x/y"),
    ],
)
def test_a_connect_string_is_hosts_and_chroot(connect, hosts, root):
    assert split_connect(connect) == (hosts, Layout(root))


def test_every_persistent_node_comes_after_its_parents():
    made = {""}
    for path in Layout("/x/y").persistent():
        assert path.rpartition("/")[0] in made, path
        made.add(path)
    assert {"/x", "/x/y", "/x/y/brokers/ids", "/x/y/controller_epoch"} <= made


def test_everything_is_under_the_chroot():
    layout = Layout("/kafka")
    assert layout.controller == "/kafka/controller"
    assert layout.state("words", 1) == "/kafka/brokers/topics/words/partitions/1/state"
    assert layout.cluster_id == "/kafka/cluster/id"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_that_would_be_another_path_is_a_bug(name):
    with pytest.raises(AssertionError, match="no name of a node"):
        Layout().topic(name)
