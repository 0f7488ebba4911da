"""`minikafka topics`: create, list, describe, alter, delete, delete-records."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from minikafka.cli.admin.offline import of_board, read_offline, show_offline
from minikafka.cli.kit.config_table import print_configs
from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.options import cluster_options, format_option, read_settings, read_topic_name
from minikafka.cli.kit.output import print_json, print_json_line, print_table, say
from minikafka.config import TopicConfig, validate_topic_overrides, without_effect
from minikafka.errors import InvalidConfigError, UsageError
from minikafka.local.discovery import Bootstrap, find_cluster
from minikafka.local.telling import tell


@click.group("topics", cls=SuggestingGroup)
def command() -> None:
    """Create, list, describe, alter and delete topics."""


@command.command("create")
@click.argument("name", metavar="TOPIC")
@click.option("--partitions", type=click.IntRange(1), help="[default: the brokers' num.partitions]")
@click.option(
    "--replication-factor",
    type=click.IntRange(1, 32767),
    help="Replicas of each partition. [default: the brokers' default.replication.factor]",
)
@click.option(
    "--replicas",
    metavar="1,2,3/2,3,1",
    help="Broker ids of each partition, the preferred leader first, instead of the two counts.",
)
@click.option("--config", "configs", multiple=True, metavar="NAME=VALUE", help="A property.")
@cluster_options
@format_option
def create(
    name: str,
    partitions: int | None,
    replication_factor: int | None,
    replicas: str | None,
    configs: tuple[str, ...],
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Create TOPIC and wait until its partitions have leaders."""
    read_topic_name(name)
    overrides = _read_overrides(configs)
    assignments = read_assignments(replicas) if replicas is not None else {}
    if assignments and (partitions is not None or replication_factor is not None):
        raise UsageError("--replicas says all: leave --partitions and --replication-factor out")
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> None:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            await admin.create_topic(
                name,
                num_partitions=partitions or -1,
                replication_factor=replication_factor or -1,
                configs=overrides,
                assignments=assignments,
            )

    run(work())
    if output_format == "json":
        run(_describe(cluster, [name], True, False))
    else:
        say(f"topic {name} created")


@command.command("list")
@cluster_options
@format_option
def list_topics(bootstrap: str | None, data_dir: Path, output_format: str) -> None:
    """List the topics."""
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[dict[str, Any]]:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            metadata = await admin.metadata(None)
        return [
            {
                "topic": topic.name,
                "topic_id": topic.topic_id,
                "partitions": len(topic.partitions),
                "replication_factor": max(
                    (len(each.assignment.replicas) for each in topic.partitions), default=0
                ),
            }
            for topic in sorted(metadata.topics, key=lambda topic: topic.name)
        ]

    topics = run(work())
    if output_format == "json":
        print_json(topics)
    else:
        columns = ("topic", "partitions", "replication factor", "topic id")
        keys = ("topic", "partitions", "replication_factor", "topic_id")
        print_table(columns, [[topic[key] for key in keys] for topic in topics])


@command.command("describe")
@click.argument("names", metavar="[TOPIC]...", nargs=-1)
@click.option("--watch", is_flag=True, help="A line at each change of a partition, until Ctrl-C.")
@click.option(
    "--configs", is_flag=True, help="Also each topic's properties, and where each value comes from."
)
@cluster_options
@format_option
def describe(
    names: tuple[str, ...],
    watch: bool,
    configs: bool,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Show leader, epoch, version, replicas, ISR and offsets of each partition.

    Without a TOPIC, of all. With --watch first the state of each partition, then a line whenever it
    changes: `orders-0 Leader=A Epoch=1 ISR={A,B,C,D}`.
    """
    for name in names:
        read_topic_name(name)
    if watch and configs:
        raise UsageError("--watch shows partitions only: leave --configs out")
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    as_json = output_format == "json"
    if not watch:
        run(_describe(cluster, names, as_json, configs))
        return
    try:
        run(_watch(cluster, names, as_json))
    except KeyboardInterrupt:
        return


async def _describe(cluster: Bootstrap, names: Sequence[str], as_json: bool, configs: bool) -> None:
    from minikafka.cli.admin import partitions
    from minikafka.cli.kit.connection import open_admin, require_topics

    async with open_admin(cluster, partitions.PATIENCE_MS) as admin:
        metadata = await require_topics(admin, names)
        board = partitions.board_of(metadata, cluster.names)
        offsets, offline = await asyncio.gather(
            partitions.read_offsets(admin, board), read_offline(admin)
        )
        entries = {}
        if configs:
            for topic in metadata.topics:
                entries[topic.name] = await admin.describe_configs(topic.name)
    if as_json:
        documents = partitions.documents(board, offsets)
        if not configs:
            print_json(documents)
            return
        values = {
            name: {entry.name: entry.value for entry in of_topic}
            for name, of_topic in entries.items()
        }
        print_json([each | {"configs": values[each["topic"]]} for each in documents])
        return
    print_table(partitions.COLUMNS, partitions.rows(board, offsets))
    show_offline(board, of_board(offline, board))
    for name, of_topic in entries.items():
        click.echo()
        print_configs(of_topic, title=f"topic {name}")


async def _watch(cluster: Bootstrap, names: Sequence[str], as_json: bool) -> None:
    from minikafka.cli.admin.partitions import state_document
    from minikafka.cli.kit.connection import open_admin, require_topics
    from minikafka.cli.kit.output import clock_time
    from minikafka.watching.board import PartitionChanged, TopicDeleted
    from minikafka.watching.feed import ClusterFeed

    async with open_admin(cluster) as admin:
        await require_topics(admin, names)
    async with ClusterFeed(cluster.addresses, cluster.names, names, on_silence=tell) as feed:
        async for changes in feed.changes():
            for change in changes:
                if as_json and isinstance(change, PartitionChanged):
                    print_json_line(state_document(change.partition))
                elif isinstance(change, PartitionChanged | TopicDeleted) and not as_json:
                    say(f"{clock_time()} {feed.board.describe_change(change)}")


@command.command("alter")
@click.argument("name", metavar="TOPIC")
@click.option("--config", "configs", multiple=True, metavar="NAME=VALUE", help="Set a property.")
@click.option(
    "--delete-config", "deleted", multiple=True, metavar="NAME", help="Back to the default."
)
@click.option("--partitions", type=click.IntRange(1), help="Grow to that many partitions.")
@cluster_options
@format_option
def alter(
    name: str,
    configs: tuple[str, ...],
    deleted: tuple[str, ...],
    partitions: int | None,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Change properties of TOPIC, or give it more partitions (never fewer)."""
    read_topic_name(name)
    changes: dict[str, str | None] = dict(_read_overrides(configs))
    changes |= dict.fromkeys(deleted)
    if not changes and partitions is None:
        raise UsageError("nothing to alter: give --config, --delete-config or --partitions")
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> None:
        from minikafka.cli.kit.connection import open_admin, require_topics

        async with open_admin(cluster) as admin:
            await require_topics(admin, [name])
            if partitions is not None:
                await admin.create_partitions(name, partitions)
            if changes:
                await admin.alter_topic_config(name, changes)

    run(work())
    if output_format == "json":
        run(_describe(cluster, [name], True, True))
    else:
        say(f"topic {name} altered")


@command.command("delete")
@click.argument("names", metavar="TOPIC...", nargs=-1, required=True)
@cluster_options
@format_option
def delete(
    names: tuple[str, ...], bootstrap: str | None, data_dir: Path, output_format: str
) -> None:
    """Delete topics with all their records. There is no way back."""
    for name in names:
        read_topic_name(name)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> None:
        from minikafka.cli.kit.connection import open_admin, require_topics

        async with open_admin(cluster) as admin:
            await require_topics(admin, names)
            for name in names:
                await admin.delete_topic(name)

    run(work())
    if output_format == "json":
        print_json({"deleted": list(names)})
    else:
        for name in names:
            say(f"topic {name} deleted")


@command.command("delete-records")
@click.argument("name", metavar="TOPIC")
@click.option("--partition", type=click.IntRange(0), required=True, help="Of this partition.")
@click.option(
    "--before",
    "before_offset",
    type=click.IntRange(-1),
    required=True,
    metavar="OFFSET",
    help="The first offset to keep; -1: delete all that is committed.",
)
@cluster_options
@format_option
def delete_records(
    name: str,
    partition: int,
    before_offset: int,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Delete the records of one partition below an offset. There is no way back."""
    read_topic_name(name)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> int:
        from minikafka.cli.kit.connection import open_admin, require_topics
        from minikafka.model import TopicPartition

        topic_partition = TopicPartition(name, partition)
        async with open_admin(cluster) as admin:
            await require_topics(admin, [name])
            results = await admin.delete_records({topic_partition: before_offset})
        result = results[topic_partition]
        if result.error is not None:
            raise result.error
        return result.low_watermark

    low_watermark = run(work())
    if output_format == "json":
        document = {"topic": name, "partition": partition, "log_start_offset": low_watermark}
        print_json(document)
    else:
        say(f"{name}-{partition} begins at offset {low_watermark} now")


def _read_overrides(configs: Sequence[str]) -> dict[str, str]:
    """The properties of --config, checked here so that a misspelt one is wrong usage."""
    overrides = read_settings(configs, "--config")
    try:
        validate_topic_overrides(overrides)
    except InvalidConfigError as error:
        raise UsageError(f"--config: {error}") from error
    for sentence in without_effect(TopicConfig, overrides):
        tell(sentence)
    return overrides


def read_assignments(text: str) -> dict[int, list[int]]:
    """`1,2,3/2,3,1`: the replicas of partition 0, then of partition 1. Raises UsageError."""
    try:
        assignments = {
            number: [int(broker) for broker in part.split(",")]
            for number, part in enumerate(text.split("/"))
        }
    except ValueError:
        raise UsageError(
            f"--replicas {text!r}: expected broker ids, such as 1,2,3 for one partition or "
            "1,2,3/2,3,1 for two"
        ) from None
    for number, replicas in assignments.items():
        if len(set(replicas)) != len(replicas):
            raise UsageError(f"--replicas: partition {number} names a broker twice")
    return assignments
