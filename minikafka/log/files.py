"""The file operations that a log uses, in one replaceable place, and what is built of them alone.

`Disk` is the operating system. Tests hand in a subclass whose disk is full or broken; nothing else
in log/ calls `os` for anything that writes. No state.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Buffer = bytes | bytearray | memoryview

DELETED_SUFFIX = ".deleted"
TEMPORARY_SUFFIX = ".tmp"
_IOV_MAX = min(os.sysconf("SC_IOV_MAX"), 1024) if os.sysconf("SC_IOV_MAX") > 0 else 1024


class Disk:
    """os, as far as a log writes or reads by it. Every method raises OSError."""

    open: Callable[..., int] = staticmethod(os.open)
    close: Callable[[int], None] = staticmethod(os.close)
    dup: Callable[[int], int] = staticmethod(os.dup)
    writev: Callable[[int, Sequence[Buffer]], int] = staticmethod(os.writev)
    pread: Callable[[int, int, int], bytes] = staticmethod(os.pread)
    fsync: Callable[[int], None] = staticmethod(os.fsync)
    ftruncate: Callable[[int, int], None] = staticmethod(os.ftruncate)
    rename: Callable[..., None] = staticmethod(os.replace)
    unlink: Callable[..., None] = staticmethod(os.unlink)

    def write_all(self, fd: int, buffers: Sequence[Buffer], size_bytes: int) -> None:
        """Write all of `buffers` (`size_bytes` in sum), in one writev if the system takes it so."""
        if len(buffers) <= _IOV_MAX:
            written = self.writev(fd, buffers)
            if written == size_bytes:
                return
        else:
            written = self.writev(fd, buffers[:_IOV_MAX])
        self._write_rest(fd, buffers, written)

    def _write_rest(self, fd: int, buffers: Sequence[Buffer], written: int) -> None:
        rest = [memoryview(buffer).cast("B") for buffer in buffers]
        index = 0
        while True:
            while index < len(rest) and written >= len(rest[index]):
                written -= len(rest[index])
                index += 1
            if index == len(rest):
                return
            rest[index] = rest[index][written:]
            written = self.writev(fd, rest[index : index + _IOV_MAX])
            if written == 0:
                raise OSError("the disk takes no more bytes, and does not say why")

    def sync_directory(self, directory: Path) -> None:
        """Make names created, renamed or removed in `directory` durable."""
        fd = self.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fsync(fd)
        finally:
            self.close(fd)

    def write_file(self, path: Path, content: bytes, durable: bool) -> None:
        """Replace `path` as a whole: temporary file, rename; with `durable`, fsync of both the file
        before and the folder after it. A crash leaves the old or the new content."""
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        fd = self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            if content:
                self.write_all(fd, [content], len(content))
            if durable:
                self.fsync(fd)
        finally:
            self.close(fd)
        self.rename(temporary, path)
        if durable:
            self.sync_directory(path.parent)

    def set_aside(self, paths: Iterable[Path]) -> list[Path]:
        """Rename files so that they count as gone; returns their new names, to be unlinked later.
        Files that are not there are passed over."""
        gone: list[Path] = []
        for path in paths:
            target = path.with_name(path.name + DELETED_SUFFIX)
            try:
                self.rename(path, target)
            except FileNotFoundError:
                continue
            gone.append(target)
        return gone

    def remove(self, path: Path) -> None:
        """Unlink a file, if it is there."""
        try:
            self.unlink(path)
        except FileNotFoundError:
            return
