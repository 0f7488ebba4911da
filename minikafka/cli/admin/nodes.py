"""`minikafka nodes`: the brokers as nodes of the cluster, with their load; who went, and when."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minikafka.cli.kit.options import cluster_options, format_option
from minikafka.cli.kit.output import (
    clock_time,
    human_bytes,
    print_json,
    print_json_line,
    print_table,
    say,
)
from minikafka.local.discovery import Bootstrap, find_cluster

if TYPE_CHECKING:
    from minikafka.api.nodes import NodeReport
    from minikafka.client import AsyncAdmin

COLUMNS = (
    "node",
    "id",
    "state",
    "cpu %",
    "memory",
    "disk used",
    "disk free",
    "in/s",
    "out/s",
    "leads",
    "holds",
    "up",
    "told",
)
_WATCH_INTERVAL_S = 1.0
_DAY_S = 86_400


@click.command("nodes")
@click.option(
    "--watch", is_flag=True, help="Go on: a line when a node comes or goes, until Ctrl-C."
)
@cluster_options
@format_option
def command(watch: bool, bootstrap: str | None, data_dir: Path, output_format: str) -> None:
    """The brokers with their load, and those that went away in the last seven days, with when.

    Each broker reports itself in ZooKeeper, in a node that goes with its session.
    """
    from minikafka.cli.kit.aio import run

    cluster = find_cluster(bootstrap, data_dir)
    as_json = output_format == "json"
    if not watch:
        run(_show(cluster, as_json))
        return
    try:
        run(_watch(cluster, as_json))
    except KeyboardInterrupt:
        return


def document(report: NodeReport) -> dict[str, Any]:
    """The JSON document of a node (docs/cli.md)."""
    fields = asdict(report.status)
    fields["id"] = fields.pop("broker_id")
    return {
        "id": fields.pop("id"),
        "name": fields.pop("name"),
        "live": report.live,
        "gone_at_ms": report.gone_at_ms or None,
        "updated_at_ms": report.updated_at_ms,
        **fields,
    }


def rows(reports: Iterable[NodeReport], now_s: float) -> list[list[str]]:
    """One row a node, for COLUMNS."""
    found = []
    for report in reports:
        status = report.status
        told = f"{_span(now_s - report.updated_at_ms / 1000)} ago"
        up = _span(now_s - status.started_at_ms / 1000)
        gone = f"gone since {_when(report.gone_at_ms / 1000, now_s)}"
        found.append(
            [
                status.name,
                str(status.broker_id),
                "live" if report.live else gone,
                f"{status.cpu_percent:g}",
                human_bytes(status.rss_bytes),
                human_bytes(status.disk_used_bytes),
                human_bytes(status.disk_free_bytes),
                human_bytes(status.bytes_in_per_s),
                human_bytes(status.bytes_out_per_s),
                str(status.partitions_led),
                str(status.partitions_held),
                up if report.live else "-",
                told if report.live else "-",
            ]
        )
    return found


def changes(before: Mapping[int, NodeReport], now: Sequence[NodeReport]) -> list[NodeReport]:
    """Those that came, or went, or are another process than before."""
    found = []
    for report in now:
        known = before.get(report.status.broker_id)
        same = (
            known is not None
            and known.live == report.live
            and known.status.started_at_ms == report.status.started_at_ms
        )
        if not same and (known is not None or report.live):
            found.append(report)
    return found


def describe_change(report: NodeReport, known: bool) -> str:
    """One line: what became of a node."""
    status = report.status
    node = f"node {status.name} ({status.broker_id})"
    if not report.live:
        return f"{node} went away"
    return f"{node} is there again" if known else f"{node} is there"


async def _show(cluster: Bootstrap, as_json: bool) -> None:
    from minikafka.cli.kit.connection import open_admin

    async with open_admin(cluster) as admin:
        reports = await admin.list_nodes()
    if as_json:
        print_json([document(report) for report in reports])
    else:
        print_table(COLUMNS, rows(reports, time.time()))


async def _watch(cluster: Bootstrap, as_json: bool) -> None:
    from minikafka.cli.kit.connection import open_admin

    async with open_admin(cluster) as admin:
        reports = await admin.list_nodes()
        if as_json:
            for report in reports:
                print_json_line(document(report))
        else:
            print_table(COLUMNS, rows(reports, time.time()))
        await _follow(admin, {each.status.broker_id: each for each in reports}, as_json)


async def _follow(admin: AsyncAdmin, known: dict[int, NodeReport], as_json: bool) -> None:
    import asyncio

    from minikafka.errors import MinikafkaError
    from minikafka.local.telling import tell

    silent = False
    while True:
        await asyncio.sleep(_WATCH_INTERVAL_S)
        try:
            reports = await admin.list_nodes()
        except MinikafkaError as error:
            if not silent:
                tell(f"nobody tells of the nodes for now: {error}")
            silent = True
            continue
        silent = False
        for report in changes(known, reports):
            if as_json:
                print_json_line(document(report))
            else:
                at_s = time.time() if report.live else report.gone_at_ms / 1000
                was_known = report.status.broker_id in known
                say(f"{clock_time(at_s)} {describe_change(report, was_known)}")
        known = {each.status.broker_id: each for each in reports}


def _span(seconds: float) -> str:
    """`5 s`, `3 min`, `2.5 h`, `1.5 d`."""
    seconds = max(seconds, 0)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * _DAY_S else f"{seconds / _DAY_S:.1f} d"


def _when(timestamp_s: float, now_s: float) -> str:
    """The time of day, with the date unless that is today's."""
    local = time.localtime(timestamp_s)
    today = time.localtime(now_s)[:3] == local[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", local)
