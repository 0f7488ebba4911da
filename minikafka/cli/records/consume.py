"""`minikafka consume`: records to standard output.

Without --follow it reads what is there when it starts, and ends; with --follow it goes on with what
comes. Where it begins: as told, else at the beginning, or with --follow at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minikafka.cli.kit.lines import (
    VALUES,
    OutputFormat,
    as_they_are,
    for_a_terminal,
    read_since,
    record_document,
)
from minikafka.cli.kit.options import cluster_options, format_option, read_topic_name
from minikafka.cli.kit.output import json_line, on_terminal
from minikafka.errors import (
    OffsetOutOfRangeError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    UsageError,
)
from minikafka.local.discovery import Bootstrap, find_cluster

if TYPE_CHECKING:
    from minikafka.client import AsyncConsumer
    from minikafka.client.values import ConsumerRecord
    from minikafka.model import TopicPartition

READ_UNCOMMITTED = "read_uncommitted"
ISOLATION_LEVELS = (READ_UNCOMMITTED, "read_committed")  # of client/consuming/isolation.py
_POLL_MS = 500
_POLL_RECORDS = 4000
_BLOCK_MS = 15_000

Write = Callable[[list["ConsumerRecord"]], None]


@dataclass(frozen=True, slots=True)
class Options:
    """At most one of `offset` and `since_ms` is given; with neither, `from_beginning` decides."""

    topic: str
    from_beginning: bool
    offset: int | None
    since_ms: int | None
    partition: int | None
    max_messages: int | None
    follow: bool
    timeout_s: float
    isolation: str = READ_UNCOMMITTED


@click.command("consume")
@click.argument("topic")
@click.option("--from-beginning", is_flag=True, help="Begin at the first record there is.")
@click.option("--offset", type=click.IntRange(0), help="Begin at this offset, of one partition.")
@click.option(
    "--since",
    metavar="TIME",
    help="Begin at the first record of this time or later: 30s, 10m, 2h, 1d ago, or ISO 8601.",
)
@click.option("--partition", type=click.IntRange(0), help="Read this partition only.")
@click.option(
    "--group",
    "group_id",
    metavar="GROUP",
    help="Read as one of this group: go on where it has committed, and commit what is printed.",
)
@click.option("--max-messages", type=click.IntRange(1), help="End after that many records.")
@click.option(
    "--isolation",
    type=click.Choice(ISOLATION_LEVELS),
    default=READ_UNCOMMITTED,
    show_default=True,
    help="read_committed: of transactions, only what is committed.",
)
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--output",
    "template",
    default=VALUES,
    show_default=True,
    help="How to print a record: %t topic, %p partition, %o offset, %k key, %v value, "
    "%T timestamp in ms, %h headers, and \\n, \\t.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Without --follow: seconds without an answer after which to give up.",
)
@cluster_options
@format_option
def command(
    topic: str,
    from_beginning: bool,
    offset: int | None,
    since: str | None,
    partition: int | None,
    group_id: str | None,
    max_messages: int | None,
    isolation: str,
    follow: bool,
    template: str,
    timeout_s: float,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Print the records of TOPIC, each followed by a newline.

    Begins at the first record and ends at the last one of now; with --follow begins at the end and
    goes on. With --format json, one document a line. With --group the members of a group share the
    partitions; --from-beginning is then about partitions where nothing is committed.
    """
    read_topic_name(topic)
    placed = {"--offset": offset, "--since": since, "--partition": partition}
    for option, value in placed.items() if group_id is not None else ():
        if value is not None:
            raise UsageError(
                f"{option} contradicts --group, which shares out partitions and goes on where it "
                "has committed (`minikafka groups reset-offsets` changes that)"
            )
    if group_id is not None and not group_id.strip():
        raise UsageError("--group is blank: give the group a name")
    starts = [("--from-beginning", from_beginning), ("--offset", offset is not None)]
    given = [name for name, used in [*starts, ("--since", since is not None)] if used]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other: give one")
    since_ms = None if since is None else read_since(since, datetime.now().astimezone())
    write = writer(OutputFormat(template), output_format == "json")
    cluster = find_cluster(bootstrap, data_dir)
    options = Options(
        topic,
        from_beginning or not (follow or given),
        offset,
        since_ms,
        partition,
        max_messages,
        follow,
        timeout_s,
        isolation,
    )
    from minikafka.cli.kit.aio import run

    try:
        if group_id is not None:
            from minikafka.cli.records.consume_group import consume_in_group

            run(consume_in_group(cluster, options, group_id, write))
        else:
            run(_consume(cluster, options, write))
    except KeyboardInterrupt:
        if not follow:
            raise


def writer(output: OutputFormat, as_json: bool) -> Write:
    """What prints records; each call flushes. Into a pipe or a file their bytes go as they are; a
    terminal would obey what is in them, so that one gets it escaped."""
    stream = sys.stdout.buffer
    clean = for_a_terminal if on_terminal() else as_they_are

    def write(records: list[ConsumerRecord]) -> None:
        if as_json:
            text = "".join(json_line(record_document(record)) + "\n" for record in records)
            stream.write(text.encode())
        elif output.values_only:
            stream.write(b"\n".join([clean(record.value or b"") for record in records]) + b"\n")
        else:
            stream.write(b"".join([output.render(record, clean) for record in records]))
        stream.flush()

    return write


async def _consume(cluster: Bootstrap, options: Options, write: Write) -> None:
    from minikafka.cli.kit.connection import open_admin, require_topic
    from minikafka.client import AsyncConsumer
    from minikafka.model import TopicPartition

    async with open_admin(cluster) as admin:
        known = await require_topic(admin, options.topic)
    numbers = sorted(each.topic_partition.partition for each in known.partitions)
    partitions = [
        TopicPartition(options.topic, number) for number in chosen_partitions(options, numbers)
    ]
    async with AsyncConsumer(
        cluster.addresses,
        auto_offset_reset=reset_of(options),
        isolation=options.isolation,
        max_block_ms=_BLOCK_MS,
    ) as consumer:
        ends = {} if options.follow else await consumer.end_offsets(partitions)
        starts = await _starts(consumer, partitions, options)
        consumer.assign(partitions)
        for partition, offset in starts.items():
            consumer.seek(partition, offset)
        await _read(consumer, ends, options, write)


def reset_of(options: Options) -> str:
    """Where to go on without a position, or when the position was deleted meanwhile."""
    if options.offset is not None:
        return "error"
    return "earliest" if options.from_beginning or options.since_ms is not None else "latest"


def chosen_partitions(options: Options, numbers: list[int]) -> list[int]:
    """Raises UnknownTopicOrPartitionError, or UsageError for an offset in several partitions."""
    topic, partition = options.topic, options.partition
    if partition is not None and partition not in numbers:
        raise UnknownTopicOrPartitionError(
            f"topic {topic} has no partition {partition}: it has {len(numbers)}, numbered from 0"
        )
    if partition is None and options.offset is not None and len(numbers) > 1:
        raise UsageError(
            f"--offset is of one partition, and {topic} has {len(numbers)}: give --partition"
        )
    return numbers if partition is None else [partition]


async def _starts(
    consumer: AsyncConsumer, partitions: list[TopicPartition], options: Options
) -> dict[TopicPartition, int]:
    """Where to begin, as far as that is an offset. Raises OffsetOutOfRangeError."""
    if options.offset is not None:
        [partition] = partitions
        first = (await consumer.beginning_offsets(partitions))[partition]
        end = (await consumer.end_offsets(partitions))[partition]
        if not first <= options.offset <= end:
            raise OffsetOutOfRangeError(
                f"{partition} has no offset {options.offset}: it begins at {first} and ends "
                f"before {end}"
            )
        return {partition: options.offset}
    if options.since_ms is not None:
        ends = await consumer.end_offsets(partitions)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, options.since_ms))
        return {each: ends[each] if offset is None else offset for each, offset in found.items()}
    return {}


async def _read(
    consumer: AsyncConsumer, ends: dict[TopicPartition, int], options: Options, write: Write
) -> None:
    """Until the ends, where they are given, or `max_messages`."""
    left = options.max_messages
    silent_ms = 0
    while True:
        if not options.follow:
            assigned = consumer.assignment()
            unfinished = [each for each in assigned if await consumer.position(each) < ends[each]]
            if not unfinished:
                return
            if unfinished != assigned:
                consumer.assign(unfinished)
        limit = _POLL_RECORDS if left is None else min(left, _POLL_RECORDS)
        records = await consumer.poll(None if options.follow else _POLL_MS, limit)
        silent_ms = 0 if records else silent_ms + _POLL_MS
        if silent_ms > options.timeout_s * 1000:
            raise RequestTimedOutError(
                f"nothing came from {', '.join(map(str, consumer.assignment()))} for "
                f"{options.timeout_s:g} s; `minikafka status` shows how the cluster is"
            )
        wanted = [record for record in records if _before_end(record, ends)] if ends else records
        if wanted:
            write(wanted)
        if left is not None:
            left -= len(wanted)
            if left == 0:
                return


def _before_end(record: ConsumerRecord, ends: dict[TopicPartition, int]) -> bool:
    from minikafka.model import TopicPartition

    return record.offset < ends[TopicPartition(record.topic, record.partition)]
