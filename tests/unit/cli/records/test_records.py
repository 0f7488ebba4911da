"""Records in and out of files: producing lines with stand-ins for the client, dumping segments."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from minikafka.cli.kit.tally import Tally
from minikafka.cli.main import cli
from minikafka.cli.records import consume
from minikafka.cli.records.consume import Options as ConsumeOptions
from minikafka.cli.records.consume import chosen_partitions, reset_of
from minikafka.cli.records.produce import LineWriter, Options, TransactionWriter, read_pieces
from minikafka.client.consuming import isolation
from minikafka.client.values import RecordMetadata, WouldBlockError
from minikafka.errors import (
    InvalidRecordError,
    MessageTooLargeError,
    MinikafkaError,
    UnknownTopicOrPartitionError,
    UsageError,
)
from minikafka.log.transaction_index import AbortedEntry, encode
from minikafka.model import EndMarker
from minikafka.records.build import BatchBuilder
from minikafka.records.compression import Codec
from minikafka.records.markers import build_marker

DEADLINE_S = 30
OPTIONS = Options("orders", "-", None, None, "all", "none", 60.0, False)


class FakeDelivery:
    def __init__(self, outcome: RecordMetadata | MinikafkaError) -> None:
        self._outcome = outcome
        self.is_done = False

    def done(self) -> bool:
        return self.is_done

    def exception(self) -> MinikafkaError | None:
        return self._outcome if isinstance(self._outcome, MinikafkaError) else None

    def result(self) -> RecordMetadata:
        if isinstance(self._outcome, MinikafkaError):
            raise self._outcome
        return self._outcome


class FakeProducer:
    """Takes records as AsyncProducer does; acknowledges when it is flushed or asked to wait."""

    def __init__(self, refuse: Callable[[bytes], bool] = lambda _: False, room: int = 1000) -> None:
        self.taken: list[tuple[bytes | None, bytes, int | None]] = []
        self._refuse = refuse
        self._room = room
        self._deliveries: list[FakeDelivery] = []
        self.waited = 0

    def send_nowait(
        self, topic: str, value: bytes, key: bytes | None, partition: int | None
    ) -> FakeDelivery:
        if len(self._deliveries) >= self._room:
            raise WouldBlockError("full")
        offset = len(self.taken)
        self.taken.append((key, value, partition))
        delivery = FakeDelivery(
            MessageTooLargeError("too large")
            if self._refuse(value)
            else RecordMetadata(topic, partition or 0, offset, 0)
        )
        self._deliveries.append(delivery)
        return delivery

    async def send(
        self, topic: str, value: bytes, key: bytes | None, partition: int | None
    ) -> FakeDelivery:
        self.waited += 1
        await self.flush()
        return self.send_nowait(topic, value, key, partition)

    async def flush(self) -> None:
        for delivery in self._deliveries:
            delivery.is_done = True
        self._deliveries.clear()


async def write(
    lines: list[bytes], options: Options = OPTIONS, producer: FakeProducer | None = None
) -> tuple[FakeProducer, Tally]:
    producer = producer or FakeProducer()
    tally = Tally("orders")
    writer = LineWriter(producer, options, tally)  # type: ignore[arg-type]
    await writer.write(lines)
    await writer.finish()
    return producer, tally


async def test_each_line_is_a_record_without_a_key() -> None:
    producer, tally = await write([b"a", b"", b"c:d"])
    assert producer.taken == [(None, b"a", None), (None, b"", None), (None, b"c:d", None)]
    assert (tally.records, tally.size_bytes) == (3, 4)


async def test_what_stands_before_the_first_separator_is_the_key() -> None:
    options = replace(OPTIONS, key_separator=b"::", partition=2)
    producer, tally = await write([b"k::v::w", b"::v", b"k::"], options)
    assert producer.taken == [(b"k", b"v::w", 2), (b"", b"v", 2), (b"k", b"", 2)]
    assert tally.size_bytes == 7


async def test_a_line_without_the_separator_ends_it_and_what_was_before_counts() -> None:
    tally = Tally("orders")
    options = replace(OPTIONS, key_separator=b":")
    writer = LineWriter(FakeProducer(), options, tally)  # type: ignore[arg-type]
    with pytest.raises(InvalidRecordError, match="line 2 has no ':' that ends a key: b'oops'"):
        await writer.write([b"a:1", b"oops", b"b:2"])
    assert tally.records == 1


async def test_the_first_record_that_fails_ends_it_and_what_was_acknowledged_counts() -> None:
    tally = Tally("orders")
    producer = FakeProducer(refuse=lambda value: value == b"big")
    writer = LineWriter(producer, OPTIONS, tally)  # type: ignore[arg-type]
    await writer.write([b"a", b"big", b"c"])
    with pytest.raises(MessageTooLargeError):
        await writer.finish()
    writer.count_rest()
    assert tally.line() == "acknowledged 2 records (2 bytes) to orders: partition 0 offsets 0..2"


async def test_a_full_buffer_is_waited_for() -> None:
    producer, tally = await write(
        [b"%d" % each for each in range(10)], OPTIONS, FakeProducer(room=3)
    )
    assert producer.waited == 3
    assert tally.records == 10


class TransactionalProducer(FakeProducer):
    """Notes what is begun and committed."""

    def __init__(self, refuse: Callable[[bytes], bool] = lambda _: False) -> None:
        super().__init__(refuse)
        self.done: list[str | int] = []
        self._before = 0

    def begin(self) -> None:
        self.done.append("begin")

    async def commit(self) -> None:
        deliveries = list(self._deliveries)
        await self.flush()
        for each in deliveries:
            each.result()
        self.done.append(len(self.taken) - self._before)
        self._before = len(self.taken)


IN_TRANSACTIONS = replace(OPTIONS, transactional_id="copier", transaction_size=3)


async def test_lines_go_in_transactions_of_a_size_whatever_pieces_they_come_in() -> None:
    producer, tally = TransactionalProducer(), Tally("orders")
    writer = TransactionWriter(producer, IN_TRANSACTIONS, tally)  # type: ignore[arg-type]
    for count in (1, 7, 2, 0):
        await writer.write([b"x"] * count)
    assert tally.records == 9
    await writer.finish()
    assert producer.done == ["begin", 3, "begin", 3, "begin", 3, "begin", 1]
    assert tally.line() == "acknowledged 10 records (10 bytes) to orders: partition 0 offsets 0..9"
    writer.count_rest()
    assert tally.records == 10


async def test_without_a_size_all_lines_are_in_one_transaction() -> None:
    producer, tally = TransactionalProducer(), Tally("orders")
    options = replace(IN_TRANSACTIONS, transaction_size=None)
    writer = TransactionWriter(producer, options, tally)  # type: ignore[arg-type]
    await writer.write([b"x"] * 5)
    await writer.write([b"x"] * 5)
    assert (producer.done, tally.records) == (["begin"], 0)
    await writer.finish()
    assert (producer.done, tally.records) == (["begin", 10], 10)


async def test_of_a_transaction_that_fails_nothing_counts() -> None:
    producer = TransactionalProducer(refuse=lambda value: value == b"big")
    tally = Tally("orders")
    writer = TransactionWriter(producer, IN_TRANSACTIONS, tally)  # type: ignore[arg-type]
    await writer.write([b"a", b"b", b"c", b"d", b"big"])
    with pytest.raises(MessageTooLargeError):
        await writer.finish()
    writer.count_rest()
    assert tally.line() == "acknowledged 3 records (3 bytes) to orders: partition 0 offsets 0..2"


async def test_a_line_without_the_separator_commits_nothing_more() -> None:
    producer, tally = TransactionalProducer(), Tally("orders")
    options = replace(IN_TRANSACTIONS, key_separator=b":")
    writer = TransactionWriter(producer, options, tally)  # type: ignore[arg-type]
    with pytest.raises(InvalidRecordError, match="line 5"):
        await writer.write([b"a:1", b"a:2", b"a:3", b"b:1", b"oops"])
    writer.count_rest()
    assert (producer.done, tally.records) == (["begin", 3, "begin"], 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--transaction-size", "3"], "--transaction-size needs --transactional-id"),
        (["--transactional-id", "a", "--acks", "1"], "needs --acks all, not 1"),
    ],
)
def test_transactions_that_cannot_be_are_wrong_usage(options: list[str], words: str) -> None:
    done = CliRunner().invoke(cli, ["produce", "orders", *options], prog_name="minikafka")
    assert done.exit_code == 2
    assert words in done.output


async def test_a_pipe_is_read_as_it_comes() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        pieces = read_pieces(stream)
        pipe.write(b"first\n")
        assert await asyncio.wait_for(anext(pieces), DEADLINE_S) == b"first\n"
        pipe.write(b"second")
        assert await asyncio.wait_for(anext(pieces), DEADLINE_S) == b"second"
        pipe.close()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(pieces), DEADLINE_S)


# --- consume -------------------------------------------------------------------------------------

READ = ConsumeOptions("orders", True, None, None, None, None, False, 30.0)


def test_all_partitions_are_read_or_the_one_that_is_asked_for() -> None:
    assert chosen_partitions(READ, [0, 1, 2]) == [0, 1, 2]
    assert chosen_partitions(replace(READ, partition=1), [0, 1, 2]) == [1]
    assert chosen_partitions(replace(READ, offset=5), [0]) == [0]


def test_a_partition_that_there_is_not_is_told() -> None:
    with pytest.raises(
        UnknownTopicOrPartitionError,
        match="topic orders has no partition 3: it has 3, numbered from 0",
    ):
        chosen_partitions(replace(READ, partition=3), [0, 1, 2])


def test_what_was_deleted_meanwhile_is_passed_over_unless_an_offset_was_asked_for() -> None:
    assert reset_of(READ) == "earliest"
    assert reset_of(replace(READ, from_beginning=False, follow=True)) == "latest"
    assert reset_of(replace(READ, from_beginning=False, since_ms=5)) == "earliest"
    assert reset_of(replace(READ, from_beginning=False, offset=5)) == "error"


def test_an_offset_needs_a_partition_where_there_are_several() -> None:
    with pytest.raises(UsageError, match="orders has 2: give --partition"):
        chosen_partitions(replace(READ, offset=5), [0, 1])


@pytest.mark.parametrize("level", [None, "read_uncommitted", "read_committed"])
def test_the_isolation_is_that_of_the_consumer(
    level: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ConsumeOptions] = []

    async def consumed(cluster: object, options: ConsumeOptions, write: object) -> None:
        seen.append(options)

    monkeypatch.setattr("minikafka.cli.records.consume._consume", consumed)
    words = ["consume", "t", "--bootstrap", "127.0.0.1:1"]
    done = CliRunner().invoke(cli, words + ([] if level is None else ["--isolation", level]))
    assert done.exit_code == 0, done.output
    assert [each.isolation for each in seen] == [level or "read_uncommitted"]


def test_the_isolation_levels_are_those_of_the_client() -> None:
    assert consume.ISOLATION_LEVELS == isolation.ISOLATION_LEVELS


# --- log dump ------------------------------------------------------------------------------------


def batch(*values: bytes, codec: Codec = Codec.NONE) -> bytes:
    builder = BatchBuilder()
    for value in values:
        builder.append(b"k", value, [("h", b"1")], 1000)
    return bytes(builder.build(codec, 7, 2, 5))


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    path = tmp_path / "orders-0" / "00000000000000000000.log"
    path.parent.mkdir()
    path.write_bytes(batch(b"a", b"b") + batch(b"c", codec=Codec.LZ4))
    return path


def test_a_segment_is_dumped_batch_by_batch_with_crc_verdicts(segment: Path) -> None:
    done = CliRunner().invoke(cli, ["log", "dump", str(segment)])
    assert done.exit_code == 0, done.output
    first = len(batch(b"a", b"b"))
    assert done.stdout.splitlines() == [
        f"segment {segment}",
        f"position 0: offsets 0..1 (2 records, {first} bytes) leader epoch -1 none "
        "producer 7/2 sequence 5 crc ok",
        f"position {first}: offsets 0..0 (1 records, {segment.stat().st_size - first} bytes) "
        "leader epoch -1 lz4 producer 7/2 sequence 5 crc ok",
    ]


def test_the_folder_of_a_partition_can_be_dumped_with_its_records(segment: Path) -> None:
    done = CliRunner().invoke(cli, ["log", "dump", str(segment.parent), "--records"])
    assert done.exit_code == 0, done.output
    assert "  offset 1 timestamp 1000 key b'k' value b'b' h=b'1'" in done.stdout.splitlines()
    assert done.stdout.count("  offset ") == 3


def test_a_dump_in_json_is_a_document_a_batch(segment: Path) -> None:
    done = CliRunner().invoke(cli, f"log dump {segment} --records --format json".split())
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["crc_is_valid"] is True
    assert (first["base_offset"], first["last_offset"], first["record_count"]) == (0, 1, 2)
    assert (first["producer_id"], first["producer_epoch"], first["base_sequence"]) == (7, 2, 5)
    assert second["compression"] == "lz4"
    assert second["records"] == [
        {"offset": 0, "timestamp_ms": 1000, "key": "k", "value": "c", "headers": [["h", "1"]]}
    ]


@pytest.fixture
def aborted(tmp_path: Path) -> Path:
    """A segment with markers, and its index."""
    path = tmp_path / "orders-0" / "00000000000000000000.log"
    path.parent.mkdir()
    builder = BatchBuilder()
    builder.append(b"k", b"v")
    records = builder.build(producer_id=7, producer_epoch=0, base_sequence=0, transactional=True)
    markers = [build_marker(7, 0, EndMarker(commits, 3), 0) for commits in (False, True)]
    path.write_bytes(records + b"".join(markers))
    path.with_suffix(".txnindex").write_bytes(encode([AbortedEntry(7, 0, 1, 2)]))
    return path


def test_markers_and_aborted_transactions_are_told(aborted: Path) -> None:
    done = CliRunner().invoke(cli, ["log", "dump", str(aborted.parent)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[1].endswith(" sequence 0 transactional crc ok")
    assert lines[2].endswith(" transactional control abort of coordinator epoch 3 crc ok")
    assert lines[3].endswith(" transactional control commit of coordinator epoch 3 crc ok")
    assert lines[4:] == ["aborted: producer 7 offsets 0..1 last stable offset 2"]


def test_markers_and_aborted_transactions_in_json(aborted: Path) -> None:
    done = CliRunner().invoke(cli, f"log dump {aborted} --format json".split())
    *batches, entry = (json.loads(line) for line in done.stdout.splitlines())
    assert [each["marker"] for each in batches] == [
        None,
        {"type": "abort", "coordinator_epoch": 3},
        {"type": "commit", "coordinator_epoch": 3},
    ]
    assert entry == {
        "index": str(aborted.with_suffix(".txnindex")),
        "producer_id": 7,
        "first_offset": 0,
        "last_offset": 1,
        "last_stable_offset": 2,
    }


@pytest.mark.parametrize("output_format", ["table", "json"])
def test_a_transaction_index_that_is_damaged_is_damage(aborted: Path, output_format: str) -> None:
    aborted.with_suffix(".txnindex").write_bytes(b"x" * 35)
    done = CliRunner().invoke(cli, f"log dump {aborted} --format {output_format}".split())
    assert done.exit_code == 1
    assert "35 bytes are no whole number of entries" in done.stdout.splitlines()[-1]


def test_a_marker_that_cannot_be_read_is_a_batch_all_the_same(aborted: Path) -> None:
    builder = BatchBuilder()
    builder.append(b"", b"")
    aborted.write_bytes(builder.build(producer_id=7, producer_epoch=0, control=True))
    done = CliRunner().invoke(cli, f"log dump {aborted}".split())
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].endswith(" control crc ok")


def test_a_wrong_crc_is_told_and_is_the_exit_status(segment: Path) -> None:
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    done = CliRunner().invoke(cli, ["log", "dump", str(segment)])
    assert done.exit_code == 1
    first, second = done.stdout.splitlines()[1:]
    assert first.endswith(" crc ok")
    assert second.endswith(" CRC WRONG")


def test_bytes_that_are_no_batch_are_told_and_are_the_exit_status(segment: Path) -> None:
    with segment.open("ab") as file:
        file.write(b"garbage")
    done = CliRunner().invoke(cli, ["log", "dump", str(segment)])
    assert done.exit_code == 1
    assert ": 7 bytes are no batch: " in done.stdout.splitlines()[-1]
    done = CliRunner().invoke(cli, ["log", "dump", str(segment), "--format", "json"])
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["batch"], last["size_bytes"]) == (False, 7)
