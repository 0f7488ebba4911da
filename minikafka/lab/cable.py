"""A connection that can be cut: a TCP proxy between one process and one server.

Threads, as the stage is blocking. State: cut or not, the sockets of the connections that are open.
While it is cut, connections are accepted and closed at once, as by a host that is not there.
"""

from __future__ import annotations

import contextlib
import socket
import threading

_CHUNK_BYTES = 65_536


class Cable:
    """`with Cable("127.0.0.1:2181") as cable:` -- clients connect to `cable.address`."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = (host.strip("[]"), int(port))
        self._lock = threading.Lock()
        self._cut = False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Cable:
        threading.Thread(target=self._accept, name="lab-cable", daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()

    def cut(self) -> None:
        """Break every connection, and let none come about."""
        with self._lock:
            self._cut = True
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        with self._lock:
            self._cut = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                server = socket.create_connection(self._server, timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                if self._cut:
                    client.close()
                    server.close()
                    continue
                self._open |= {client, server}
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()
