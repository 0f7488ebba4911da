"""`minikafka top`: brokers, topics, groups and what changes, on a terminal, until `q`.

What is known is gathered in gather.py and laid out in frame.py; here is only when.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minikafka.cli.kit.options import cluster_options
from minikafka.cli.kit.output import (
    on_terminal,
    say,
)
from minikafka.local.discovery import Bootstrap, find_cluster

if TYPE_CHECKING:
    from minikafka.cli.top.frame import Line
    from minikafka.cli.top.gather import Gatherer

_COORDINATORS_EVERY_S = 2.0
_ONCE_PATIENCE_S = 10.0  # with a broker: there is no next frame


@click.command("top")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="The time over which rates are taken, and between two frames.",
)
@click.option("--once", is_flag=True, help="Print one frame as text, after one interval.")
@cluster_options
def command(interval: float, once: bool, bootstrap: str | None, data_dir: Path) -> None:
    """Who does how much: brokers, topics and groups with their load, transactions that are open,
    and what changes.

    On a terminal, `q` ends it and `s` orders topics by something else. In a pipe, a frame every
    interval. Rates need two readings, so the first frame has none.
    """
    from minikafka.cli.kit.aio import run

    cluster = find_cluster(bootstrap, data_dir)
    with contextlib.suppress(KeyboardInterrupt):
        run(_top(cluster, interval, once))


async def _top(cluster: Bootstrap, interval_s: float, once: bool) -> None:
    from minikafka.cli.kit.connection import require_reachable
    from minikafka.cli.top.gather import Gatherer

    await require_reachable(cluster)
    async with Gatherer(cluster) as gatherer:
        if once:
            await gatherer.read_metrics(_ONCE_PATIENCE_S)
            await asyncio.sleep(interval_s)
            await asyncio.gather(
                gatherer.read_metrics(_ONCE_PATIENCE_S), gatherer.read_coordinators()
            )
            _print(gatherer.lines())
        elif on_terminal():
            await _on_screen(gatherer, interval_s)
        else:
            await _show(gatherer, interval_s, lambda: _print(gatherer.lines(), "\n"))


def _print(lines: Iterable[Line], after: str = "") -> None:
    say("\n".join(line.text for line in lines) + after)


async def _on_screen(gatherer: Gatherer, interval_s: float) -> None:
    from minikafka.cli.top.screen import Screen

    def footer() -> str:
        return f" q quit   s sort topics ({gatherer.known.sort})   every {interval_s:g} s "

    with Screen(gatherer.lines, {"s": gatherer.next_sort}, footer) as screen:
        await _show(gatherer, interval_s, screen.refresh, screen.quit)


async def _show(
    gatherer: Gatherer,
    interval_s: float,
    refresh: Callable[[], None],
    quit_wanted: asyncio.Event | None = None,
) -> None:
    """Read, show, wait; until `quit_wanted`."""
    coordinators = asyncio.create_task(
        gatherer.run_coordinators(max(interval_s, _COORDINATORS_EVERY_S))
    )
    quitting = asyncio.create_task((quit_wanted or asyncio.Event()).wait())
    try:
        while not quitting.done():
            began_s = time.monotonic()
            await gatherer.read_metrics()
            refresh()
            rest_s = max(0.0, interval_s - (time.monotonic() - began_s))
            await asyncio.wait(
                {quitting, coordinators}, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED
            )
            if coordinators.done():
                coordinators.result()  # it never ends but by a bug
    finally:
        for task in (coordinators, quitting):
            task.cancel()
        await asyncio.gather(coordinators, quitting, return_exceptions=True)
