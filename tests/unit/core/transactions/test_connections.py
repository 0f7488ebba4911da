"""core/transactions/connections.py: the newest connection speaks."""

from __future__ import annotations

from minikafka.api.transactions import NewestOf
from minikafka.core.transactions.connections import NewestConnections

COORDINATION, OFFSETS = NewestOf.COORDINATION, NewestOf.OFFSETS


def test_an_older_connection_is_not_heard_any_more() -> None:
    newest = NewestConnections()
    assert newest.hears("id", COORDINATION, 3)
    assert newest.hears("id", COORDINATION, 3)
    assert newest.hears("id", COORDINATION, 5)
    assert not newest.hears("id", COORDINATION, 3)
    assert newest.hears("id", COORDINATION, 5)


def test_ids_and_kinds_do_not_know_each_other() -> None:
    newest = NewestConnections()
    assert newest.hears("id", COORDINATION, 5)
    assert newest.hears("id", OFFSETS, 2)
    assert newest.hears("other", COORDINATION, 1)
    assert len(newest) == 3


def test_who_was_heard_of_least_recently_is_forgotten() -> None:
    newest = NewestConnections(limit=2)
    newest.hears("a", COORDINATION, 5)
    newest.hears("b", COORDINATION, 5)
    assert not newest.hears("a", COORDINATION, 4)
    newest.hears("c", COORDINATION, 5)
    assert len(newest) == 2
    assert not newest.hears("a", COORDINATION, 4)
    assert newest.hears("b", COORDINATION, 4)
