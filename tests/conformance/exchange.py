"""Cases, and playing them to a broker: each is sent in every version that is served, as bytes.

Requests are written and answers read by kio, which is generated from Kafka's own definitions:
nothing of the broker under test takes part. A case is a mapping of a request's fields by kio's
names; in texts, `{v}` is the version. What only a running broker knows (a member's id, a topic's)
is a `Known`, remembered from an answer before.

An answer becomes plain values, in which what differs from one run to the next has a stand-in:
`normalised` says what that is.
"""

from __future__ import annotations

import re
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kio.index import load_request_schema

from minikafka.kafka.apis import APIS, ApiKey
from tests.helpers.kio_messages import plain, read_response, written_request

CLOSED = "the connection is closed"
TIMEOUT_S = 10.0
_HEADER = struct.Struct(">hhi")
_LENGTH = struct.Struct(">i")
_RANDOM_PART = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLIENT_ID = "conformance"
_FIRST_PRODUCE = 3


@dataclass(frozen=True)
class Known:
    """Something that an answer told before. `stand_in` takes its place where a request is written
    down, and where there was no such answer."""

    name: str
    stand_in: Any


@dataclass(frozen=True)
class Case:
    """`until`: asked again until the answer is so (a cluster settles); only the last answer counts.
    `remember`: by name, how to find what later cases need. `raw`: the body as it is, for what no
    writer would write. `each`: whether every version gets it, or `versions` alone."""

    name: str
    api: ApiKey
    values: Mapping[str, Any] = field(default_factory=dict)
    versions: Sequence[int] | None = None
    until: Callable[[Any], bool] | None = None
    remember: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    raw: bytes | None = None
    refused: bool = False  # the connection is closed without an answer

    def served_versions(self) -> Sequence[int]:
        api = APIS[self.api]
        everything = range(api.min_version, api.max_version + 1)
        return everything if self.versions is None else self.versions


@dataclass(frozen=True)
class Exchange:
    """`request` in hex, without its header, with stand-ins for what is known only then."""

    case: Case
    version: int
    request: str
    answer: Any

    @property
    def key(self) -> tuple[str, int]:
        return self.case.name, self.version


class Connection:
    """Requests and answers as bytes. Opened when it is needed, again after it was closed."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = host, int(port)
        self._socket: socket.socket | None = None
        self._correlation_id = 0

    def ask(self, api: ApiKey, version: int, body: bytes) -> bytes | None:
        """The body of the answer; None if the broker closes the connection."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, TIMEOUT_S)
        self._correlation_id += 1
        flexible = is_flexible(api, version)
        client = _CLIENT_ID.encode()
        head = _HEADER.pack(api, version, self._correlation_id)
        head += struct.pack(">h", len(client)) + client + (b"\0" if flexible else b"")
        try:
            self._socket.sendall(_LENGTH.pack(len(head) + len(body)) + head + body)
            (size,) = _LENGTH.unpack(self._exactly(4))
            answer = self._exactly(size)
        except (EOFError, ConnectionError):
            self.close()
            return None
        assert _LENGTH.unpack_from(answer)[0] == self._correlation_id
        return answer[5 if flexible and api is not ApiKey.API_VERSIONS else 4 :]

    def _exactly(self, size: int) -> bytes:
        assert self._socket is not None
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def is_flexible(api: ApiKey, version: int) -> bool:
    return not _is_early_produce(api, version) and bool(
        load_request_schema(int(api), version).__flexible__
    )


def play(cases: Sequence[Case], address: str) -> Iterator[Exchange]:
    """Every case in every version, in order."""
    connection = Connection(address)
    known: dict[str, Any] = {}
    try:
        for case in cases:
            for version in case.served_versions():
                body = body_of(case, version, known)
                answer = _answer(connection, case, version, body)
                if answer != CLOSED:
                    found = {
                        name.replace("{v}", str(version)): find(answer)
                        for name, find in case.remember.items()
                    }
                    known |= found
                yield Exchange(case, version, body_of(case, version).hex(), normalised(answer))
    finally:
        connection.close()


def _answer(connection: Connection, case: Case, version: int, body: bytes) -> Any:
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        raw = connection.ask(case.api, version, body)
        answer = CLOSED if raw is None else _read(case.api, version, raw)
        if answer == CLOSED or case.until is None or case.until(answer):
            return answer
        assert time.monotonic() < deadline_s, f"{case.name} {version}: still {answer}"
        time.sleep(0.02)


def body_of(case: Case, version: int, known: Mapping[str, Any] | None = None) -> bytes:
    """With stand-ins if nothing is known."""
    if case.raw is not None:
        return case.raw
    values = _filled(case.values, version, known)
    if _is_early_produce(case.api, version):
        body = written_request(case.api, _FIRST_PRODUCE, values)
        return body.removeprefix(b"\xff\xff")  # without the transactional id, which is null
    return written_request(case.api, version, values)


def _read(api: ApiKey, version: int, raw: bytes) -> Any:
    if not _is_early_produce(api, version):
        return plain(read_response(api, version, raw))
    # What the oldest versions lack is made up, and taken away again.
    if version == 0:
        raw += b"\0\0\0\0"
    if version < 2:
        raw = _with_append_times(raw)
    answer = plain(read_response(api, _FIRST_PRODUCE, raw))
    assert isinstance(answer, dict)
    return answer


def _is_early_produce(api: ApiKey, version: int) -> bool:
    """kio has Produce from version 3 on, which differs from those before by a field or two."""
    return api is ApiKey.PRODUCE and version < _FIRST_PRODUCE


def _with_append_times(raw: bytes) -> bytes:
    """An answer of one topic, or none, with one partition."""
    return raw if raw[:4] == bytes(4) else raw[:-4] + b"\xff" * 8 + raw[-4:]


def _filled(value: Any, version: int, known: Mapping[str, Any] | None) -> Any:
    if isinstance(value, Known):
        told = known or {}
        return told.get(_filled(value.name, version, None), value.stand_in)
    if isinstance(value, str):
        return value.replace("{v}", str(version))
    if isinstance(value, Mapping):
        return {name: _filled(item, version, known) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, version, known) for item in value]
    return value


# --- what differs from one run to the next -------------------------------------------------------

_DEFAULT = 5  # the source of a property that nobody has set
_SIZES = {"partition_size", "total_bytes", "usable_bytes"}
_PROSE = {"error_message", "documentation", "batch_index_error_message"}
_SOME_IDS = {"port", "session_id"}
_SOME = {"cluster_id", "log_dir"}


def normalised(value: Any, name: str = "") -> Any:
    """Ids, ports and sizes have a stand-in; of prose it counts whether there is any. Structures in
    an array are in order, since clients look for what they asked for, by its name; synonyms of a
    property stay as they are."""
    if isinstance(value, Mapping):
        return {key: normalised(item, key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if name == "configs":
            value = [item for item in value if _is_worth_telling(item)]
        items = [normalised(item, name) for item in value]
        structures = name != "synonyms" and all(isinstance(item, dict) for item in items)
        return sorted(items, key=repr) if structures else items
    if isinstance(value, uuid.UUID):
        return "(uuid)" if value.int else None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        if name in _SIZES and value >= 0:
            return "(size)"
        if name in _SOME_IDS and value > 0:
            return "(number)"
        return "(number)" if name == "producer_id" and value >= 0 else int(value)
    if name in _SOME:
        return f"({name})"
    if name in _PROSE:
        return "(text)" if value else None
    return _RANDOM_PART.sub("(uuid)", str(value))


def _is_worth_telling(item: Mapping[str, Any]) -> bool:
    """Of a topic that was just made, what is not as it is by default: the rest is told by
    DescribeConfigs, and would be most of the recording."""
    if "config_type" in item or "synonyms" in item:
        return True
    # Given to both as it is by default, which minikafka takes for not given.
    return item["config_source"] != _DEFAULT and item["name"] != "min.insync.replicas"
