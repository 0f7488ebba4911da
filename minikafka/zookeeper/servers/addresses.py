"""The ports of ZooKeeper servers on this machine, and whether something serves there."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

_PROBE_TIMEOUT_S = 1.0  # for a connection, and again for the whole answer
_MOST_BYTES = 4 * 1024 * 1024  # of an answer
_LISTEN = "0A"  # a socket state, as /proc/net/tcp writes it


class Ports(NamedTuple):
    """For clients, between the members of an ensemble, and for the election of its leader."""

    client: int
    quorum: int
    election: int

    @staticmethod
    def choose(
        host: str, count: int, preferred: int, remembered: Sequence[Ports] = ()
    ) -> list[Ports]:
        """Ports for `count` servers: the remembered ones that are free; else, for clients, those
        from `preferred` on (0: none is preferred); else any that are free."""
        chosen: list[Ports] = []
        with ExitStack() as held:  # so that none is found twice
            for number in range(count):
                old = remembered[number] if number < len(remembered) else None
                wanted = [old.client] if old else []
                client = _hold(held, host, [*wanted, preferred + number if preferred else 0])
                quorum = _hold(held, host, [old.quorum] if old else [])
                election = _hold(held, host, [old.election] if old else [])
                chosen.append(Ports(client, quorum, election))
        return chosen


def _hold(held: ExitStack, host: str, wanted: Sequence[int]) -> int:
    """The first of `wanted` that is free, else any; it stays bound until `held` is closed."""
    for port in [*wanted, 0]:
        if not 0 <= port <= 65_535:
            continue
        listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        # As the servers do: connections that linger from before are no hindrance.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            continue
        return int(listener.getsockname()[1])
    raise AssertionError("port 0 is always free")


def port_of(address: str) -> tuple[str, int]:
    """(host, port) of `host:port` or `[host]:port`."""
    host, _, port = address.strip().rpartition(":")
    return host.strip("[]"), int(port)


def four_letter_word(host: str, port: int, word: str) -> str | None:
    """The answer to one of ZooKeeper's administrative words; None if nobody answers in a second, or
    without end."""
    try:
        with socket.create_connection((host, port), _PROBE_TIMEOUT_S) as connection:
            connection.sendall(word.encode())
            answer = bytearray()
            deadline = time.monotonic() + _PROBE_TIMEOUT_S
            while chunk := connection.recv(65_536):
                answer += chunk
                left_s = deadline - time.monotonic()
                if left_s <= 0 or len(answer) > _MOST_BYTES:
                    return None
                connection.settimeout(left_s)
    except OSError:
        return None
    return answer.decode(errors="replace")


def serving_mode(host: str, port: int) -> str | None:
    """`standalone`, `leader`, `follower`…; None while the server does not serve."""
    for line in (four_letter_word(host, port, "srvr") or "").splitlines():
        if line.startswith("Mode:"):
            return line.partition(":")[2].strip()
    return None


def answers(host: str, port: int) -> bool:
    """Whether that is a ZooKeeper server that serves, as far as it is allowed to tell."""
    answer = four_letter_word(host, port, "srvr")
    return answer is not None and ("Mode:" in answer or "not in the whitelist" in answer)


def listens(pid: int, port: int) -> bool:
    """Whether it is this process that listens on the port, and not another one that was quicker.
    Where the system does not tell (no /proc), whoever answers is taken for it."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    if not Path("/proc/net/tcp").exists():
        return True
    return any(each in sockets for each in _open_files(pid))


def _open_files(pid: int) -> Iterator[str]:
    """What a process has open, in the system's words; nothing of one that has ended."""
    try:
        found = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return
    for each in found:
        try:
            yield os.readlink(each)
        except OSError:
            continue  # closed meanwhile
