"""gRPC over TLS with an authorizer: brokers and commands show certificates, and are judged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikafka.certificates import write_authority, write_issued
from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import happens

HOSTS = ("localhost", "127.0.0.1")


class Secured:
    """A cluster, and the files of two people: ops may do everything, bob nothing."""

    def __init__(self, path: Path) -> None:
        self.cluster = ProcessCluster(path / "data")
        (path / "data").mkdir()
        keys = path / "keys"
        authority = write_authority(keys, "the cluster's authority")
        broker = write_issued(keys, authority, "broker", HOSTS)
        self.files: dict[str, Path] = {}
        for name in ("ops", "bob"):
            key = write_issued(keys, authority, name)
            self.files[name] = path / f"{name}.properties"
            self.files[name].write_text(
                f"security.protocol=SSL\nssl.keystore.location={key}\n"
                f"ssl.truststore.location={keys / 'ca.crt'}\n"
            )
        self.cluster.up(
            3,
            "embedded",
            "listener.security.protocol.map=GRPC:SSL,PLAINTEXT:PLAINTEXT",
            f"listener.name.grpc.ssl.keystore.location={broker}",
            f"listener.name.grpc.ssl.truststore.location={keys / 'ca.crt'}",
            "listener.name.grpc.ssl.client.auth=required",
            "authorizer.class.name=kafka.security.authorizer.AclAuthorizer",
            "super.users=User:CN=broker;User:CN=ops",
        )

    def run(self, who: str | None, *arguments: str) -> tuple[int, str]:
        """(exit status, all that was said)."""
        options = [] if who is None else ["--command-config", str(self.files[who])]
        done = self.cluster.minikafka(*options, *arguments, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("grpc"))
    try:
        yield made
    finally:
        made.cluster.down()


def test_brokers_replicate_and_commands_work(secured: Secured) -> None:
    status, said = secured.run("ops", "topics", "create", "words", "--replication-factor", "3")
    assert status == 0, said
    words = secured.cluster.path / "words.txt"
    words.write_text("hello\nworld\n")
    status, said = secured.run("ops", "produce", "words", str(words))
    assert status == 0, said
    status, said = secured.run("ops", "consume", "words")
    assert (status, said.split()[-2:]) == (0, ["hello", "world"]), said
    status, said = secured.run("ops", "status")
    assert (status, "{A,B,C}" in said) == (0, True), said


def test_a_leader_that_dies_is_followed(secured: Secured) -> None:
    secured.cluster.kill("A")
    assert happens(lambda: "{B,C}" in secured.run("ops", "status")[1], within_s=30)
    secured.cluster.restart("A")
    assert happens(lambda: secured.run("ops", "status")[0] == 0, within_s=30)


def test_who_may_do_nothing_is_told_so(secured: Secured) -> None:
    status, said = secured.run("bob", "topics", "create", "others")
    assert status == 1
    assert "may not Create" in said
    _, said = secured.run("bob", "topics", "list")
    assert "words" not in said


def test_who_shows_no_certificate_hears_nothing(secured: Secured) -> None:
    status, said = secured.run(None, "topics", "list")
    assert status == 1
    assert "words" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("security.protocol=SASL_SSL", "is not spoken over gRPC"),
        ("security.protocol=SSL\nssl.keystore.location=/none", "/none"),
    ],
)
def test_a_wrong_file_is_wrong_usage(secured: Secured, tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "client.properties"
    path.write_text(text)
    done = secured.cluster.minikafka("--command-config", str(path), "topics", "list", check=False)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr


# --- users and entries, by the commands ----------------------------------------------------------


def test_an_entry_lets_somebody_in_and_out_again(secured: Secured) -> None:
    bob = "User:CN=bob"
    status, said = secured.run("bob", "acls", "add", bob, "all", "--topic", "words")
    assert (status, "may not Alter the Cluster" in said) == (1, True), said
    status, said = secured.run("ops", "acls", "explain", bob, "describe", "--topic", "words")
    assert (status, "no: no entry stands on Topic words" in said) == (1, True), said
    words = (bob, "read,write", "--topic", "wor", "--prefix")
    status, said = secured.run("ops", "acls", "add", *words)
    assert status == 0, said
    assert "allow User:CN=bob Write from * on prefixed Topic wor" in said
    status, said = secured.run("ops", "acls", "explain", bob, "describe", "--topic", "words")
    assert (status, "yes: allowed by: allow User:CN=bob" in said) == (0, True), said
    assert happens(lambda: "words" in secured.run("bob", "topics", "list")[1], within_s=10)
    status, said = secured.run("ops", "acls", "list", "--topic", "words", "--format", "json")
    entry = {"resource": "Topic", "name": "wor", "pattern": "Prefixed", "principal": bob}
    entry |= {"permission": "Allow", "host": "*"}
    assert json.loads(said) == [
        {**entry, "operation": operation} for operation in ("Read", "Write")
    ]
    assert secured.run("ops", "acls", "remove", *words)[0] == 0
    assert happens(lambda: "words" not in secured.run("bob", "topics", "list")[1], within_s=10)
    status, said = secured.run("ops", "acls", "remove", *words)
    assert (status, "no such entry" in said) == (1, True), said


def test_users_are_added_listed_and_deleted(secured: Secured, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wonderland\n")
    add = ("users", "add", "alice", "--password-file", str(password))
    status, said = secured.run("ops", *add)
    assert (status, "wonderland" in said) == (0, False), said
    status, said = secured.run("ops", *add)
    assert (status, "is there already" in said) == (1, True), said
    status, said = secured.run("ops", "users", "passwd", "alice", "--generate")
    assert status == 0, said
    status, said = secured.run("ops", "users", "list", "--format", "json")
    mechanisms = [
        {"mechanism": name, "iterations": 4096} for name in ("SCRAM-SHA-256", "SCRAM-SHA-512")
    ]
    assert json.loads(said) == [{"user": "alice", "mechanisms": mechanisms, "error": None}]
    assert secured.run("bob", "users", "list")[0] == 1
    assert secured.run("ops", "users", "delete", "alice", "--mechanism", "scram-sha-256")[0] == 0
    assert "SCRAM-SHA-256" not in secured.run("ops", "users", "list")[1]
    assert secured.run("ops", "users", "delete", "alice")[0] == 0
    status, said = secured.run("ops", "users", "delete", "alice")
    assert (status, "no SCRAM credential" in said) == (1, True), said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("acls", "add", "alice", "read", "--topic", "t"), "is no principal"),
        (("acls", "add", "User:a", "eat", "--topic", "t"), "'eat' is no operation"),
        (("acls", "add", "User:a", "read"), "on what? Give --topic"),
        (("acls", "add", "User:a", "create-tokens", "--topic", "t"), "cannot be done to a Topic"),
        (("acls", "add", "User:a", "read", "--topic", "t", "--host", "x"), "is no host"),
        (("acls", "explain", "User:a", "read", "--topic", "t", "--host", "*"), "an address"),
        (("users", "add", "a"), "no password: give --password-file"),
        (("users", "add", "a", "--generate", "--password-stdin"), "give one of them"),
        (("users", "add", "a", "--password-file", "/none"), "/none"),
    ],
)
def test_wrong_words_are_wrong_usage(
    secured: Secured, arguments: tuple[str, ...], why: str
) -> None:
    status, said = secured.run("ops", *arguments)
    assert (status, why in said, "Traceback" in said) == (2, True, False), said
