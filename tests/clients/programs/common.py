"""The small language that every client under test speaks, whatever it is written in.

A program gets one argument, a JSON document that says what to do, and prints JSON documents, one a
line, as things happen; standard error is for people. SIGTERM asks it to end properly, SIGKILL is a
crash.

    {"do": "produce", "bootstrap", "topic", "acks": "all", "codec": "none", "idempotent": false}
        takes {"value", "key", "headers": [[name, value]], "partition", "timestamp_ms"} (null, or
        left out: none) from standard input, line by line as they come, and prints
        {"acknowledged": value, "partition": 0, "offset": 0}  or  {"failed": value, "error": text}
    {"do": "consume", "bootstrap", "topic", "partition", "from": "earliest" | "latest" |
     {"offset": 5} | {"timestamp_ms": 5}, "count": 10, "isolation": "read_committed"}
        prints {"record": {"topic", "partition", "offset", "timestamp_ms", "key", "value",
        "headers"}} until it has printed that many; without "isolation" it is the client's default
    {"do": "group", "bootstrap", "topic", "group", "session_timeout_ms": 6000}
        joins the group, begins at the earliest record where nothing is committed, commits what it
        printed, leaves when asked to end, and prints {"record": …} and
        {"assigned": [0, 1, …]} whenever its partitions change
    {"do": "admin", "bootstrap"}
        takes {"call": NAME, …} from standard input, and for each prints {"result": …} or
        {"error": text}; the calls are those that librdkafka.py has
    {"do": "transact", "bootstrap", "id", "timeout_ms": 60000}
        a producer with this transactional id, which takes calls as one that administers does:
        {"call": "init"}, {"call": "begin"}, {"call": "commit"}, {"call": "abort"}
        {"call": "send", "topic", "partition", "values": []}: the result comes when all are
            acknowledged
        {"call": "join", "topic", "group", "session_timeout_ms"}: be a member, too, that reads what
            is committed, from the offsets of the group on
        {"call": "poll", "count"}: the next so many [partition, offset, value]
        {"call": "send_offsets", "topic", "offsets": {"0": 5}}: commit them with the transaction
        {"call": "rewind"}: read on from the offsets of the group
        Java's program takes "properties", too: more of the producer's settings, by name.
        An error has {"then": "retry" | "abort" | "die"}: what the client's documentation wants
        done: the same call again, an abort, or another producer.
"""

from __future__ import annotations

import json
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

_print_lock = threading.Lock()


def command() -> dict[str, Any]:
    return json.loads(sys.argv[1])  # type: ignore[no-any-return]


def emit(**document: Any) -> None:
    with _print_lock:
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()


def acknowledged(value: str | None, partition: int, offset: int) -> None:
    emit(acknowledged=value, partition=partition, offset=offset)


def failed(value: str | None, error: object) -> None:
    emit(failed=value, error=repr(error))


def emit_record(
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    key: bytes | None,
    value: bytes | None,
    headers: Any,
) -> None:
    emit(
        record={
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "timestamp_ms": timestamp_ms,
            "key": text(key),
            "value": text(value),
            "headers": [[name, text(each)] for name, each in headers or ()],
        }
    )


def text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


def data(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def records() -> Iterator[dict[str, Any] | None]:
    """What comes on standard input; None whenever nothing has come for a moment, so that a client
    without threads of its own can look after its connections."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=0.02)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield json.loads(line)


def answer(
    call: Callable[[dict[str, Any]], Any], then: Callable[[Exception], str] | None = None
) -> None:
    """Of administration and transactions: carry out what comes on standard input."""
    for wanted in records():
        if wanted is None:
            continue
        try:
            emit(result=call(wanted))
        except Exception as error:
            emit(error=repr(error), **({"then": then(error)} if then else {}))


def asked_to_end() -> threading.Event:
    """Is set by SIGTERM."""
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    return ending
