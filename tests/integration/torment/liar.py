"""A client that lies, as a process of its own: `python -m tests.integration.torment.liar`.

Several threads, each with a seed of its own, do one thing after the other: send batches that are
not what they say (lies.py), to topics of their own and to those of the honest clients; begin
requests and do not end them; ask and never read what is answered; open many connections and do
nothing with them; send noise, claims of arrays without end, numbers of producers that are not
theirs; join groups with nonsense. And again and again they come back and tell the truth.

All of it is bounded (connections, bytes on the way), as a client that takes the whole machine would
disturb everybody by that alone. It tells what it did and what it was answered as one JSON document,
when it is asked to end by SIGTERM. `believed`: lies that had to be refused and were acknowledged.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.integration.torment.lies import (
    EITHER,
    LIES,
    REFUSED,
    SQUEEZED_TRUTH,
    TRUTH,
    Lie,
    honest,
)

THREADS = 3
_TIMEOUT_S = 5.0
_HOLD_S = (0.2, 2.0)  # how long something unfinished is left open
_FLOOD = 120  # connections of one thread at once
_UNREAD = 300  # requests whose answers nobody reads
_CLAIMED_BYTES = (1_000, 1_000_000, 90_000_000)  # of a request that is never sent whole
_SENT_BYTES = 8_000_000  # of it at most
_AT_ONCE = 6  # such requests of one thread
_LARGEST = 2**31 - 1
_PRODUCE, _FETCH, _LIST_OFFSETS, _METADATA, _COMMIT = 0, 1, 2, 3, 8
_COORDINATOR, _JOIN, _HEARTBEAT, _SYNC, _INIT_PRODUCER = 10, 11, 12, 14, 22
NONE = 0


def text(value: str | None) -> bytes:
    if value is None:
        return struct.pack(">h", -1)
    return struct.pack(">h", len(value)) + value.encode()


def array(items: Sequence[bytes]) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)


def blob(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


class Reader:
    """Takes an answer apart. struct.error where it is too short."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, form: str) -> int:
        packed = struct.Struct(">" + form)
        (value,) = packed.unpack_from(self._data, self._at)
        self._at += packed.size
        return int(value)

    def text(self) -> str | None:
        size = self.number("h")
        if size < 0:
            return None
        self._at += size
        return self._data[self._at - size : self._at].decode()

    def array(self, read: Callable[[], Any]) -> list[Any]:
        return [read() for _ in range(self.number("i"))]


class Line:
    """One connection. OSError or EOFError where it breaks."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, _TIMEOUT_S)
        self._number = 0

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def frame(self, key: int, version: int, body: bytes) -> bytes:
        self._number += 1
        head = struct.pack(">hhi", key, version, self._number) + text("liar\x1b[31m")
        return blob(head + body)

    def ask(self, key: int, version: int, body: bytes) -> Reader:
        self.socket.sendall(self.frame(key, version, body))
        answer = Reader(self._exactly(struct.unpack(">i", self._exactly(4))[0]))
        answer.number("i")  # the number of the request
        return answer

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.socket.recv(min(size - len(data), 1 << 20))
            if not piece:
                raise EOFError("closed")
            data += piece
        return bytes(data)


@dataclass
class Tally:
    """Of all threads."""

    did: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    believed: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, where: Counter[str], what: str) -> None:
        with self._lock:
            where[what] += 1

    def document(self) -> dict[str, dict[str, int]]:
        with self._lock:
            kinds = ("did", "answers", "believed", "troubles")
            return {kind: dict(getattr(self, kind)) for kind in kinds}


class Liar:
    """One thread of it. `own`: topics that are there to be lied to, with one partition each; what
    had to be refused is told to the `others`, too."""

    def __init__(
        self,
        brokers: Sequence[tuple[str, int]],
        own: Sequence[str],
        others: Sequence[tuple[str, int]],
        seed: str,
        tally: Tally,
        stop: threading.Event,
    ) -> None:
        self._brokers = list(brokers)
        self._own = [(topic, 0) for topic in own]
        self._others = list(others)
        self._rng = random.Random(seed)
        self._tally = tally
        self._stop = stop
        self._leaders: dict[tuple[str, int], tuple[str, int]] = {}

    def run(self) -> None:
        turns = [
            (12, self._lie),
            (6, self._tell_the_truth),
            (2, self._claim_numbers),
            (2, self._begin_and_stop),
            (1, self._never_read),
            (1, self._flood),
            (2, self._make_noise),
            (2, self._claim_arrays),
            (2, self._join_with_nonsense),
            (1, self._read_nonsense),
        ]
        weights = [weight for weight, _ in turns]
        while not self._stop.is_set():
            [(_, turn)] = self._rng.choices(turns, weights)
            self._tally.add(self._tally.did, turn.__name__.strip("_").replace("_", " "))
            try:
                turn()
            except (OSError, EOFError, struct.error) as error:
                # A broker is down, or has had enough: the leaders may be others now.
                self._tally.add(self._tally.troubles, type(error).__name__)
                self._leaders.clear()
                self._stop.wait(0.1)
            self._stop.wait(0.02)

    # --- telling things -------------------------------------------------------------------------

    def _anybody(self) -> tuple[str, int]:
        return self._rng.choice(self._brokers)

    def _lie(self) -> None:
        lie = self._rng.choice(LIES)
        where = self._rng.choice(self._own)
        if lie.verdict == REFUSED and self._rng.random() < 0.4:
            where = self._rng.choice(self._others)
        self._produce(lie, where)

    def _tell_the_truth(self) -> None:
        what = self._rng.choice((TRUTH, SQUEEZED_TRUTH))
        if self._produce(what, self._rng.choice(self._own)) == NONE:
            self._tally.add(self._tally.answers, "the truth was taken")

    def _produce(self, lie: Lie, where: tuple[str, int]) -> int | None:
        """The error code; None if nothing was to be answered."""
        acks = self._rng.choice((-1, -1, 1, 0))
        body = self._produce_body(lie.make(self._rng), where, acks)
        with Line(self._leader(where)) as line:
            if acks == 0:
                line.socket.sendall(line.frame(_PRODUCE, 7, body))
                return None
            answer = line.ask(_PRODUCE, self._rng.choice((7, 8)), body)
        code = _code(answer)
        if code == NONE and lie.verdict == REFUSED:
            self._tally.add(self._tally.believed, lie.name)
        if code in _MOVED:
            self._leaders.clear()
        self._tally.add(self._tally.answers, f"{lie.name}: {code}")
        return code

    def _produce_body(self, data: bytes, where: tuple[str, int], acks: int) -> bytes:
        topic, partition = where
        records = struct.pack(">i", partition) + blob(data)
        named = text(topic) + array([records])
        return text(None) + struct.pack(">hi", acks, 3_000) + array([named])

    def _leader(self, where: tuple[str, int]) -> tuple[str, int]:
        if where not in self._leaders:
            self._learn()
        return self._leaders.get(where) or self._anybody()

    def _learn(self) -> None:
        topics = sorted({topic for topic, _ in [*self._own, *self._others]})
        with Line(self._anybody()) as line:
            answer = line.ask(_METADATA, 1, array([text(each) for each in topics]))
        brokers: dict[int, tuple[str, int]] = {}
        for _ in range(answer.number("i")):
            node, host, port = answer.number("i"), answer.text(), answer.number("i")
            answer.text()  # the rack
            brokers[node] = (host or "", port)
        answer.number("i")  # the controller
        for _ in range(answer.number("i")):
            answer.number("h")
            topic = answer.text() or ""
            answer.number("b")
            for _ in range(answer.number("i")):
                answer.number("h")
                partition, leader = answer.number("i"), answer.number("i")
                for _ in range(2):
                    answer.array(lambda: answer.number("i"))
                if leader in brokers:
                    self._leaders[topic, partition] = brokers[leader]

    def _claim_numbers(self) -> None:
        """A producer's own number, and then sequences that go wrong in every way."""
        with Line(self._anybody()) as line:
            answer = line.ask(_INIT_PRODUCER, 0, text(None) + struct.pack(">i", 1_000))
        answer.number("i")
        if answer.number("h") != NONE:
            return
        producer_id, epoch = answer.number("q"), answer.number("h")
        where = self._rng.choice(self._own)
        sequence = 0
        for _ in range(8):
            wrong = self._rng.choice((0, 0, 0, -3, 5, _LARGEST - sequence))
            bent = self._rng.choice((0, 0, 0, 0, 1, -1))
            said = max(sequence + wrong, 0)
            data = honest(
                3, producer_id=producer_id, producer_epoch=epoch + bent, base_sequence=said
            )
            code = self._produce(Lie("a sequence", EITHER, lambda _, data=data: data), where)  # type: ignore[misc]
            if code == NONE and not wrong and not bent:
                sequence += 3

    # --- beginning and not ending ---------------------------------------------------------------

    def _begin_and_stop(self) -> None:
        at = self._anybody()
        with ExitStack() as lines:
            for _ in range(self._rng.randrange(1, _AT_ONCE + 1)):
                line = lines.enter_context(Line(at))
                line.socket.settimeout(1.0)
                size = self._rng.randrange(1, self._rng.choice((100, 100_000, _SENT_BYTES)))
                body = self._produce_body(bytes(size), self._own[0], -1)
                begun = line.frame(_PRODUCE, 7, body)[4:][:size]
                claimed = self._rng.choice([each for each in _CLAIMED_BYTES if each > size])
                with suppress(TimeoutError):  # the broker takes no more of it for now
                    line.socket.sendall(struct.pack(">i", claimed) + begun)
            self._stop.wait(self._rng.uniform(*_HOLD_S))

    def _never_read(self) -> None:
        with Line(self._leader(self._own[0])) as line:
            line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            line.socket.settimeout(0.3)
            ask = line.frame(_FETCH, 4, self._fetch_body(self._own[0], 0))
            with suppress(TimeoutError):  # the broker has stopped to listen, as it should
                for _ in range(_UNREAD):
                    line.socket.sendall(ask)
            self._stop.wait(self._rng.uniform(*_HOLD_S))

    def _fetch_body(self, where: tuple[str, int], offset: int) -> bytes:
        topic, partition = where
        wanted = struct.pack(">iqi", partition, offset, _LARGEST)
        head = struct.pack(">iiiib", -1, 500, 1, _LARGEST, 0)
        return head + array([text(topic) + array([wanted])])

    def _flood(self) -> None:
        lines: list[socket.socket] = []
        try:
            at = self._anybody()
            lines += [socket.create_connection(at, _TIMEOUT_S) for _ in range(_FLOOD)]
            self._stop.wait(self._rng.uniform(*_HOLD_S))
        finally:
            for each in lines:
                each.close()

    # --- nonsense ---------------------------------------------------------------------------------

    def _make_noise(self) -> None:
        noise = self._rng.randbytes(self._rng.randrange(1, 400))
        with Line(self._anybody()) as line:
            line.socket.settimeout(0.3)
            kind = self._rng.randrange(4)
            if kind == 0:
                noise = struct.pack(">i", self._rng.choice((-1, _LARGEST, 0, 3))) + noise
            elif kind == 1:
                noise = blob(noise)
            elif kind == 2:
                key, version = self._rng.choice((-1, 0, 3, 99, 32_000)), self._rng.randrange(-2, 99)
                noise = line.frame(key, version, noise)
            line.socket.sendall(noise)
            with suppress(TimeoutError):
                line.socket.recv(4_096)

    def _claim_arrays(self) -> None:
        """Thousands of millions of things, of which none is there."""
        many = struct.pack(">i", self._rng.choice((_LARGEST, 1_000_001, 50_000, -2)))
        key, version, before = self._rng.choice(
            (
                (_METADATA, 1, b""),
                (_FETCH, 4, struct.pack(">iiiib", -1, 500, 1, _LARGEST, 0)),
                (_LIST_OFFSETS, 1, struct.pack(">i", -1)),
                (_PRODUCE, 7, text(None) + struct.pack(">hi", -1, 1_000)),
                (
                    _COMMIT,
                    2,
                    text("liars") + struct.pack(">i", 1) + text("") + struct.pack(">q", 1),
                ),
            )
        )
        with Line(self._anybody()) as line:
            line.socket.settimeout(2.0)
            line.ask(key, version, before + many + bytes(2_000))

    def _join_with_nonsense(self) -> None:
        group = f"liars-{self._rng.randrange(4)}"
        with Line(self._anybody()) as line:
            found = line.ask(_COORDINATOR, 0, text(group))
        if found.number("h") != NONE:
            return
        found.number("i")
        at = (found.text() or "", found.number("i"))
        member = self._rng.choice(("", "nobody", "liar-\x00\x1b[2J"))
        protocols = array([text("range") + blob(self._rng.randbytes(30))])
        with Line(at) as line:
            line.socket.settimeout(2.0)
            joining = text(group) + struct.pack(">ii", 6_000, 6_000) + text(member)
            sent = line.frame(_JOIN, 2, joining + text("consumer") + protocols)
            line.socket.sendall(sent)
            # Without a look at the answer: of another generation, with an assignment of noise.
            assigned = array([text("nobody") + blob(self._rng.randbytes(50))])
            line.socket.sendall(
                line.frame(_SYNC, 0, text(group) + struct.pack(">i", 7) + text(member) + assigned)
            )
            line.socket.sendall(
                line.frame(_HEARTBEAT, 0, text(group) + struct.pack(">i", -9) + text(member))
            )
            with suppress(TimeoutError):
                line.socket.recv(4_096)

    def _read_nonsense(self) -> None:
        where = self._rng.choice([*self._own, *self._others])
        offset = self._rng.choice((0, -1, -5, 10**15, 2**63 - 1))
        with Line(self._leader(where)) as line:
            line.ask(_FETCH, 4, self._fetch_body(where, offset))


_MOVED = (3, 5, 6)  # unknown here, no leader, another leader


def _code(answer: Reader) -> int:
    """Of the first partition in the answer to a Produce."""
    if answer.number("i") < 1:
        return NONE
    answer.text()
    answer.number("i")
    answer.number("i")
    return answer.number("h")


def _address(written: str) -> tuple[str, int]:
    host, _, port = written.rpartition(":")
    return host.strip("[]"), int(port)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--own", required=True, help="topics of its own, separated by commas")
    parser.add_argument("--others", required=True, help="partitions of the honest: topic-0,...")
    given = parser.parse_args(arguments)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    brokers = [_address(each) for each in given.bootstrap.split(",")]
    others = [each.rpartition("-") for each in given.others.split(",")]
    tally = Tally()
    failed: list[str] = []

    def live(number: int) -> None:
        liar = Liar(
            brokers,
            given.own.split(","),
            [(topic, int(partition)) for topic, _, partition in others],
            f"{given.seed}/{number}",
            tally,
            stop,
        )
        try:
            liar.run()
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")
            stop.set()
            raise

    threads = [threading.Thread(target=live, args=(each,)) for each in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    print(json.dumps(tally.document()), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
