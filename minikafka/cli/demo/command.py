"""`minikafka demo` (`make demo`): five brokers, three accidents, and a count of what was lost.

A topic with one partition and five replicas on brokers A to E; a producer writes the lines of a
text file without a pause, with acks=all and min.insync.replicas=3. E is killed; the leader is
killed; a follower is paused until its lag drops it from the ISR, and resumed; the dead are started
again until the ISR is whole. Then everything is read back and held against what was acknowledged.

With two brokers dead and one paused, two of the five are in sync: fewer than min.insync.replicas,
so nothing is acknowledged until the paused one is back. That is as it should be.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minikafka.cli.kit.interrupts import Interrupts
from minikafka.cli.kit.options import format_option
from minikafka.cli.kit.output import clock_time, print_json, print_table
from minikafka.errors import MinikafkaError, UsageError
from minikafka.local.cluster import LocalCluster
from minikafka.local.clusterfile import ClusterFile
from minikafka.local.faults import Faults
from minikafka.local.telling import tell
from minikafka.local.throwaway import throwaway_cluster

if TYPE_CHECKING:
    from minikafka.cli.demo.load import Audit, DemoLoad
    from minikafka.cli.demo.stage import Act, DemoStage
    from minikafka.model import PartitionState

TOPIC = "demo"
BROKERS = 5
E_ID = 5
MIN_INSYNC = 3

# The lag limit is well below the session timeout, so that a paused broker leaves the ISR because it
# lags, before ZooKeeper gives it up.
_SETTINGS = {
    "zookeeper.session.timeout.ms": "5000",
    "replica.lag.time.max.ms": "1500",
    "controlled.shutdown.max.retries": "1",
    "controlled.shutdown.retry.backoff.ms": "200",
}
_ACT_TIMEOUT_S = 20.0
_BETWEEN_ACTS = 400  # records to be acknowledged
_FALLBACK_TEXT = "no README.md was found, so this line is written over and over\n"


@click.command("demo")
@click.option(
    "--file",
    "source",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The text whose lines are written. [default: README.md, if it is there]",
)
@format_option
@click.pass_context
def command(ctx: click.Context, source: Path | None, output_format: str) -> None:
    """Kill, pause and restart brokers under load, and count what was lost.

    Takes less than a minute. Runs in a temporary directory on ports of its own, and leaves nothing
    behind. Exit status 0 only if nothing was lost or duplicated and the ISR is whole again.
    """
    lines = read_lines(source)
    as_json = output_format == "json"
    show = tell if as_json else click.echo
    with (
        Interrupts() as interrupts,
        throwaway_cluster("minikafka-demo-", BROKERS, "embedded", _SETTINGS, show) as (
            local,
            cluster,
        ),
    ):
        ok = asyncio.run(_until_interrupted(interrupts, local, cluster, lines, as_json))
        interrupts.ignore_but_count()
    ctx.exit(0 if ok else 1)


def read_lines(source: Path | None) -> list[bytes]:
    """The lines of the text. Raises UsageError if it cannot be read or is empty."""
    if source is None:
        candidates = (Path("README.md"), Path(__file__).parents[3] / "README.md")
        source = next((path for path in candidates if path.is_file()), None)
    try:
        text = source.read_bytes() if source is not None else _FALLBACK_TEXT.encode()
    except OSError as error:
        raise UsageError(f"--file {source}: {error.strerror}") from error
    lines = text.splitlines()
    if not lines:
        raise UsageError(f"--file {source}: it is empty, and there must be a line to write")
    return lines


async def _until_interrupted(
    interrupts: Interrupts,
    local: LocalCluster,
    cluster: ClusterFile,
    lines: list[bytes],
    as_json: bool,
) -> bool:
    """Play; a signal breaks it off with KeyboardInterrupt, so that all is cleaned up."""
    loop = asyncio.get_running_loop()
    playing = asyncio.current_task()
    assert playing is not None
    interrupts.then(lambda: loop.call_soon_threadsafe(playing.cancel))
    try:
        return await _play(local, cluster, lines, as_json)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _play(
    local: LocalCluster, cluster: ClusterFile, lines: list[bytes], as_json: bool
) -> bool:
    """All acts, the audit and the table. Returns whether all is well."""
    from minikafka.cli.demo.load import audit, read_everything
    from minikafka.cli.demo.stage import Stopwatch

    clock = Stopwatch()
    addresses = [broker.grpc for broker in cluster.brokers]
    acts: list[Act] = []
    problem: MinikafkaError | None = None

    def show(text: str) -> None:
        (tell if as_json else click.echo)(f"{clock_time()} {text}")

    async with _performance(cluster, addresses, lines, show) as (stage, load):
        try:
            await _acts(stage, Faults(local), load, acts, show)
        except MinikafkaError as error:
            problem = error
            show(f"broken off: {error}")
        last_state = stage.state
    show("reading everything back")
    outcome = audit(
        load.acknowledged, lines, await read_everything(addresses, TOPIC, _ACT_TIMEOUT_S)
    )
    whole = len(last_state.isr) == BROKERS
    ok = outcome.clean and whole and problem is None and not load.failed
    if as_json:
        print_json(demo_document(acts, outcome, load, last_state, clock.ms, ok))
    else:
        _print_outcome(acts, outcome, load, whole, clock.ms)
    if problem is not None:
        raise problem
    return ok


@contextlib.asynccontextmanager
async def _performance(
    cluster: ClusterFile,
    addresses: list[str],
    lines: list[bytes],
    show: Callable[[str], None],
) -> AsyncIterator[tuple[DemoStage, DemoLoad]]:
    """The topic, a producer that writes to it, and everybody watching; ends with every record
    acknowledged or failed."""
    from minikafka.cli.demo.load import DemoLoad
    from minikafka.cli.demo.stage import DemoStage
    from minikafka.client import AsyncAdmin, AsyncProducer
    from minikafka.model import TopicPartition
    from minikafka.watching.feed import ClusterFeed

    async with AsyncAdmin(addresses) as admin:
        await admin.create_topic(
            TOPIC,
            configs={"min.insync.replicas": str(MIN_INSYNC)},
            assignments={0: [broker.id for broker in cluster.brokers]},
        )
    names = {broker.id: broker.name for broker in cluster.brokers}
    async with (
        ClusterFeed(addresses, names) as feed,
        AsyncProducer(addresses, acks="all") as producer,
    ):
        stage = DemoStage(feed, TopicPartition(TOPIC, 0), show)
        load = DemoLoad(producer, TOPIC, lines)
        tasks = [asyncio.create_task(stage.watch()), asyncio.create_task(load.run())]
        try:
            yield stage, load
            load.stop()
            await tasks[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _acts(
    stage: DemoStage, faults: Faults, load: DemoLoad, acts: list[Act], show: Callable[[str], None]
) -> None:
    """The story. Raises RequestTimedOutError if something does not happen."""
    from minikafka.cli.demo.stage import Act, Stopwatch

    async def act(
        event: str, do: Callable[[], object], wanted: Callable[[PartitionState], bool]
    ) -> None:
        before = stage.line
        show(f"--- {event}")
        watch = Stopwatch()
        done = do()
        if isinstance(done, Awaitable):
            await done
        await stage.wait_until(wanted, event, _ACT_TIMEOUT_S)
        acts.append(Act(event, before, stage.line, watch.ms, len(load.acknowledged)))

    async def write_on() -> None:
        if not await load.wait_acknowledged(_BETWEEN_ACTS, _ACT_TIMEOUT_S):
            from minikafka.errors import RequestTimedOutError

            raise RequestTimedOutError(
                f"no {_BETWEEN_ACTS} records were acknowledged within {_ACT_TIMEOUT_S:.0f} s"
            )

    everybody = set(range(1, BROKERS + 1))
    await stage.wait_until(lambda s: set(s.isr) == everybody, "a whole ISR", _ACT_TIMEOUT_S)
    await write_on()
    await act("kill E", lambda: faults.kill(E_ID), lambda s: E_ID not in s.isr)
    await write_on()
    leader = stage.state.leader
    await act(
        f"kill {stage.name(leader)}, the leader",
        lambda: faults.kill(leader),
        lambda s: s.leader not in (leader, -1),
    )
    await write_on()
    lagging = choose_follower(stage.state, stage.controller_id)
    name = stage.name(lagging)
    await act(f"pause {name}", lambda: faults.pause(lagging), lambda s: lagging not in s.isr)
    await act(f"resume {name}", lambda: faults.resume(lagging), lambda s: lagging in s.isr)
    await write_on()
    for dead in (E_ID, leader):
        await act(
            f"restart {stage.name(dead)}",
            lambda dead=dead: asyncio.to_thread(faults.restart, dead),  # type: ignore[misc]
            lambda s, dead=dead: dead in s.isr,  # type: ignore[misc]
        )
    await stage.wait_until(lambda s: set(s.isr) == everybody, "a whole ISR", _ACT_TIMEOUT_S)
    await write_on()


def choose_follower(state: PartitionState, controller_id: int) -> int:
    """Whom to pause: the last in-sync follower that is not controller, as a paused controller would
    first have to lose its session before anybody could change the ISR."""
    followers = [each for each in state.isr if each != state.leader]
    return max(followers, key=lambda each: (each != controller_id, each))


def demo_document(
    acts: list[Act],
    outcome: Audit,
    load: DemoLoad,
    last_state: PartitionState,
    took_ms: int,
    ok: bool,
) -> dict[str, object]:
    """The JSON document (docs/cli.md)."""
    return {
        "ok": ok,
        "took_ms": took_ms,
        "events": [
            {
                "event": each.event,
                "before": each.before,
                "after": each.after,
                "took_ms": each.took_ms,
                "acknowledged": each.acknowledged,
            }
            for each in acts
        ],
        "sent": load.sent,
        "acknowledged": outcome.acknowledged,
        "failed": len(load.failed),
        "read_back": outcome.read_back,
        "lost": len(outcome.lost),
        "duplicated": len(outcome.duplicated),
        "leader": last_state.leader,
        "leader_epoch": last_state.leader_epoch,
        "isr": list(last_state.isr),
    }


def _print_outcome(
    acts: list[Act], outcome: Audit, load: DemoLoad, whole: bool, took_ms: int
) -> None:
    click.echo()
    print_table(
        ("event", "before", "after", "took", "acknowledged"),
        [
            [each.event, each.before, each.after, f"{each.took_ms / 1000:.2f} s", each.acknowledged]
            for each in acts
        ],
    )
    click.echo()
    print_table(
        ("records", "count"),
        [
            ["acknowledged", outcome.acknowledged],
            ["read back", outcome.read_back],
            ["lost", len(outcome.lost)],
            ["duplicated", len(outcome.duplicated)],
        ],
    )
    click.echo()
    if load.failed:
        first = next(iter(load.failed.values()))
        click.echo(f"{len(load.failed)} records were refused; the first because: {first}")
    click.echo(f"ISR {'whole' if whole else 'NOT whole'}; {took_ms / 1000:.1f} s after set-up")
