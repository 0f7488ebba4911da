from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("confluent_kafka")

from benchmarks.kafka.coordinators import (
    Read,
    all_begin_anew,
    ids_by_partition,
    ids_read,
    make,
    reads_in,
    run,
)
from benchmarks.kafka.system import FailedError, Member

LOADING, NOT_COORDINATOR, INVALID_REQUEST = 14, 16, 42


def test_each_id_is_with_the_partition_that_kafka_says() -> None:
    ids = ids_by_partition(1000, 50)
    assert sum(len(several) for several in ids.values()) == 1000
    assert set(ids) <= set(range(50))
    # "known-7".hashCode() is -565984211 in Java.
    assert "known-7" in ids[11]


LINE = "INFO __transaction_state-3: coordinates 120 transactional ids now, read in 17 ms"


def test_what_a_broker_read_is_told_by_its_log() -> None:
    assert reads_in(f"first\n{LINE}\nlast\n{LINE}\n") == [Read(120, 17), Read(120, 17)]


def test_what_each_broker_read_is_apart(tmp_path: Path) -> None:
    for number, text in ((1, LINE), (2, "")):
        (tmp_path / f"broker-{number}.log").write_text(text)
    (tmp_path / "zookeeper.log").write_text(LINE)
    assert ids_read(SimpleNamespace(path=tmp_path)) == [[Read(120, 17)], []]  # type: ignore[arg-type]


@asynccontextmanager
async def _broker(answer: Callable[[str], int]) -> AsyncIterator[str]:
    """A broker that knows InitProducerId alone: `answer` gives the error for an id."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(4):
            request = await reader.readexactly(struct.unpack(">i", head)[0])
            at = 8 + 2 + len("probe")
            (size,) = struct.unpack_from(">h", request, at)
            error = answer(request[at + 2 : at + 2 + size].decode())
            body = struct.pack(">iihqh", 1, 0, error, 4000, 0)
            writer.write(struct.pack(">i", len(body)) + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()


async def test_every_id_is_made_once_at_its_own_coordinator() -> None:
    first: list[str] = []
    second: list[str] = []
    async with (
        _broker(lambda each: first.append(each) or 0) as one,  # type: ignore[func-returns-value]
        _broker(lambda each: second.append(each) or 0) as other,  # type: ignore[func-returns-value]
    ):
        await make([(one, "a"), (other, "b"), (one, "c")])
    assert (sorted(first), second) == (["a", "c"], ["b"])


async def test_who_does_not_coordinate_is_passed_over_and_who_loads_is_asked_again() -> None:
    errors = iter([LOADING, LOADING, 0])
    async with (
        _broker(lambda _: NOT_COORDINATOR) as one,
        _broker(lambda _: next(errors)) as other,
    ):
        members = [Member(1, "A", one, 0), Member(2, "B", other, 0)]
        await all_begin_anew(members, ["known-1"])
    assert next(errors, None) is None


async def test_an_error_that_does_not_pass_fails() -> None:
    async with _broker(lambda _: INVALID_REQUEST) as address:
        with pytest.raises(ExceptionGroup) as raised:
            await all_begin_anew([Member(1, "A", address, 0)], ["known-1"])
    assert raised.group_contains(FailedError, match="error 42")


def test_what_fails_ends_the_round_of_its_system_alone() -> None:
    async def ask() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.open_connection("127.0.0.1", 1))

    with pytest.raises(FailedError, match="InitProducerId: ConnectionRefusedError"):
        run(ask())
