"""`minikafka groups`: list, describe, delete, delete-offsets, reset-offsets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.lines import read_since
from minikafka.cli.kit.options import cluster_options, format_option, read_topic_name
from minikafka.cli.kit.output import print_json, print_table, say
from minikafka.errors import UsageError
from minikafka.local.discovery import Bootstrap, find_cluster
from minikafka.local.telling import tell

STATES = ("Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead")
# The heading that Kafka's tool has, which people know.
LAG_COLUMNS = (
    "group",
    "topic",
    "partition",
    "current-offset",
    "log-end-offset",
    "lag",
    "consumer-id",
    "host",
    "client-id",
)


@click.group("groups", cls=SuggestingGroup)
def command() -> None:
    """List, describe and delete consumer groups, and reset their offsets."""


@command.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    help="Only groups in this state; may be repeated.",
)
@cluster_options
@format_option
def list_groups(
    states: tuple[str, ...], bootstrap: str | None, data_dir: Path, output_format: str
) -> None:
    """List the groups."""
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[dict[str, Any]]:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            return [
                {
                    "group": each.group_id,
                    "state": each.state,
                    "protocol_type": each.protocol_type,
                }
                for each in await admin.list_groups(states)
            ]

    found = run(work())
    if output_format == "json":
        print_json(found)
    else:
        print_table(("group", "state", "protocol type"), [list(each.values()) for each in found])


@command.command("describe")
@click.argument("names", metavar="[GROUP]...", nargs=-1)
@click.option("--members", is_flag=True, help="The members and what they read, instead of the lag.")
@cluster_options
@format_option
def describe(
    names: tuple[str, ...],
    members: bool,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Show how far each group is in each partition, and who reads it.

    Without a GROUP, all. LAG is how many offsets are left to read; - stands for what is not there.
    """
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[dict[str, Any]]:
        from minikafka.cli.kit.connection import open_admin
        from minikafka.watching.groups import describe_groups

        async with open_admin(cluster) as admin:
            return await describe_groups(admin, names)

    documents = run(work())
    if output_format == "json":
        print_json(documents)
        return
    for each in documents:
        if not each["members"]:
            tell(f"group {each['group']} is {each['state']}: it has no members")
    from minikafka.cli.admin.group_documents import lag_rows, member_rows

    if members:
        columns = ("group", "consumer-id", "host", "client-id", "partitions", "assignment")
        print_table(columns, [row for each in documents for row in member_rows(each)])
    else:
        print_table(LAG_COLUMNS, [row for each in documents for row in lag_rows(each)])


@command.command("delete")
@click.argument("names", metavar="GROUP...", nargs=-1, required=True)
@cluster_options
@format_option
def delete(
    names: tuple[str, ...], bootstrap: str | None, data_dir: Path, output_format: str
) -> None:
    """Delete groups that have no members, with all their offsets. There is no way back."""
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[str]:
        from minikafka.cli.kit.connection import open_admin
        from minikafka.watching.groups import require_groups

        async with open_admin(cluster) as admin:
            await require_groups(admin, names)
            deleted = []
            for each in await admin.delete_groups(names):
                if each.error is not None:
                    raise each.error
                deleted.append(each.group_id)
            return deleted

    deleted = run(work())
    if output_format == "json":
        print_json({"deleted": deleted})
    else:
        for name in deleted:
            say(f"group {name} deleted")


@command.command("delete-offsets")
@click.argument("name", metavar="GROUP")
@click.option(
    "--topic", "topics", multiple=True, required=True, metavar="TOPIC[:0,1]", help="What to forget."
)
@cluster_options
@format_option
def delete_offsets(
    name: str, topics: tuple[str, ...], bootstrap: str | None, data_dir: Path, output_format: str
) -> None:
    """Forget the offsets of GROUP in topics, or in some of their partitions.

    Not of topics that members of the group read at the moment.
    """
    wanted = [read_partitions(text) for text in topics]
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[dict[str, Any]]:
        from minikafka.cli.admin.group_documents import forget_offsets
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            return await forget_offsets(admin, name, wanted)

    deleted = run(work())
    if output_format == "json":
        print_json({"group": name, "deleted": deleted})
    else:
        for each in deleted:
            say(f"offset of {name} in {each['topic']}-{each['partition']} deleted")


@command.command("reset-offsets")
@click.argument("name", metavar="GROUP")
@click.option("--topic", "topics", multiple=True, metavar="TOPIC[:0,1]", help="What to reset.")
@click.option("--all-topics", is_flag=True, help="All that the group has offsets of.")
@click.option("--to-earliest", is_flag=True, help="To the first record there is.")
@click.option("--to-latest", is_flag=True, help="To the end: nothing of now is read again.")
@click.option("--to-offset", type=click.IntRange(0), metavar="N", help="To this offset.")
@click.option(
    "--to-datetime",
    metavar="TIME",
    help="To the first record of this time or later: ISO 8601, or 30s, 10m, 2h, 1d ago.",
)
@click.option("--shift-by", type=int, metavar="N", help="On by N records, or back by -N.")
@click.option("--dry-run", is_flag=True, help="Only show what would come out (the default).")
@click.option("--execute", is_flag=True, help="Do it.")
@cluster_options
@format_option
def reset_offsets(
    name: str,
    topics: tuple[str, ...],
    all_topics: bool,
    to_earliest: bool,
    to_latest: bool,
    to_offset: int | None,
    to_datetime: str | None,
    shift_by: int | None,
    dry_run: bool,
    execute: bool,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Set where GROUP goes on reading. The group must not have members.

    Shows what would come out; --execute does it. An offset that is not there becomes the nearest
    one that is.
    """
    given = {
        "--to-earliest": to_earliest or None,
        "--to-latest": to_latest or None,
        "--to-offset": to_offset,
        "--to-datetime": to_datetime,
        "--shift-by": shift_by,
    }
    target = _only_target({option: value for option, value in given.items() if value is not None})
    if dry_run and execute:
        raise UsageError("--dry-run and --execute contradict each other: give one")
    if bool(topics) == all_topics:
        raise UsageError("give either --topic, which may be repeated, or --all-topics")
    wanted = None if all_topics else [read_partitions(text) for text in topics]
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    rows = run(_reset(cluster, name, wanted, target, execute))
    if output_format == "json":
        print_json({"group": name, "executed": execute, "partitions": rows})
        return
    columns = ("group", "topic", "partition", "current-offset", "new-offset")
    print_table(columns, [[name, *_shown(each.values())] for each in rows])
    if not execute:
        tell("nothing was changed: --execute does it")


Target = tuple[str, int]


def _only_target(given: dict[str, Any]) -> Target:
    """(what, number) of the one option that says where to; a time as ms since 1970."""
    if len(given) != 1:
        options = "--to-earliest, --to-latest, --to-offset, --to-datetime, --shift-by"
        raise UsageError(f"give exactly one of {options}")
    [(option, value)] = given.items()
    if option == "--to-datetime":
        return option, read_since(value, datetime.now().astimezone(), option)
    return option, int(value)


async def _reset(
    cluster: Bootstrap,
    name: str,
    wanted: Sequence[tuple[str, list[int] | None]] | None,
    target: Target,
    execute: bool,
) -> list[dict[str, Any]]:
    from minikafka.cli.admin.group_documents import plan_reset
    from minikafka.cli.kit.connection import open_admin
    from minikafka.client import AsyncConsumer

    async with open_admin(cluster) as admin, AsyncConsumer(cluster.addresses) as consumer:
        plan = await plan_reset(admin, consumer, name, wanted, target)
        if execute:
            await admin.alter_group_offsets(name, {each: new for each, (_, new) in plan.items()})
    return [
        {
            "topic": each.topic,
            "partition": each.partition,
            "current_offset": current,
            "new_offset": new,
        }
        for each, (current, new) in plan.items()
    ]


def _shown(values: Any) -> list[object]:
    return ["-" if value is None else value for value in values]


def read_partitions(text: str) -> tuple[str, list[int] | None]:
    """`orders` or `orders:0,2`: a topic, and its partitions (None: all). Raises UsageError."""
    topic, colon, numbers = text.partition(":")
    read_topic_name(topic)
    if not colon:
        return topic, None
    parts = [part.strip() for part in numbers.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--topic {text!r}: expected TOPIC, or TOPIC:0,1 with partition numbers")
    return topic, sorted({int(part) for part in parts})
