"""What real clients once sent is read, and damaged at random it is read or refused, no more."""

from __future__ import annotations

import random
import struct
from contextlib import suppress

import pytest

from minikafka.kafka import fetch, messages, produce
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.decoding import Structure
from minikafka.kafka.handlers.cluster import HANDLERS
from minikafka.kafka.wire import MalformedRequestError, Reader
from tests.clients.record import captured

_HEADER = struct.Struct(">hhi")
ALL = captured()
SERVED = [
    each
    for each in ALL
    if (api := APIS.get(each[1])) and api.min_version <= each[2] <= api.max_version  # type: ignore[call-overload]
]
MUTATIONS = 20


def read(request: bytes) -> object:
    """As a connection does it."""
    reader = Reader(memoryview(request))
    key, version, _ = reader.unpack(_HEADER)
    reader.nullable_string()
    reader.flexible = version >= APIS[ApiKey(key)].first_flexible
    reader.tags()
    if key == ApiKey.PRODUCE:
        return produce.read_request(reader, version)
    if key == ApiKey.FETCH:
        return fetch.read_request(reader, version)
    form = HANDLERS[ApiKey(key)].request if ApiKey(key) in HANDLERS else Structure
    return messages.read(ApiKey(key), version, reader.data[reader.position :], form)


def test_there_are_requests_of_every_client_and_of_the_apis_that_matter() -> None:
    assert {client for client, *_ in ALL} == {
        *("kcat", "confluent-kafka", "kafka-python", "aiokafka", "kafkajs", "java"),
        *("franz-go", "sarama"),
    }
    keys = {key for _, key, *_ in SERVED}
    assert {0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18, 19, 20, 22} <= keys


@pytest.mark.parametrize(
    ("client", "key", "version", "request_bytes"),
    SERVED,
    ids=[f"{client}-{key}-{version}-{len(data)}" for client, key, version, data in SERVED],
)
def test_what_a_client_sent_is_read_and_damage_to_it_is_told(
    client: str, key: int, version: int, request_bytes: bytes
) -> None:
    assert read(request_bytes) is not None
    chance = random.Random(f"{client} {key} {version}")
    head = _HEADER.size
    for _ in range(MUTATIONS):
        damaged = bytearray(request_bytes)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(head, len(damaged))] = chance.randrange(256)
        with suppress(MalformedRequestError):
            read(bytes(damaged[: chance.randint(head, len(damaged))]))
