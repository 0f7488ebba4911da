"""`python -m tests.fuzz.run`: lies to a cluster of real brokers, and sees what becomes of it.

Workers send requests that are nearly right (requests.py), and an honest client works along. Exit
status 1 on any finding, 2 if it could not be tried; a finding is printed with the requests that
were under way, and kept in a file with the logs.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minikafka.client import Admin
from minikafka.errors import MinikafkaError
from tests.fuzz import honest, judge, requests
from tests.helpers.processes import ProcessCluster
from tests.helpers.waiting import happens

_ANSWER_S = 0.5  # those that wait by right are left to it
_LOOK_S = 0.5
_SUSPECTS = 100  # of each worker
_TOLD = 6
# Small rooms, so that what is not bounded shows; groups start at once.
_SETTINGS = (
    "group.initial.rebalance.delay.ms=0",
    "offsets.topic.num.partitions=3",
    "auto.create.topics.enable=false",
    "zookeeper.session.timeout.ms=6000",
    "replica.lag.time.max.ms=10000",
)


@dataclass(frozen=True)
class Options:
    seconds: float
    seed: int
    brokers: int = 3
    workers: int = 3
    slowest_ms: float = 5_000.0
    memory_mb: float = 500.0
    keep: Path | None = None
    requests: int | None = None  # of each worker; None: as many as there is time for


def read_options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, help="sends what an earlier run sent")
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--requests", type=int, help="at most so many of each worker")
    parser.add_argument("--slowest-ms", type=float, default=Options.slowest_ms)
    parser.add_argument("--memory-mb", type=float, default=Options.memory_mb, help="of a broker")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="findings and logs go there")
    given = parser.parse_args(arguments)
    if given.seed is None:
        given.seed = random.SystemRandom().randrange(1_000_000)
    return Options(**vars(given))


@dataclass(frozen=True)
class Sent:
    worker: int
    number: int
    address: str
    fuzzed: requests.Fuzzed

    @property
    def api(self) -> requests.ApiKey:
        return self.fuzzed.api

    def __str__(self) -> str:
        return f"worker {self.worker}, request {self.number} to {self.address}, {self.fuzzed}"


@dataclass
class Worker:
    """Sends one request after another, to one broker after another, and waits a while for each
    answer; a connection on which none comes is given up."""

    seed: int
    number: int
    addresses: list[str]
    now_ms: int
    most: int | None
    sent: int = 0
    closed: int = 0
    unanswered: int = 0
    recent: deque[tuple[float, Sent]] = field(default_factory=lambda: deque(maxlen=_SUSPECTS))
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _connection: socket.socket | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        assert self._thread is not None
        self._stop.set()
        self._thread.join(60)

    @property
    def ended(self) -> bool:
        return self._thread is not None and not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set() and self.sent != self.most:
            fuzzed = requests.request(self.seed, self.number, self.sent, self.now_ms)
            # A connection serves a while, then another broker has its turn.
            address = self.addresses[(self.sent // 50 + self.number) % len(self.addresses)]
            sent = Sent(self.number, self.sent, address, fuzzed)
            self.recent.append((time.monotonic(), sent))
            self.sent += 1
            try:
                self._ask(address, fuzzed)
            except TimeoutError:
                self.unanswered += 1
                self._hang_up()
            except OSError:
                self.closed += 1
                self._hang_up()
            if self.sent % 50 == 0:
                self._hang_up()
        self._hang_up()

    def _ask(self, address: str, fuzzed: requests.Fuzzed) -> None:
        if self._connection is None:
            host, _, port = address.rpartition(":")
            self._connection = socket.create_connection((host, int(port)), _ANSWER_S)
        self._connection.sendall(fuzzed.wire)
        if fuzzed.manner in ("half", "many"):
            raise ConnectionAbortedError(f"hung up after {fuzzed.manner}")
        (size,) = struct.unpack(">i", self._exactly(4))
        self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        assert self._connection is not None
        data = bytearray()
        while len(data) < size:
            piece = self._connection.recv(min(size - len(data), 1 << 20))
            if not piece:
                raise ConnectionResetError("the broker has closed the connection")
            data += piece
        return bytes(data)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Run:
    """One cluster, from its start to the verdict."""

    def __init__(self, options: Options, path: Path) -> None:
        self.options, self.path = options, path
        self.findings: list[str] = []
        self.cluster = ProcessCluster(path)

    def run(self) -> list[str]:
        options = self.options
        try:
            self.cluster.up(options.brokers, "embedded", *_SETTINGS)
            self._prepare()
            return self._lie()
        finally:
            self.cluster.down()

    def _prepare(self) -> None:
        replicas = min(3, self.options.brokers)
        with Admin(self.cluster.bootstrap) as admin:
            for topic in requests.TOPICS:
                configs = {"cleanup.policy": "compact"} if topic == requests.TOPICS[-1] else {}
                admin.create_topic(topic, requests.PARTITIONS, replicas, configs=configs)
            admin.create_topic(honest.TOPIC, honest.PARTITIONS, replicas)

    def _lie(self) -> list[str]:
        options = self.options
        brokers = self.cluster.document()["brokers"]
        assert isinstance(brokers, list)
        addresses = [broker["kafka"] for broker in brokers]
        memory = judge.Memory({broker["name"]: broker["pid"] for broker in brokers})
        logs = [judge.Log(self.path / f"broker-{broker['id']}.log") for broker in brokers]
        client = honest.Honest(",".join(addresses))
        client.start()
        if not happens(lambda: len(client.read) >= honest.PARTITIONS, 60):
            self._find("the honest client gets nothing done, before anybody lies", [])
        warm_up_ms, client.slowest_ms = client.slowest_ms, 0.0
        now_ms = int(time.time() * 1_000)
        workers = [
            Worker(options.seed, number, addresses, now_ms, options.requests)
            for number in range(options.workers)
        ]
        for worker in workers:
            worker.start()
        end = time.monotonic() + options.seconds

        moment, told = threading.Event(), False
        while memory.pids and time.monotonic() < end and not all(each.ended for each in workers):
            self._look(logs, memory, workers)
            if client.slowest_ms > options.slowest_ms and not told:
                told = True
                what = f"the honest client waited {client.slowest_ms:.0f} ms"
                self._find(what, workers, client.slowest_ms / 1_000 + _LOOK_S)
            moment.wait(_LOOK_S)
        for worker in workers:
            worker.finish()
        client.finish()
        self._look(logs, memory, workers)
        for problem in client.problems:
            self._find(problem, [])
        if client.slowest_ms > options.slowest_ms and not told:
            self._find(f"the honest client waited {client.slowest_ms:.0f} ms", [])
        for name, most in memory.most_mb.items():
            if most > options.memory_mb:
                self._find(f"broker {name} needed {most:.0f} MB", [])
        for problem in judge.unreadable(client.bootstrap, self._topics()):
            self._find(f"unreadable: {problem}", [])
        self._look(logs, memory, workers)
        sent = sum(worker.sent for worker in workers)
        print(
            f"seed {options.seed}: {sent} requests, {sum(w.closed for w in workers)} closed, "
            f"{sum(w.unanswered for w in workers)} not answered in {_ANSWER_S:g} s; honest: "
            f"{len(client.acknowledged)} records, slowest {client.slowest_ms:.0f} ms (before: "
            f"{warm_up_ms:.0f} ms); memory {max(memory.most_mb.values()):.0f} MB; "
            f"{len(self.findings)} findings"
        )
        return self.findings

    def _topics(self) -> list[str]:
        try:
            with Admin(self.cluster.bootstrap) as admin:
                return [topic.name for topic in admin.metadata().topics]
        except MinikafkaError as error:
            self._find(f"the topics cannot be listed: {error}", [])
            return [honest.TOPIC]

    def _look(
        self, logs: Sequence[judge.Log], memory: judge.Memory, workers: Sequence[Worker]
    ) -> None:
        for name in memory.look():
            if memory.pids.pop(name, None) is not None:
                self._find(f"broker {name} is dead", workers)
        for log in logs:
            for finding in log.news():
                self._find(f"{log.path.name}:\n{finding}", workers)

    def _find(self, what: str, workers: Sequence[Worker], before_s: float = 2 * _LOOK_S) -> None:
        """Tells a finding, with what each worker has sent in the moment before."""
        since = time.monotonic() - before_s
        sent = [each for worker in workers for at, each in worker.recent.copy() if at >= since]
        suspects = [each for each in sent if each.api.name in what] or sent
        self.findings.append(what)
        with (self.path / "findings.txt").open("a") as file:
            file.write(f"--- seed {self.options.seed}\n{what}\nsent just before:\n")
            file.write("".join(f"  {each}\n" for each in suspects) + "\n")
        print(f"--- {what}", flush=True)
        for each in suspects[-_TOLD:]:
            print(f"    {str(each)[:300]}")


def main(arguments: Sequence[str] | None = None) -> int:
    options = read_options(arguments)
    # Asked to end, it ends its brokers first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    path = Path(tempfile.mkdtemp(prefix="minikafka-fuzz-"))
    try:
        findings = Run(options, path).run()
    except (AssertionError, OSError) as error:
        print(f"it could not be tried: {error}", file=sys.stderr)
        return 2
    finally:
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            for file in (*path.glob("*.log"), *path.glob("findings.txt")):
                shutil.copy(file, options.keep)
        shutil.rmtree(path, ignore_errors=True)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
