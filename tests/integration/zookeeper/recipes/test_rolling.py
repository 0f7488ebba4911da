"""zookeeper/recipes/rolling.py on a real server: the lock, and what it rests on."""

from __future__ import annotations

import threading

import pytest
from kazoo.client import KazooClient

from minikafka.zookeeper.recipes.rolling import LockLostError, LockTakenError, open_rolling

DEADLINE_S = 60


def test_one_holds_the_lock_and_another_hears_who(connect: str) -> None:
    with open_rolling(connect) as one, open_rolling(connect) as other:
        with one.lock("ann@host", wait=False) as held:
            held.check()
            with (
                pytest.raises(LockTakenError, match=r"already: ann@host"),
                other.lock("bob@host", wait=False),
            ):
                pass
        with other.lock("bob@host", wait=False) as held:
            held.check()


def test_who_waits_is_told_who_has_it_and_gets_it_afterwards(connect: str) -> None:
    told, got = threading.Event(), threading.Event()
    names: list[str] = []

    def on_wait(who: str) -> None:
        names.append(who)
        told.set()

    def wait() -> None:
        with open_rolling(connect) as other, other.lock("bob@host", True, on_wait):
            got.set()

    waiter = threading.Thread(target=wait)
    with open_rolling(connect) as one:
        with one.lock("ann@host", wait=False):
            waiter.start()
            assert told.wait(DEADLINE_S)
            assert not got.is_set()
        assert got.wait(DEADLINE_S)
    waiter.join(DEADLINE_S)
    assert names == ["ann@host"]


def test_the_lock_goes_with_the_session_and_the_holder_notices(connect: str) -> None:
    with (
        open_rolling(connect) as one,
        open_rolling(connect) as other,
        one.lock("ann@host", wait=False) as held,
    ):
        usurper = KazooClient(hosts=connect, timeout=10, client_id=one._client.client_id)
        usurper.start()
        usurper.stop()
        usurper.close()
        with other.lock("bob@host", wait=True), pytest.raises(LockLostError):
            held.check()


def test_an_empty_cluster_has_no_partitions_and_no_controller(connect: str) -> None:
    with open_rolling(connect) as zookeeper:
        assert zookeeper.controller() is None
        assert zookeeper.registered() == set()
