"""`minikafka transactions`: list, describe, producers, find-hanging, abort."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minikafka.cli.admin.groups import read_partitions
from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.options import cluster_options, format_option
from minikafka.cli.kit.output import print_json, print_table, say
from minikafka.errors import (
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    UnknownTopicOrPartitionError,
    UsageError,
)
from minikafka.local.discovery import find_cluster
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.api.transactions import ActiveProducer, TransactionDescription
    from minikafka.client import AsyncAdmin
    from minikafka.client.administering.transaction_admin import OpenTransaction
    from minikafka.model import TopicPartition

STATES = ("Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort")


@click.group("transactions", cls=SuggestingGroup)
def command() -> None:
    """List and describe transactions, find those that hang, and abort them."""


@command.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    help="Only transactional ids in this state; may be repeated.",
)
@click.option(
    "--producer-id",
    "producer_ids",
    multiple=True,
    type=click.IntRange(0),
    metavar="ID",
    help="Only that of this producer; may be repeated.",
)
@click.option(
    "--longer-than-ms",
    type=click.IntRange(0),
    metavar="MS",
    help="Only those with a transaction that is open for longer.",
)
@cluster_options
@format_option
def list_transactions(
    states: tuple[str, ...],
    producer_ids: tuple[int, ...],
    longer_than_ms: int | None,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """List the transactional ids, with the state of their last transaction."""
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[dict[str, Any]]:
        from minikafka.cli.kit.connection import open_admin

        longer_than = -1 if longer_than_ms is None else longer_than_ms
        async with open_admin(cluster) as admin:
            return [
                {
                    "transactional_id": each.transactional_id,
                    "producer_id": each.producer_id,
                    "state": each.state,
                }
                for each in await admin.list_transactions(states, producer_ids, longer_than)
            ]

    found = run(work())
    if output_format == "json":
        print_json(found)
    else:
        columns = ("transactional id", "producer id", "state")
        print_table(columns, [list(each.values()) for each in found])


@command.command("describe")
@click.argument("transactional_ids", metavar="ID...", nargs=-1, required=True)
@cluster_options
@format_option
def describe(
    transactional_ids: tuple[str, ...], bootstrap: str | None, data_dir: Path, output_format: str
) -> None:
    """Show the state of transactional ids, and which partitions are in their transactions."""
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[TransactionDescription]:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            found = await admin.describe_transactions(transactional_ids)
        for each in found:
            if each.error is not None:
                raise type(each.error)(f"{each.transactional_id}: {each.error}")
        return found

    documents = [transaction_document(each) for each in run(work())]
    if output_format == "json":
        print_json(documents)
        return
    columns = ("transactional id", "producer id", "epoch", "state", "timeout ms", "started")
    print_table((*columns, "partitions"), [_transaction_row(each) for each in documents])


@command.command("producers")
@click.argument("topic", metavar="TOPIC[:0,1]")
@cluster_options
@format_option
def producers(topic: str, bootstrap: str | None, data_dir: Path, output_format: str) -> None:
    """Show the idempotent and transactional producers that the leaders of TOPIC remember.

    OPEN SINCE is the offset where the transaction of a producer begins that is open there.
    """
    wanted = read_partitions(topic)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[dict[str, Any]]:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            found = await admin.describe_producers(await _partitions(admin, wanted))
        for each in found:
            if each.error is not None:
                raise type(each.error)(f"{each.topic_partition}: {each.error}")
        return [
            producer_document(each.topic_partition, producer)
            for each in found
            for producer in each.producers
        ]

    _show_producers(run(work()), output_format)


@command.command("find-hanging")
@click.argument("topic", metavar="[TOPIC[:0,1]]", required=False)
@click.option(
    "--max-age-ms",
    type=click.IntRange(0),
    metavar="MS",
    help="What wrote a record in the last MS does not hang. Without it: the longest timeout that "
    "the cluster allows (transaction.max.timeout.ms), and five minutes.",
)
@cluster_options
@format_option
def find_hanging(
    topic: str | None,
    max_age_ms: int | None,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Find transactions that nobody will end: open at a partition for too long, and not among those
    that their coordinator has to end.

    They keep readers of committed records from going on. Without TOPIC, of all topics.
    """
    wanted = None if topic is None else read_partitions(topic)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[OpenTransaction]:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            partitions = None if wanted is None else await _partitions(admin, wanted)
            return await admin.find_hanging_transactions(partitions, max_age_ms)

    found = [producer_document(each.topic_partition, each.producer) for each in run(work())]
    _show_producers(found, output_format)
    if not found:
        tell("no transaction hangs")


@command.command("abort")
@click.argument("partition", metavar="TOPIC:PARTITION")
@click.option("--producer-id", type=click.IntRange(0), metavar="ID", help="Whose transaction.")
@click.option(
    "--start-offset",
    type=click.IntRange(0),
    metavar="N",
    help="The one that is open since this offset.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Also one that its coordinator will end: it may then be committed elsewhere.",
)
@cluster_options
@format_option
def abort(
    partition: str,
    producer_id: int | None,
    start_offset: int | None,
    force: bool,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Abort a transaction that hangs at one partition (see find-hanging)."""
    name, numbers = read_partitions(partition)
    if numbers is None or len(numbers) != 1:
        raise UsageError(f"{partition!r}: expected TOPIC:PARTITION with one partition")
    if (producer_id is None) == (start_offset is None):
        raise UsageError("give either --producer-id or --start-offset")
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> OpenTransaction:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            open_there = await admin.open_transactions(await _partitions(admin, (name, numbers)))
            chosen = choose(open_there, producer_id, start_offset, force=force)
            producer = chosen.producer
            await admin.abort_transaction(
                chosen.topic_partition,
                producer.producer_id,
                producer.producer_epoch,
                producer.coordinator_epoch,
            )
            return chosen

    done = run(work())
    if output_format == "json":
        print_json(producer_document(done.topic_partition, done.producer))
    else:
        say(f"aborted: producer {done.producer.producer_id} at {done.topic_partition}")


def choose(
    transactions: Sequence[OpenTransaction],
    producer_id: int | None,
    start_offset: int | None,
    *,
    force: bool,
) -> OpenTransaction:
    """The one that is to be aborted. Raises if there is none, or if it will be ended anyhow."""
    for each in transactions:
        found = each.producer
        if producer_id not in (None, found.producer_id):
            continue
        if start_offset not in (None, found.open_first_offset):
            continue
        if each.owner is not None and not force:
            raise InvalidTxnStateError(
                f"it is a transaction of {each.owner!r}, which its producer or its coordinator "
                "will end; --force aborts it here, whatever becomes of it elsewhere"
            )
        return each
    what = (
        f"producer {producer_id} has no transaction open"
        if start_offset is None
        else f"no transaction is open since offset {start_offset}"
    )
    raise InvalidProducerIdMappingError(f"{what} there")


async def _partitions(
    admin: AsyncAdmin, wanted: tuple[str, Sequence[int] | None]
) -> list[TopicPartition]:
    """Those that were named, or all of the topic."""
    from minikafka.cli.kit.connection import require_topic

    name, numbers = wanted
    known = [each.topic_partition for each in (await require_topic(admin, name)).partitions]
    if numbers is None:
        return sorted(known)
    missing = set(numbers).difference(each.partition for each in known)
    if missing:
        raise UnknownTopicOrPartitionError(
            f"topic {name} has no partition {min(missing)}: it has {len(known)}, numbered from 0"
        )
    return sorted(each for each in known if each.partition in numbers)


def transaction_document(found: TransactionDescription) -> dict[str, Any]:
    """The JSON document (docs/cli.md)."""
    return {
        "transactional_id": found.transactional_id,
        "producer_id": found.producer_id,
        "producer_epoch": found.producer_epoch,
        "state": found.state,
        "timeout_ms": found.timeout_ms,
        "started_ms": found.start_timestamp_ms if found.start_timestamp_ms >= 0 else None,
        "partitions": [
            {"topic": each.topic, "partition": each.partition} for each in found.partitions
        ],
    }


def _transaction_row(document: dict[str, Any]) -> list[object]:
    partitions = [f"{each['topic']}-{each['partition']}" for each in document["partitions"]]
    *fields, started_ms, _ = document.values()
    return [*fields, _shown_time(started_ms), ",".join(partitions) or "-"]


def producer_document(where: TopicPartition, found: ActiveProducer) -> dict[str, Any]:
    """The JSON document (docs/cli.md)."""
    return {
        "topic": where.topic,
        "partition": where.partition,
        "producer_id": found.producer_id,
        "producer_epoch": found.producer_epoch,
        "last_sequence": _known(found.last_sequence),
        "coordinator_epoch": _known(found.coordinator_epoch),
        "last_written_ms": _known(found.last_timestamp_ms),
        "open_since_offset": _known(found.open_first_offset),
    }


def _known(value: int) -> int | None:
    return value if value >= 0 else None


def _show_producers(documents: Sequence[dict[str, Any]], output_format: str) -> None:
    if output_format == "json":
        print_json(documents)
        return
    columns = ("topic", "partition", "producer id", "epoch", "last sequence", "coordinator epoch")
    rows = []
    for each in documents:
        *fields, written_ms, offset = each.values()
        shown = ["-" if value is None else value for value in (*fields, offset)]
        rows.append([*shown[:-1], _shown_time(written_ms), shown[-1]])
    print_table((*columns, "last written", "open since"), rows)


def _shown_time(timestamp_ms: int | None) -> str:
    """As people read it, with how long ago that was."""
    if timestamp_ms is None:
        return "-"
    moment = datetime.fromtimestamp(timestamp_ms / 1000).astimezone()
    age_s = max(time.time() - timestamp_ms / 1000, 0)
    return f"{moment.isoformat(timespec='milliseconds')} ({age_s:.0f} s ago)"
