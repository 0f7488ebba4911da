"""Two requests of Kafka's protocol, without a client library: Metadata and FindCoordinator.

A library keeps its own idea of when to connect again after a refusal, which would be measured
along with the time that a cluster takes to start or to find a new leader.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

_TIMEOUT_S = 2.0
_METADATA, _FIND_COORDINATOR = 3, 10


@dataclass
class View:
    """A cluster as one broker sees it: addresses by id, and leaders (-1: none) by partition."""

    controller_id: int
    brokers: dict[int, str] = field(default_factory=dict)
    leaders: dict[tuple[str, int], int] = field(default_factory=dict)
    isr: dict[tuple[str, int], list[int]] = field(default_factory=dict)


def metadata(address: str, topics: list[str] | None = None) -> View | None:
    """What the broker at HOST:PORT knows of these topics (of none if not told); None if it does
    not answer."""
    names = [_string(name) for name in topics or []]
    body = struct.pack(">hhi", _METADATA, 1, 1) + _string("probe")
    body += struct.pack(">i", len(names)) + b"".join(names)
    answer = _ask(address, body)
    return None if answer is None else _parse(answer)


def coordinator(address: str, group: str) -> int | None:
    """The id of the broker that coordinates this consumer group; None while there is none."""
    return _coordinator(address, group, 0)


def transaction_coordinator(address: str, transactional_id: str) -> int | None:
    """The id of the broker that coordinates this transactional id; None while there is none."""
    return _coordinator(address, transactional_id, 1)


def _coordinator(address: str, key: str, kind: int) -> int | None:
    body = struct.pack(">hhi", _FIND_COORDINATOR, 1, 1) + _string("probe") + _string(key)
    answer = _ask(address, body + struct.pack(">b", kind))
    if answer is None:
        return None
    answer.take("i")  # throttled for so long
    if answer.take("h") != 0:
        return None
    answer.string()  # no message
    return answer.take("i")


def _ask(address: str, body: bytes) -> _Reader | None:
    """Send a request; returns what follows the correlation id of the answer."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), _TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            size = struct.unpack(">i", _read(connection, 4))[0]
            answer = _Reader(_read(connection, size))
    except (OSError, EOFError):
        return None
    answer.take("i")
    return answer


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, layout: str) -> int:
        (value,) = struct.unpack_from(f">{layout}", self._data, self._position)
        self._position += struct.calcsize(f">{layout}")
        return int(value)

    def string(self) -> str:
        size = max(self.take("h"), 0)
        self._position += size
        return self._data[self._position - size : self._position].decode()

    def numbers(self) -> list[int]:
        return [self.take("i") for _ in range(self.take("i"))]


def _parse(reader: _Reader) -> View:
    view = View(-1)
    for _ in range(reader.take("i")):
        broker_id, host, port = reader.take("i"), reader.string(), reader.take("i")
        reader.string()  # the rack
        view.brokers[broker_id] = f"{host}:{port}"
    view.controller_id = reader.take("i")
    for _ in range(reader.take("i")):
        reader.take("h")
        topic = reader.string()
        reader.take("b")
        for _ in range(reader.take("i")):
            reader.take("h")
            partition, leader = reader.take("i"), reader.take("i")
            reader.numbers()
            view.isr[topic, partition] = reader.numbers()
            view.leaders[topic, partition] = leader
    return view
