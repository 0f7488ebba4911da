"""Starts and stops ZooKeeper on this machine: the embedded server, or Apache ZooKeeper.

Under the data directory lie, for `embedded`, `embedded/` and `embedded.log`; for `local` and
`local:N`, `server-1/` … with `zoo.cfg` and the data, and `server-1.log` …; and `launcher.json`,
which remembers mode and ports, so that a restart carries on with the data on the same ports where
they are free.

Each server process inherits a lock on its directory, which is held for as long as the process
lives, however it was started and whoever started it: two servers never share a directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from minikafka import processes
from minikafka.children import module_command
from minikafka.config.properties import read_zookeeper_connect
from minikafka.errors import UsageError
from minikafka.privacy import keep_from_others
from minikafka.processes import Process
from minikafka.zookeeper.servers import apache
from minikafka.zookeeper.servers.addresses import Ports, answers, listens, port_of, serving_mode

DEFAULT_PORT = 2181
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
_CHECK_TIMEOUT_S = 10.0
_HOST = "127.0.0.1"
_ENSEMBLE_SIZES = (1, 3, 5, 7)
_MODES = "expected embedded, local, local:3, or HOST:PORT,… of servers that run already"
_TAIL_LINES = 15
_PORT_ATTEMPTS = 3
# As Java and Python word EADDRINUSE.
_PORT_TAKEN = ("address already in use",)

TICK_TIME_MS = 200
MIN_SESSION_TIMEOUT_MS = 2 * TICK_TIME_MS
MAX_SESSION_TIMEOUT_MS = 60_000


@dataclass(frozen=True, slots=True)
class ZooKeeperMode:
    """`text` as it was given; `servers` to be started: 0 for `hosts`."""

    text: str
    kind: Literal["embedded", "local", "hosts"]
    servers: int


def parse_mode(text: str) -> ZooKeeperMode:
    """Read `embedded`, `local`, `local:N` or `host:port,…[/chroot]`. UsageError for others."""
    if text == "embedded":
        return ZooKeeperMode(text, "embedded", 1)
    if text == "local":
        return ZooKeeperMode(text, "local", 1)
    kind, _, number = text.partition(":")
    if kind == "local":
        if not number.isdecimal() or int(number) not in _ENSEMBLE_SIZES:
            raise UsageError(
                f"{text!r} is not valid: an ensemble on this machine has 1, 3, 5 or 7 servers "
                "(an even number outlives no more failures than one less)"
            )
        return ZooKeeperMode(text, "local", int(number))
    try:
        return ZooKeeperMode(read_zookeeper_connect(text), "hosts", 0)
    except ValueError:
        raise UsageError(f"{text!r} is not a way to have ZooKeeper: {_MODES}") from None


@dataclass(slots=True)
class ZooKeeperServer:
    """A server process that was started here; `process` is its handle."""

    name: str
    pid: int
    port: int
    data_dir: Path
    log_path: Path
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"{_HOST}:{self.port}"

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None


@dataclass(slots=True)
class RunningZooKeeper:
    """`hosts` is what clients connect to; no servers if somebody else runs them."""

    mode: str
    hosts: str
    servers: list[ZooKeeperServer] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        return [server.pid for server in self.servers]

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM to every server, SIGKILL to what is left after `timeout_s`. May be repeated."""
        _stop(self.servers, timeout_s)


def launch(
    mode: ZooKeeperMode,
    data_dir: Path,
    preferred_port: int = DEFAULT_PORT,
    *,
    detached: bool = False,
    timeout_s: float = START_TIMEOUT_S,
    started: Callable[[list[int]], None] = lambda _: None,
) -> RunningZooKeeper:
    """Start what `mode` asks for and wait until it serves; for running servers, only check that.

    `detached` servers are not ended by signals to this process's terminal. `started` hears their
    pids before anything is waited for, so that somebody can end them if this process is killed.
    UsageError, with the end of the server's log where there is one, if they do not serve within
    `timeout_s`; nothing is left running then.
    """
    if mode.kind == "hosts":
        _check_hosts(mode.text, min(timeout_s, _CHECK_TIMEOUT_S))
        return RunningZooKeeper(mode.text, mode.text)
    if mode.kind == "local":
        apache.find_installation()  # before anything is written
    keep_from_others()
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    for attempt in range(_PORT_ATTEMPTS):
        ports = _choose_ports(mode, data_dir, preferred_port)
        servers: list[ZooKeeperServer] = []
        try:
            _start_all(mode, data_dir, ports, detached, servers)
            started([one.pid for one in servers])
            _wait_until_serving(servers, timeout_s)
        except BaseException as error:
            _stop(servers, STOP_TIMEOUT_S)
            if isinstance(error, _PortTakenError) and attempt + 1 < _PORT_ATTEMPTS:
                continue  # by somebody who was quicker: choose again
            raise
        _remember(mode, data_dir, ports)
        return RunningZooKeeper(mode.text, ",".join(one.address for one in servers), servers)
    raise AssertionError("unreachable")


def start_server(data_dir: Path, number: int, *, detached: bool = False) -> ZooKeeperServer:
    """Start one server (from 1) of those that were launched on `data_dir` again, on its ports. Does
    not wait until it serves: in an ensemble that takes a majority. UsageError if it runs."""
    data_dir = data_dir.absolute()
    mode, ports = _remembered(data_dir / "launcher.json")
    return _start_one(parse_mode(mode), data_dir, ports, number, detached)


def stop_processes(servers: Sequence[Process], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Stop servers that another process started: SIGTERM to each, SIGKILL to what is left after
    `timeout_s`. A pid that has passed on to some other process is left alone. UsageError if one
    outlives even that."""
    running = [one for one in servers if processes.send_signal(one, signal.SIGTERM)]
    for one in running:
        processes.send_signal(one, signal.SIGCONT)  # one that is paused hears SIGTERM only then
    deadline = time.monotonic() + timeout_s
    running = [
        one
        for one in running
        if not processes.wait_ended(one, max(0.0, deadline - time.monotonic()))
    ]
    for one in running:
        processes.send_signal(one, signal.SIGKILL)
    left = [one.pid for one in running if not processes.wait_ended(one, timeout_s)]
    if left:
        raise UsageError(f"ZooKeeper servers cannot be ended: {left}")


# --- ports ---------------------------------------------------------------------------------------


class _PortTakenError(UsageError):
    pass


def _choose_ports(mode: ZooKeeperMode, data_dir: Path, preferred_port: int) -> list[Ports]:
    """One set a server. Raises UsageError if the directory is of another mode."""
    remembered: list[Ports] = []
    path = data_dir / "launcher.json"
    if path.exists():
        known_mode, remembered = _remembered(path)
        known = parse_mode(known_mode)
        if (known.kind, known.servers) != (mode.kind, mode.servers):
            raise UsageError(
                f"{data_dir} has the data of a ZooKeeper that was started as {known_mode}: "
                f"start it as that again, or use another data directory for {mode.text}"
            )
    return Ports.choose(_HOST, mode.servers, preferred_port, remembered)


def _remembered(path: Path) -> tuple[str, list[Ports]]:
    """The mode and the ports of launcher.json. UsageError if it cannot be read."""
    try:
        found = json.loads(path.read_text())
        return str(found["mode"]), [Ports(*(int(port) for port in own)) for own in found["ports"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error}): repair it, or delete it") from None


def _remember(mode: ZooKeeperMode, data_dir: Path, ports: Sequence[Ports]) -> None:
    path = data_dir / "launcher.json"
    fresh = path.with_suffix(".tmp")
    fresh.write_text(
        json.dumps({"version": 1, "mode": mode.text, "ports": [list(p) for p in ports]})
    )
    fresh.replace(path)


def _check_hosts(hosts: str, timeout_s: float) -> None:
    """UsageError unless at least one of the servers serves."""
    deadline = time.monotonic() + timeout_s
    servers = hosts.partition("/")[0].split(",")
    while True:
        if any(answers(*port_of(server)) for server in servers):
            return
        if time.monotonic() >= deadline:
            raise UsageError(
                f"no ZooKeeper serves at {hosts}: check the addresses, that the servers run, "
                "and that a majority of them is up"
            )
        time.sleep(0.1)


# --- processes -----------------------------------------------------------------------------------


def _start_all(
    mode: ZooKeeperMode,
    data_dir: Path,
    ports: Sequence[Ports],
    detached: bool,
    servers: list[ZooKeeperServer],
) -> None:
    """Start the processes, all before any is waited for: an ensemble needs a majority to serve."""
    for number in range(1, len(ports) + 1):
        # One by one: if one cannot be started, the caller ends those before it.
        servers.append(_start_one(mode, data_dir, ports, number, detached))  # noqa: PERF401


def _start_one(
    mode: ZooKeeperMode, data_dir: Path, ports: Sequence[Ports], number: int, detached: bool
) -> ZooKeeperServer:
    name = "embedded" if mode.kind == "embedded" else f"server-{number}"
    own = ports[number - 1]
    directory = data_dir / name
    directory.mkdir(exist_ok=True)
    if mode.kind == "embedded":
        command = _embedded_command(directory, own.client)
    else:
        command = apache.command(directory, number, ports, TICK_TIME_MS, MAX_SESSION_TIMEOUT_MS)
    log_path = data_dir / f"{name}.log"
    with _locked(directory) as lock, log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            start_new_session=detached,
        )
    return ZooKeeperServer(name, process.pid, own.client, directory, log_path, process)


def _embedded_command(directory: Path, port: int) -> list[str]:
    return module_command(
        "minikafka.zookeeper.embedded",
        f"--data-dir={directory}",
        f"--host={_HOST}",
        f"--port={port}",
        f"--tick-time-ms={TICK_TIME_MS}",
        f"--min-session-timeout-ms={MIN_SESSION_TIMEOUT_MS}",
        f"--max-session-timeout-ms={MAX_SESSION_TIMEOUT_MS}",
    )


@contextmanager
def _locked(directory: Path) -> Iterator[int]:
    """A locked file descriptor for the server to inherit. The lock belongs to what was opened, not
    to a process: it is free when the last process that has it open has ended."""
    lock = os.open(directory / "launcher.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"a ZooKeeper server already runs on {directory}: stop it, or use another "
                "data directory"
            ) from None
        yield lock
    finally:
        os.close(lock)


def _wait_until_serving(servers: Sequence[ZooKeeperServer], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    waiting = list(servers)
    while waiting:
        for server in servers:
            if not server.is_running:
                raise _ended_early(server)
        waiting = [
            one
            for one in waiting
            if serving_mode(_HOST, one.port) is None or not listens(one.pid, one.port)
        ]
        if waiting and time.monotonic() >= deadline:
            raise UsageError(
                f"ZooKeeper ({waiting[0].name}) does not serve after {timeout_s:g} s: "
                f"{_log_tail(waiting[0])}"
            )
        if waiting:
            time.sleep(0.05)


def _ended_early(server: ZooKeeperServer) -> UsageError:
    tail = _log_tail(server)
    taken = any(words in tail.lower() for words in _PORT_TAKEN)
    kind = _PortTakenError if taken else UsageError
    return kind(f"ZooKeeper ({server.name}) ended as it was started: {tail}")


def _log_tail(server: ZooKeeperServer) -> str:
    lines = server.log_path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    end = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
    return f"its log {server.log_path} ends with\n{end}"


def _stop(servers: Sequence[ZooKeeperServer], timeout_s: float) -> None:
    running = [server for server in servers if server.is_running]
    for server in running:
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)  # one that is paused hears SIGTERM only then
    running = _wait_until_ended(running, timeout_s)
    for server in running:
        server.process.send_signal(signal.SIGKILL)
    left = _wait_until_ended(running, timeout_s)
    if left:
        raise UsageError(f"ZooKeeper servers cannot be ended: {[server.pid for server in left]}")


def _wait_until_ended(
    servers: Sequence[ZooKeeperServer], timeout_s: float
) -> list[ZooKeeperServer]:
    """Those that still run after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    running = [server for server in servers if server.is_running]
    while running and time.monotonic() < deadline:
        time.sleep(0.02)
        running = [server for server in running if server.is_running]
    return running
