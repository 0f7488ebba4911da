"""`minikafka up`: a cluster on this machine.

In the foreground it shows what happens and ends everything with itself; with --detach it returns
as soon as all brokers serve, and `minikafka down` ends the cluster.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from minikafka.cli.cluster import LocalCluster, check_settings, plan_cluster
from minikafka.cli.clusterfile import ClusterFile
from minikafka.cli.guardian import Guardian
from minikafka.cli.interrupts import Interrupts
from minikafka.cli.options import data_dir_hint, data_dir_option, format_option, read_settings
from minikafka.cli.output import print_json, tell
from minikafka.cli.starting import start_all, stop_all

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
@format_option
def command(
    brokers: int | None,
    zookeeper: str | None,
    data_dir: Path,
    detach: bool,
    settings: tuple[str, ...],
    output_format: str,
) -> None:
    """Start a cluster on this machine: ZooKeeper, and brokers A, B, C, ...

    Without --detach it shows leader and ISR as they change, until Ctrl-C ends it all (a second
    Ctrl-C ends it at once). Started again on the same directory, it carries on with the data.
    """
    pairs = read_settings(settings, "--set")
    check_settings(pairs)
    if zookeeper is not None:
        from minikafka.zookeeper.launcher import parse_mode

        parse_mode(zookeeper)  # before anything is written
    as_json = output_format == "json"
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
            asyncio.run(_show(local, cluster, interrupts, as_json))
        finally:
            hurry = interrupts.ignore_but_count()
            tell("ending the cluster; Ctrl-C once more ends it at once")
            stop_all(local, tell, hurry=hurry)


def cluster_document(cluster: ClusterFile) -> dict[str, object]:
    """The JSON document of cluster.json."""
    from dataclasses import asdict

    return asdict(cluster)


async def _show(
    local: LocalCluster, cluster: ClusterFile, interrupts: Interrupts, quiet: bool
) -> None:
    """Show what happens until a signal."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    interrupts.then(lambda: loop.call_soon_threadsafe(done.set))
    if quiet:
        await done.wait()
        return
    from minikafka.cli.feed import ClusterFeed
    from minikafka.cli.screen import count_words, open_screen

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

            tasks = [
                asyncio.create_task(work)
                for work in (show_changes(), show_processes(), done.wait())
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome
