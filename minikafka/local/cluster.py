"""A cluster of processes on this machine: what `up`, `down`, `restart`, `kill` and `demo` do.

State is in the data directory only (layout.py), so that each command is a process of its own. A
broker runs in a session of its own (Ctrl-C at a terminal reaches `up`, which ends the brokers in
order). The command that started it knows it by its handle, every other one by its pid and by when
it began (processes.py).

Ports are chosen by looking which are free; whether one is ours is known when the broker listens
there. One that finds somebody else (two `up` at the same moment, say) ends with a status of its own
and is started again at other ports, which cluster.json and its configuration have from then on.

A foreground owner (`up`, `demo`) holds a lock on up.lock for its life, and its cluster ends with
it, however it ends (guardian.py); a detached cluster has no owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from minikafka import processes
from minikafka.children import module_command
from minikafka.config import BrokerConfig, parse_broker_config, parse_properties, without_effect
from minikafka.errors import PORT_TAKEN, MinikafkaError, UsageError
from minikafka.escaping import escaped, escaped_lines
from minikafka.local import clusterfile
from minikafka.local.clusterfile import BrokerEntry, ClusterFile, ZooKeeperEntry
from minikafka.local.freeports import GRPC_PORT, KAFKA_PORT, METRICS_PORT, free_ports, is_free
from minikafka.local.layout import Layout, format_properties, tail
from minikafka.local.progress import Progress
from minikafka.local.telling import tell
from minikafka.model import broker_name
from minikafka.privacy import keep_from_others, write_private
from minikafka.processes import Process

DEFAULT_BROKERS = 3
DEFAULT_ZOOKEEPER = "embedded"
BROKER_COMMAND = module_command("minikafka", "broker")

_POLL_S = 0.02
_KILL_WAIT_S = 10.0
START_PATIENCE_S = 30.0
_TELL_S = 10.0
_LOG_TAIL_LINES = 15
_PORT_ATTEMPTS = 5
_OWN_PROPERTIES = (
    "broker.id",
    "broker.name",
    "zookeeper.connect",
    "log.dirs",
    "log.dir",
    "grpc.listener",
    "grpc.advertised.listener",
    "listeners",
    "advertised.listeners",
    "metrics.listener",
)


class ProcessTrouble(MinikafkaError):
    """A process did not start or did not end as it should have."""


def check_settings(settings: Mapping[str, str]) -> None:
    """Refuse before anything is started what a broker would refuse. Raises UsageError."""
    for name in _OWN_PROPERTIES:
        if name in settings:
            raise UsageError(f"--set {name}: `minikafka up` sets that for each broker itself")
    probe = {
        "broker.id": "1",
        "zookeeper.connect": "127.0.0.1:2181",
        "log.dirs": "unused",
        "listeners": "PLAINTEXT://127.0.0.1:9092",
    }
    parse_broker_config(probe | dict(settings))
    for sentence in without_effect(BrokerConfig, settings):
        tell(sentence)


def plan_cluster(
    data_dir: Path,
    known: ClusterFile | None,
    brokers: int | None,
    zookeeper: str | None,
    first_port: int = GRPC_PORT,
    first_kafka_port: int | None = KAFKA_PORT,
    first_metrics_port: int | None = METRICS_PORT,
) -> ClusterFile:
    """What shall run: that of last time where there was one, with its ids and, if free, ports.

    `brokers` and `zookeeper` are None where the person left it open. No process is named yet.
    Without `first_kafka_port` the brokers do not listen for Kafka's clients, without
    `first_metrics_port` they do not serve /metrics.
    Raises UsageError if the data belong to another ZooKeeper.
    """
    count = brokers or (len(known.brokers) if known else DEFAULT_BROKERS)
    mode = zookeeper or (known.zookeeper.mode if known else DEFAULT_ZOOKEEPER)
    if known is not None and mode != known.zookeeper.mode:
        raise UsageError(
            f"the data here belong to a cluster on --zookeeper {known.zookeeper.mode}, not {mode}: "
            "leave --zookeeper out to carry on with it, or choose another --data-dir"
        )
    before = {entry.id: entry for entry in known.brokers} if known else {}
    ids = range(1, count + 1)
    grpc = _choose_ports(data_dir, ids, {each: before[each].grpc for each in before}, first_port)
    kafka: Mapping[int, int] = {}
    if first_kafka_port is not None:
        old = {each: before[each].kafka for each in before}
        kafka = _choose_ports(data_dir, ids, old, first_kafka_port, grpc.values())
    metrics: Mapping[int, int] = {}
    if first_metrics_port is not None:
        old = {each: before[each].metrics for each in before}
        taken = (*grpc.values(), *kafka.values())
        metrics = _choose_ports(data_dir, ids, old, first_metrics_port, taken)
    entries = tuple(
        BrokerEntry(
            id=each,
            name=broker_name(each),
            pid=None,
            grpc=f"127.0.0.1:{grpc[each]}",
            kafka=f"127.0.0.1:{kafka[each]}" if each in kafka else None,
            metrics=f"127.0.0.1:{metrics[each]}" if each in metrics else None,
        )
        for each in ids
    )
    hosts = known.zookeeper.hosts if known else ""
    return ClusterFile(ZooKeeperEntry(mode, hosts), entries)


def _choose_ports(
    data_dir: Path,
    ids: Sequence[int],
    before: Mapping[int, str | None],
    first_port: int,
    taken: Collection[int] = (),
) -> dict[int, int]:
    """A port for each broker: that of last time if it is free, else another that nobody had."""
    wanted = {each: _port(address) for each, address in before.items() if address is not None}
    kept = {
        each: wanted[each]
        for each in ids
        if each in wanted and wanted[each] not in taken and is_free(wanted[each])
    }
    others = free_ports(first_port, len(ids), data_dir, {*wanted.values(), *taken})
    return {each: kept[each] if each in kept else next(others) for each in ids}


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _addresses(broker: BrokerEntry) -> dict[str, str]:
    """Where a broker listens, by the field of its entry."""
    kinds = {"grpc": broker.grpc, "kafka": broker.kafka, "metrics": broker.metrics}
    return {kind: address for kind, address in kinds.items() if address is not None}


def _listeners(broker: BrokerEntry) -> dict[str, str]:
    """The properties that say so."""
    names = {"grpc": "grpc.listener", "kafka": "listeners", "metrics": "metrics.listener"}
    return {
        names[kind]: f"PLAINTEXT://{address}" if kind == "kafka" else address
        for kind, address in _addresses(broker).items()
    }


@dataclass(slots=True)
class _Start:
    """One that is waited for until it serves."""

    broker: BrokerEntry
    progress: Progress
    attempts: int = 1


class LocalCluster:
    """The cluster of one data directory. `broker_command`, followed by `--config FILE`, starts a
    broker."""

    def __init__(
        self,
        data_dir: Path,
        broker_command: Sequence[str] = BROKER_COMMAND,
    ) -> None:
        self.layout = Layout.of(data_dir)
        self._broker_command = tuple(broker_command)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._ended: dict[int, int] = {}  # the exit statuses of those that ended, by pid

    # --- what is there ---

    def load(self) -> ClusterFile | None:
        return clusterfile.load(self.layout.data_dir)

    def require(self) -> ClusterFile:
        """The cluster's file. Raises UsageError if no cluster was ever started here."""
        cluster = self.load()
        if cluster is None:
            raise UsageError(
                f"there is no cluster in {self.layout.data_dir}: `minikafka up` starts one, "
                "--data-dir names another directory"
            )
        return cluster

    def is_running(self, broker: BrokerEntry) -> bool:
        self._reap()
        # A child of ours is asked by its handle: it has not ended, or it would be reaped.
        return broker.pid in self._children or processes.is_running(self.process(broker))

    def conditions(self, cluster: ClusterFile) -> dict[int, Literal["running", "paused", "ended"]]:
        """What the process of each broker does, by id."""
        self._reap()
        return {each.id: processes.condition(self.process(each)) for each in cluster.brokers}

    def zookeeper_is_running(self, zookeeper: ZooKeeperEntry) -> bool:
        return any(map(processes.is_running, self.zookeeper_processes(zookeeper)))

    def running(self, cluster: ClusterFile) -> list[BrokerEntry]:
        return [broker for broker in cluster.brokers if self.is_running(broker)]

    def require_idle(self) -> None:
        """Raises UsageError if something of this directory runs."""
        cluster = self.load()
        if cluster is None:
            return
        names = [broker.name for broker in self.running(cluster)]
        if self.zookeeper_is_running(cluster.zookeeper):
            names.append("ZooKeeper")
        if names:
            raise UsageError(
                f"a cluster runs in {self.layout.data_dir} already ({', '.join(names)}): "
                "`minikafka down` ends it, `minikafka restart` starts a dead broker again"
            )

    def process(self, broker: BrokerEntry) -> Process:
        return Process(broker.pid, broker.started, str(self.layout.properties(broker.id)))

    def zookeeper_processes(self, zookeeper: ZooKeeperEntry) -> list[Process]:
        """In the order of the file."""
        starts = zookeeper.started or (None,) * len(zookeeper.pids)
        mark = str(self.layout.zookeeper)
        return [Process(*each, mark) for each in zip(zookeeper.pids, starts, strict=False)]

    def _reap(self) -> None:
        """Take note of children that ended, so that they are no zombies."""
        for pid, child in list(self._children.items()):
            if (status := child.poll()) is not None:
                del self._children[pid]
                self._ended[pid] = status

    # --- starting ---

    def configure(self, cluster: ClusterFile, settings: Mapping[str, str]) -> None:
        """Write each broker's configuration file."""
        replicas = str(min(3, len(cluster.brokers)))
        for broker in cluster.brokers:
            pairs = {
                "broker.id": str(broker.id),
                "broker.name": broker.name,
                "zookeeper.connect": cluster.zookeeper.hosts,
                "log.dirs": str(self.layout.data(broker.id)),
                **_listeners(broker),
                "default.replication.factor": replicas,
                # As Kafka's own sample for one machine has it: a person waits for nobody here.
                "group.initial.rebalance.delay.ms": "0",
            }
            text = format_properties(pairs | dict(settings))
            write_private(self.layout.properties(broker.id), text)

    def with_free_ports(self, broker: BrokerEntry) -> BrokerEntry:
        """The broker at other ports, for good, if somebody took its own while it was dead."""
        taken = [
            kind for kind, address in _addresses(broker).items() if not is_free(_port(address))
        ]
        if not taken:
            return broker
        with clusterfile.changing(self.layout.data_dir):
            cluster = self.require()
            known = {_port(a) for each in cluster.brokers for a in _addresses(each).values()}
            ports = free_ports(0, 0, self.layout.data_dir, known)
            addresses = _addresses(broker) | {kind: f"127.0.0.1:{next(ports)}" for kind in taken}
            moved = replace(
                broker,
                grpc=addresses["grpc"],
                kafka=addresses.get("kafka"),
                metrics=addresses.get("metrics"),
            )
            clusterfile.save(self.layout.data_dir, cluster.with_broker(moved))
        path = self.layout.properties(broker.id)
        pairs = parse_properties(path.read_text()) | _listeners(moved)
        write_private(path, format_properties(pairs))
        return moved

    def start_broker(self, broker: BrokerEntry) -> BrokerEntry:
        """Start its process and record it in cluster.json; `wait_serving` tells how it went."""
        keep_from_others()
        command = [*self._broker_command, "--config", str(self.layout.properties(broker.id))]
        with (
            self.layout.log(broker.id).open("ab") as log,
            self.layout.serving(broker.id).open("wb") as serving,
        ):
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=serving,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        self._children[child.pid] = child
        self._ended.pop(child.pid, None)
        started = clusterfile.change_broker(self.layout.data_dir, broker.id, child.pid)
        return replace(broker, pid=child.pid, started=started)

    def wait_serving(
        self,
        brokers: Sequence[BrokerEntry],
        patience_s: float = START_PATIENCE_S,
        tell: Callable[[str], object] = lambda _: None,
    ) -> list[BrokerEntry]:
        """Wait until each has said that it serves. Returns them in that order: with other ports and
        pids where ports were taken. One that recovers its logs is waited for as long as it gets on
        with that (progress.py), which `tell` hears now and then. Raises ProcessTrouble, with the
        end of its log, of one that ends, or in which nothing happens for `patience_s`."""
        starts = [_Start(broker, self._progress(broker, patience_s)) for broker in brokers]
        told_s = time.monotonic()
        while waiting := [each for each in starts if not self._serves(each, patience_s)]:
            if time.monotonic() - told_s > _TELL_S:
                told_s = time.monotonic()
                tell(self._waits_for(waiting[0]))
            time.sleep(_POLL_S)
        return [each.broker for each in starts]

    def _progress(self, broker: BrokerEntry, patience_s: float) -> Progress:
        assert broker.pid is not None
        return Progress(broker.pid, self.layout.log(broker.id), patience_s)

    def _serves(self, start: _Start, patience_s: float) -> bool:
        """Look at one that starts. Starts it again at other ports, if its own were taken."""
        broker = start.broker
        if b"\n" in self.layout.serving(broker.id).read_bytes():
            return True
        if not self.is_running(broker):
            if self._ended.get(broker.pid or 0) != PORT_TAKEN or start.attempts == _PORT_ATTEMPTS:
                raise ProcessTrouble(self._why(broker, "ended instead of serving"))
            start.attempts += 1
            start.broker = self.start_broker(self.with_free_ports(broker))
            start.progress = self._progress(start.broker, patience_s)
        elif trouble := start.progress.trouble():
            raise ProcessTrouble(self._why(broker, trouble))
        return False

    def _waits_for(self, start: _Start) -> str:
        broker = start.broker
        last = tail(self.layout.log(broker.id), 1)
        return (
            f"waiting for broker {broker.name} ({broker.id}) to serve: "
            f"{start.progress.describe()}; the last line of its log: {escaped(last) or '(none)'}"
        )

    def _why(self, broker: BrokerEntry, what: str) -> str:
        log = self.layout.log(broker.id)
        last = escaped_lines(tail(log, _LOG_TAIL_LINES))
        return f"broker {broker.name} ({broker.id}) {what}; the end of {log}:\n{last or '(empty)'}"

    # --- signals and ends ---

    def send(self, broker: BrokerEntry, number: signal.Signals) -> bool:
        """Signal a broker. False: it does not run."""
        return processes.send_signal(self.process(broker), number)

    def stop_broker(
        self, broker: BrokerEntry, timeout_s: float, hurry: Callable[[], bool] = lambda: False
    ) -> bool:
        """End a broker by SIGTERM, by SIGKILL after `timeout_s` or as soon as `hurry()` is true.

        Returns whether it ended of itself. A stopped process is continued, or it could not end.
        Raises ProcessTrouble if it outlives even SIGKILL.
        """
        if not self.send(broker, signal.SIGTERM):
            return True
        self.send(broker, signal.SIGCONT)
        deadline = time.monotonic() + timeout_s
        while not hurry() and time.monotonic() < deadline:
            if self.wait_ended(broker, 0.1):
                return True
        self.kill_broker(broker)
        return False

    def kill_broker(self, broker: BrokerEntry) -> bool:
        """SIGKILL; returns when the process is gone, False if it was not there. Raises
        ProcessTrouble if it does not go."""
        found = self.send(broker, signal.SIGKILL)
        if found and not self.wait_ended(broker, _KILL_WAIT_S):
            raise ProcessTrouble(
                f"broker {broker.name} ({broker.id}), process {broker.pid}, has not ended "
                f"{_KILL_WAIT_S:g} s after SIGKILL: the system still works on something for it, "
                "most likely on a disk that does not answer"
            )
        return found

    def wait_ended(self, broker: BrokerEntry, timeout_s: float) -> bool:
        """Wait until its process is gone; False if it is still there."""
        ended = processes.wait_ended(self.process(broker), timeout_s)
        self._reap()
        return ended

    def stop_brokers(
        self,
        tell: Callable[[str], None],
        timeout_s: float = 15.0,
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        """End all that run, the last first, each by a controlled shutdown. Raises ProcessTrouble,
        of the first, when all were tried, if some did not end."""
        cluster = self.require()
        troubles: list[ProcessTrouble] = []
        for broker in reversed(self.running(cluster)):
            try:
                if self.stop_broker(broker, timeout_s, hurry):
                    tell(f"broker {broker.name} ended")
                else:
                    tell(f"broker {broker.name} was killed: it did not end within {timeout_s:g} s")
            except ProcessTrouble as trouble:
                troubles.append(trouble)
        if troubles:
            raise troubles[0]

    def stop_zookeeper(self) -> None:
        """End the ZooKeeper processes that cluster.json names, if they are there."""
        from minikafka.zookeeper.servers.launcher import stop_processes

        stop_processes(self.zookeeper_processes(self.require().zookeeper))

    def record_ended(self) -> None:
        """Take the processes out of cluster.json; ids and addresses stay for the next `up`."""
        with clusterfile.changing(self.layout.data_dir):
            cluster = self.require()
            brokers = tuple(replace(each, pid=None, started=None) for each in cluster.brokers)
            zookeeper = replace(cluster.zookeeper, pids=(), started=())
            clusterfile.save(self.layout.data_dir, ClusterFile(zookeeper, brokers))

    # --- the owner's lock ---

    @contextlib.contextmanager
    def owning(self) -> Iterator[None]:
        """Hold up.lock. Raises UsageError if somebody does."""
        keep_from_others()
        self.layout.data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.layout.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"`minikafka up` runs in {self.layout.data_dir} already "
                    f"(process {self.owner()}): `minikafka down` ends it"
                ) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            yield
        finally:
            os.close(descriptor)

    def owner(self) -> int | None:
        """The pid of the foreground `up` of this directory, None if there is none."""
        try:
            descriptor = os.open(self.layout.lock, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            written = os.read(descriptor, 32).decode()
            return int(written) if written.isdigit() else None
        finally:
            os.close(descriptor)
        return None
