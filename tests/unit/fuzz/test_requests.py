"""What the fuzz sends: the same for a seed, of every kind, and read or refused by decoders."""

from __future__ import annotations

import struct
from collections import Counter
from contextlib import suppress

import pytest

from minikafka.kafka import fetch, messages, produce
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.decoding import Structure
from minikafka.kafka.handlers.cluster import HANDLERS
from minikafka.kafka.wire import MalformedRequestError, Reader
from tests.fuzz.requests import Fuzzed, request

NOW_MS = 1_800_000_000_000
COUNT = 800


@pytest.fixture(scope="module")
def some() -> list[Fuzzed]:
    return [request(7, 0, number, NOW_MS) for number in range(COUNT)]


def test_a_request_can_be_made_again_from_its_numbers(some: list[Fuzzed]) -> None:
    assert [request(7, 0, number, NOW_MS) for number in range(50)] == some[:50]
    assert [request(8, 0, number, NOW_MS) for number in range(50)] != some[:50]
    assert [request(7, 1, number, NOW_MS) for number in range(50)] != some[:50]


def test_every_api_has_its_turn(some: list[Fuzzed]) -> None:
    assert {each.api for each in some} == set(APIS)
    for number, each in enumerate(some):
        assert struct.unpack_from(">hhi", each.data) == (each.api, each.version, number)


def read(fuzzed: Fuzzed) -> object:
    """As a connection does it."""
    reader = Reader(memoryview(fuzzed.data), 8)
    reader.nullable_string()
    reader.flexible = fuzzed.version >= APIS[fuzzed.api].first_flexible
    reader.tags()
    if fuzzed.api is ApiKey.PRODUCE:
        return produce.read_request(reader, fuzzed.version)
    if fuzzed.api is ApiKey.FETCH:
        return fetch.read_request(reader, fuzzed.version)
    form = HANDLERS[fuzzed.api].request if fuzzed.api in HANDLERS else Structure
    return messages.read(fuzzed.api, fuzzed.version, reader.data[reader.position :], form)


def test_decoders_read_most_and_refuse_the_others(some: list[Fuzzed]) -> None:
    understood = Counter[ApiKey]()
    for each in some:
        with suppress(MalformedRequestError):
            understood[each.api] += read(each) is not None
    assert 0.6 * COUNT < understood.total() < 0.95 * COUNT
    assert set(understood) == set(APIS)
