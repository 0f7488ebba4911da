"""The durable state of the server: a write-ahead log and snapshots in one directory.

    lock                     held (flock) while a server runs on the directory
    log.<first zxid>         transactions, appended; the next file begins when one has grown
    snapshot.<last zxid>     the whole tree; the two newest are kept, and the logs from the older on

A log begins with `_LOG_MAGIC` and goes on with batches, each written and fsynced as one:

    magic (4)  payload length (4)  crc32 (4)  first zxid (8)  payload: transactions with lengths

where the CRC covers first zxid and payload. A snapshot is `_SNAPSHOT_MAGIC`, an encoded image,
and the crc32 of both.

Invariants:
- A batch is written only when the one before it is on disk. So bytes that are no batch are a torn
  tail, never acknowledged, if nothing valid follows them; they are cut. If something does follow
  then acknowledged data was damaged, and the journal refuses to open.
- A snapshot is written only when the log has all its transactions, and gets its name only when it
  is complete on disk.
- zxids are consecutive from the oldest kept snapshot to the end of the log.

Everything here blocks: the server calls `append` in one thread and `save_snapshot` in another.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from minikafka.zookeeper.embedded.jute import Malformed
from minikafka.zookeeper.embedded.model import Transaction, TreeImage
from minikafka.zookeeper.embedded.records import (
    decode_image,
    decode_transaction,
    encode_image,
    record_zxid,
)
from minikafka.zookeeper.embedded.tree import Tree

_LOG_MAGIC = b"MKZKLOG1"
_SNAPSHOT_MAGIC = b"MKZKSNP1"
_BATCH_MAGIC = b"\xb5MKB"
_BATCH = struct.Struct(">4sIIQ")
_LENGTH = struct.Struct(">I")
_CRC = struct.Struct(">I")

_KEPT_SNAPSHOTS = 2
DEFAULT_LOG_FILE_BYTES = 8 * 1024 * 1024

# Linux only; elsewhere fsync does the same and a little more.
_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class JournalError(Exception):
    """The directory cannot be used, with the reason for a person."""


def _ignore(_message: str) -> None:
    pass


class Journal:
    """One open data directory. Create it with `Journal.open`, then `recover` once."""

    def __init__(
        self, directory: Path, lock_fd: int, log_file_bytes: int, warn: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._lock_fd = lock_fd
        self._log_file_bytes = log_file_bytes
        self._warn = warn
        self._log_fd = -1
        self._log_size_bytes = 0

    @classmethod
    def open(
        cls,
        directory: Path,
        log_file_bytes: int = DEFAULT_LOG_FILE_BYTES,
        warn: Callable[[str], None] = _ignore,
    ) -> Journal:
        """Make the directory if need be and lock it. Raises JournalError."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock_fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise JournalError(f"data directory {directory}: {error.strerror}") from error
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(lock_fd, 20, 0).decode("ascii", "replace").strip()
            os.close(lock_fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise JournalError(f"data directory {directory}: {error.strerror}") from error
            raise JournalError(
                f"data directory {directory} is in use by another server (process {owner})"
            ) from None
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, str(os.getpid()).encode("ascii"), 0)
        return cls(directory, lock_fd, log_file_bytes, warn)

    # --- recovery --------------------------------------------------------------------------------

    def recover(self, tree: Tree, now_ms: int) -> int:
        """Bring an empty tree to the state on disk, cut a torn tail, and get ready to append.

        Returns how many bytes of log there are. Raises JournalError if acknowledged data is damaged
        or missing.
        """
        try:
            for leftover in self._directory.glob("*.tmp"):
                leftover.unlink()
            snapshots = self._files("snapshot")
            self._load_newest(tree, snapshots, now_ms)
            logs = self._files("log")
            log_bytes = sum(
                self._replay(tree, path, is_last=path == logs[-1][1]) for _, path in logs
            )
        except OSError as error:
            raise JournalError(f"{error.filename or self._directory}: {error.strerror}") from error
        if snapshots and tree.last_zxid < snapshots[-1][0]:
            raise JournalError(
                f"{snapshots[-1][1]} is damaged and the log ends at zxid {tree.last_zxid:#x}"
            )
        tree.sessions.restart_clocks(now_ms)
        return log_bytes

    def _files(self, kind: str) -> list[tuple[int, Path]]:
        """(zxid in the name, path) of all files of a kind, ascending."""
        found = []
        for path in self._directory.glob(f"{kind}.*"):
            try:
                found.append((int(path.suffix[1:], 16), path))
            except ValueError:
                raise JournalError(f"{path} does not belong in a data directory") from None
        return sorted(found)

    def _load_newest(self, tree: Tree, snapshots: list[tuple[int, Path]], now_ms: int) -> None:
        for _, path in reversed(snapshots):
            try:
                image = _decode_snapshot(path.read_bytes())
            except Malformed as error:
                self._warn(f"{path} is damaged ({error}), trying the one before")
                continue
            tree.load(image, now_ms)
            return

    def _replay(self, tree: Tree, path: Path, is_last: bool) -> int:
        """Apply what the tree does not have yet. Returns the bytes of the file that are valid."""
        data = path.read_bytes()
        if not data.startswith(_LOG_MAGIC):
            if is_last and len(data) <= len(_LOG_MAGIC):
                # Ended between the file's creation and its first fsync: nothing was ever in it.
                path.unlink()
                return 0
            raise JournalError(f"{path} is not a log of this server")
        end = len(_LOG_MAGIC)
        for payload, batch_end in _batches(data):
            for record in _records(payload):
                if record_zxid(record) <= tree.last_zxid:
                    continue  # the snapshot has it
                try:
                    txn = decode_transaction(record)
                except Malformed as error:
                    raise JournalError(f"{path}: {error}") from error
                self._replay_one(tree, txn, path)
            end = batch_end
        if end < len(data):
            if not is_last or _any_batch_after(data, end):
                raise JournalError(
                    f"{path} is damaged at byte {end} of {len(data)}, in the middle of data that "
                    "was acknowledged: restore it from a copy"
                )
            self._warn(f"{path}: cutting a torn tail of {len(data) - end} bytes")
        if is_last:
            self._continue_log(path, end)
        return end

    @staticmethod
    def _replay_one(tree: Tree, txn: Transaction, path: Path) -> None:
        if txn.zxid != tree.last_zxid + 1:
            raise JournalError(
                f"{path}: zxid {txn.zxid:#x} follows {tree.last_zxid:#x}, what was between is lost"
            )
        tree.apply(txn)

    def _continue_log(self, path: Path, end: int) -> None:
        self._log_fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.ftruncate(self._log_fd, end)
        os.fsync(self._log_fd)
        os.lseek(self._log_fd, end, os.SEEK_SET)
        self._log_size_bytes = end

    # --- running ---------------------------------------------------------------------------------

    def append(self, first_zxid: int, records: Sequence[bytes]) -> None:
        """Write encoded transactions as one batch; they are durable when this returns.

        Raises OSError, after which the state on disk is unknown and the server must stop.
        """
        assert records
        payload = b"".join([part for record in records for part in _framed(record)])
        crc = zlib.crc32(payload, zlib.crc32(first_zxid.to_bytes(8, "big")))
        batch = _BATCH.pack(_BATCH_MAGIC, len(payload), crc, first_zxid) + payload
        if self._log_fd < 0 or self._log_size_bytes >= self._log_file_bytes:
            self._begin_log(first_zxid)
        _write_all(self._log_fd, batch)
        _sync_data(self._log_fd)
        self._log_size_bytes += len(batch)

    def _begin_log(self, first_zxid: int) -> None:
        if self._log_fd >= 0:
            os.close(self._log_fd)
        path = self._directory / f"log.{first_zxid:016x}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._log_fd = os.open(path, flags, 0o644)
        _write_all(self._log_fd, _LOG_MAGIC)
        os.fsync(self._log_fd)
        self._sync_directory()
        self._log_size_bytes = len(_LOG_MAGIC)

    def save_snapshot(self, image: TreeImage) -> None:
        """Write an image whose transactions are all in the log, then purge what it makes needless.

        Raises OSError; the journal stays usable without the snapshot.
        """
        path = self._directory / f"snapshot.{image.last_zxid:016x}"
        temporary = path.with_suffix(path.suffix + ".tmp")
        with open(temporary, "wb") as file:
            file.write(_SNAPSHOT_MAGIC)
            crc = zlib.crc32(_SNAPSHOT_MAGIC)
            for chunk in encode_image(image):
                file.write(chunk)
                crc = zlib.crc32(chunk, crc)
            file.write(_CRC.pack(crc))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        self._sync_directory()
        self._purge()

    def _purge(self) -> None:
        snapshots = self._files("snapshot")
        for _, path in snapshots[:-_KEPT_SNAPSHOTS]:
            path.unlink()
        oldest_kept_zxid = snapshots[-_KEPT_SNAPSHOTS:][0][0]
        logs = self._files("log")
        for (_, path), (next_first_zxid, _) in pairwise(logs):
            if next_first_zxid <= oldest_kept_zxid + 1:
                path.unlink()

    def close(self) -> None:
        """Let go of the directory."""
        if self._log_fd >= 0:
            os.close(self._log_fd)
            self._log_fd = -1
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _framed(record: bytes) -> tuple[bytes, bytes]:
    return _LENGTH.pack(len(record)), record


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _batch_at(data: bytes, offset: int) -> bytes | None:
    """The payload of a valid batch at an offset, None if there is none."""
    body = offset + _BATCH.size
    if body > len(data):
        return None
    magic, length, crc, first_zxid = _BATCH.unpack_from(data, offset)
    if magic != _BATCH_MAGIC or body + length > len(data):
        return None
    payload = data[body : body + length]
    if zlib.crc32(payload, zlib.crc32(first_zxid.to_bytes(8, "big"))) != crc:
        return None
    return payload


def _batches(data: bytes) -> Iterator[tuple[bytes, int]]:
    """(payload, offset of its end) of each batch up to the first invalid byte."""
    offset = len(_LOG_MAGIC)
    while (payload := _batch_at(data, offset)) is not None:
        offset += _BATCH.size + len(payload)
        yield payload, offset


def _any_batch_after(data: bytes, offset: int) -> bool:
    """Whether a valid batch begins anywhere after an offset."""
    while (offset := data.find(_BATCH_MAGIC, offset + 1)) >= 0:
        if _batch_at(data, offset) is not None:
            return True
    return False


def _records(payload: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(payload):
        (length,) = _LENGTH.unpack_from(payload, offset)
        offset += _LENGTH.size
        yield payload[offset : offset + length]
        offset += length


def _decode_snapshot(data: bytes) -> TreeImage:
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    if not body.startswith(_SNAPSHOT_MAGIC):
        raise Malformed("not a snapshot of this server")
    if _CRC.pack(zlib.crc32(body)) != crc:
        raise Malformed("wrong CRC")
    return decode_image(body[len(_SNAPSHOT_MAGIC) :])
