"""SCRAM credentials on real processes: whichever broker is asked, the controller writes, and all
tell the same; no log holds what was salted."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikafka.kafka.apis import ApiKey
from minikafka.security.scram import SHA_256, credential_for, write_credential
from tests.conformance.exchange import Case, play
from tests.helpers.processes import ProcessCluster

SALTED = SHA_256.salted("planted-secret", b"salt", 4096)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    made = ProcessCluster(tmp_path)
    try:
        made.up(2, "embedded")
        yield made
    finally:
        made.down()


def altered(user: str) -> Case:
    upsertion = {
        "name": user,
        "mechanism": 1,
        "iterations": 4096,
        "salt": b"salt",
        "salted_password": SALTED,
    }
    values = {"deletions": [], "upsertions": [upsertion]}
    return Case(user, ApiKey.ALTER_USER_SCRAM_CREDENTIALS, values)


def test_any_broker_takes_a_credential_and_every_broker_tells_it(cluster: ProcessCluster) -> None:
    addresses = [broker["kafka"] for broker in cluster.document()["brokers"]]  # type: ignore[attr-defined]
    for number, address in enumerate(addresses):
        [answer] = play([altered(f"user-{number}")], address)
        assert answer.answer["results"] == [
            {"user": f"user-{number}", "error_code": 0, "error_message": None}
        ]
    described = Case("all", ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, {"users": None})
    for address in addresses:
        [answer] = play([described], address)
        assert [(each["user"], each["credential_infos"]) for each in answer.answer["results"]] == [
            (f"user-{number}", [{"mechanism": 1, "iterations": 4096}]) for number in (0, 1)
        ]
    held = cluster.read_from_zookeeper(["/config/users/user-0"])["/config/users/user-0"].decode()
    kept = write_credential(credential_for(SHA_256, "planted-secret", b"salt", 4096))
    assert kept in held
    secrets = [kept, repr(SALTED)[2:-1], SALTED.hex(), base64.b64encode(SALTED).decode()]
    log = cluster.log_of("A") + cluster.log_of("B")
    assert log.count("minikafka.authorizer: set the SCRAM-SHA-256 credential of user-") == 2
    for secret in secrets:
        assert secret not in log
