"""Fetches of consumers that are answered with ranges of files."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka.api.pieces import FileRange, release
from minikafka.api.requests import FetchPartition, FetchRequest, FetchResult
from minikafka.broker.replication import fetch as fetch_module
from minikafka.broker.replication.fetch import FetchHandler
from minikafka.broker.request_memory import RequestMemory
from minikafka.core.replication.effects import Role
from minikafka.errors import KafkaStorageError
from minikafka.model import TopicPartition
from minikafka.records.header import split
from tests.helpers.replicas import TP, Bench, partition
from tests.helpers.waiting import until
from tests.unit.broker.replication.test_fetch import OTHER, append, consume


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    assert bench.logs.open_files.lent == 0
    await bench.close()


@pytest.fixture
def handler(bench: Bench) -> FetchHandler:
    return FetchHandler(bench.manager.find, bench.clock)


def lending(*tps: TopicPartition, from_bytes: int = 1) -> FetchRequest:
    partitions = [FetchPartition(tp, 0, 10_000) for tp in tps or (TP,)]
    return FetchRequest(0, 1, 10_000, partitions, from_bytes)


def the_range(result: FetchResult) -> FileRange:
    [piece] = result.pieces
    assert not isinstance(piece, bytes)
    return piece


async def test_who_asks_for_ranges_gets_what_is_large_as_such_and_it_takes_no_memory(
    bench: Bench,
) -> None:
    memory = RequestMemory(1_000_000)
    handler = FetchHandler(bench.manager.find, bench.clock, memory=memory)
    await bench.lead(1)
    append(bench, b"a" * 500)
    append(bench, b"b")
    [whole] = await handler.fetch(consume(0))
    assert (whole.pieces, whole.size_bytes, whole.held_bytes) == ((), *2 * [len(whole.records)])
    small = replace(lending(from_bytes=200), partitions=[FetchPartition(TP, 1, 10_000)])
    [little] = await handler.fetch(small)
    assert (little.pieces, len(split(little.records))) == ((), 1)
    await until(lambda: memory.used_bytes == 0)
    [lent] = await handler.fetch(lending(from_bytes=200))
    assert (lent.records, lent.size_bytes, lent.held_bytes) == (b"", whole.size_bytes, 0)
    assert memory.used_bytes == 0
    assert the_range(lent).read() == whole.records
    release(lent.pieces)


async def test_one_answer_has_so_many_ranges_and_the_rest_is_read(
    bench: Bench, handler: FetchHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "_MAX_RANGES", 1)
    await bench.lead(1)
    await bench.update(partition(tp=OTHER, isr=(1,)))
    for tp in (TP, OTHER):
        append(bench, b"a" * 500, tp=tp)
    first, second = await handler.fetch(lending(TP, OTHER))
    assert (len(first.pieces), len(second.pieces)) == (1, 0)
    assert first.size_bytes == second.size_bytes == len(second.records) > 500
    release(first.pieces)


async def test_a_fetch_that_is_given_up_gives_its_ranges_back(
    bench: Bench, handler: FetchHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "_SLICE", 1)
    await bench.lead(1)
    append(bench, b"a" * 500)
    fetching = asyncio.ensure_future(handler.fetch(lending()))
    await asyncio.sleep(0)  # it has looked at the only one, and lets others run
    assert bench.logs.open_files.lent == 1
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert bench.logs.open_files.lent == 0


async def test_a_disk_that_fails_while_a_range_is_sent_fences_the_replica(
    bench: Bench, handler: FetchHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await bench.lead(1)
    append(bench, b"a" * 500)
    [result] = await handler.fetch(lending())

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(bench.logs.disk, "pread", fail)
    with pytest.raises(KafkaStorageError):
        the_range(result).read()
    release(result.pieces)
    assert replica.core.role is Role.FAILED
    assert TP in bench.manager.failed
