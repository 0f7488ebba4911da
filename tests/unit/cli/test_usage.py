"""Wrong usage: exit status 2, and what would be right. Nothing is asked of a cluster before."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from minikafka.cli.admin.topics import read_assignments
from minikafka.cli.kit.options import read_amount, read_settings, read_topic_name
from minikafka.cli.main import cli
from minikafka.errors import UsageError


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("topics create bad/name", "cannot be the name of a topic"),
        ("topics create ..", "cannot be the name of a topic"),
        ("topics create t --partitions 0", "--partitions"),
        ("topics create t --replication-factor 0", "--replication-factor"),
        ("topics create t --config retention.mss=1", "did you mean retention.ms?"),
        ("topics create t --config retention.ms=7d", "604800000 milliseconds"),
        ("topics create t --config retention.ms", "expected NAME=VALUE"),
        ("topics create t --replicas 1,x", "expected broker ids"),
        ("topics create t --replicas 1,2 --partitions 2", "--replicas says all"),
        ("topics alter t", "nothing to alter"),
        ("topics alter t --config min.insync.replica=2", "did you mean min.insync.replicas?"),
        ("configs describe", "Give one of --topic, --broker and --broker-default"),
        ("configs describe --topic t --broker 1", "Give one of"),
        ("configs describe --topic bad/name", "cannot be the name of a topic"),
        ("configs alter --set a=b", "Give one of --topic"),
        ("configs alter --topic t", "nothing to alter"),
        ("configs alter --topic t --set retention.mss=1", "did you mean retention.ms?"),
        ("configs alter --topic t --set log.retention.ms=1", "the topic's is retention.ms"),
        ("configs alter --broker 1 --set retention.ms=1", "for it is log.retention.ms"),
        ("configs alter --broker 1 --set log.roll.ms=7d", "604800000 milliseconds"),
        ("configs alter --broker 1 --set log.roll.ms", "expected NAME=VALUE"),
        ("configs alter --broker-default --set log.dirs=/x", "cannot be altered while a broker"),
        ("configs alter --broker-default --delete log.roll.mss", "did you mean log.roll.ms?"),
        ("configs alter --topic t --delete retention.mss", "did you mean retention.ms?"),
        ("configs alter --broker 1 --set log.roll.ms=7 --delete log.roll.ms", "both set and"),
        ("topics describe t --watch --configs", "leave --configs out"),
        ("topics describe bad/name", "cannot be the name of a topic"),
        ("topics delete", "TOPIC"),
        ("topics delete-records t --partition 0", "--before"),
        ("topics delete-records t --before 5", "--partition"),
        ("topics delete-records t --partition 0 --before -2", "--before"),
        ("produce bad/name", "cannot be the name of a topic"),
        ("produce t /nowhere/to/be/found", "/nowhere/to/be/found: No such file or directory"),
        ("produce t /", "/: Is a directory"),
        ("produce t --acks 2", "--acks"),
        ("produce t --compression rar", "--compression"),
        ("produce t --key-separator ''", "--key-separator is empty"),
        ("produce t --partition -1", "--partition"),
        ("consume t --offset 1 --from-beginning", "--from-beginning and --offset contradict"),
        ("consume t --offset 1 --since 1h", "--offset and --since contradict"),
        ("consume t --since yesterday", "--since 'yesterday' is no time"),
        ("consume t --output %z", "means nothing"),
        ("consume t --max-messages 0", "--max-messages"),
        ("perf produce t --record-size 0", "expected a number above 0"),
        ("perf produce t --transactional-id x --processes 2", "one process has the id"),
        ("perf produce t --num-records many", "expected a number above 0"),
        ("status --format xml", "--format"),
        ("kill 1 --signal HUP", "--signal"),
        ("up --brokers 0", "--brokers"),
        ("up --set broker.rac=x", "did you mean broker.rack?"),
        ("up --set broker.id=1", "`minikafka up` sets that for each broker itself"),
        ("up --set x", "expected NAME=VALUE"),
        ("up --zookeeper local:2", "1, 3, 5 or 7 servers"),
        ("up --zookeeper nonsense", "'nonsense' is not a way to have ZooKeeper"),
        ("zk get", "PATH"),
        ("zk watch", "PATH"),
        ("zk ls --zookeeper nohost", "expected HOST:PORT"),
        ("log dump /nowhere", "neither a segment file nor a folder"),
        ("broker", "nothing to run"),
        ("broker --set broker.id", "expected NAME=VALUE"),
        ("broker --set broker.id=1", "is required and not set"),
        ("broker --config /nowhere.properties", "--config /nowhere.properties: No such file"),
        ("demo --file /nowhere", "--file /nowhere: No such file or directory"),
    ],
)
def test_wrong_usage_is_told_with_what_would_be_right(
    command: str, said: str, tmp_path: Path
) -> None:
    import shlex

    done = CliRunner().invoke(
        cli, shlex.split(command), env={"MINIKAFKA_DATA_DIR": str(tmp_path / "d")}
    )
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_a_misspelt_property_in_a_file_is_told_with_the_right_one(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text("broker.id=1\nlog.dirs=x\nzookeeper.connect=h:1\nbroker.nmae=A\n")
    done = CliRunner().invoke(cli, ["broker", "--config", str(file)])
    assert done.exit_code == 2
    assert "'broker.nmae' is not a property of a broker: did you mean broker.name?" in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"=x\n", "line 1"), (b"a=\\uzz\n", "line 1"), (b"\xff\xfe", "not a text file in UTF-8")],
)
def test_a_file_that_is_no_properties_is_told_with_its_name(
    tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "server.properties"
    file.write_bytes(content)
    done = CliRunner().invoke(cli, ["broker", "--config", str(file)])
    assert done.exit_code == 2
    assert f"{file}: " in done.stderr
    assert said in done.stderr


def test_files_and_settings_of_a_broker_override_each_other_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import types

    ran = []
    stand_in = types.ModuleType("minikafka.app.run")
    stand_in.run_broker = lambda config: ran.append(config) or 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "minikafka.app.run", stand_in)
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_text("broker.id=1\nlog.dirs=one\nzookeeper.connect=h:1\n")
    second.write_text("broker.id=2\nlog.dirs=two\n")
    done = CliRunner().invoke(
        cli, f"broker --config {first} --config {second} --set broker.id=3".split()
    )
    assert done.exit_code == 3, done.output
    assert [(each.broker_id, each.log_dirs, each.zookeeper_connect) for each in ran] == [
        (3, "two", "h:1")
    ]


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1", 1), ("50k", 50_000), ("2M", 2_000_000), ("64Ki", 65_536), ("1 MiB", 1_048_576)],
)
def test_amounts_may_have_units(text: str, amount: int) -> None:
    assert read_amount(text) == amount


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "5x", "k"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no amount"):
        read_amount(text)


def test_settings_keep_what_stands_after_the_first_equals_sign() -> None:
    assert read_settings(["a=b=c", "a=", " d =e"], "--set") == {"a": "", "d": "e"}


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 249, "..."])
def test_names_that_kafka_takes_are_taken(name: str) -> None:
    assert read_topic_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ä", "x" * 250])
def test_names_that_kafka_refuses_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="1 to 249 letters"):
        read_topic_name(name)


def test_replicas_are_read_a_partition_each() -> None:
    assert read_assignments("1,2,3/2,3,1") == {0: [1, 2, 3], 1: [2, 3, 1]}
    with pytest.raises(UsageError, match="partition 1 names a broker twice"):
        read_assignments("1,2/3,3")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("topics create t --config preallocate=true", "preallocate=true has no effect: the files"),
        ("configs alter --topic t --set remote.storage.enable=true", "has no effect: there is no"),
        ("configs alter --broker 1 --set log.preallocate=true", "log.preallocate=true has no"),
        ("broker --set num.io.threads=8 --set broker.id=1", "is required and not set"),
    ],
)
def test_a_setting_without_effect_is_taken_and_told(
    command: str, said: str, tmp_path: Path
) -> None:
    import shlex

    env = {"MINIKAFKA_DATA_DIR": str(tmp_path / "d")}
    done = CliRunner().invoke(cli, shlex.split(command), env=env)
    assert said in " ".join(done.stderr.split())
    assert "is not a property" not in done.stderr
