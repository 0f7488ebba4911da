"""zookeeper/client.py: what kazoo's errors become."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kazoo.exceptions import (
    BadVersionError,
    CancelledError,
    ConnectionClosedError,
    ConnectionLoss,
    NoAuthError,
    NoNodeError,
    SessionExpiredError,
    SessionMovedError,
)
from kazoo.handlers.threading import KazooTimeoutError

from minikafka.broker.ports import SessionLostError
from minikafka.errors import UsageError
from minikafka.zookeeper import client
from minikafka.zookeeper.client import new_client, translated, translating
from minikafka.zookeeper.errors import ConnectionLostError, OutcomeUnknownError, ZooKeeperError


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (ConnectionLoss(), OutcomeUnknownError),
        (SessionMovedError(), OutcomeUnknownError),
        (RuntimeError("xids do not match"), OutcomeUnknownError),
        (SessionExpiredError(), SessionLostError),
        (ConnectionClosedError(), SessionLostError),
        (NoAuthError(), ZooKeeperError),
    ],
)
def test_an_error_of_a_session_is_lost_unknown_or_a_refusal(error, ours):
    assert type(translated(error)) is ours


@pytest.mark.parametrize("error", [BadVersionError(), NoNodeError()])
def test_an_answer_that_is_expected_stays_as_it_is(error):
    assert translated(error) is error


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (ConnectionLoss(), ConnectionLostError),
        (SessionExpiredError(), ConnectionLostError),
        (CancelledError(), ConnectionLostError),
        (KazooTimeoutError(), ConnectionLostError),
        (NoNodeError(), ZooKeeperError),
        (NoAuthError(), ZooKeeperError),
    ],
)
def test_a_command_hears_that_the_connection_was_lost_or_what_was_refused(error, ours):
    with pytest.raises(ours), translating():
        raise error


@pytest.mark.parametrize("hosts", ["", "nohost:port"])
def test_hosts_that_name_no_servers_are_refused(hosts):
    with pytest.raises(UsageError, match="does not name ZooKeeper servers"):
        new_client(hosts, 1_000)


def of_zookeeper(pattern: str) -> set[str]:
    """The modules of zookeeper/ with such a line."""
    package = Path(client.__file__).parent
    return {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(pattern, path.read_text(), re.MULTILINE)
    }


def test_a_client_of_kazoo_is_opened_and_json_of_znodes_read_in_one_place_each():
    assert of_zookeeper(r"\bKazooClient\(") == {"client.py"}
    # The launcher's is a file.
    assert of_zookeeper(r"^import json") == {"json_data.py", "servers/launcher.py"}
