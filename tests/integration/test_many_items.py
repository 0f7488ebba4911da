"""The many: for each array of each request, one that has nearly as many items as a request may. It
is answered, or its connection is closed, and the broker that does it holds its loop for nobody
(tests/conftest.py looks)."""

from __future__ import annotations

import socket
import struct
import uuid
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from kio.index import load_request_schema

from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.wire import MAX_ITEMS
from tests.helpers.kio_messages import without_none, written_request
from tests.helpers.processes import ProcessCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MANY = MAX_ITEMS - 100
ANSWER_WITHIN_S = 60


def arrays(definition: Any, path: str = "") -> Iterator[str]:
    """The paths of all arrays in a message: `topics`, `topics.partitions`."""
    for field in fields(definition):
        hint = without_none(field.type)
        here = f"{path}.{field.name}" if path else field.name
        item = get_args(hint)[0] if get_origin(hint) is tuple else hint
        if get_origin(hint) is tuple:
            yield here
        if is_dataclass(item):
            yield from arrays(item, here)


def values(definition: Any, many: str, path: str = "", number: int = 0) -> dict[str, Any]:
    """Of a message in which this array is long; those around it have one item, others none."""
    found: dict[str, Any] = {}
    for field in fields(definition):
        hint = without_none(field.type)
        here = f"{path}.{field.name}" if path else field.name
        if get_origin(hint) is tuple:
            count = MANY if here == many else int(many.startswith(here + "."))
            item = get_args(hint)[0]
            found[field.name] = [
                values(item, many, here, index)
                if is_dataclass(item)
                else scalar(field.name, field.metadata["kafka_type"], index)
                for index in range(count)
            ]
        elif is_dataclass(hint):
            found[field.name] = values(hint, many, here, number)
        else:
            found[field.name] = scalar(field.name, field.metadata["kafka_type"], number)
    return found


def scalar(name: str, kafka_type: str, number: int) -> Any:
    if kafka_type == "string":
        return f"{name[:5]}-{number}"
    if kafka_type in ("bytes", "records"):
        return b"x"
    if kafka_type == "uuid":
        return uuid.UUID(int=number + 1)
    if kafka_type == "bool":
        return False
    if kafka_type.startswith("timedelta"):
        return 30_000
    if kafka_type == "int8":
        return 2 if "type" in name else 0
    return number if "partition" in name or "index" in name else 1


def asked(address: tuple[str, int], api: ApiKey, version: int, body: bytes) -> bytes | None:
    """The answer; None if the connection was closed instead."""
    definition = load_request_schema(int(api), version)
    flexible = definition.__header_schema__.__module__.endswith(".v2.header")
    header = struct.pack(">hhih", int(api), version, 7, 1) + b"p" + (b"\0" if flexible else b"")
    with socket.create_connection(address, ANSWER_WITHIN_S) as client:
        client.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        with client.makefile("rb") as answers:
            length = answers.read(4)
            return answers.read(*struct.unpack(">i", length)) if length else None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    path: Path = tmp_path_factory.mktemp("many")
    cluster = ProcessCluster(path)
    try:
        cluster.up(1, "embedded")
        yield cluster
    finally:
        cluster.down()


CASES = [
    pytest.param(api, path, id=f"{api.name}-{path}")
    for api in APIS
    for path in arrays(load_request_schema(int(api), APIS[api].max_version))
]


@pytest.mark.parametrize(("api", "path"), CASES)
def test_a_request_of_many_items_holds_the_loop_for_nobody(
    cluster: ProcessCluster, api: ApiKey, path: str
) -> None:
    version = APIS[api].max_version
    body = written_request(api, version, values(load_request_schema(int(api), version), path))
    brokers: Any = cluster.document()["brokers"]
    host, _, port = brokers[0]["kafka"].rpartition(":")
    address = (host, int(port))
    answer = asked(address, api, version, body)
    assert answer is None or answer[:4] == struct.pack(">i", 7)
    alive = asked(address, ApiKey.LIST_GROUPS, 0, b"")
    assert alive is not None
    assert alive[:6] == struct.pack(">ih", 7, 0)
