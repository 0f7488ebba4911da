"""Answers with ranges of files: what comes out of the socket is what the log holds, in order, and
no descriptor is left behind."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from minikafka.api.pieces import Piece, release
from minikafka.api.requests import FetchResult, ProduceResult
from minikafka.kafka import sending
from minikafka.kafka import server as server_module
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.sending import FileSender
from minikafka.log.partition_log import DiskLog
from minikafka.model import TopicPartition
from tests.helpers.waiting import until
from tests.unit.kafka.conftest import Client, Ground
from tests.unit.kafka.test_server import METADATA, T0, bystander_is_served, fetch, produce
from tests.unit.log.helpers import CONFIG, TOPIC_ID, append_values, open_store
from tests.unit.log.test_lending import SendingDisk

KIB = 1024
MIB = 1024 * 1024


def descriptors_of(path: Path) -> list[str]:
    """What is open of the files under `path`, and sockets of which there is another descriptor."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    again = [link for link in links if link.startswith("socket:") and links.count(link) > 1]
    return sorted([link for link in links if link.startswith(str(path))] + again)


class Files:
    """A log on a disk, and what is lent of it."""

    def __init__(self, path: Path) -> None:
        self.disk = SendingDisk()
        self.store = open_store(path / "data", disk=self.disk)
        self.log: DiskLog = self.store.open(TopicPartition("t", 0), TOPIC_ID, CONFIG)
        self.failures: list[Exception] = []

    def fill(self, *sizes: int) -> None:
        chance = random.Random(len(sizes))
        append_values(self.log, *(chance.randbytes(size) for size in sizes))

    @property
    def lent(self) -> int:
        return self.store.open_files.lent

    def read(self, offset: int = 0, max_bytes: int = 64 * MIB) -> bytes:
        return self.log.read(offset, max_bytes, self.log.log_end_offset)

    def pieces(self, offset: int = 0, max_bytes: int = 64 * MIB, least: int = 1) -> list[Piece]:
        end_offset = self.log.log_end_offset
        return self.log.pieces(offset, max_bytes, end_offset, least, self.failures.append)

    def result(self, offset: int = 0, tp: TopicPartition = T0, **limits: int) -> FetchResult:
        return FetchResult(tp, None, 9, 0, pieces=self.pieces(offset, **limits))


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    files = Files(tmp_path)
    files.log._active.acquire()  # a log begins at rest
    before = descriptors_of(tmp_path)
    assert before
    yield files
    await until(lambda: not files.lent)
    await until(lambda: len(descriptors_of(tmp_path)) == len(before))
    await files.store.close(not files.log.failed)


@pytest.fixture
async def ground(files: Files) -> AsyncIterator[Ground]:
    """Closed before the files are counted."""
    ground = Ground()
    try:
        yield ground
    finally:
        await ground.close()


def records_of(response: Any) -> dict[tuple[str, int], bytes]:
    return {
        (topic.topic, each.partition_index): bytes(each.records or b"")
        for topic in response.responses
        for each in topic.partitions
    }


def pause(client: Client) -> Any:
    transport: Any = client.writer.transport
    transport.pause_reading()
    return transport


async def half_sent(ground: Ground, files: Files, client: Client) -> Any:
    """The client has an answer before it that it does not read; its transport."""
    transport = pause(client)
    ground.broker.fetch_answers.put_nowait([files.result()])
    client.send(ApiKey.FETCH, 12, fetch())
    assert ground.listener is not None
    unread = ground.listener._unread
    await until(lambda: unread)
    await bystander_is_served(await ground.connect())
    return transport


# --- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(4, 13))
async def test_ranges_and_bytes_come_out_as_the_log_has_them(
    ground: Ground, files: Files, version: int
) -> None:
    files.fill(100, 70 * KIB, 10, 3 * MIB, 5)
    await ground.start()
    client = await ground.connect()
    one, two, other = TopicPartition("t", 1), TopicPartition("t", 2), TopicPartition("u", 0)
    ground.broker.fetch_answers.put_nowait(
        [
            files.result(),
            FetchResult(one, None, 9, 0, b"bytes"),
            files.result(1, two, max_bytes=1),
            FetchResult(other),
        ]
    )
    values = fetch()
    if version < 7:
        values = {key: values[key] for key in values if "session" not in key}
        values.pop("forgotten_topics_data")
    response = await client.ask(ApiKey.FETCH, version, values)
    assert records_of(response) == {
        ("t", 0): files.read(),
        ("t", 1): b"bytes",
        ("t", 2): files.read(1, 1),
        ("u", 0): b"",
    }
    assert ground.broker.fetched[0].lend_from_bytes == server_module.SEND_FILES_FROM_BYTES
    await bystander_is_served(client)


async def test_any_mixture_comes_out_as_it_went_in(files: Files) -> None:
    files.fill(*(2 ** (number % 17) for number in range(60)))
    chance = random.Random(1)
    for _ in range(40):
        pieces: list[Piece] = []
        expected = b""
        for _ in range(chance.randrange(1, 8)):
            offset, max_bytes = chance.randrange(60), 2 ** chance.randrange(18)
            pieces += [b"head", *files.pieces(offset, max_bytes, 2 ** chance.randrange(18))]
            expected += b"head" + files.read(offset, max_bytes)
        async with Wire() as wire:
            wire.sender.send(pieces)
            assert await wire.receive(len(expected)) == expected
            await until(lambda wire=wire: not wire.sender.busy)
    assert files.lent == 0


async def test_who_reads_slowly_gets_all_and_keeps_nobody_waiting(
    ground: Ground, files: Files
) -> None:
    files.fill(*8 * [MIB])
    await ground.start()
    client = await ground.connect()
    transport = await half_sent(ground, files, client)
    assert files.lent == 1
    transport.resume_reading()
    _, response = await client.receive(ApiKey.FETCH, 12)
    assert records_of(response) == {("t", 0): files.read()}
    await bystander_is_served(client)
    await until(lambda: ground.memory.used_bytes == 0)


async def test_answers_behind_a_range_keep_their_order(ground: Ground, files: Files) -> None:
    files.fill(*8 * [MIB])
    await ground.start()
    client = await ground.connect()
    transport = pause(client)
    produced = client.send(ApiKey.PRODUCE, 9, produce())
    fetched = client.send(ApiKey.FETCH, 12, fetch())
    await until(lambda: ground.broker.fetched)
    ground.broker.fetch_answers.put_nowait([files.result()])
    await until(lambda: ground.broker.fetch_answers.empty())
    later = client.send(ApiKey.PRODUCE, 9, produce())
    await until(lambda: len(ground.broker.produced) == 2)
    last = client.send(ApiKey.METADATA, 9, METADATA)
    for _ in range(2):
        ground.broker.produce_answers.put_nowait([ProduceResult(T0, None, 0, 0)])
    assert ground.listener is not None
    unread = ground.listener._unread
    await until(lambda: unread)
    transport.resume_reading()
    assert (await client.receive(ApiKey.PRODUCE, 9))[0] == produced
    correlation_id, response = await client.receive(ApiKey.FETCH, 12)
    assert (correlation_id, records_of(response)) == (fetched, {("t", 0): files.read()})
    assert (await client.receive(ApiKey.PRODUCE, 9))[0] == later
    assert (await client.receive(ApiKey.METADATA, 9))[0] == last


async def test_nothing_is_sent_before_what_the_transport_has_to_write(files: Files) -> None:
    files.fill(300 * KIB)
    async with Wire() as wire:
        filled = 0
        while not wire.transport.get_write_buffer_size():
            wire.transport.write(b"f" * KIB)
            filled += KIB
            await asyncio.sleep(0)  # one of the loops writes at the end of a turn
        wire.sender.send([b"head", *files.pieces(), b"tail"])
        assert wire.sender.busy
        expected = b"f" * filled + b"head" + files.read() + b"tail"
        assert await wire.receive(len(expected)) == expected
        await until(lambda: not wire.sender.busy)
        assert wire.owner.sent == 1
        wire.transport.write(b"after")
        assert await wire.receive(5) == b"after"


async def test_a_turn_of_the_loop_sends_only_so_much(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_TURN_BYTES", 100)
    files.fill(1_000)
    async with Wire() as wire:
        wire.sender.send(files.pieces())
        assert wire.sender.left_bytes == len(files.read()) - 100
        assert await wire.receive(len(files.read())) == files.read()
        await until(lambda: wire.owner.sent == 1)


async def test_switched_off_nobody_asks_for_ranges(ground: Ground) -> None:
    await ground.start(send_files_from_bytes=None)
    client = await ground.connect()
    ground.broker.fetch_answers.put_nowait([FetchResult(T0, None, 9, 0, b"records")])
    await client.ask(ApiKey.FETCH, 12, fetch())
    assert ground.broker.fetched[0].lend_from_bytes is None


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["abort", "close", "stop"])
async def test_a_connection_that_goes_in_the_middle_leaves_nothing_open(
    ground: Ground, files: Files, how: str
) -> None:
    files.fill(*8 * [MIB])
    await ground.start()
    client = await ground.connect()
    transport = await half_sent(ground, files, client)
    client.send(ApiKey.METADATA, 9, METADATA)
    if how == "stop":
        assert ground.listener is not None
        await ground.listener.stop()
        transport.abort()
    else:
        getattr(transport, how)()
    await until(lambda: files.lent == 0)
    await until(lambda: ground.memory.used_bytes == 0)
    assert (files.log.failure, files.failures) == (None, [])


async def test_an_answer_that_comes_when_its_client_has_gone_is_released(
    ground: Ground, files: Files
) -> None:
    files.fill(100)
    await ground.start()
    client = await ground.connect()
    client.send(ApiKey.PRODUCE, 9, produce())
    client.send(ApiKey.FETCH, 12, fetch())
    await until(lambda: ground.broker.fetched)
    ground.broker.fetch_answers.put_nowait([files.result()])
    await until(lambda: ground.broker.fetch_answers.empty())
    assert files.lent == 1, "it waits for the answer before it"
    client.writer.transport.abort()
    await until(lambda: files.lent == 0)


async def test_a_segment_that_is_deleted_while_it_is_sent_comes_whole(
    ground: Ground, files: Files
) -> None:
    files.fill(*8 * [MIB])
    await ground.start()
    client = await ground.connect()
    expected = files.read()
    transport = await half_sent(ground, files, client)
    files.log.restart_at(1_000)
    files.fill(100)
    for path in files.log.directory.glob("*.deleted"):
        path.unlink()
    transport.resume_reading()
    _, response = await client.receive(ApiKey.FETCH, 12)
    assert records_of(response) == {("t", 0): expected}


async def test_a_log_that_is_cut_while_it_is_sent_closes_the_connection(
    ground: Ground, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.fill(*8 * [MIB])
    await ground.start()
    client = await ground.connect()
    expected = files.read()
    transport = await half_sent(ground, files, client)
    files.log.truncate_to(7)
    files.fill(MIB)
    transport.resume_reading()
    received = await client.reader.read(-1)
    assert len(received) < len(expected)
    assert "was cut while it was sent" in caplog.text


async def test_a_disk_that_fails_in_the_middle_closes_the_connection(
    ground: Ground, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.fill(*8 * [MIB])
    await ground.start()
    client = await ground.connect()
    transport = await half_sent(ground, files, client)
    files.disk.refuses, files.disk.broken = errno.EIO, {"pread"}
    transport.resume_reading()
    assert len(await client.reader.read(-1)) < len(files.log.directory.name) + 8 * MIB
    assert len(files.failures) == 1
    assert files.log.failed
    assert "an answer cannot be sent to its end" in caplog.text


async def test_where_files_cannot_be_sent_they_are_read(
    ground: Ground, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.fill(3 * MIB, 3 * MIB)
    files.disk.refuses = errno.EINVAL
    await ground.start()
    client = await ground.connect()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            ground.broker.fetch_answers.put_nowait([files.result()])
            response = await client.ask(ApiKey.FETCH, 12, fetch())
            assert records_of(response) == {("t", 0): files.read()}
    asked = [request.lend_from_bytes for request in ground.broker.fetched]
    assert asked == [server_module.SEND_FILES_FROM_BYTES, None]
    assert caplog.text.count("cannot be sent, and are read from now on") == 1


async def test_who_reads_nothing_of_a_range_is_closed_as_one_who_reads_no_bytes(
    ground: Ground, files: Files
) -> None:
    files.fill(*8 * [MIB])
    await ground.start(max_idle_ms=200)
    client = await ground.connect()
    transport = await half_sent(ground, files, client)
    await until(lambda: files.lent == 0)
    assert ground.memory.used_bytes == 0
    transport.resume_reading()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await client.receive_frame()


# --- the sender alone ----------------------------------------------------------------------------


class Owner(asyncio.Protocol):
    """A connection that is nothing but its sender."""

    def __init__(self) -> None:
        self.sender: FileSender | None = None
        self.sent = 0
        self.closed = ""

    def resume_writing(self) -> None:
        assert self.sender is not None
        self.sender.on_drained()

    def on_sent(self) -> None:
        self.sent += 1

    def on_blocked(self) -> None: ...
    def on_unsendable(self, error: OSError) -> None: ...
    def close(self, reason: str = "") -> None:
        self.closed = reason or "closed"


class Wire:
    """A sender on one end of a TCP connection whose buffers are small."""

    async def __aenter__(self) -> Wire:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
            here = socket.create_connection(server.getsockname())
            self.there, _ = server.accept()
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * KIB)
        here.setblocking(False)
        self.there.setblocking(False)
        self.owner = Owner()
        self.transport, _ = await loop.create_connection(lambda: self.owner, sock=here)
        self.sender = self.owner.sender = FileSender(self.transport, self.owner)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sender.end()
        self.transport.abort()
        self.there.close()
        await asyncio.sleep(0)

    async def receive(self, size: int) -> bytes:
        found = bytearray()
        async with asyncio.timeout(20):
            while len(found) < size:
                some = await asyncio.get_running_loop().sock_recv(self.there, 10_000)
                assert some, f"{size - len(found)} bytes are missing"
                found += some
        return bytes(found)


async def test_a_client_that_resets_while_it_is_waited_for_ends_the_answer(files: Files) -> None:
    files.fill(MIB)
    async with Wire() as wire:
        wire.sender.send(files.pieces())
        assert wire.sender.busy
        wire.there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.there.close()
        await until(lambda: not wire.sender.busy)
    assert files.lent == 0
    assert files.log.failure is None


async def test_a_transport_that_is_closing_is_sent_nothing(files: Files) -> None:
    files.fill(MIB)
    async with Wire() as wire:
        wire.transport.abort()
        wire.sender.send(files.pieces())
        assert (wire.sender.busy, files.lent) == (False, 0)


async def test_where_there_is_no_descriptor_to_wait_with_the_answer_ends(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.fill(MIB)

    def refuse(fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    async with Wire() as wire:
        pieces = files.pieces()
        monkeypatch.setattr(sending.os, "dup", refuse)
        wire.sender.send(pieces)
        monkeypatch.undo()
        assert "Too many open files" in wire.owner.closed
    assert files.lent == 0


def test_ranges_that_nobody_sends_can_be_released(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.fill(100)
    pieces = [b"head", *files.pieces()]
    release(pieces)
    assert files.lent == 0
    asyncio.run(files.store.close(True))
