"""`minikafka reassign`: move partitions to other brokers, cancel that, or see how far it is.

What is asked for goes to the controller, which carries it on whatever becomes of this process.
Progress is what each partition's leader knows of the replicas that are being added.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minikafka.cli.admin.reassign_throttle import lift_throttle, read_rate, set_throttle
from minikafka.cli.kit.options import cluster_options, format_option, read_topic_name
from minikafka.cli.kit.output import human_bytes, print_json, print_table, say
from minikafka.errors import MinikafkaError, UsageError
from minikafka.local.discovery import Bootstrap, find_cluster
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.api.requests import PartitionStatus
    from minikafka.client import AsyncAdmin
    from minikafka.model import Assignment, TopicPartition

_POLL_S = 0.5
_PATIENCE_MS = 10_000.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one replica that is being added. Offsets -1: not known; `lag_bytes` is an estimate by the
    average size of a record."""

    broker_id: int
    in_sync: bool
    log_end_offset: int
    lag: int
    lag_bytes: int


@dataclass(frozen=True, slots=True)
class Move:
    """A reassignment that is under way."""

    topic_partition: TopicPartition
    assignment: Assignment
    progress: tuple[Progress, ...]


@click.command("reassign")
@click.argument("partitions", metavar="[TOPIC[:PARTITION]]...", nargs=-1)
@click.option(
    "--replicas",
    metavar="B,C,D",
    help="The brokers, by id or name, the preferred leader first. Each next partition of a topic "
    "begins with the next of them; 1,2/2,3 says it for each partition.",
)
@click.option(
    "--file",
    "plan",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A plan in JSON, as kafka-reassign-partitions takes it.",
)
@click.option("--cancel", is_flag=True, help="Back to the replicas from before.")
@click.option("--list", "listing", is_flag=True, help="Show what is under way, and how far it is.")
@click.option("--wait", is_flag=True, help="Return when it is complete; it says how far it is.")
@click.option(
    "--throttle",
    metavar="BYTES",
    help="How much each broker copies a second at most, such as 5MB, until --wait has seen the "
    "end or --unthrottle.",
)
@click.option("--unthrottle", is_flag=True, help="Let replicas be copied as fast as can be.")
@cluster_options
@format_option
def command(
    partitions: tuple[str, ...],
    replicas: str | None,
    plan: Path | None,
    cancel: bool,
    listing: bool,
    wait: bool,
    throttle: str | None,
    unthrottle: bool,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Move partitions to other brokers while everything goes on.

    The new replicas catch up, then the old ones leave and delete their logs; leader and ISR follow.
    It goes on without this command. A TOPIC without a PARTITION is all of its partitions.
    """
    ways = {
        "--replicas": replicas is not None,
        "--file": plan is not None,
        "--cancel": cancel,
        "--list": listing,
        "--unthrottle": unthrottle,
    }
    chosen = [name for name, given in ways.items() if given]
    if len(chosen) != 1:
        raise UsageError("give one of --replicas, --file, --cancel, --list and --unthrottle")
    if plan is not None and partitions:
        raise UsageError("--file says which partitions: leave them out")
    if not partitions and plan is None and not (listing or unthrottle):
        raise UsageError(f"{chosen[0]}: of which partitions? Give TOPIC or TOPIC:PARTITION")
    if wait and (listing or unthrottle):
        raise UsageError(f"--wait is for what is asked for: leave {chosen[0]} out")
    if throttle is not None and chosen[0] not in ("--replicas", "--file"):
        raise UsageError("--throttle is for replicas that move: give --replicas or --file")
    rate = None if throttle is None else read_rate(throttle)
    wanted = [read_partition(text) for text in partitions]
    planned = read_plan(plan) if plan is not None else {}
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    as_json = output_format == "json"
    if listing:
        run(_list(cluster, wanted, as_json))
    elif unthrottle:
        run(_unthrottle(cluster, sorted({topic for topic, _ in wanted})))
    else:
        run(_alter(cluster, wanted, replicas, planned, rate, wait, as_json))


# --- what was typed ------------------------------------------------------------------------------


def read_partition(text: str) -> tuple[str, int | None]:
    """`orders` or `orders:3`. Raises UsageError."""
    topic, colon, number = text.partition(":")
    read_topic_name(topic)
    if colon and not number.isdecimal():
        raise UsageError(f"{text!r}: expected TOPIC or TOPIC:PARTITION, such as orders:0")
    return topic, int(number) if colon else None


def read_plan(path: Path) -> dict[tuple[str, int], list[int]]:
    """Kafka's `{"partitions": [{"topic": "t", "partition": 0, "replicas": [1, 2]}]}`."""
    try:
        found = {
            (str(each["topic"]), int(each["partition"])): [int(id) for id in each["replicas"]]
            for each in json.loads(path.read_text())["partitions"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: {error}: expected "
            '{"partitions": [{"topic": "orders", "partition": 0, "replicas": [1, 2]}]}'
        ) from None
    if not found:
        raise UsageError(f"{path} names no partitions")
    return found


def read_replicas(text: str, ids: Mapping[str, int]) -> list[list[int]]:
    """`1,2` or `A,B`, and several of those between slashes. `ids`: of the brokers' names."""
    lists = []
    for part in text.split("/"):
        brokers = []
        for word in part.split(","):
            if word.strip().isdecimal():
                brokers.append(int(word))
            elif word.strip() in ids:
                brokers.append(ids[word.strip()])
            else:
                known = ", ".join(f"{name} ({number})" for name, number in sorted(ids.items()))
                raise UsageError(f"--replicas {text!r}: no broker {word!r}; there are {known}")
        lists.append(brokers)
    return lists


def spread(partitions: Sequence[int], lists: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """The replicas of each partition. One list for several partitions is turned by one each time,
    so that each broker is the preferred leader of as many."""
    if len(lists) == 1:
        [brokers] = lists
        turns = (index % len(brokers) for index in range(len(partitions)))
        return {
            partition: [*brokers[turn:], *brokers[:turn]]
            for partition, turn in zip(partitions, turns, strict=True)
        }
    if len(lists) != len(partitions):
        raise UsageError(
            f"--replicas has {len(lists)} lists for {len(partitions)} partitions: expected one for "
            "each, or one for all"
        )
    return {partition: list(brokers) for partition, brokers in zip(partitions, lists, strict=True)}


# --- asking for it -------------------------------------------------------------------------------


async def _alter(
    cluster: Bootstrap,
    wanted: Sequence[tuple[str, int | None]],
    replicas: str | None,
    planned: Mapping[tuple[str, int], list[int]],
    rate: int | None,
    wait: bool,
    as_json: bool,
) -> None:
    from minikafka.cli.kit.connection import open_admin

    async with open_admin(cluster) as admin:
        targets = await _targets(admin, wanted, replicas, planned)
        if rate is not None:
            await set_throttle(admin, targets, rate, wait)
        errors = await admin.alter_partition_reassignments(targets)
        refused = {key: error for key, error in errors.items() if error is not None}
        begun = sorted(key for key in errors if key not in refused)
        for key, error in sorted(refused.items()):
            tell(f"{key}: {error}")
        if wait and begun:
            await _wait(admin, begun, targets, cluster.names)
        if rate is not None and (wait or not begun):
            await lift_throttle(admin, sorted({key.topic for key in targets}))
        moves = await read_moves(admin, begun) if begun else []
    under_way = {move.topic_partition for move in moves}
    if as_json:
        print_json([move_document(move) for move in moves])
    for key in begun if not as_json else ():
        target = targets[key]
        what = "cancelled" if target is None else f"to {_names(target, cluster.names)}"
        say(f"{key} {what}: {'under way' if key in under_way else 'complete'}")
    if refused:
        raise MinikafkaError(f"{len(refused)} of {len(errors)} partitions were refused")


async def _unthrottle(cluster: Bootstrap, topics: Sequence[str]) -> None:
    from minikafka.cli.kit.connection import open_admin, require_topics

    async with open_admin(cluster) as admin:
        if topics:
            await require_topics(admin, topics)
        lifted = await lift_throttle(admin, topics)
    say(f"the throttle is lifted: {', '.join(lifted)}" if lifted else "nothing was throttled")


async def _targets(
    admin: AsyncAdmin,
    wanted: Sequence[tuple[str, int | None]],
    replicas: str | None,
    planned: Mapping[tuple[str, int], list[int]],
) -> dict[TopicPartition, list[int] | None]:
    from minikafka.cli.kit.connection import require_topics
    from minikafka.model import TopicPartition

    if planned:
        return {TopicPartition(*key): brokers for key, brokers in planned.items()}
    metadata = await require_topics(admin, sorted({topic for topic, _ in wanted}))
    counts = {topic.name: len(topic.partitions) for topic in metadata.topics}
    ids = {broker.name: broker.broker_id for broker in metadata.brokers}
    lists = None if replicas is None else read_replicas(replicas, ids)
    targets: dict[TopicPartition, list[int] | None] = {}
    for topic, partition in wanted:
        numbers = range(counts[topic]) if partition is None else [partition]
        chosen = None if lists is None else spread(numbers, lists)
        for number in numbers:
            targets[TopicPartition(topic, number)] = None if chosen is None else chosen[number]
    return targets


async def _wait(
    admin: AsyncAdmin,
    begun: Sequence[TopicPartition],
    targets: Mapping[TopicPartition, Sequence[int] | None],
    names: Mapping[int, str],
) -> None:
    """Until none of them is under way. Raises if one came out otherwise than was asked for."""
    told = ""
    while moves := await read_moves(admin, begun):
        line = "; ".join(describe(move, names) for move in moves)
        if line != told:
            tell(line)
            told = line
        await asyncio.sleep(_POLL_S)
    metadata = await admin.metadata(sorted({key.topic for key in begun}))
    for topic in metadata.topics:
        for each in topic.partitions:
            target = targets.get(each.topic_partition)
            if target is not None and set(each.assignment.replicas) != set(target):
                raise MinikafkaError(
                    f"{each.topic_partition} is on {_names(each.assignment.replicas, names)} now, "
                    f"not on {_names(target, names)}: it was cancelled, or moved again"
                )


# --- how far it is -------------------------------------------------------------------------------


async def read_moves(admin: AsyncAdmin, among: Sequence[TopicPartition] = ()) -> list[Move]:
    """What is under way, of all partitions or of some."""
    assignments = await admin.list_partition_reassignments(among)
    if not assignments:
        return []
    statuses = {each.topic_partition: each for each in await admin.describe_partitions(assignments)}
    metadata = await admin.metadata(sorted({key.topic for key in assignments}))
    members = {
        each.topic_partition: each.state.isr
        for topic in metadata.topics
        for each in topic.partitions
    }
    return [
        Move(key, assignment, _progress(assignment, statuses.get(key), members.get(key, ())))
        for key, assignment in sorted(assignments.items())
    ]


def _progress(
    assignment: Assignment, status: PartitionStatus | None, members: Iterable[int]
) -> tuple[Progress, ...]:
    ends = {} if status is None else {r.broker_id: r.log_end_offset for r in status.replicas}
    isr = set(members)
    found = []
    for broker_id in assignment.adding:
        end, lag, lag_bytes = ends.get(broker_id, -1), -1, -1
        if status is not None and status.log_end_offset >= 0:
            records = status.log_end_offset - status.log_start_offset
            lag = status.log_end_offset - max(end, status.log_start_offset)
            lag_bytes = status.size_bytes * lag // records if records else 0
        found.append(Progress(broker_id, broker_id in isr, end, lag, lag_bytes))
    return tuple(found)


async def _list(
    cluster: Bootstrap, wanted: Sequence[tuple[str, int | None]], as_json: bool
) -> None:
    from minikafka.cli.kit.connection import open_admin, require_topics

    async with open_admin(cluster, _PATIENCE_MS) as admin:
        if wanted:
            await require_topics(admin, sorted({topic for topic, _ in wanted}))
        moves = [
            move
            for move in await read_moves(admin)
            if not wanted or any(_is_meant(move.topic_partition, each) for each in wanted)
        ]
    if as_json:
        print_json([move_document(move) for move in moves])
    elif not moves:
        say("no partition is being reassigned")
    else:
        columns = ("topic", "partition", "from", "to", "adding", "removing", "progress")
        print_table(columns, [_row(move, cluster.names) for move in moves])


def _is_meant(key: TopicPartition, wanted: tuple[str, int | None]) -> bool:
    return key.topic == wanted[0] and wanted[1] in (None, key.partition)


def move_document(move: Move) -> dict[str, Any]:
    """The JSON document of a move (docs/cli.md)."""
    assignment = move.assignment
    return {
        "topic": move.topic_partition.topic,
        "partition": move.topic_partition.partition,
        "origin": list(assignment.origin),
        "target": list(assignment.target),
        "replicas": list(assignment.replicas),
        "adding": list(assignment.adding),
        "removing": list(assignment.removing),
        "progress": [
            {
                "broker": each.broker_id,
                "in_sync": each.in_sync,
                "log_end_offset": each.log_end_offset,
                "lag": each.lag,
                "lag_bytes": each.lag_bytes,
            }
            for each in move.progress
        ],
    }


def _row(move: Move, names: Mapping[int, str]) -> list[object]:
    assignment = move.assignment
    return [
        move.topic_partition.topic,
        move.topic_partition.partition,
        _names(assignment.origin, names),
        _names(assignment.target, names),
        _names(assignment.adding, names) or "-",
        _names(assignment.removing, names) or "-",
        _words(move, names),
    ]


def describe(move: Move, names: Mapping[int, str]) -> str:
    """`orders-0 to C,D: C in sync, D 5000 records (1.2 MB) to go`."""
    return f"{move.topic_partition} to {_names(move.assignment.target, names)}: " + _words(
        move, names
    )


def _words(move: Move, names: Mapping[int, str]) -> str:
    words = []
    for each in move.progress:
        name = _names([each.broker_id], names)
        if each.broker_id in move.assignment.removing:
            words.append(f"{name} is to leave again")
        elif each.in_sync:
            words.append(f"{name} in sync")
        elif each.lag < 0:
            words.append(f"{name} unknown")
        else:
            words.append(f"{name} {each.lag} records ({human_bytes(each.lag_bytes)}) to go")
    return ", ".join(words) or "waits for the replicas that stay to be in sync"


def _names(brokers: Iterable[int], names: Mapping[int, str]) -> str:
    from minikafka.model import broker_name

    return ",".join(names.get(broker) or broker_name(broker) for broker in brokers)
