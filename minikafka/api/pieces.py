"""What the records of an answer may be made of: bytes, and ranges of files that are sent unread.

Only who asks for ranges gets them (`FetchRequest.lend_from_bytes`), and has to release each of them
once it is sent or is not sent any more: it holds descriptors of the broker's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeAlias


class FileRange(Protocol):
    """A part of a log's file. It has a descriptor of its own, so it stays what it is, whatever
    becomes of the log, until it is released."""

    def __len__(self) -> int:
        """How many bytes are left to be sent."""

    def send_to(self, socket_fd: int, max_bytes: int) -> int:
        """Send what a socket that does not block takes of the next `max_bytes`; returns how much
        that was. KafkaStorageError: the disk failed, and the replica is fenced. OffsetOutOfRange-
        Error: the log was cut meanwhile. OSError: the socket's, or files cannot be sent to it."""

    def read(self) -> bytes:
        """What is left. KafkaStorageError, ResourceShortageError, OffsetOutOfRangeError."""

    def release(self) -> None:
        """Idempotent. Nothing of it can be sent any more."""


Piece: TypeAlias = bytes | FileRange


def release(pieces: Iterable[Piece]) -> None:
    """Let go of the files of what nobody sends any more."""
    for piece in pieces:
        if not isinstance(piece, bytes):
            piece.release()
