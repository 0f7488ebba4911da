"""What ZooKeeper promises, on the embedded server, a real one, and a real ensemble of three."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from minikafka.zookeeper.looking import guarantees
from minikafka.zookeeper.looking.guarantees import BrokenError, Verdict, check_all
from minikafka.zookeeper.looking.inspect import open_inspector


@pytest.mark.parametrize("kind", ["embedded", "local", "local:3"])
def test_every_guarantee_is_kept_and_nothing_is_left_behind(
    kind: str, shared_servers: Callable[[str], str], chroot: str
):
    connect = shared_servers(kind) + chroot
    verdicts = list(check_all(connect))
    assert [each for each in verdicts if not each.kept] == []
    assert [each.guarantee for each in verdicts] == list(guarantees.GUARANTEES)
    with open_inspector(connect) as inspector:
        assert inspector.ls("/") == []


def test_a_promise_that_is_broken_is_told(connect, monkeypatch):
    def broken(bench: guarantees.Bench) -> str:
        raise BrokenError("it went back")

    def refused(bench: guarantees.Bench) -> str:
        bench.client().get(f"{bench.path}/nothing")
        return "never"

    monkeypatch.setattr(guarantees, "GUARANTEES", {"no old data": broken, "reads": refused})
    assert list(check_all(connect)) == [
        Verdict("no old data", False, "it went back"),
        Verdict("reads", False, "ZooKeeper answered NoNodeError()"),
    ]


def test_a_sync_that_does_nothing_is_caught(connect, monkeypatch):
    """The checks can fail: here reads give what was there before the last write."""
    real = guarantees.Bench.client

    class Lagging:
        def __init__(self, client):
            self._client = client
            self._last = deque([None, None])

        def __getattr__(self, name):
            return getattr(self._client, name)

        def get_async(self, path):
            answer = self._client.get_async(path).get(timeout=10)
            self._last.append(answer)
            before = self._last.popleft() or answer

            class Done:
                def get(self, timeout):
                    return before

            return Done()

    def lagging(self, server=None):
        client = real(self, server)
        return client if server is None else Lagging(client)

    monkeypatch.setattr(guarantees.Bench, "client", lagging)
    monkeypatch.setattr(guarantees, "GUARANTEES", {"sync": guarantees.sync_makes_fresh})
    [verdict] = check_all(connect)
    assert not verdict.kept
