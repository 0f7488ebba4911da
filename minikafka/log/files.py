"""The file operations that a log uses, in one replaceable place, and what is built of them alone.

`Disk` is the operating system. Tests hand in a subclass whose disk is full or broken, at any
operation; nothing else in log/ calls `os` for a file of a log. No state.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Buffer = bytes | bytearray | memoryview

DELETED_SUFFIX = ".deleted"
TEMPORARY_SUFFIX = ".tmp"
FILE_MODE = 0o640
DIRECTORY_MODE = 0o750
_IOV_MAX = min(os.sysconf("SC_IOV_MAX"), 1024) if os.sysconf("SC_IOV_MAX") > 0 else 1024
_READ_BYTES = 1024 * 1024


class Disk:
    """os, as far as a log writes or reads by it. Every method raises OSError."""

    open: Callable[..., int] = staticmethod(os.open)
    close: Callable[[int], None] = staticmethod(os.close)
    writev: Callable[[int, Sequence[Buffer]], int] = staticmethod(os.writev)
    pread: Callable[[int, int, int], bytes] = staticmethod(os.pread)
    dup: Callable[[int], int] = staticmethod(os.dup)
    sendfile: Callable[[int, int, int, int], int] = staticmethod(os.sendfile)
    fsync: Callable[[int], None] = staticmethod(os.fsync)
    ftruncate: Callable[[int, int], None] = staticmethod(os.ftruncate)
    rename: Callable[..., None] = staticmethod(os.replace)
    unlink: Callable[..., None] = staticmethod(os.unlink)
    rmdir: Callable[..., None] = staticmethod(os.rmdir)
    mkdir: Callable[..., None] = staticmethod(os.mkdir)
    listdir: Callable[..., list[str]] = staticmethod(os.listdir)
    stat: Callable[..., os.stat_result] = staticmethod(os.stat)

    def write_all(self, fd: int, buffers: Sequence[Buffer], size_bytes: int) -> None:
        """Write all of `buffers` (`size_bytes` in sum), in one writev if the system takes it so."""
        if len(buffers) <= _IOV_MAX:
            written = self.writev(fd, buffers)
            if written == size_bytes:
                return
        else:
            written = self.writev(fd, buffers[:_IOV_MAX])
        self._write_rest(fd, buffers, written, size_bytes)

    def _write_rest(
        self, fd: int, buffers: Sequence[Buffer], written: int, size_bytes: int
    ) -> None:
        rest = [memoryview(buffer).cast("B") for buffer in buffers]
        if (there := sum(map(len, rest))) != size_bytes:
            raise ValueError(f"{there} bytes are there to be written; {size_bytes} were told")
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
                raise OSError("the disk takes no bytes, and does not say why")

    def read_file(self, path: Path) -> bytes:
        """All of a file."""
        fd = self.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts: list[bytes] = []
            position = 0
            while part := self.pread(fd, _READ_BYTES, position):
                parts.append(part)
                position += len(part)
            return b"".join(parts)
        except OSError as error:
            if error.filename is None:
                error.filename = str(path)
            raise
        finally:
            self.close(fd)

    def size_of(self, path: Path | str) -> int:
        return self.stat(path).st_size

    def names(self, directory: Path, suffix: str) -> list[str]:
        """Of the files in a folder that end so, sorted."""
        return sorted(name for name in self.listdir(directory) if name.endswith(suffix))

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
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = self.open(temporary, flags, FILE_MODE)
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

    def remove_tree(self, directory: Path) -> None:
        """Unlink a folder and all that is in it; what has gone meanwhile has gone."""
        try:
            names = self.listdir(directory)
        except FileNotFoundError:
            return
        for name in names:
            path = directory / name
            if stat.S_ISDIR(os.lstat(path).st_mode):
                self.remove_tree(path)
            else:
                self.remove(path)
        self.rmdir(directory)

    def remove(self, path: Path) -> None:
        """Unlink a file, if it is there."""
        try:
            self.unlink(path)
        except FileNotFoundError:
            return
