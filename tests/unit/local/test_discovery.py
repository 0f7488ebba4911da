"""Where the cluster is, and what is said when nobody is there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from minikafka.cli.kit.connection import require_reachable, unknown_topic
from minikafka.cli.main import cli
from minikafka.client.values import parse_bootstrap
from minikafka.errors import UsageError
from minikafka.local import clusterfile
from minikafka.local.cluster import LocalCluster
from minikafka.local.clusterfile import BrokerEntry, ClusterFile, ZooKeeperEntry
from minikafka.local.discovery import Bootstrap, NoCluster, find_cluster, read_addresses
from minikafka.model import BrokerInfo
from tests.helpers.listeners import plaintext_at


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    brokers = (BrokerEntry(1, "A", 1, "127.0.0.1:1"), BrokerEntry(2, "B", 2, "127.0.0.1:2"))
    clusterfile.save(tmp_path, ClusterFile(ZooKeeperEntry("embedded", "h:1"), brokers))
    return tmp_path


def test_an_ipv6_address_without_brackets_is_refused_with_what_is_missing() -> None:
    for refusal in (read_addresses, parse_bootstrap):
        with pytest.raises(UsageError, match=r"an IPv6 address stands in brackets, as in \[::1\]"):
            refusal("::1:19092")
        assert refusal("[::1]:19092") == ("[::1]:19092",)
    info = BrokerInfo(1, "A", "::1", 19092, plaintext_at("fe80::1", 9092))
    assert (info.grpc_address, info.kafka_address) == ("[::1]:19092", "[fe80::1]:9092")
    assert BrokerInfo(1, "A", "h", 19092, plaintext_at("k", 9092)).kafka_address == "k:9092"
    assert BrokerInfo(1, "A", "h", 19092).kafka_address is None


def test_the_addresses_that_are_given_come_first(data_dir: Path) -> None:
    assert find_cluster("h:9, [::1]:10", data_dir).addresses == ("h:9", "[::1]:10")


def test_without_them_the_data_directory_tells_of_the_brokers_that_run(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalCluster, "is_running", lambda _, broker: broker.name == "B")
    found = find_cluster(None, data_dir)
    assert found.addresses == ("127.0.0.1:2",)
    assert found.names == {1: "A", 2: "B"}
    assert found.source == str(data_dir / "cluster.json")


def test_a_cluster_that_does_not_run_is_not_looked_for_at_its_old_addresses(
    data_dir: Path,
) -> None:
    with pytest.raises(NoCluster) as caught:
        find_cluster(None, data_dir)
    assert str(caught.value) == (
        f"the cluster of {data_dir}/cluster.json does not run: "
        f"`minikafka up --data-dir {data_dir}` starts it"
    )


def test_without_anything_the_person_is_told_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match="`minikafka up` starts a cluster"):
        find_cluster(None, tmp_path)


@pytest.mark.parametrize("text", ["localhost", "h:", ":1", "h:0", "h:99999", "h:1,,i:2", "h:x"])
def test_a_malformed_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:19092"):
        read_addresses(text)


async def test_nobody_there_is_told_with_what_was_tried_and_what_to_do() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(NoCluster) as caught:
            await require_reachable(Bootstrap((address,), "--bootstrap", {}))
    assert str(caught.value) == (
        f"no broker answers at {address} (connection refused); the addresses are from --bootstrap. "
        "Is the cluster running? `minikafka up` starts one on this machine"
    )


async def test_one_of_several_addresses_is_enough() -> None:
    with socket.socket() as unused, socket.socket() as listening:
        unused.bind(("127.0.0.1", 0))
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        addresses = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in (unused, listening))
        await require_reachable(Bootstrap(addresses, "--bootstrap", {}))


COMMANDS = [
    ["status"],
    ["topics", "list"],
    ["topics", "create", "orders"],
    ["topics", "describe", "orders"],
    ["topics", "describe", "orders", "--watch"],
    ["topics", "alter", "orders", "--partitions", "3"],
    ["topics", "delete", "orders"],
    ["produce", "orders"],
    ["consume", "orders"],
    ["perf", "produce", "orders"],
    ["perf", "consume", "orders"],
    ["perf", "latency", "orders"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_fails_clearly_where_no_cluster_runs(
    command: list[str],
) -> None:
    done = CliRunner().invoke(
        cli, [*command, "--bootstrap", "127.0.0.1:1,127.0.0.1:2"], input="x\n"
    )
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith("Error: no broker answers at 127.0.0.1:1, 127.0.0.1:2 (")
    assert done.stdout == ""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_fails_clearly_where_nothing_tells_of_a_cluster(
    command: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        cli, command, env={"MINIKAFKA_DATA_DIR": str(tmp_path / "x")}, input="x\n"
    )
    assert done.exit_code == 1, done.output
    assert "no cluster to talk to" in done.stderr


def test_the_variable_is_used_before_the_data_directory(data_dir: Path) -> None:
    done = CliRunner().invoke(
        cli,
        ["status", "--data-dir", str(data_dir)],
        env={"MINIKAFKA_BOOTSTRAP": "127.0.0.1:3"},
    )
    assert "no broker answers at 127.0.0.1:3 (" in done.stderr


@pytest.mark.parametrize("command", [["down"], ["kill", "A"], ["restart", "A"]], ids=" ".join)
def test_commands_for_processes_say_that_there_is_no_cluster(
    command: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(cli, [*command, "--data-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert "there is no cluster in" in done.stderr


def test_a_broker_that_does_not_run_cannot_be_killed(data_dir: Path) -> None:
    done = CliRunner().invoke(cli, ["kill", "b", "--data-dir", str(data_dir)])
    assert done.exit_code == 1
    assert "broker B (2) does not run: `minikafka restart B` starts it" in done.stderr


def test_a_broker_that_there_is_not_cannot_be_killed(data_dir: Path) -> None:
    done = CliRunner().invoke(cli, ["kill", "E", "--data-dir", str(data_dir)])
    assert done.exit_code == 2
    assert "there is no broker 'E' here: there are A (1), B (2)" in done.stderr


def test_ending_a_cluster_that_does_not_run_takes_note_of_it(data_dir: Path) -> None:
    done = CliRunner().invoke(cli, ["down", "--data-dir", str(data_dir)])
    assert (done.exit_code, done.output) == (0, f"nothing runs in {data_dir}\n")
    loaded = clusterfile.load(data_dir)
    assert loaded is not None
    assert [each.pid for each in loaded.brokers] == [None, None]


def test_a_topic_that_is_not_there_is_answered_with_the_ones_spelt_like_it() -> None:
    assert str(unknown_topic("ordrs", ["orders", "x"])) == (
        "there is no topic 'ordrs'; did you mean orders?"
    )
    assert "`minikafka topics create y` creates it" in str(unknown_topic("y", ["orders"]))
