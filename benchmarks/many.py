"""Measures the control plane with many partitions: creation, a killed broker, a killed controller.

    python -m benchmarks.many --partitions 3000 [--topics 1] [--profile FOLDER]

Starts three brokers and the embedded ZooKeeper in a temporary directory at free ports, and ends all
of it again, also when it fails or is interrupted. What is measured is seen from outside, by a
client. Each step but the return of a broker ends with three moments, counted from the same begin:

    known     each living broker has heard of a living leader of every partition: by its watch
              stream, which costs next to nothing to listen to
    answered  a Metadata answer of each living broker says so, too
    led       every partition has taken a record (acks=1) from its leader. Records go to many
              partitions in one request; what is refused is tried again. So it counts what a
              produce costs, and what the leader had still to do before it could lead, such as
              opening the log

    created            from the request to create the topics
    broker killed      SIGKILL to one that is not controller; from the end of its ZooKeeper session
    back               the killed one started again, until all are in every ISR
    controller killed  SIGKILL to the controller; from the election of the next. And what the next
                       one says that its taking over took

Beside each lie what the brokers and ZooKeeper used of the CPU meanwhile, how many packets ZooKeeper
got, and the longest that each broker's Metadata answer for one topic was waited for, asked again
every 50 ms: how long its loop was held. `--until` ends after a step. `--profile` runs all under
cProfile (about half as fast), and leaves a file a step and process in the folder, for `python -m
pstats`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kazoo.exceptions import NoNodeError

from benchmarks.kafka.procfs import cpu_s, rss_mb
from minikafka.api.requests import ProducePartition, ProduceRequest
from minikafka.client import AsyncAdmin
from minikafka.client.channel import connect_over_grpc
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.rpc.channel import BrokerChannel
from minikafka.zookeeper.client import opened

_PATIENCE_S = 300
_PARTITIONS_PER_REQUEST = 500
_ASKED_EVERY_S = 0.05
STEPS = ("created", "killed", "back", "controller")
_POLL_S = 0.01
_TAKEN_OVER = re.compile(r"is controller, .* taken over in (\d+) ms")

_PROFILER = """
import atexit, cProfile, os, signal, sys
_profile, _number = cProfile.Profile(), 0
def _dump(*_):
    global _profile, _number
    _profile.disable()
    name = f"{_number}-{os.getpid()}.prof"
    _profile.dump_stats(os.path.join(os.environ["MANY_PROFILE"], name))
    _profile, _number = cProfile.Profile(), _number + 1
    _profile.enable()
if {"minikafka", "minikafka.zookeeper.embedded"} & set(sys.orig_argv) and "up" not in sys.orig_argv:
    signal.signal(signal.SIGUSR2, _dump)
    _profile.enable()
"""


# --- the cluster ---------------------------------------------------------------------------------


@dataclass(slots=True)
class View:
    """What one broker knows: leader and size of the ISR by topic and partition."""

    leaders: dict[tuple[str, int], int] = field(default_factory=dict)
    in_sync: dict[tuple[str, int], int] = field(default_factory=dict)
    at: float = 0.0  # when it last changed


class Cluster:
    """Three brokers and a ZooKeeper in `path`, and what each broker knows."""

    def __init__(self, path: Path, settings: list[str]) -> None:
        self._path = path
        self._settings = settings
        self.views: dict[int, View] = {}
        self._watchers: dict[int, asyncio.Task[None]] = {}

    async def start(self) -> None:
        options = [word for each in self._settings for word in ("--set", each)]
        await self.command("up", "--detach", "--brokers=3", "--zookeeper=embedded", *options)
        for broker_id in self.pids():
            self.listen_to(broker_id)

    async def stop(self) -> None:
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        if (self._path / "cluster.json").exists():
            await self.command("down")

    async def command(self, *arguments: str) -> None:
        environment = os.environ | {"MINIKAFKA_DATA_DIR": str(self._path)}
        environment.pop("MINIKAFKA_BOOTSTRAP", None)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "minikafka", *arguments),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        if await process.wait() != 0:
            raise RuntimeError(f"minikafka {' '.join(arguments)} failed")

    def _document(self) -> Any:
        return json.loads((self._path / "cluster.json").read_text())

    @property
    def zookeeper(self) -> str:
        return str(self._document()["zookeeper"]["hosts"])

    def zookeeper_pids(self) -> list[int]:
        return list(self._document()["zookeeper"]["pids"])

    def pids(self) -> dict[int, int]:
        """Of the brokers that run, by id."""
        found = {int(each["id"]): each["pid"] for each in self._document()["brokers"]}
        return {broker_id: pid for broker_id, pid in found.items() if Path(f"/proc/{pid}").exists()}

    def addresses(self) -> dict[int, str]:
        return {int(each["id"]): each["grpc"] for each in self._document()["brokers"]}

    def log_text(self, broker_id: int) -> str:
        return (self._path / f"broker-{broker_id}.log").read_text()

    def packets(self) -> int:
        """How many ZooKeeper has got."""
        host, _, port = self.zookeeper.split(",")[0].rpartition(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(b"mntr")
            text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        return int(re.findall(r"zk_packets_received\t(\d+)", text)[0])

    # --- what brokers know ---

    def listen_to(self, broker_id: int) -> None:
        self.views[broker_id] = View()
        self._watchers[broker_id] = asyncio.create_task(self._listen(broker_id))

    async def forget(self, broker_id: int) -> None:
        self._watchers[broker_id].cancel()
        await asyncio.wait({self._watchers.pop(broker_id)})
        del self.views[broker_id]

    @contextlib.asynccontextmanager
    async def channels(self) -> AsyncIterator[dict[int, BrokerChannel]]:
        """To each broker that is listened to."""
        addresses = self.addresses()
        channels = {each: connect_over_grpc(addresses[each]) for each in self.views}
        try:
            yield channels
        finally:
            for channel in channels.values():
                await channel.close()

    async def all_led(self, count: int, begin: float) -> dict[str, float]:
        """The three moments, in seconds after `begin`."""
        moments = {"known s": await self.all_know(count)}
        async with self.channels() as channels:
            leaders: dict[TopicPartition, int] = {}
            for channel in channels.values():
                leaders = await _leaders_by(channel, count, channels.keys())
            moments["answered s"] = time.monotonic()
            while leaders:
                refused = await asyncio.gather(
                    *(
                        _produce(channel, [tp for tp, led in leaders.items() if led == broker_id])
                        for broker_id, channel in channels.items()
                    )
                )
                leaders = {tp: leaders[tp] for tps in refused for tp in tps}
                if leaders:
                    await asyncio.sleep(_POLL_S)
                    any_channel = next(iter(channels.values()))
                    known = await _leaders_by(any_channel, count, channels.keys())
                    leaders = {tp: known[tp] for tp in leaders}
            moments["led s"] = time.monotonic()
        return {name: round(at - begin, 2) for name, at in moments.items()}

    async def _listen(self, broker_id: int) -> None:
        view = self.views[broker_id]
        while True:
            channel = connect_over_grpc(self.addresses()[broker_id])
            try:
                async for update in channel.watch([]):
                    for each in update.partitions:
                        key = (each.topic_partition.topic, each.topic_partition.partition)
                        view.leaders[key] = each.state.leader
                        view.in_sync[key] = len(each.state.isr)
                    view.at = time.monotonic()
            except MinikafkaError:
                pass  # it is tried again for as long as the broker counts
            finally:
                await channel.close()
            await asyncio.sleep(0.05)

    async def all_know(self, count: int, *, in_sync: int = 1) -> float:
        """When each broker that is listened to had heard of a living leader of all partitions."""
        living = set(self.views)

        def settled() -> bool:
            return all(
                len(view.leaders) >= count
                and living.issuperset(view.leaders.values())
                and min(view.in_sync.values()) >= in_sync
                for view in self.views.values()
            )

        await until(settled, 0.05)
        return max(view.at for view in self.views.values())


async def _leaders_by(
    channel: BrokerChannel, count: int, living: Collection[int]
) -> dict[TopicPartition, int]:
    """By a Metadata answer that names living leaders of all partitions."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            answer = await channel.metadata(None, allow_auto_create=False)
            leaders = {
                each.topic_partition: each.state.leader
                for topic in answer.topics
                for each in topic.partitions
            }
            if len(leaders) >= count and all(each in living for each in leaders.values()):
                return leaders
            await asyncio.sleep(_POLL_S)


async def _produce(
    channel: BrokerChannel, partitions: list[TopicPartition]
) -> list[TopicPartition]:
    """A record to each; returns those that took none."""
    builder = BatchBuilder()
    builder.append(None, b"x", (), int(time.time() * 1000))
    records = builder.build(0)
    refused = []
    for start in range(0, len(partitions), _PARTITIONS_PER_REQUEST):
        some = partitions[start : start + _PARTITIONS_PER_REQUEST]
        try:
            results = await channel.produce(
                ProduceRequest(1, 10_000, [ProducePartition(tp, records) for tp in some])
            )
            refused += [each.topic_partition for each in results if each.error is not None]
        except MinikafkaError:
            refused += some
    return refused


class Waits:
    """How long each broker lets a small request wait, at most."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._worst_s: dict[int, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Waits:
        addresses = self._cluster.addresses()
        self._tasks = [
            asyncio.create_task(self._ask(broker_id, addresses[broker_id]))
            for broker_id in self._cluster.views
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, broker_id: int, address: str) -> None:
        channel = connect_over_grpc(address)
        try:
            while True:
                began = time.monotonic()
                with contextlib.suppress(MinikafkaError):  # it has been killed, or is starting
                    await channel.metadata(["no-such-topic"], allow_auto_create=False)
                    waited_s = time.monotonic() - began
                    self._worst_s[broker_id] = max(waited_s, self._worst_s.get(broker_id, 0))
                await asyncio.sleep(_ASKED_EVERY_S)
        finally:
            await channel.close()

    @property
    def worst_ms(self) -> list[int]:
        return [round(waited_s * 1000) for _, waited_s in sorted(self._worst_s.items())]


async def until(reached: Callable[[], bool], poll_s: float = _POLL_S) -> float:
    """When it was seen. TimeoutError after _PATIENCE_S."""
    async with asyncio.timeout(_PATIENCE_S):
        while not reached():  # noqa: ASYNC110 it is asked from outside
            await asyncio.sleep(poll_s)
    return time.monotonic()


# --- one step, and what it cost ------------------------------------------------------------------


class Steps:
    def __init__(self, cluster: Cluster, profile: Path | None) -> None:
        self._cluster = cluster
        self._profile = profile

    @contextlib.asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[dict[str, object]]:
        """What is put into the dict is printed with the costs of the step."""
        cluster = self._cluster
        results: dict[str, object] = {}
        before = self._used()
        packets = cluster.packets()
        async with Waits(cluster) as waits:
            yield results
        after = self._used()
        brokers = cluster.pids().values()
        costs = {
            "brokers' CPU s": _grown(before[0], after[0]),
            "zookeeper's CPU s": _grown(before[1], after[1]),
            "packets": cluster.packets() - packets,
            "longest wait ms": waits.worst_ms,
            "RSS MB": [round(rss_mb(pid)) for pid in (*brokers, *cluster.zookeeper_pids())],
        }
        shown = ", ".join(f"{key} {value}" for key, value in {**results, **costs}.items())
        print(f"{name}: {shown}", flush=True)
        if self._profile is not None:
            for pid in (*brokers, *cluster.zookeeper_pids()):
                os.kill(pid, signal.SIGUSR2)
            await asyncio.sleep(1)

    def _used(self) -> tuple[dict[int, float], dict[int, float]]:
        brokers, zookeeper = self._cluster.pids().values(), self._cluster.zookeeper_pids()
        return {pid: cpu_s([pid]) for pid in brokers}, {pid: cpu_s([pid]) for pid in zookeeper}


def _grown(before: dict[int, float], after: dict[int, float]) -> list[float]:
    return [round(used - before.get(pid, 0.0), 1) for pid, used in after.items()]


async def measure(cluster: Cluster, options: argparse.Namespace) -> None:
    steps = Steps(cluster, options.profile)
    await cluster.start()
    names = [f"many-{number}" for number in range(options.topics)]
    each = options.partitions // options.topics
    count = each * options.topics
    wanted = STEPS[: STEPS.index(options.until) + 1]
    async with (
        AsyncAdmin(list(cluster.addresses().values())) as admin,
        steps.step(f"{count} partitions created") as results,
    ):
        began = time.monotonic()
        for name in names:
            await admin.create_topic(name, each, 3, wait=False)
        results["request s"] = round(time.monotonic() - began, 2)
        results |= await cluster.all_led(count, began)
    with opened(cluster.zookeeper, 10_000, 10_000) as client:
        controller = _controller(client)
        assert controller is not None
        victim = next(broker_id for broker_id in cluster.views if broker_id != controller)
        if "killed" in wanted:
            async with steps.step("in sync"):
                await cluster.all_know(count, in_sync=3)
            await _broker_killed(cluster, steps, client, victim, count)
        if "back" in wanted:
            async with steps.step("back") as results:
                began = time.monotonic()
                await cluster.command("restart", "ABC"[victim - 1])
                results["serving s"] = round(time.monotonic() - began, 2)
                cluster.listen_to(victim)
                results["in sync s"] = round(await cluster.all_know(count, in_sync=3) - began, 2)
        if "controller" in wanted:
            await _controller_killed(cluster, steps, client, controller, count)


async def _broker_killed(
    cluster: Cluster, steps: Steps, client: Any, victim: int, count: int
) -> None:
    async with steps.step("broker killed") as results:
        killed = await _kill(cluster, victim)
        ended = await until(lambda: str(victim) not in client.get_children("/brokers/ids"))
        results["session s"] = round(ended - killed, 2)
        results |= await cluster.all_led(count, ended)


async def _controller_killed(
    cluster: Cluster, steps: Steps, client: Any, controller: int, count: int
) -> None:
    async with steps.step("controller killed") as results:
        killed = await _kill(cluster, controller)
        elected = await until(lambda: _controller(client) not in (None, controller))
        results["elected s"] = round(elected - killed, 2)
        successor = _controller(client)
        assert successor is not None
        results |= await cluster.all_led(count, elected)
        # The line is written when all has been decided, some brokers may have heard before.
        await until(lambda: bool(_TAKEN_OVER.findall(cluster.log_text(successor))), 0.1)
        results["its word, ms"] = _TAKEN_OVER.findall(cluster.log_text(successor))[-1]


async def _kill(cluster: Cluster, broker_id: int) -> float:
    pid = cluster.pids()[broker_id]
    await cluster.forget(broker_id)
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def _controller(client: Any) -> int | None:
    try:
        return int(json.loads(client.get("/controller")[0])["brokerid"])
    except NoNodeError:
        return None


# --- the command ---------------------------------------------------------------------------------


async def run(options: argparse.Namespace) -> None:
    """All of it; the cluster is gone when this returns or raises."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with tempfile.TemporaryDirectory(prefix="minikafka-many-") as folder:
        if options.profile is not None:
            options.profile.mkdir(parents=True, exist_ok=True)
            (Path(folder) / "sitecustomize.py").write_text(_PROFILER)
            os.environ["MANY_PROFILE"] = str(options.profile.absolute())
            os.environ["PYTHONPATH"] = os.pathsep.join([folder, os.environ.get("PYTHONPATH", ".")])
        cluster = Cluster(Path(folder) / "cluster", options.set)
        try:
            await measure(cluster, options)
        except BaseException:
            if options.keep_logs is not None:
                _keep_logs(Path(folder), options.keep_logs)
            raise
        finally:
            await asyncio.shield(asyncio.ensure_future(cluster.stop()))


def _keep_logs(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("cluster/*.log"):
        (target / path.name).write_bytes(path.read_bytes())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Measure the control plane.")
    parser.add_argument("--partitions", type=int, default=3000, help="of all topics together")
    parser.add_argument("--topics", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--until", choices=STEPS, default=STEPS[-1], help="the last step")
    parser.add_argument("--profile", type=Path, metavar="FOLDER")
    parser.add_argument("--keep-logs", type=Path, metavar="FOLDER", help="if it fails")
    asyncio.run(run(parser.parse_args(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
