"""`minikafka up`: a cluster on this machine.

In the foreground it shows what happens and ends everything with itself; with --detach it returns
as soon as all brokers serve, and `minikafka down` ends the cluster.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from minikafka.cli.kit.interrupts import Interrupts
from minikafka.cli.kit.options import data_dir_option, format_option, read_settings
from minikafka.cli.kit.output import print_json
from minikafka.errors import UsageError
from minikafka.local.cluster import LocalCluster, check_settings, plan_cluster
from minikafka.local.clusterfile import ClusterFile
from minikafka.local.discovery import data_dir_hint
from minikafka.local.guardian import Guardian
from minikafka.local.starting import start_all, stop_all
from minikafka.local.telling import tell

_LOOK_S = 0.25


@click.command("up")
@click.option(
    "--brokers",
    type=click.IntRange(1, 26),
    help="How many. [default: as last time in this directory, else 3]",
)
@click.option(
    "--zookeeper",
    metavar="embedded|local[:N]|HOST:PORT,...",
    help="embedded: our own server, needs nothing. local: Apache ZooKeeper found on this machine, "
    "one server or an ensemble of N. HOST:PORT,...: one that runs. "
    "[default: as last time in this directory, else embedded]",
)
@data_dir_option
@click.option("--detach", is_flag=True, help="Return when all brokers serve; `down` ends them.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A property of all brokers, such as min.insync.replicas=2.",
)
@click.option(
    "--dashboard",
    is_flag=True,
    help="Show the cluster on a web page as well, at 127.0.0.1 (see `minikafka dashboard`).",
)
@click.option(
    "--control",
    is_flag=True,
    help="With --dashboard: buttons that kill, pause, resume and restart brokers and produce "
    "records.",
)
@click.option(
    "--dashboard-port",
    type=click.IntRange(0, 65535),
    help="[default: 8080, or another if it is taken]",
)
@format_option
def command(
    brokers: int | None,
    zookeeper: str | None,
    data_dir: Path,
    detach: bool,
    settings: tuple[str, ...],
    dashboard: bool,
    control: bool,
    dashboard_port: int | None,
    output_format: str,
) -> None:
    """Start a cluster on this machine: ZooKeeper, and brokers A, B, C, ...

    Without --detach it shows leader and ISR as they change, until Ctrl-C ends it all (a second
    Ctrl-C ends it at once). Started again on the same directory, it carries on with the data.
    """
    pairs = read_settings(settings, "--set")
    check_settings(pairs)
    if zookeeper is not None:
        from minikafka.zookeeper.servers.launcher import parse_mode

        parse_mode(zookeeper)  # before anything is written
    as_json = output_format == "json"
    page = _Page.prepare(dashboard, control, dashboard_port, detach)
    local = LocalCluster(data_dir)
    with Interrupts() as interrupts, local.owning(), Guardian(data_dir):
        local.require_idle()
        known = local.load()
        plan = plan_cluster(data_dir, known, brokers, zookeeper)
        if known is not None and len(plan.brokers) < len(known.brokers):
            tell(f"leaving out {len(known.brokers) - len(plan.brokers)} broker(s) of last time")
        cluster = start_all(local, plan, pairs, tell if as_json else click.echo)
        if as_json:
            print_json(cluster_document(cluster))
        if detach:
            if not as_json:
                click.echo(f"the cluster runs; `minikafka down{data_dir_hint(data_dir)}` ends it")
            return
        try:
            if not as_json:
                click.echo("the cluster runs; Ctrl-C ends it")
            asyncio.run(_show(local, cluster, interrupts, as_json, page))
        finally:
            hurry = interrupts.ignore_but_count()
            tell("ending the cluster; Ctrl-C once more ends it at once")
            stop_all(local, tell, hurry=hurry)


def cluster_document(cluster: ClusterFile) -> dict[str, object]:
    """The JSON document of cluster.json."""
    from dataclasses import asdict

    return asdict(cluster)


@dataclass(frozen=True, slots=True)
class _Page:
    """The dashboard of --dashboard: where it listens, and whether it has buttons."""

    listening: socket.socket
    control: bool

    @classmethod
    def prepare(cls, wanted: bool, control: bool, port: int | None, detach: bool) -> _Page | None:
        """All that can be refused is refused here, before anything is started."""
        if not wanted:
            for name, given in (("--control", control), ("--dashboard-port", port is not None)):
                if given:
                    raise UsageError(f"{name} is about --dashboard: give that too")
            return None
        if detach:
            raise UsageError(
                "--dashboard lives as long as `up` does, and with --detach that returns: "
                "run `minikafka dashboard` beside it"
            )
        from minikafka.cli.looking.dashboard import require_packages

        require_packages()
        from minikafka.dashboard.server import DEFAULT_HOST, bind

        return cls(bind(DEFAULT_HOST, port), control)

    async def serve(self, local: LocalCluster) -> None:
        """Until cancelled."""
        from minikafka.cli.looking.dashboard import control_of, local_subject
        from minikafka.dashboard.server import run

        data_dir = local.layout.data_dir
        with self.listening:
            await run(
                local_subject(LocalCluster(data_dir)),
                self.listening,
                control_of(data_dir) if self.control else None,
                lambda link: tell(f"dashboard at {link}"),
            )


async def _show(
    local: LocalCluster,
    cluster: ClusterFile,
    interrupts: Interrupts,
    quiet: bool,
    page: _Page | None,
) -> None:
    """Show what happens until a signal."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    interrupts.then(lambda: loop.call_soon_threadsafe(done.set))
    works: list[Coroutine[Any, Any, object]] = [done.wait()]
    if page is not None:
        works.append(page.serve(local))
    if not quiet:
        works.append(_show_changes(local, cluster))
    await _until_first(works)


async def _until_first(works: Sequence[Coroutine[Any, Any, object]]) -> None:
    """Run all until one ends, then cancel the others; raises what any of them failed of."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _show_changes(local: LocalCluster, cluster: ClusterFile) -> None:
    from minikafka.cli.kit.screen import count_words, open_screen
    from minikafka.watching.feed import ClusterFeed

    names = {broker.id: broker.name for broker in cluster.brokers}
    async with ClusterFeed([broker.grpc for broker in cluster.brokers], names) as feed:
        with open_screen(feed.board, lambda: count_words(feed.board)) as screen:

            async def show_changes() -> None:
                async for changes in feed.changes():
                    for change in changes:
                        screen.event(feed.board.describe_change(change))

            async def show_processes() -> None:
                alive = {broker.id for broker in cluster.brokers}
                while True:
                    await asyncio.sleep(_LOOK_S)
                    now = local.require()
                    running = {broker.id for broker in local.running(now)}
                    for broker in now.brokers:
                        if broker.id in alive - running:
                            screen.event(f"broker {broker.name}: its process ended")
                        elif broker.id in running - alive:
                            screen.event(f"broker {broker.name}: process {broker.pid} started")
                    alive = running

            await _until_first([show_changes(), show_processes()])
