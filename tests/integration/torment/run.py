"""`python -m tests.integration.torment.run`: torments a cluster, and judges what its clients saw.

Exit status 1 on any anomaly, 2 if it could not be tried. On an anomaly the history, the logs and
the data are kept, and it says where.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from minikafka.errors import UsageError
from minikafka.zookeeper.servers.launcher import ZooKeeperMode, parse_mode
from tests.integration.torment import isolation, java_transactor
from tests.integration.torment.availability import availability, plot, table
from tests.integration.torment.checker import Anomaly, Facts, count, judge
from tests.integration.torment.disks import BALLAST
from tests.integration.torment.faults import KINDS
from tests.integration.torment.history import History
from tests.integration.torment.lying import LiarProcess, disturbed
from tests.integration.torment.memory import MemoryWatch
from tests.integration.torment.nemesis import Nemesis, plan
from tests.integration.torment.netns import Namespaces, missing_tools
from tests.integration.torment.network import Network
from tests.integration.torment.passing import check_disks
from tests.integration.torment.replicas import compare
from tests.integration.torment.strangers import read_by_strangers
from tests.integration.torment.workload import Workload
from tests.integration.torment.world import World

_WARM_UP_S = 2.0
_CALM_S = 6.0  # with the liar, but without a fault
_TOLD = 8  # anomalies of each kind


@dataclass(frozen=True)
class Options:
    seconds: float
    mode: ZooKeeperMode
    brokers: int
    seed: int
    kinds: tuple[str, ...]
    liar: bool
    plot: Path | None
    keep: Path | None
    network: str


def read_options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.torment.run",
        description="Torments a cluster of real processes, and judges what its clients saw.",
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--zookeeper", default="embedded", help="embedded, local or local:3")
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--seed", type=int, help="repeats the plan of an earlier run")
    parser.add_argument(
        "--faults", help=f"only these, separated by commas, of: {', '.join(KINDS)}", default=""
    )
    parser.add_argument(
        "--liar", action=argparse.BooleanOptionalAction, default=True, help="a client that lies"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the availability, as SVG")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep history and logs there")
    parser.add_argument("--network", choices=("auto", "namespaces", "proxies"), default="auto")
    given = parser.parse_args(arguments)
    kinds = tuple(each.strip() for each in given.faults.split(",") if each.strip()) or tuple(KINDS)
    for each in kinds:
        if each not in KINDS:
            parser.error(f"{each!r} is no kind of fault; there are {', '.join(KINDS)}")
    if given.brokers < 3:
        parser.error("three brokers are the least that can lose one")
    try:
        mode = parse_mode(given.zookeeper)
    except UsageError as error:
        parser.error(str(error))
    if mode.kind == "hosts":
        parser.error("a ZooKeeper of somebody else is not for us to torment")
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    return Options(
        given.minutes * 60,
        mode,
        given.brokers,
        seed,
        kinds,
        given.liar,
        given.plot,
        given.keep,
        given.network,
    )


class Story:
    """The lines that a person follows, with the seconds since the start."""

    def __init__(self, path: Path) -> None:
        self._start = time.monotonic()
        self._path = path

    def tell(self, line: str) -> None:
        text = f"{time.monotonic() - self._start:7.1f} {line}"
        print(text, flush=True)
        with self._path.open("a") as file:
            file.write(text + "\n")


async def torment(options: Options, world: World, tell: Callable[[str], None]) -> list[Anomaly]:
    """One run, from start to verdict."""
    problems: list[str] = []
    with History(world.directory / "history.jsonl") as history:
        await world.start()
        tell(
            f"{options.brokers} brokers, ZooKeeper {options.mode.text}, {world.network.description}"
        )
        kinds = [each for each in options.kinds if KINDS[each].possible(world)]
        for left_out in sorted(set(options.kinds) - set(kinds)):
            tell(f"left out, as this machine does not allow it: {left_out}")
        java, absent = await asyncio.to_thread(java_transactor.available)
        for line in absent:
            tell(line)
        rng = random.Random(options.seed)
        workload = Workload(
            world.bootstrap,
            world.kafka_bootstrap,
            world.partitions,
            history,
            rng,
            world.topic_exists,
            java,
        )
        workload.start()
        nemesis = Nemesis(world, history, tell)
        memory = MemoryWatch(world.brokers)
        lying = LiarProcess(world, options.seed, options.liar)
        try:
            await asyncio.sleep(_WARM_UP_S)
            memory.start()
            lying.start()
            await nemesis.run(plan(options.seed, kinds), time.monotonic() + options.seconds)
            tell("no more faults: waiting until the cluster is whole")
            try:
                await world.until_whole()
            except AssertionError as problem:
                problems.append(str(problem))
            problems += await disturbed(world, history, _CALM_S)
            problems += await lying.end(tell)
            await workload.stop_producing()
            await workload.catch_up()
        finally:
            lying.kill_now()
            await workload.close()
            await memory.stop()
        problems += nemesis.problems + workload.failures
        followers = [each.name for each in workload.followers]
        anomalies = [Anomaly("stuck", "-", each) for each in problems]
        deaths = [each for each in world.deaths if not each.is_justified]
        anomalies += [Anomaly("death", "-", str(each)) for each in deaths]
        facts = Facts.of(history.operations, followers)
        anomalies += judge(facts)
        anomalies += compare_replicas(world, facts)
        anomalies += workload.passing.anomalies
        anomalies += workload.transacting.anomalies
        anomalies += memory.anomalies()
        anomalies += await read_by_strangers(world.kafka_bootstrap, world.all_partitions)
        tell(memory.describe())
        anomalies += await check_disks(disk.path / "data" for disk in world.disks.values())
        tell(f"{workload.passing.lives} lives of topics that come and go")
        tell(workload.transacting.describe())
        report(options, world, facts, tell)
        return anomalies


def compare_replicas(world: World, facts: Facts) -> list[Anomaly]:
    """Below what the final read found to be committed."""
    data_dirs = {each: disk.path / "data" for each, disk in world.disks.items()}
    return [
        anomaly
        for partition, records in facts.log.items()
        if records
        for anomaly in compare(data_dirs, partition, records[-1][0] + 1)
    ]


def report(options: Options, world: World, facts: Facts, tell: Callable[[str], None]) -> None:
    counts = count(facts)
    tell(
        f"{counts.sends} sends (acks=all: {counts.acknowledged} ok, {counts.failed} failed, "
        f"{counts.unknown} unknown, {counts.unknown_written} of these written; acks=1: "
        f"{counts.weak_acknowledged} ok, {counts.weak_lost} of these lost, "
        f"{counts.weak_duplicated} repeated)"
    )
    tell(
        f"{counts.polls} polls gave {counts.records_read} records; "
        f"{counts.records_in_log} are in the log; {counts.commits} commits; "
        f"{len(facts.faults)} faults"
    )
    for name, times in sorted(counts.errors.items()):
        tell(f"  error {name}: {times}")
    for death in world.deaths:
        last = death.last_words.splitlines()[-1] if death.last_words else ""
        tell(f"broker {death.broker_id} ended by itself, status {death.status}: {last}")
    rows = availability(facts)
    print(table(rows), flush=True)
    if options.plot is not None:
        title = f"ZooKeeper {options.mode.text}, {options.brokers} brokers"
        options.plot.write_text(plot(rows, title))
        tell(f"the plot is {options.plot}")


def tell_anomalies(anomalies: Sequence[Anomaly], tell: Callable[[str], None]) -> None:
    """How many of each kind, and the first of them."""
    for kind, times in Counter(each.kind for each in anomalies).items():
        tell(f"ANOMALY {kind}: {times}")
        for each in [each for each in anomalies if each.kind == kind][:_TOLD]:
            tell(f"  {each}")
    tell(f"{len(anomalies)} anomalies" if anomalies else "no anomalies")


def choose_network(options: Options) -> tuple[Network, bool]:
    """The network, and whether we are in a room of our own. Before there are threads."""
    brokers = range(1, options.brokers + 1)
    missing = missing_tools()
    if options.network != "proxies" and not missing and isolation.enter():
        return Namespaces(brokers), True
    if options.network == "namespaces":
        sys.exit(
            f"no network namespaces here{': missing ' + ', '.join(missing) if missing else ''}"
        )
    from tests.integration.torment.proxy import Proxies

    return Proxies(brokers), False


def main(arguments: Sequence[str] | None = None) -> int:
    options = read_options(arguments)
    network, mounts = choose_network(options)
    directory = Path(tempfile.mkdtemp(prefix="minikafka-torment-"))
    story = Story(directory / "story.txt")
    again = f"--zookeeper {options.mode.text} --brokers {options.brokers} --seed {options.seed}"
    story.tell(f"seed {options.seed}: repeat the plan with {again}")
    world = World(directory, network, options.mode, options.brokers, mounts)
    keep = options.keep
    try:
        anomalies = asyncio.run(_run(options, world, story.tell))
        tell_anomalies(anomalies, story.tell)
        if anomalies and keep is None:
            keep = Path(tempfile.gettempdir()) / f"minikafka-torment-{options.seed}-kept"
        return 1 if anomalies else 0
    except (KeyboardInterrupt, asyncio.CancelledError):
        story.tell("interrupted")
        return 130
    except BaseException:
        keep = keep or Path(tempfile.gettempdir()) / f"minikafka-torment-{options.seed}-kept"
        raise
    finally:
        world.kill_now()
        if keep is not None:
            keep_everything(world, keep)
            print(f"history, logs and data are in {keep}", flush=True)
        for disk in world.disks.values():
            disk.close()
        shutil.rmtree(directory, ignore_errors=True)


async def _run(options: Options, world: World, tell: Callable[[str], None]) -> list[Anomaly]:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await torment(options, world, tell)
    finally:
        await world.close()


def keep_everything(world: World, target: Path) -> None:
    """Before the mounts vanish with the room."""
    with contextlib.suppress(OSError):
        shutil.copytree(
            world.directory, target, ignore=shutil.ignore_patterns(BALLAST), dirs_exist_ok=True
        )


if __name__ == "__main__":
    sys.exit(main())
