"""`minikafka status`: the health of the cluster in one line, with an exit status for scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minikafka.cli.admin.offline import read_offline, show_offline
from minikafka.cli.kit.options import cluster_options, format_option
from minikafka.cli.kit.output import print_json, print_json_line, print_table, say
from minikafka.errors import MinikafkaError
from minikafka.local.discovery import Bootstrap, find_cluster
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.client import AsyncAdmin
    from minikafka.watching.board import Board

UNHEALTHY = 1


@click.command("status")
@click.option("--watch", is_flag=True, help="Go on, and show every change until Ctrl-C.")
@cluster_options
@format_option
@click.pass_context
def command(
    ctx: click.Context, watch: bool, bootstrap: str | None, data_dir: Path, output_format: str
) -> None:
    """The health of the cluster in one line, then its brokers and partitions.

    Healthy: there is a controller that answers, no broker is missing, every partition has a leader
    and all its replicas in sync. Exit status 0 if so, 1 if not or if no broker answers.
    """
    from minikafka.cli.kit.aio import run

    cluster = find_cluster(bootstrap, data_dir)
    as_json = output_format == "json"
    if watch:
        try:
            run(_watch(cluster, as_json))
        except KeyboardInterrupt:
            return
    else:
        ctx.exit(0 if run(_show(cluster, as_json)) else UNHEALTHY)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the controller beyond what brokers were told of it. `candidates`: who would
    be controller, first in line first; None if ZooKeeper could not be asked."""

    candidates: tuple[int, ...] | None
    answers: bool
    unreadable: Mapping[str, str] = field(default_factory=dict)  # nodes of ZooKeeper: what is wrong


@dataclass(frozen=True, slots=True)
class Health:
    healthy: bool
    line: str
    missing: tuple[int, ...]
    leaderless: int
    under_replicated: int


def assess(board: Board, expected: Iterable[int] = (), standing: Standing | None = None) -> Health:
    """`expected`: brokers that should be there, besides those that have replicas. Without
    `standing` the controller is what the brokers told."""
    from minikafka.cli.kit.screen import count_words
    from minikafka.watching.board import is_leaderless, is_under_replicated

    partitions = board.partitions.values()
    assigned = {each for partition in partitions for each in partition.assignment.replicas}
    missing = tuple(sorted((assigned | set(expected)) - set(board.brokers)))
    leaderless = sum(map(is_leaderless, partitions))
    under_replicated = sum(map(is_under_replicated, partitions))
    healthy = (
        bool(board.brokers)
        and not missing
        and board.controller_id in board.brokers
        and (standing is None or (standing.answers and not standing.unreadable))
        and leaderless == under_replicated == 0
    )
    words = count_words(board, None if standing is None else _standing_words(board, standing))
    if missing:
        words += f", missing: {', '.join(board.name(each) for each in missing)}"
    if standing is not None and standing.unreadable:
        words += f", unreadable in ZooKeeper: {len(standing.unreadable)}"
    line = f"{'healthy' if healthy else 'unhealthy'}: {words}"
    return Health(healthy, line, missing, leaderless, under_replicated)


def _standing_words(board: Board, standing: Standing) -> str:
    """`no controller since epoch 4, next in line: B, C`"""
    from minikafka.cli.kit.screen import controller_words

    words = controller_words(board)
    if standing.candidates is None:
        return f"{words}, as last heard"
    if board.controller_id < 0:
        words += f" since epoch {board.controller_epoch}" if board.controller_epoch > 0 else " yet"
    elif standing.answers:
        return words
    else:
        words += " does not answer"
    return f"{words}, next in line: {', '.join(map(board.name, standing.candidates)) or 'nobody'}"


def health_document(board: Board, health: Health) -> dict[str, Any]:
    """The JSON document without partitions (docs/cli.md)."""
    return {
        "healthy": health.healthy,
        "controller": board.controller_id,
        "controller_epoch": board.controller_epoch,
        "brokers": [
            {
                "id": broker.broker_id,
                "name": broker.name,
                "grpc": broker.grpc_address,
                "kafka": broker.kafka_address,
                "rack": broker.rack,
                "broker_epoch": broker.broker_epoch,
            }
            for _, broker in sorted(board.brokers.items())
        ],
        "missing_brokers": list(health.missing),
        "topics": len({key.topic for key in board.partitions}),
        "leaderless_partitions": health.leaderless,
        "under_replicated_partitions": health.under_replicated,
    }


async def _show(cluster: Bootstrap, as_json: bool) -> bool:
    from minikafka.cli.admin import partitions
    from minikafka.cli.kit.connection import open_admin

    async with open_admin(cluster, partitions.PATIENCE_MS) as admin:
        metadata = await admin.metadata(None)
        board = partitions.board_of(metadata, cluster.names)
        offsets, standing, offline = await asyncio.gather(
            partitions.read_offsets(admin, board),
            _ask_for_controller(admin, board),
            read_offline(admin),
        )
    health = assess(board, cluster.names, standing)
    if as_json:
        document = health_document(board, health) | {
            "controller_answers": standing.answers,
            "candidates": None if standing.candidates is None else list(standing.candidates),
            "unreadable": [
                {"path": path, "why": why} for path, why in sorted(standing.unreadable.items())
            ],
        }
        document["offline_replicas"] = [
            {"broker": broker_id, "reasons": list(reasons)}
            for broker_id, reasons in offline.items()
        ]
        print_json(document | {"partitions": partitions.documents(board, offsets)})
        return health.healthy
    say(health.line)
    for path, why in sorted(standing.unreadable.items()):
        say(f"{path} in ZooKeeper cannot be read: {why}")
    click.echo()
    print_table(("broker", "id", "grpc", "rack", "controller"), _broker_rows(board, health))
    if board.partitions:
        click.echo()
        print_table(partitions.COLUMNS, partitions.rows(board, offsets))
    show_offline(board, offline)
    return health.healthy


async def _ask_for_controller(admin: AsyncAdmin, board: Board) -> Standing:
    """Correct the picture of whoever was asked by what ZooKeeper has: while controllership moves,
    brokers still know of the one that is gone. Then whether the controller is there: one that has
    just died, or hangs, keeps its place until its session ends."""
    from minikafka.cli.admin import partitions
    from minikafka.cli.kit import connection

    candidates = None
    unreadable: dict[str, str] = {}
    try:
        report = await admin.describe_controller()
    except MinikafkaError as error:
        tell(f"who is controller could not be read: {error}")
    else:
        candidates = tuple(report.candidates)
        unreadable = {each.path: each.why for each in report.unreadable}
        if report.controller_epoch >= board.controller_epoch:
            board.controller_id = report.controller_id
            board.controller_epoch = report.controller_epoch
    controller = board.brokers.get(board.controller_id)
    if controller is None:
        return Standing(candidates, False, unreadable)
    address = controller.grpc_address
    answers = await connection.answers(address, partitions.PATIENCE_MS)
    if answers:
        try:
            report = await admin.describe_controller(address)
        except (MinikafkaError, TimeoutError) as error:
            tell(f"what the controller cannot read in ZooKeeper is not known: {error}")
        else:
            unreadable |= {each.path: each.why for each in report.unreadable}
    return Standing(candidates, answers, unreadable)


def _broker_rows(board: Board, health: Health) -> list[list[object]]:
    live: list[list[object]] = [
        [
            broker.name,
            broker.broker_id,
            broker.grpc_address,
            broker.rack or "-",
            "controller" if broker.broker_id == board.controller_id else "",
        ]
        for _, broker in sorted(board.brokers.items())
    ]
    return live + [[board.name(each), each, "missing", "-", ""] for each in health.missing]


async def _watch(cluster: Bootstrap, as_json: bool) -> None:
    from minikafka.cli.kit.connection import require_reachable
    from minikafka.cli.kit.output import on_terminal
    from minikafka.cli.kit.screen import open_screen
    from minikafka.watching.feed import ClusterFeed

    await require_reachable(cluster)
    async with ClusterFeed(cluster.addresses, cluster.names, on_silence=tell) as feed:
        board = feed.board
        if as_json or not on_terminal():
            last = ""
            async for _ in feed.changes():
                health = assess(board, cluster.names)
                if as_json:
                    print_json_line(health_document(board, health))
                elif health.line != last:
                    say(health.line)
                    last = health.line
            return
        with open_screen(board, lambda: assess(board, cluster.names).line) as screen:
            async for changes in feed.changes():
                for change in changes:
                    screen.event(board.describe_change(change))
