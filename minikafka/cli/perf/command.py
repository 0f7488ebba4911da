"""`minikafka perf produce|consume|latency`: load, and the line in which Kafka's tool reports it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.options import Amount, cluster_options, format_option, read_topic_name
from minikafka.cli.kit.output import print_json
from minikafka.cli.looking.zk import find_zookeeper
from minikafka.cli.perf.perfline import (
    MEBIBYTE,
    Latencies,
    commits_document,
    commits_line,
    perf_document,
    perf_line,
    rate_line,
)
from minikafka.cli.perf.together import Place, added_up, run_processes, together
from minikafka.cli.records.produce import CODECS
from minikafka.errors import RequestTimedOutError, UsageError
from minikafka.local.discovery import Bootstrap, find_cluster

if TYPE_CHECKING:
    from minikafka.client import AsyncConsumer, AsyncProducer
    from minikafka.client.producing.accumulator import Delivery
    from minikafka.model import TopicPartition

_RANDOM_BYTES = 4 * 1024 * 1024
_LETTERS = bytes(65 + each % 26 for each in range(256))
_SLICE = 200  # records between two looks at the clock
_REPORT_S = 5.0
_SAMPLES = 20_000
_WARM_UP = 50
_SILENCE_S = 30.0

_acks_option = click.option(
    "--acks", type=click.Choice(["all", "1", "0"]), default="all", show_default=True
)
_compression_option = click.option(
    "--compression", type=click.Choice(CODECS), default="none", show_default=True
)


@click.group("perf", cls=SuggestingGroup)
def command() -> None:
    """Make load and measure. Amounts may be written 1000, 50k or 64Ki; MB are 2**20 bytes."""


@dataclass(frozen=True, slots=True)
class PerfLoad:
    """`throughput`: records a second, 0 for as many as possible."""

    topic: str
    records: int
    record_size: int
    throughput: float


@command.command("produce")
@click.argument("topic")
@click.option("--num-records", type=Amount(), default=100_000, show_default=True)
@click.option("--record-size", type=Amount(), default=1024, show_default=True, help="In bytes.")
@click.option(
    "--throughput",
    type=float,
    default=-1,
    show_default=True,
    help="Records a second; -1: as many as possible.",
)
@_acks_option
@_compression_option
@click.option("--batch-size", type=Amount(), default="256Ki", show_default=True, help="In bytes.")
@click.option("--linger-ms", type=click.FloatRange(min=0), default=0.0, show_default=True)
@click.option(
    "--transactional-id", metavar="ID", help="Write in transactions of this transactional id."
)
@click.option(
    "--transaction-duration-ms",
    type=click.FloatRange(min=0, min_open=True),
    default=3_000.0,
    show_default=True,
    help="With --transactional-id: after which each transaction is committed.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="So many processes, each with all of this load, that begin together: by a barrier in "
    "ZooKeeper.",
)
@click.option(
    "--zookeeper",
    "connect",
    metavar="HOST:PORT,...[/CHROOT]",
    envvar="MINIKAFKA_ZOOKEEPER",
    show_envvar=True,
    help="Of that barrier; without it, as the data directory's cluster.json says.",
)
@click.option("--barrier", hidden=True)
@cluster_options
@format_option
def perf_produce(
    topic: str,
    num_records: int,
    record_size: int,
    throughput: float,
    acks: str,
    compression: str,
    batch_size: int,
    linger_ms: float,
    transactional_id: str | None,
    transaction_duration_ms: float,
    processes: int,
    connect: str | None,
    barrier: str | None,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Write records of random letters to TOPIC, and measure until the last is acknowledged."""
    read_topic_name(topic)
    if transactional_id is not None and processes > 1:
        raise UsageError("--processes and --transactional-id: one process has the id, and no more")
    place = None if barrier is None else Place.read(barrier)
    cluster = find_cluster(bootstrap, data_dir)
    load = PerfLoad(topic, num_records, record_size, max(throughput, 0.0))
    as_json = output_format == "json"
    zookeeper = "" if processes == 1 and place is None else find_zookeeper(connect, data_dir)
    if processes > 1:
        options = {
            "--num-records": num_records,
            "--record-size": record_size,
            "--throughput": throughput,
            "--acks": acks,
            "--compression": compression,
            "--batch-size": batch_size,
            "--linger-ms": linger_ms,
            "--bootstrap": ",".join(cluster.addresses),
            "--zookeeper": zookeeper,
            "--format": "json",
        }
        words = [str(word) for pair in options.items() for word in pair]
        _produce_together(processes, ["perf", "produce", topic, *words], zookeeper, as_json)
        return
    from minikafka.cli.kit.aio import run

    commits = Latencies()

    async def work() -> tuple[float, Latencies]:
        from minikafka.cli.kit.connection import open_producer

        async with (
            open_producer(
                cluster,
                topic,
                acks=acks,
                compression=compression,
                batch_size=batch_size,
                linger_ms=linger_ms,
                transactional_id=transactional_id,
            ) as producer,
            together(place, zookeeper),
        ):
            transactions = None
            if transactional_id is not None:
                await producer.init_transactions()
                transactions = _Transactions(producer, transaction_duration_ms / 1000, commits)
            return await _produce(producer, load, _quiet if as_json else click.echo, transactions)

    elapsed_s, latencies = run(work())
    size_bytes = num_records * record_size
    if as_json:
        document = perf_document(num_records, size_bytes, elapsed_s, latencies)
        samples = {} if place is None else {"latency_samples_ms": latencies.samples_ms}
        told = {} if transactional_id is None else commits_document(commits, elapsed_s)
        print_json(document | samples | told)
        return
    click.echo(perf_line(num_records, size_bytes, elapsed_s, latencies))
    if transactional_id is not None:
        click.echo(commits_line(commits, elapsed_s))


def _produce_together(processes: int, arguments: list[str], connect: str, as_json: bool) -> None:
    measured = run_processes(processes, arguments, connect)
    total = added_up(measured)
    if as_json:
        documents = [{"process": each.who, **each.document} for each in measured]
        print_json({"processes": documents, "total": perf_document(*total)})
        return
    for each in measured:
        click.echo(f"process {each.who}: {rate_line(each.document)}")
    click.echo(perf_line(*total))


def _quiet(_: str) -> None:
    """No reports on the way."""


def payloads(size_bytes: int) -> Iterator[bytes]:
    """Random letters without end, in pieces of that size that hardly repeat each other."""
    span = max(_RANDOM_BYTES, 2 * size_bytes)
    letters = random.randbytes(span + size_bytes).translate(_LETTERS)
    return (letters[begin : begin + size_bytes] for begin in _steps(size_bytes + 1, span))


def _steps(step: int, span: int) -> Iterator[int]:
    position = 0
    while True:
        yield position
        position = (position + step) % span


class _Transactions:
    """One after the other, each for a while."""

    def __init__(self, producer: AsyncProducer, duration_s: float, commits: Latencies) -> None:
        self._producer = producer
        self._duration_s = duration_s
        self._commits = commits
        self._begin()

    def _begin(self) -> None:
        self._producer.begin()
        self._begun_s = time.perf_counter()

    def is_due(self, now_s: float) -> bool:
        return now_s - self._begun_s >= self._duration_s

    async def next(self) -> None:
        await self.commit()
        self._begin()

    async def commit(self) -> None:
        asked_s = time.perf_counter()
        await self._producer.commit()
        self._commits.add((time.perf_counter() - asked_s) * 1000)


async def _produce(
    producer: AsyncProducer,
    load: PerfLoad,
    report: Callable[[str], None],
    transactions: _Transactions | None = None,
) -> tuple[float, Latencies]:
    """(seconds from the first record to the last acknowledgement, latencies of all records, or of a
    sample of 20,000)."""
    from minikafka.client.values import WouldBlockError

    latencies = Latencies()
    waiting: deque[Delivery] = deque()
    every = max(1, load.records // _SAMPLES)
    values = payloads(load.record_size)
    begun_s = reported_s = time.perf_counter()
    reported = 0
    for number in range(load.records):
        value = next(values)
        sent_s = time.perf_counter()
        try:
            delivery = producer.send_nowait(load.topic, value)
        except WouldBlockError:
            delivery = await producer.send(load.topic, value)
        if number % every == 0:
            delivery.add_done_callback(_sampler(latencies, sent_s))
        waiting.append(delivery)
        if transactions is not None and transactions.is_due(sent_s):
            await transactions.next()
        if number % _SLICE == 0:
            await asyncio.sleep(_ahead_s(load.throughput, number, sent_s - begun_s))
            _check(waiting)
            if sent_s - reported_s >= _REPORT_S:
                report(
                    _interim(number - reported, load.record_size, sent_s - reported_s, latencies)
                )
                reported, reported_s = number, sent_s
    await producer.flush()
    _check(waiting)
    if transactions is not None:
        await transactions.commit()
    return time.perf_counter() - begun_s, latencies


def _sampler(latencies: Latencies, sent_s: float) -> Callable[[object], None]:
    return lambda _: latencies.add((time.perf_counter() - sent_s) * 1000)


def _ahead_s(throughput: float, sent: int, elapsed_s: float) -> float:
    """How long to wait so that not more than `throughput` records a second are sent."""
    return max(0.0, sent / throughput - elapsed_s) if throughput else 0.0


def _check(waiting: deque[Delivery]) -> None:
    """Raises the error of a record that failed; forgets those that are written."""
    while waiting and waiting[0].done():
        error = waiting.popleft().exception()
        if error is not None:
            raise error


def _interim(records: int, record_size: int, elapsed_s: float, latencies: Latencies) -> str:
    return (
        f"{records} records sent, {records / elapsed_s:.1f} records/sec "
        f"({records * record_size / elapsed_s / MEBIBYTE:.2f} MB/sec), "
        f"{latencies.average_ms:.2f} ms avg latency, {latencies.max_ms:.2f} ms max latency."
    )


@command.command("latency")
@click.argument("topic")
@click.option("--num-records", type=Amount(), default=2000, show_default=True)
@click.option("--record-size", type=Amount(), default=100, show_default=True, help="In bytes.")
@_acks_option
@cluster_options
@format_option
def perf_latency(
    topic: str,
    num_records: int,
    record_size: int,
    acks: str,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Write records one by one to TOPIC, each when the one before is acknowledged.

    50 more records go before, to warm up, and are not counted.
    """
    read_topic_name(topic)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> tuple[float, Latencies]:
        from minikafka.cli.kit.connection import open_producer

        latencies = Latencies()
        values = payloads(record_size)
        begun_s = 0.0
        async with open_producer(cluster, topic, acks=acks) as producer:
            for number in range(-_WARM_UP, num_records):
                sent_s = time.perf_counter()
                if number == 0:
                    begun_s = sent_s
                await (await producer.send(topic, next(values)))
                if number >= 0:
                    latencies.add((time.perf_counter() - sent_s) * 1000)
            return time.perf_counter() - begun_s, latencies

    elapsed_s, latencies = run(work())
    size_bytes = num_records * record_size
    if output_format == "json":
        print_json(perf_document(num_records, size_bytes, elapsed_s, latencies))
    else:
        click.echo(perf_line(num_records, size_bytes, elapsed_s, latencies))


@command.command("consume")
@click.argument("topic")
@click.option(
    "--num-records", type=Amount(), help="End after that many. [default: what is there now]"
)
@cluster_options
@format_option
def perf_consume(
    topic: str,
    num_records: int | None,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Read TOPIC from the beginning, record by record, and measure."""
    read_topic_name(topic)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    records, size_bytes, elapsed_s = run(_consume(cluster, topic, num_records))
    if output_format == "json":
        print_json(perf_document(records, size_bytes, elapsed_s, None))
        return
    rate = records / elapsed_s if elapsed_s else 0.0
    mb_rate = size_bytes / elapsed_s / MEBIBYTE if elapsed_s else 0.0
    click.echo(f"{records} records read, {rate:.1f} records/sec ({mb_rate:.2f} MB/sec)")


async def _consume(cluster: Bootstrap, topic: str, wanted: int | None) -> tuple[int, int, float]:
    """(records, bytes of keys and values, seconds)."""
    from minikafka.cli.kit.connection import open_admin, require_topic
    from minikafka.client import AsyncConsumer

    async with open_admin(cluster) as admin:
        known = await require_topic(admin, topic)
    partitions = [each.topic_partition for each in known.partitions]
    async with AsyncConsumer(cluster.addresses, auto_offset_reset="earliest") as consumer:
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        begun_s = last_s = time.perf_counter()
        records = size_bytes = 0
        while records < wanted if wanted is not None else await _is_behind(consumer, ends):
            room = 10_000 if wanted is None else min(10_000, wanted - records)
            for record in await consumer.poll(500, room):
                records += 1
                size_bytes += len(record.value or b"") + len(record.key or b"")
                last_s = 0.0
            now_s = time.perf_counter()
            last_s = last_s or now_s
            if now_s - last_s > _SILENCE_S:
                missing = "" if wanted is None else f" of the {wanted} that were asked for"
                raise RequestTimedOutError(
                    f"{topic} has no more than {records} records{missing}, and none came for "
                    f"{_SILENCE_S:.0f} s"
                )
        return records, size_bytes, time.perf_counter() - begun_s


async def _is_behind(consumer: AsyncConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    """Not every offset has a record: some were compacted, some have markers of transactions."""
    return any([await consumer.position(each) < end for each, end in ends.items()])
