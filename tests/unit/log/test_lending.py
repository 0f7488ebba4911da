"""Ranges of segments that are lent to be sent: they are what `read` gives, whatever comes after."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minikafka.api.pieces import FileRange, Piece, release
from minikafka.errors import KafkaStorageError, OffsetOutOfRangeError
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.model import TopicPartition
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    TP,
    append,
    append_values,
    batch,
    close,
    open_store,
)
from tests.unit.log.test_compaction import COMPACTED, compact, roll
from tests.unit.log.test_open_files import CountingDisk
from tests.unit.log.test_partition_log import SMALL


class SendingDisk(CountingDisk):
    """`refuses`: what sendfile says instead of sending."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: int | None = None

    def dup(self, fd: int) -> int:  # type: ignore[override]
        if len(self.opened) >= self.limit:
            raise OSError(errno.EMFILE, "Too many open files")
        copy = os.dup(fd)
        self.opened.add(copy)
        return copy

    def sendfile(self, out: int, fd: int, position: int, count: int) -> int:  # type: ignore[override]
        if self.refuses is not None:
            raise OSError(self.refuses, os.strerror(self.refuses))
        return os.sendfile(out, fd, position, count)


@pytest.fixture
def disk() -> SendingDisk:
    return SendingDisk()


@pytest.fixture
def store(tmp_path: Path, disk: SendingDisk) -> Iterator[DiskLogStore]:
    store = open_store(tmp_path / "data", disk=disk)
    yield store
    assert store.open_files.lent == 0
    close(store)
    assert not disk.opened


@pytest.fixture
def log(store: DiskLogStore) -> DiskLog:
    return store.open(TP, TOPIC_ID, SMALL)


def never(error: KafkaStorageError) -> None:
    raise AssertionError(error)


def lent(log: DiskLog, offset: int = 0, max_bytes: int = 10**6, least: int = 1) -> list[Piece]:
    return log.pieces(offset, max_bytes, log.log_end_offset, least, never)


def one_range(log: DiskLog, on_failed: Any = never) -> FileRange:
    [piece] = log.pieces(0, 10**6, log.log_end_offset, 1, on_failed)
    assert not isinstance(piece, bytes)
    return piece


def sent(pieces: list[Piece], at_once: int = 10**6) -> bytes:
    """What comes out of the other end; the ranges are released."""
    here, there = socket.socketpair()
    here.setblocking(False)
    found = b""
    with here, there:
        for piece in pieces:
            if isinstance(piece, bytes):
                found += piece
                continue
            while len(piece):
                count = piece.send_to(here.fileno(), at_once)
                while count:
                    some = there.recv(count)
                    found += some
                    count -= len(some)
    release(pieces)
    return found


def test_ranges_are_what_read_gives_from_everywhere_and_with_any_limit(log: DiskLog) -> None:
    chance = random.Random(5)
    for _ in range(60):
        end = log.log_end_offset
        append(log, batch(end, chance.randrange(1, 4), value=bytes(chance.randrange(150))))
    assert log.segment_count > 5
    kinds = set()
    for _ in range(300):
        offset = chance.randrange(log.log_end_offset + 1)
        end_offset = chance.randrange(offset, log.log_end_offset + 1)
        max_bytes, least = chance.randrange(1, 1_500), chance.randrange(1, 300)
        read = log.read(offset, max_bytes, end_offset)
        pieces = log.pieces(offset, max_bytes, end_offset, least, never)
        kinds |= {type(piece) for piece in pieces}
        assert sum(map(len, pieces)) == len(read)
        if chance.random() < 0.5:
            assert sent(pieces, chance.randrange(1, 400)) == read
        else:
            parts = [each if isinstance(each, bytes) else each.read() for each in pieces]
            release(pieces)
            assert b"".join(parts) == read
    assert len(kinds) == 2, "bytes and ranges"


def test_what_is_not_there_is_not_lent_either(log: DiskLog) -> None:
    append_values(log, b"a")
    with pytest.raises(OffsetOutOfRangeError):
        lent(log, offset=2)
    assert lent(log, offset=1) == []


def test_a_range_stays_what_it_was_when_its_segment_goes(log: DiskLog, store: DiskLogStore) -> None:
    append_values(log, b"x" * 200, b"y" * 200)
    assert log.segment_count == 2
    read = log.read(0, 10**6, 2)
    rolled, deleted = lent(log), lent(log)
    append_values(log, b"z" * 200)
    assert sent(rolled) == read
    log.advance_log_start(3)
    for path in log.directory.glob("*.deleted"):
        path.unlink()
    assert sent(deleted) == read


async def test_a_range_outlives_its_log(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, CONFIG)
    append_values(log, b"x" * 200)
    read, pieces = log.read(0, 1000, 1), lent(log)
    await store.close(True)
    assert sent(pieces) == read
    assert store.open_files.lent == 0


def test_a_range_is_not_sent_on_when_the_log_was_cut_within_it(log: DiskLog) -> None:
    append_values(log, *(b"%d" % number for number in range(3)))
    first = batch(0, value=b"0")
    below = log.pieces(0, len(first), 3, 1, never)
    whole = one_range(log)
    log.truncate_to(1)
    append_values(log, b"other", b"more")
    with pytest.raises(OffsetOutOfRangeError, match=r"was cut while it was sent"):
        sent([whole])
    with pytest.raises(OffsetOutOfRangeError):
        whole.read()
    whole.release()
    assert sent(below) == first, "what lies below is what it was"
    assert sent(lent(log)) == log.read(0, 1000, 3), "and so is what is lent since"


def test_a_disk_that_fails_while_a_range_is_sent_fences_the_log(
    log: DiskLog, disk: SendingDisk
) -> None:
    append_values(log, b"a")
    told: list[KafkaStorageError] = []
    piece = one_range(log, told.append)
    disk.refuses, disk.broken = errno.EIO, {"pread"}
    with pytest.raises(KafkaStorageError, match=r"read of orders-0 .* failed: .*pread failed"):
        sent([piece])
    assert (len(told), log.failure) == (1, str(told[0]))
    piece.release()


def test_a_file_that_is_too_short_is_a_disk_that_fails(log: DiskLog) -> None:
    append_values(log, b"a")
    told: list[KafkaStorageError] = []
    piece, other = one_range(log, told.append), one_range(log, told.append)
    os.truncate(next(log.directory.glob("*.log")), 20)
    with pytest.raises(KafkaStorageError, match=r"the file ends at 20; \d+ were appended"):
        sent([piece])
    with pytest.raises(KafkaStorageError, match=r"the file ends at 20"):
        other.read()
    assert len(told) == 2
    release([piece, other])


def test_an_error_of_the_socket_is_none_of_the_disk(log: DiskLog, disk: SendingDisk) -> None:
    append_values(log, b"a")
    piece = one_range(log)
    for refusal in (errno.EAGAIN, errno.EPIPE, errno.EIO, errno.EHOSTUNREACH, errno.EINVAL):
        disk.refuses = refusal
        with pytest.raises(OSError, match=os.strerror(refusal)):
            sent([piece])
    assert log.failure is None
    disk.refuses = None
    assert sent([piece]) == log.read(0, 1000, 1)


def test_ranges_have_a_quarter_of_the_files_and_what_is_beyond_is_read(tmp_path: Path) -> None:
    disk = SendingDisk()
    store = open_store(tmp_path / "data", disk=disk, max_open_files=32)
    logs = [store.open(TopicPartition("many", number), TOPIC_ID, SMALL) for number in range(40)]
    for log in logs:
        append_values(log, b"a")
    pieces = [piece for log in logs for piece in lent(log)]
    assert [isinstance(piece, bytes) for piece in pieces] == 4 * [False] + 36 * [True]
    assert (store.open_files.lent, len(store.open_files)) == (4, 24)
    release(pieces)
    release(pieces)
    assert store.open_files.lent == 0
    for log in logs:
        append_values(log, b"b")
    assert len(store.open_files) == 32
    close(store)
    assert not disk.opened


def test_where_there_are_too_few_files_it_is_read(log: DiskLog, disk: SendingDisk) -> None:
    append_values(log, b"a")
    disk.limit = 0
    assert lent(log) == [log.read(0, 1000, 1)]
    disk.limit = 10**9


def test_what_was_lent_is_given_back_if_the_rest_cannot_be_read(
    log: DiskLog, disk: SendingDisk
) -> None:
    append_values(log, b"x" * 200, b"y" * 50)
    disk.broken = {"pread"}
    with pytest.raises(KafkaStorageError):
        lent(log, least=200)
    disk.broken = set()


def test_a_compacted_segment_is_sent_as_it_was(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data", COMPACTED)
    log = store.open(TP, TOPIC_ID, COMPACTED)
    for value in range(12):
        append_values(log, b"%d" % value * 60)
    roll(log)
    read, pieces = log.read(0, 10**6, 12), lent(log)
    assert compact(store)
    assert log.read(0, 10**6, 12) != read
    assert sent(pieces) == read
    close(store)
