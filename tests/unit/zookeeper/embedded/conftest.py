"""Real servers in processes of their own, and a client that speaks the bare protocol to them."""

from __future__ import annotations

import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.protocol import serialization as kazoo
from kazoo.security import OPEN_ACL_UNSAFE

DEADLINE_S = 20.0
CHECKOUT = Path(__file__).resolve().parents[4]


class ServerProcess:
    """One server process. `command` overrides how it is started."""

    def __init__(self, data_dir: Path, flags: tuple[str, ...], command: list[str] | None) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.port = 0
        command = command or ["-m", "minikafka.zookeeper.embedded"]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command, "--data-dir", str(data_dir), "--port", "0", *flags],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=CHECKOUT,
            )

    def wait_until_serving(self) -> ServerProcess:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
        line = self.process.stdout.readline() if ready else ""
        assert "serving on" in line, f"{line!r}, log:\n{self.log.read_text()}"
        assert str(self.data_dir) in line
        self.port = int(line.split(",")[0].rsplit(":", 1)[1])
        return self

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end. Returns the exit status."""
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def client(self, **handshake: object) -> RawClient:
        return RawClient(self.port, **handshake)  # type: ignore[arg-type]


class RawClient:
    """One connection. Requests are kazoo's; answers are (xid, zxid, error, body)."""

    def __init__(
        self,
        port: int,
        session: tuple[int, bytes] = (0, bytes(16)),
        timeout_ms: int = 10_000,
        last_zxid: int = 0,
        handshake: bool = True,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.buffered = b""
        if handshake:
            request = kazoo.Connect(0, last_zxid, timeout_ms, *session, False).serialize()
            self.send_frame(bytes(request))
            answer, _ = kazoo.Connect.deserialize(self.receive_frame(), 0)
            self.timeout_ms: int = answer.time_out
            self.session: tuple[int, bytes] = (answer.session_id, answer.passwd)

    def send_frame(self, frame: bytes) -> None:
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def send(self, xid: int, request: object) -> None:
        body = bytes(request.serialize())  # type: ignore[attr-defined]
        self.send_frame(struct.pack(">ii", xid, request.type) + body)  # type: ignore[attr-defined]

    def receive_frame(self) -> bytes:
        """Raises EOFError when the server has closed the connection."""
        (length,) = struct.unpack(">i", self._take(4))
        return self._take(length)

    def receive(self) -> tuple[int, int, int, bytes]:
        frame = self.receive_frame()
        return (*struct.unpack_from(">iqi", frame), frame[16:])

    def ask(self, request: object, xid: int = 1) -> tuple[int, bytes]:
        """(error, body) of the answer to one request; watch events in between are dropped."""
        self.send(xid, request)
        while True:
            got, _, error, body = self.receive()
            if got == xid:
                return error, body

    def create(self, path: str, data: bytes = b"", flags: int = 0, xid: int = 1) -> int:
        return self.ask(kazoo.Create(path, data, OPEN_ACL_UNSAFE, flags), xid)[0]

    def wait_until_closed(self) -> None:
        """Read to the end of the stream, whichever way it ends."""
        try:
            while True:
                self.receive_frame()
        except (EOFError, ConnectionError):
            return

    def close(self) -> None:
        self.socket.close()

    def _take(self, count: int) -> bytes:
        while len(self.buffered) < count:
            chunk = self.socket.recv(262_144)
            if not chunk:
                raise EOFError
            self.buffered += chunk
        taken, self.buffered = self.buffered[:count], self.buffered[count:]
        return taken


Starter = Callable[..., ServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts servers on the same directory unless told otherwise; ends them all."""
    started: list[ServerProcess] = []

    def start_one(
        *flags: str,
        data_dir: Path = tmp_path / "data",
        command: list[str] | None = None,
        wait: bool = True,
    ) -> ServerProcess:
        server = ServerProcess(data_dir, flags, command)
        started.append(server)
        return server.wait_until_serving() if wait else server

    yield start_one
    for server in started:
        server.clean_up()


@pytest.fixture
def server(start: Starter) -> ServerProcess:
    return start("--min-session-timeout-ms", "400")


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait for a condition, with a deadline."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline_s, pause = time.monotonic() + DEADLINE_S, threading.Event()
        while not condition():
            assert time.monotonic() < deadline_s, "the condition never held"
            pause.wait(0.005)

    return wait
