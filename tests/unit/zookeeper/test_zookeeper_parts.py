"""The small parts of zookeeper/ that need no server."""

from __future__ import annotations

import socket

import pytest
from kazoo.exceptions import BadVersionError, RolledBackError, RuntimeInconsistency

from minikafka.broker.ports import StoreEvent
from minikafka.errors import UsageError
from minikafka.zookeeper.fence import failure
from minikafka.zookeeper.servers.addresses import Ports, four_letter_word, port_of, serving_mode
from minikafka.zookeeper.servers.launcher import parse_mode
from minikafka.zookeeper.watches import EventQueue


def drained(queue: EventQueue) -> list[StoreEvent]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


async def test_events_come_out_in_order():
    queue = EventQueue()
    for event in (StoreEvent.SUSPENDED, StoreEvent.LOST, StoreEvent.BROKERS_CHANGED):
        queue.put_nowait(event)
    assert await queue.get() is StoreEvent.SUSPENDED
    assert drained(queue) == [StoreEvent.LOST, StoreEvent.BROKERS_CHANGED]
    assert queue.empty()


async def test_an_event_that_waits_already_moves_to_the_end():
    queue = EventQueue()
    for _ in range(3):
        for event in (StoreEvent.SUSPENDED, StoreEvent.TOPICS_CHANGED, StoreEvent.RECONNECTED):
            queue.put_nowait(event)
        queue.put_nowait(StoreEvent.TOPICS_CHANGED)
    assert drained(queue) == [
        StoreEvent.SUSPENDED,
        StoreEvent.RECONNECTED,
        StoreEvent.TOPICS_CHANGED,
    ]


def test_a_transaction_without_errors_has_not_failed():
    assert failure([True, "/a", object()]) is None


def test_the_operation_that_failed_is_neither_one_before_nor_one_after_it():
    bad = BadVersionError()
    failed = failure([RolledBackError(), bad, RuntimeInconsistency()])
    assert failed is not None
    assert (failed.position, failed.error) == (1, bad)


@pytest.mark.parametrize(
    ("text", "kind", "servers"),
    [
        ("embedded", "embedded", 1),
        ("local", "local", 1),
        ("local:1", "local", 1),
        ("local:3", "local", 3),
        ("zk1:2181,zk2:2181", "hosts", 0),
        ("zk1:2181/kafka", "hosts", 0),
    ],
)
def test_the_ways_to_have_a_zookeeper(text, kind, servers):
    mode = parse_mode(text)
    assert (mode.kind, mode.servers, mode.text) == (kind, servers, text)


@pytest.mark.parametrize("text", ["", "none", "localhost", "local:", "local:2", "local:x", "a:0"])
def test_other_ways_are_refused_with_what_would_be_right(text):
    with pytest.raises(UsageError, match=r"expected embedded|has 1, 3, 5 or 7 servers"):
        parse_mode(text)


@pytest.mark.parametrize(
    ("address", "parts"), [("a:1", ("a", 1)), (" a:1 ", ("a", 1)), ("[::1]:2181", ("::1", 2181))]
)
def test_an_address_is_host_and_port(address, parts):
    assert port_of(address) == parts


def test_ports_are_chosen_without_repeating_any():
    chosen = Ports.choose("127.0.0.1", 3, preferred=0)
    assert len({port for ports in chosen for port in ports}) == 9


def test_remembered_ports_are_taken_again_when_they_are_free():
    first = Ports.choose("127.0.0.1", 3, preferred=0)
    assert Ports.choose("127.0.0.1", 3, preferred=0, remembered=first) == first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first[1].client))
        taken.listen()
        second = Ports.choose("127.0.0.1", 3, preferred=0, remembered=first)
    assert second[1].client != first[1].client
    assert [second[0], second[2]] == [first[0], first[2]]


def test_nobody_serves_at_a_closed_port():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert four_letter_word("127.0.0.1", port, "ruok") is None
        assert serving_mode("127.0.0.1", port) is None
