"""`minikafka dashboard`: a web page on which the state of a cluster is looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minikafka.cli.kit.interrupts import Interrupts
from minikafka.cli.kit.options import cluster_options
from minikafka.errors import MinikafkaError, UsageError
from minikafka.local import clusterfile
from minikafka.local.cluster import LocalCluster
from minikafka.local.discovery import find_cluster

if TYPE_CHECKING:
    from minikafka.dashboard.server import Subject


class MissingPackages(MinikafkaError):
    """The web server is an extra that is not installed."""


@click.command("dashboard")
@cluster_options
@click.option(
    "--zookeeper",
    "connect",
    metavar="HOST:PORT,...[/CHROOT]",
    envvar="MINIKAFKA_ZOOKEEPER",
    show_envvar=True,
    help="The servers; without it, those of the data directory's cluster.json, if it is that one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="[default: 8080, or another if it is taken]"
)
@click.option(
    "--control",
    is_flag=True,
    help="Buttons that kill, pause, resume and restart brokers and produce records. Only for a "
    "cluster of this machine, and only with --host of this machine.",
)
def command(
    bootstrap: str | None,
    data_dir: Path,
    connect: str | None,
    host: str,
    port: int | None,
    control: bool,
) -> None:
    """Show the cluster on a web page, live: leaders, epochs and in-sync replicas of all partitions,
    every change since the start with its reason, offsets, groups, and ZooKeeper's tree.

    It runs until Ctrl-C, and changes nothing without --control.
    """
    require_packages()
    check_control(control, host, bootstrap)
    from minikafka.dashboard.server import bind, run

    subject = find_subject(bootstrap, data_dir, connect)
    with bind(host, port) as listening, Interrupts() as interrupts:
        act = control_of(data_dir) if control else None
        asyncio.run(
            until_signal(
                interrupts,
                lambda: run(
                    subject,
                    listening,
                    act,
                    lambda link: click.echo(f"dashboard at {link}\nCtrl-C ends it"),
                ),
            )
        )


def require_packages() -> None:
    """Raises MissingPackages, which says what to install."""
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise MissingPackages(
            f"the dashboard needs {' and '.join(missing)}, not installed here: "
            "pip install 'minikafka[dashboard]'"
        )


def check_control(control: bool, host: str, bootstrap: str | None = None) -> None:
    """Raises UsageError where --control is not to be had."""
    from minikafka.config.properties import is_loopback

    if control and not is_loopback(host):
        raise UsageError(
            f"--control with --host {host}: everybody who reaches that address could kill brokers; "
            "leave --host out, or --control"
        )
    if control and bootstrap:
        raise UsageError(
            "--control acts on the processes of a data directory: "
            "name that by --data-dir, and leave --bootstrap (MINIKAFKA_BOOTSTRAP) out"
        )


def find_subject(bootstrap: str | None, data_dir: Path, connect: str | None) -> Subject:
    """What to look at: a cluster by its addresses, or that of a data directory with its processes.

    Raises UsageError, NoCluster."""
    from minikafka.cli.looking.zk import find_zookeeper
    from minikafka.dashboard.server import Subject

    zookeeper = find_zookeeper(connect, data_dir) if connect else None
    if bootstrap:
        found = find_cluster(bootstrap, data_dir)
        return Subject(found.addresses, (), zookeeper, None)
    find_cluster(None, data_dir)  # raises unless it runs
    return local_subject(LocalCluster(data_dir), zookeeper)


def local_subject(local: LocalCluster, zookeeper: str | None = None) -> Subject:
    """The cluster of a data directory."""
    from minikafka.dashboard.history import BrokerView, Process
    from minikafka.dashboard.server import Subject

    cluster = local.require()

    def look() -> dict[int, Process]:
        now = clusterfile.load(local.layout.data_dir)
        return {} if now is None else dict(local.conditions(now))

    processes = look()
    brokers = tuple(
        BrokerView(
            each.id,
            each.name,
            registered=False,
            process=processes.get(each.id, ""),
            grpc=each.grpc,
            kafka=each.kafka,
        )
        for each in cluster.brokers
    )
    # Only of those that run: the port of a dead one may by now be a broker of another cluster.
    addresses = tuple(each.grpc for each in cluster.brokers if processes[each.id] != "ended")
    return Subject(addresses, brokers, zookeeper or cluster.zookeeper.hosts, look)


def control_of(data_dir: Path) -> Callable[[str, str], Awaitable[str]]:
    from minikafka.dashboard.control import Control

    return Control(data_dir).act


async def until_signal(
    interrupts: Interrupts, begin: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Run a coroutine until a signal; its failure is raised."""
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # what matters is on the page
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    interrupts.then(lambda: loop.call_soon_threadsafe(done.set))
    work = asyncio.create_task(begin())
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait([work, waiting], return_when=asyncio.FIRST_COMPLETED)
    for task in (work, waiting):
        task.cancel()
    outcomes = await asyncio.gather(work, waiting, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
