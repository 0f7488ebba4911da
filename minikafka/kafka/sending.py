"""Answers of which parts are ranges of files: the system copies those to the socket by itself.

The socket belongs to a transport of the loop, which knows nothing of this. So two rules: while an
answer is under way here nothing is written to the transport, and none begins before the transport
has given all that it had to the system.

State: `_parts`, what is left of the answer under way; `_drains`, whether it waits for the
transport; `_own_fd`, a descriptor for the same socket, while it waits for room in that (neither
loop lets anybody wait for a transport's own); `_next_turn`, when one turn of the loop has sent
enough.
Invariant: every range is released, once, when it is sent or the connection is gone; the descriptor
and what is registered with the loop go with the answer.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeGuard

from minikafka.api.pieces import FileRange, Piece
from minikafka.errors import MinikafkaError

_CALL_BYTES = 512 * 1024  # nobody else is served meanwhile, and the disk may have to read them
_TURN_BYTES = 1024 * 1024
_NONE = -1
_UNSENDABLE = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))
_IN_MEMORY = (bytes, memoryview)
_MORE_FOLLOWS = getattr(socket, "MSG_MORE", 0)


class Owner(Protocol):
    """The connection."""

    def on_sent(self) -> None:
        """An answer that was not sent at once is sent now."""

    def on_blocked(self) -> None:
        """The socket takes no more until the client has read of it."""

    def on_unsendable(self, error: OSError) -> None:
        """The system does not send files from where these are; what is under way is read."""

    def close(self, reason: str = "") -> None: ...


def sends_files(transport: asyncio.Transport) -> bool:
    """Whether what is sent by its socket goes to the client as it is, and the system can do so."""
    if not hasattr(os, "sendfile") or transport.get_extra_info("sslcontext") is not None:
        return False
    its_socket = transport.get_extra_info("socket")
    return its_socket is not None and its_socket.family in (socket.AF_INET, socket.AF_INET6)


def all_bytes(parts: Sequence[Piece]) -> TypeGuard[list[bytes]]:
    return all(isinstance(part, bytes) for part in parts)


def _let_go(part: Piece | memoryview) -> None:
    if not isinstance(part, _IN_MEMORY):
        part.release()


class FileSender:
    """See the module."""

    def __init__(self, transport: asyncio.Transport, owner: Owner) -> None:
        self._transport = transport
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        its_socket = transport.get_extra_info("socket")
        self._family = its_socket.family
        self._fd: int = its_socket.fileno()
        self._parts: deque[Piece | memoryview] = deque()
        self._drains = False
        self._own_fd = _NONE
        self._next_turn: asyncio.Handle | None = None

    @property
    def busy(self) -> bool:
        return bool(self._parts)

    @property
    def left_bytes(self) -> int:
        """Of the answer under way."""
        return sum(map(len, self._parts))

    @property
    def held_bytes(self) -> int:
        """How many of them are in memory."""
        return sum(len(part) for part in self._parts if isinstance(part, _IN_MEMORY))

    def send(self, parts: Sequence[Piece]) -> None:
        """Send an answer; `busy` afterwards if that takes a while."""
        assert not self._parts
        self._parts.extend(parts)
        if self._transport.is_closing():
            self.end()
        elif self._transport.get_write_buffer_size():
            self._drains = True
            self._transport.set_write_buffer_limits(0)  # `on_drained` when all of it has gone
        else:
            self._go_on()

    def on_drained(self) -> None:
        """The transport may have nothing left to write."""
        if self._drains and not self._transport.get_write_buffer_size():
            self._drains = False
            self._transport.set_write_buffer_limits()
            self._on_turn()

    def end(self) -> None:
        """Nothing more is sent: all is sent, or the connection is gone. Idempotent."""
        self._drains = False
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        own_fd, self._own_fd = self._own_fd, _NONE
        if own_fd != _NONE:
            self._loop.remove_writer(own_fd)
            os.close(own_fd)
        while self._parts:
            _let_go(self._parts.popleft())

    def _on_turn(self) -> None:
        self._next_turn = None
        if self._go_on():
            self._owner.on_sent()

    def _go_on(self) -> bool:
        """Send what the socket takes, but not more than is right in one turn; whether that was the
        rest."""
        if self._transport.is_closing():  # its descriptor may be somebody else's soon
            self.end()
            return False
        try:
            done = self._send_some()
        except BlockingIOError:
            self._wait()
            return False
        except ConnectionError:
            self._fail("")
            return False
        except (OSError, MinikafkaError) as error:
            self._fail(f"an answer cannot be sent to its end: {error}")
            return False
        except BaseException:
            self._fail("an answer failed unexpectedly")
            raise
        if done:
            self.end()
        elif self._own_fd == _NONE:  # else the loop calls again by itself
            self._next_turn = self._loop.call_soon(self._on_turn)
        return done

    def _send_some(self) -> bool:
        """Whether all is sent."""
        parts, left_bytes = self._parts, _TURN_BYTES
        while parts and left_bytes > 0:
            part = parts[0]
            if isinstance(part, _IN_MEMORY):
                sent = self._send_bytes(part)
                parts[0] = memoryview(part)[sent:]
            else:
                sent = self._send_range(part, min(_CALL_BYTES, left_bytes))
            left_bytes -= sent
            if not parts[0]:
                _let_go(parts.popleft())
        return not parts

    def _send_bytes(self, part: bytes | memoryview) -> int:
        flags = _MORE_FOLLOWS if len(self._parts) > 1 else 0
        lent = socket.socket(self._family, socket.SOCK_STREAM, 0, self._fd)
        try:
            return lent.send(part, flags)
        finally:
            lent.detach()

    def _send_range(self, part: FileRange, max_bytes: int) -> int:
        try:
            return part.send_to(self._fd, max_bytes)
        except OSError as error:
            if error.errno not in _UNSENDABLE:
                raise
            self._owner.on_unsendable(error)
            self._parts[0] = part.read()
            part.release()
            return 0

    def _wait(self) -> None:
        """Until there is room in the socket."""
        if self._own_fd != _NONE:
            return
        try:
            self._own_fd = os.dup(self._fd)
        except OSError as error:
            self._fail(f"its client cannot be waited for: {error}")
            return
        self._loop.add_writer(self._own_fd, self._on_turn)
        self._owner.on_blocked()

    def _fail(self, reason: str) -> None:
        """The client has the begin of an answer, whose rest it cannot get."""
        self.end()
        self._owner.close(reason)
