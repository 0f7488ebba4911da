"""`minikafka produce`: lines become records, and the person is told which were acknowledged.

A thread reads the input in pieces, so that records of a pipe go out as they come; the lines go to
the producer, whose receipts are counted from the oldest on. At the first record that fails nothing
more is read.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from minikafka.cli.kit.lines import LineSplitter
from minikafka.cli.kit.options import cluster_options, format_option, read_topic_name
from minikafka.cli.kit.output import human_bytes, print_json
from minikafka.cli.kit.tally import Tally
from minikafka.errors import (
    InvalidRecordError,
    MinikafkaError,
    UnknownTopicOrPartitionError,
    UsageError,
)
from minikafka.local.discovery import Bootstrap, find_cluster
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.client import AsyncProducer
    from minikafka.client.producing.accumulator import Delivery

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
STANDARD_INPUT = "-"

_PIECE_BYTES = 256 * 1024
_PIECES_AHEAD = 8
_LOOK_S = 0.25
_PROGRESS_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    topic: str
    source: str
    key_separator: bytes | None
    partition: int | None
    acks: str
    compression: str
    timeout_s: float
    progress: bool
    transactional_id: str | None = None
    transaction_size: int | None = None


@click.command("produce")
@click.argument("topic")
@click.argument("source", metavar="[FILE]", default=STANDARD_INPUT)
@click.option(
    "--key-separator",
    metavar="TEXT",
    help="What stands before the first TEXT in a line is the record's key.",
)
@click.option("--partition", type=click.IntRange(0), help="Write to this partition only.")
@click.option(
    "--acks",
    type=click.Choice(["all", "1", "0"]),
    default="all",
    show_default=True,
    help="Who must have a record before it counts: all in-sync replicas, the leader, nobody.",
)
@click.option("--compression", type=click.Choice(CODECS), default="none", show_default=True)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="Seconds after which a record that is not acknowledged has failed.",
)
@click.option(
    "--transactional-id",
    metavar="ID",
    help="Write in transactions, as this producer: whoever had the ID before is fenced.",
)
@click.option(
    "--transaction-size",
    type=click.IntRange(1),
    metavar="N",
    help="Records in a transaction; without it, all are in one.",
)
@click.option("--progress", is_flag=True, help="Show on standard error how far it is.")
@cluster_options
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    topic: str,
    source: str,
    key_separator: str | None,
    partition: int | None,
    acks: str,
    compression: str,
    timeout_s: float,
    transactional_id: str | None,
    transaction_size: int | None,
    progress: bool,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Write each line of FILE (or of standard input) as a record to TOPIC.

    A record is the line byte for byte, without its newline; an empty line is an empty record, and
    text after the last newline is a record too. Standard input is sent as it comes. Prints what was
    acknowledged; if a record fails, nothing more is sent, and the exit status is 1.

    With --transactional-id only what was committed counts, and what is open at a failure is
    aborted. A transaction that lasts longer than a minute is aborted by the cluster.
    """
    read_topic_name(topic)
    if key_separator == "":
        raise UsageError("--key-separator is empty: expected a character or a text")
    if transaction_size is not None and transactional_id is None:
        raise UsageError("--transaction-size needs --transactional-id")
    if transactional_id is not None and acks != "all":
        raise UsageError(f"--transactional-id needs --acks all, not {acks}")
    options = Options(
        topic,
        source,
        None if key_separator is None else key_separator.encode(),
        partition,
        acks,
        compression,
        timeout_s,
        progress,
        transactional_id,
        transaction_size,
    )
    from minikafka.cli.kit.aio import run

    tally = Tally(topic)
    failure: BaseException | None = None
    try:
        with open_source(source) as stream:
            cluster = find_cluster(bootstrap, data_dir)
            run(_produce(cluster, options, stream, tally))
    except (MinikafkaError, KeyboardInterrupt) as error:
        failure = error
        if not tally.begun:
            raise
    if output_format == "json":
        print_json(tally.document())
    else:
        click.echo(tally.line(acknowledged=acks != "0"))
    if failure is not None:
        raise failure


@contextlib.contextmanager
def open_source(source: str) -> Iterator[BinaryIO]:
    """Standard input for `-`. Raises UsageError if the file cannot be opened."""
    if source == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        stream = Path(source).open("rb")  # noqa: SIM115 -- closed below
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror}") from error
    with stream:
        yield stream


async def read_pieces(stream: BinaryIO) -> AsyncGenerator[bytes, None]:
    """What comes, as it comes. A thread reads ahead a little; it ends with the process at the
    latest, as a read of a terminal cannot be called off."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes | OSError] = asyncio.Queue(maxsize=_PIECES_AHEAD)

    def read() -> None:
        descriptor = stream.fileno()
        piece: bytes | OSError = b"begin"
        while piece and not isinstance(piece, OSError):
            try:
                piece = os.read(descriptor, _PIECE_BYTES)
            except OSError as error:
                piece = error
            try:
                asyncio.run_coroutine_threadsafe(pieces.put(piece), loop).result()
            except (RuntimeError, concurrent.futures.CancelledError):
                return  # the loop is closed: nobody listens any more

    threading.Thread(target=read, name="reader", daemon=True).start()
    while piece := await pieces.get():
        if isinstance(piece, OSError):
            raise piece
        yield piece


async def _produce(cluster: Bootstrap, options: Options, stream: BinaryIO, tally: Tally) -> None:
    from minikafka.cli.kit.connection import open_producer

    writer: LineWriter | None = None
    try:
        async with open_producer(
            cluster,
            options.topic,
            acks=options.acks,
            compression=options.compression,
            delivery_timeout_ms=options.timeout_s * 1000,
            request_timeout_ms=min(30_000.0, options.timeout_s * 1000),
            **_in_transactions(options),
        ) as producer:
            await _check_partition(producer, options)
            if options.transactional_id is not None:
                await producer.init_transactions()
            tally.begun = True
            writer = _writer(producer, options, tally)
            with contextlib.ExitStack() as stack:
                show = stack.enter_context(_progress(stream)) if options.progress else _no_progress
                await _write_all(writer, stream, lambda read: show(read, tally.records))
    finally:
        # After a failure or Ctrl-C: the producer is closed now, so what was acknowledged is known.
        if writer is not None:
            writer.count_rest()


def _in_transactions(options: Options) -> dict[str, Any]:
    """The producer's options for that. A coordinator is waited for as long as for a record."""
    if options.transactional_id is None:
        return {}
    return {
        "transactional_id": options.transactional_id,
        "max_block_ms": options.timeout_s * 1000,
    }


def _writer(producer: AsyncProducer, options: Options, tally: Tally) -> LineWriter:
    if options.transactional_id is None:
        return LineWriter(producer, options, tally)
    return TransactionWriter(producer, options, tally)


async def _write_all(writer: LineWriter, stream: BinaryIO, show: Callable[[int], None]) -> None:
    """From the first line to the last receipt; `show` is told the bytes read so far."""
    splitter = LineSplitter()
    read_bytes = 0
    async with contextlib.aclosing(read_pieces(stream)) as pieces:
        while True:
            arriving = asyncio.ensure_future(anext(pieces, b""))
            try:
                while not (await asyncio.wait({arriving}, timeout=_LOOK_S))[0]:
                    writer.count_done()  # so that a failure is told while the input says nothing
            except BaseException:
                arriving.cancel()
                await asyncio.gather(arriving, return_exceptions=True)
                raise
            piece = arriving.result()
            if not piece:
                break
            await writer.write(splitter.feed(piece))
            read_bytes += len(piece)
            show(read_bytes)
    await writer.write(splitter.finish())
    await writer.finish()
    show(read_bytes)


def _no_progress(read_bytes: int, records: int) -> None:
    """Nobody asked."""


async def _check_partition(producer: AsyncProducer, options: Options) -> None:
    count = await producer.partition_count(options.topic)
    if options.partition is not None and options.partition >= count:
        raise UnknownTopicOrPartitionError(
            f"topic {options.topic} has no partition {options.partition}: "
            f"it has {count}, numbered from 0"
        )


class LineWriter:
    """Gives lines to a producer and counts the receipts into a tally. Raises the error of the first
    record that failed."""

    def __init__(self, producer: AsyncProducer, options: Options, tally: Tally) -> None:
        self._producer = producer
        self._options = options
        self._tally = tally
        self._waiting: deque[tuple[Delivery, int]] = deque()
        self._line_number = 0

    async def write(self, lines: list[bytes]) -> None:
        from minikafka.client.values import WouldBlockError

        topic, partition = self._options.topic, self._options.partition
        separator = self._options.key_separator
        key: bytes | None = None
        for line in lines:
            self._line_number += 1
            value = line
            if separator is not None:
                key, found, value = line.partition(separator)
                if not found:
                    await self._settle()
                    raise InvalidRecordError(
                        f"line {self._line_number} has no {separator.decode()!r} that ends a key: "
                        f"{line[:60]!r}"
                    )
            try:
                delivery = self._producer.send_nowait(topic, value, key, partition)
            except WouldBlockError:
                self.count_done()
                delivery = await self._producer.send(topic, value, key, partition)
            self._waiting.append((delivery, len(value) + len(key or b"")))
        await asyncio.sleep(0)
        self.count_done()

    async def finish(self) -> None:
        """There are no more lines."""
        await self._settle()

    async def _settle(self) -> None:
        """Wait for every receipt."""
        await self._producer.flush()
        self.count_done()

    def count_done(self) -> None:
        """From the oldest on; raises the error of one that failed."""
        waiting, tally = self._waiting, self._tally
        while waiting and waiting[0][0].done():
            delivery, size_bytes = waiting.popleft()
            written = delivery.result()
            tally.add(written.partition, written.offset, size_bytes)

    def count_rest(self) -> None:
        """At the end, also after a failure: whatever is acknowledged by now."""
        for delivery, size_bytes in self._waiting:
            if delivery.done() and delivery.exception() is None:
                written = delivery.result()
                self._tally.add(written.partition, written.offset, size_bytes)
        self._waiting.clear()


class TransactionWriter(LineWriter):
    """Gives them in transactions of `transaction_size` records; only what is committed is in the
    tally that it was given. What is open after an error is aborted when the producer is closed."""

    def __init__(self, producer: AsyncProducer, options: Options, tally: Tally) -> None:
        super().__init__(producer, options, Tally(options.topic))
        self._committed = tally
        self._open = False
        self._records = 0  # of the open one

    async def write(self, lines: list[bytes]) -> None:
        size = self._options.transaction_size
        at = 0
        while at < len(lines):
            if not self._open:
                self._producer.begin()
                self._open, self._records = True, 0
            part = lines[at:] if size is None else lines[at : at + size - self._records]
            await super().write(part)
            at += len(part)
            self._records += len(part)
            if self._records == size:
                await self._commit()

    async def finish(self) -> None:
        if self._open:
            await self._commit()

    async def _commit(self) -> None:
        await self._producer.commit()
        self._open = False
        self.count_done()
        self._committed.take(self._tally)
        self._tally = Tally(self._options.topic)

    def count_rest(self) -> None:
        """What is not committed does not count."""
        self._waiting.clear()


@contextlib.contextmanager
def _progress(stream: BinaryIO) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (bytes read, records acknowledged)."""
    size_bytes = os.fstat(stream.fileno()).st_size or None
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bars:
            bar = bars.add_task("produce", total=size_bytes)
            yield lambda read, records: bars.update(
                bar, completed=read, description=f"{records} acknowledged"
            )
        return
    import time

    last_s = 0.0

    def show(read: int, records: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= _PROGRESS_S:
            last_s = time.monotonic()
            tell(f"{human_bytes(read)} read, {records} records acknowledged")

    yield show
