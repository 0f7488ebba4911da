"""The runtime behind up, down, restart and kill, with stand-ins for brokers: real processes that
say that they serve, and end on SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka import processes
from minikafka.config import parse_broker_config, parse_properties
from minikafka.errors import UsageError
from minikafka.local import clusterfile
from minikafka.local.cluster import LocalCluster, ProcessTrouble, check_settings, plan_cluster
from minikafka.local.clusterfile import BrokerEntry, ClusterFile, ZooKeeperEntry
from minikafka.local.freeports import free_ports, is_free
from minikafka.local.guardian import Guardian, watch
from minikafka.local.starting import stop_all

pytestmark = pytest.mark.slow  # real processes

STAND_IN = """
    import os, signal, sys
    def end(*_):
        with open({order!r}, "a") as order:
            order.write(os.path.basename(sys.argv[-1]) + "\\n")
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    print("broker serves", flush=True)
    while True:
        signal.pause()
"""
STUBBORN = """
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("broker serves", flush=True)
    while True:
        signal.pause()
"""
# Listens where its configuration says, in the order of a broker, or ends with the status for that.
LISTENING = """
    import errno, signal, socket, sys
    pairs = dict(line.split("=", 1) for line in open(sys.argv[-1]).read().splitlines())
    doors = []
    for name in ("grpc.listener", "listeners", "metrics.listener"):
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", int(pairs[name].rpartition(":")[2])))
            door.listen()
        except OSError as error:
            sys.exit(3 if error.errno == errno.EADDRINUSE else 1)
        doors.append(door)
    print("broker serves", flush=True)
    while True:
        signal.pause()
"""
# One writes its log, one reads its files; both for three times as long as nothing may happen.
RECOVERING = """
    import os, signal, sys, time
    own = sys.argv[-1]
    for _ in range(30):
        if own.endswith("1.properties"):
            print("another log is recovered", file=sys.stderr, flush=True)
        else:
            with open("/dev/zero", "rb") as file:
                file.read(100_000)
        signal.sigtimedwait([], 0.1)
    print("broker serves", flush=True)
    while True:
        signal.pause()
"""
BROKEN = "import sys; sys.exit('the port is taken')"
SILENT = "import signal; signal.pause()"


class Ground:
    """A data directory with a configured cluster of `count` brokers, not started."""

    def __init__(self, data_dir: Path, program: str, count: int = 3) -> None:
        text = textwrap.dedent(program).replace("{order!r}", repr(str(data_dir / "order")))
        self.local = LocalCluster(data_dir, (sys.executable, "-c", text))
        brokers = tuple(
            BrokerEntry(each, chr(64 + each), None, f"127.0.0.1:{19092 + each}")
            for each in range(1, count + 1)
        )
        self.cluster = ClusterFile(ZooKeeperEntry("embedded", "127.0.0.1:2181"), brokers)
        clusterfile.save(data_dir, self.cluster)
        self.local.configure(self.cluster, {"replica.lag.time.max.ms": "2000"})

    def start(self) -> ClusterFile:
        started = [self.local.start_broker(broker) for broker in self.cluster.brokers]
        self.local.wait_serving(started)
        return self.local.require()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    yield (made := Ground(tmp_path, STAND_IN))
    end(made.local)


def end(local: LocalCluster) -> None:
    for broker in local.require().brokers:
        local.send(broker, signal.SIGKILL)
        assert local.wait_ended(broker, 30)


def test_a_started_broker_is_recorded_and_runs(ground: Ground) -> None:
    cluster = ground.start()
    assert all(broker.pid for broker in cluster.brokers)
    assert ground.local.running(cluster) == list(cluster.brokers)


def test_another_command_sees_the_same_processes(ground: Ground) -> None:
    cluster = ground.start()
    other = LocalCluster(ground.local.layout.data_dir)
    assert other.running(other.require()) == list(cluster.brokers)


def test_each_broker_has_a_configuration_that_it_can_be_started_with_by_hand(
    ground: Ground,
) -> None:
    text = ground.local.layout.properties(2).read_text()
    config = parse_broker_config(parse_properties(text))
    assert (config.broker_id, config.name) == (2, "B")
    assert str(config.grpc_listener) == "127.0.0.1:19094"
    assert config.log_dirs == str(ground.local.layout.data(2))
    assert config.replica_lag_time_max_ms == 2000
    assert config.default_replication_factor == 3


def test_a_killed_broker_is_not_running_and_can_be_started_again(ground: Ground) -> None:
    cluster = ground.start()
    victim = cluster.broker("C")
    assert ground.local.send(victim, signal.SIGKILL)
    assert ground.local.wait_ended(victim, 30)
    assert [each.name for each in ground.local.running(cluster)] == ["A", "B"]
    assert not ground.local.send(victim, signal.SIGKILL)
    again = ground.local.start_broker(victim)
    ground.local.wait_serving([again])
    assert [each.name for each in ground.local.running(ground.local.require())] == ["A", "B", "C"]


def test_a_recycled_pid_is_never_killed(ground: Ground) -> None:
    """It has our own pid, and began at another time; or is of an older file, without a time."""
    for started in ("another time", None):
        broker = replace(ground.cluster.broker("A"), pid=os.getpid(), started=started)
        clusterfile.save(ground.local.layout.data_dir, ground.cluster.with_broker(broker))
        assert not ground.local.is_running(broker)
        assert not ground.local.send(broker, signal.SIGKILL)
        assert ground.local.stop_broker(broker, timeout_s=1)
        assert not ground.local.kill_broker(broker)


def test_the_last_broker_is_ended_first(ground: Ground) -> None:
    ground.start()
    told: list[str] = []
    stop_all(ground.local, told.append)
    order = (ground.local.layout.data_dir / "order").read_text().split()
    assert order == ["broker-3.properties", "broker-2.properties", "broker-1.properties"]
    assert told == ["broker C ended", "broker B ended", "broker A ended"]
    assert [each.pid for each in ground.local.require().brokers] == [None, None, None]


def test_a_paused_broker_can_be_ended(ground: Ground) -> None:
    cluster = ground.start()
    ground.local.send(cluster.brokers[0], signal.SIGSTOP)
    assert ground.local.stop_broker(cluster.brokers[0], timeout_s=30)


def test_a_broker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    ground = Ground(tmp_path, STUBBORN, count=1)
    cluster = ground.start()
    told: list[str] = []
    try:
        ground.local.stop_brokers(told.append, timeout_s=0.2)
        assert ground.local.running(cluster) == []
        assert told == ["broker A was killed: it did not end within 0.2 s"]
    finally:
        end(ground.local)


def test_a_second_interrupt_kills_at_once(tmp_path: Path) -> None:
    ground = Ground(tmp_path, STUBBORN, count=2)
    cluster = ground.start()
    try:
        ground.local.stop_brokers(lambda _: None, timeout_s=1000, hurry=lambda: True)
        assert ground.local.running(cluster) == []
    finally:
        end(ground.local)


def test_a_broker_that_ends_at_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    ground = Ground(tmp_path, BROKEN, count=1)
    with pytest.raises(ProcessTrouble, match=r"broker A \(1\) ended instead of serving") as caught:
        ground.start()
    assert str(caught.value).endswith(f"{tmp_path}/broker-1.log:\nthe port is taken")


def test_a_broker_that_does_not_serve_in_time_is_told(tmp_path: Path) -> None:
    ground = Ground(tmp_path, SILENT, count=1)
    started = ground.local.start_broker(ground.cluster.brokers[0])
    try:
        with pytest.raises(
            ProcessTrouble,
            match=r"A \(1\) does not serve \d+ s after its start, and has done nothing for 0.2 s",
        ):
            ground.local.wait_serving([started], patience_s=0.2)
    finally:
        end(ground.local)


def test_a_broker_that_recovers_for_long_is_waited_for_as_long_as_it_gets_on(
    tmp_path: Path,
) -> None:
    """It takes several times as long as nothing may happen, and says so itself, or is seen."""
    ground = Ground(tmp_path, RECOVERING, count=2)
    started = [ground.local.start_broker(each) for each in ground.cluster.brokers]
    try:
        served = ground.local.wait_serving(started, patience_s=1.0)
        assert [each.pid for each in served] == [each.pid for each in started]
    finally:
        end(ground.local)


def test_a_live_child_is_never_taken_for_dead_while_its_command_line_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is there anything that waits for its end without a limit."""
    monkeypatch.setattr(processes, "command_line", lambda pid: [""])
    ground = Ground(tmp_path, STAND_IN)
    try:
        cluster = ground.start()
        other = LocalCluster(tmp_path)
        assert other.running(other.require()) == list(cluster.brokers)
        assert other.stop_broker(cluster.brokers[0], 30)
        assert other.running(other.require()) == list(cluster.brokers[1:])
    finally:
        end(ground.local)


def test_a_change_of_the_file_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusterfile, "_LOCK_WAIT_S", 0.05)
    with (
        clusterfile.changing(tmp_path),
        pytest.raises(UsageError, match=r"waited 0.05 s for another minikafka command"),
        clusterfile.changing(tmp_path),
    ):
        pass


def test_a_directory_in_use_is_refused_with_what_runs_there(ground: Ground) -> None:
    ground.local.require_idle()
    ground.start()
    with pytest.raises(UsageError, match=r"runs in .* already \(A, B, C\): `minikafka down`"):
        LocalCluster(ground.local.layout.data_dir).require_idle()


def test_only_one_owner_at_a_time(tmp_path: Path) -> None:
    local = LocalCluster(tmp_path / "new")
    assert local.owner() is None
    with local.owning():
        other = LocalCluster(tmp_path / "new")
        assert other.owner() == os.getpid()
        with (
            pytest.raises(UsageError, match=rf"already \(process {os.getpid()}\)"),
            other.owning(),
        ):
            pass
    assert local.owner() is None


def test_commands_on_an_empty_directory_say_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no cluster in .*: `minikafka up` starts one"):
        LocalCluster(tmp_path).require()


# --- the guardian --------------------------------------------------------------------------------


def test_the_guardian_ends_the_cluster_when_its_owner_vanishes(ground: Ground) -> None:
    cluster = ground.start()
    ground.local.send(cluster.brokers[1], signal.SIGSTOP)
    reading, writing = os.pipe()
    os.close(writing)  # what the end of the owner does
    try:
        watch(ground.local.layout.data_dir, reading)
    finally:
        os.close(reading)
    assert ground.local.running(cluster) == []


def test_the_guardian_leaves_all_alone_when_its_owner_is_done(ground: Ground) -> None:
    cluster = ground.start()
    with Guardian(ground.local.layout.data_dir):
        pass
    assert ground.local.running(cluster) == list(cluster.brokers)


def test_a_killed_owner_leaves_no_orphan(ground: Ground) -> None:
    cluster = ground.start()
    program = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from minikafka.local.guardian import Guardian\n"
        "with Guardian(Path(sys.argv[1])):\n"
        "    print('owns', flush=True)\n"
        "    signal.pause()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(ground.local.layout.data_dir)], stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    try:
        assert owner.stdout.readline() == b"owns\n"
        assert len(ground.local.running(cluster)) == 3
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    for broker in cluster.brokers:
        assert ground.local.wait_ended(broker, 30), broker


# --- planning ------------------------------------------------------------------------------------


def grpc_ports(cluster: ClusterFile) -> list[int]:
    return [int(each.grpc.rpartition(":")[2]) for each in cluster.brokers]


def test_a_first_start_has_three_brokers_on_the_embedded_zookeeper(tmp_path: Path) -> None:
    first = next(free_ports(30100, 3, tmp_path))
    plan = plan_cluster(tmp_path, None, None, None, first)
    assert [(each.id, each.name, each.pid) for each in plan.brokers] == [
        (1, "A", None),
        (2, "B", None),
        (3, "C", None),
    ]
    assert plan.zookeeper == ZooKeeperEntry("embedded", "")
    assert grpc_ports(plan)[0] == first
    addresses = {a for each in plan.brokers for a in (each.grpc, each.kafka, each.metrics)}
    assert len(addresses - {None}) == 9


def test_the_next_start_carries_on_with_brokers_ports_and_zookeeper(tmp_path: Path) -> None:
    known = plan_cluster(tmp_path, None, 4, "local", 30200)
    ports = grpc_ports(known)
    known = replace(known, zookeeper=ZooKeeperEntry("local", "127.0.0.1:2181", (7,)))
    plan = plan_cluster(tmp_path, known, None, None, 30300)
    assert grpc_ports(plan) == ports
    assert plan.zookeeper == ZooKeeperEntry("local", "127.0.0.1:2181")


def test_more_brokers_than_last_time_get_ports_of_their_own(tmp_path: Path) -> None:
    known = plan_cluster(tmp_path, None, 2, None, 30400)
    plan = plan_cluster(tmp_path, known, 4, None, 30400)
    assert grpc_ports(plan)[:2] == grpc_ports(known)
    assert len(set(grpc_ports(plan))) == 4


def test_a_port_that_is_taken_is_passed_over(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert not is_free(port)
        known = ClusterFile(
            ZooKeeperEntry("embedded", ""), (BrokerEntry(1, "A", None, f"127.0.0.1:{port}"),)
        )
        assert grpc_ports(plan_cluster(tmp_path, known, None, None, 30500)) != [port]
        found = free_ports(port, 2, tmp_path, taken={port + 1})
        assert 20_000 <= next(found) < 32_768
    assert is_free(port)


def test_a_default_between_two_that_are_taken_is_left_to_whoever_comes_back_to_it(
    tmp_path: Path,
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        assert 20_000 <= next(free_ports(taken - 1, 2, tmp_path)) < 30_000 + 2_000
        own = free_ports(taken - 1, 2, tmp_path, taken={taken})
        assert not is_free(taken - 1) or next(own) == taken - 1


def test_two_directories_look_for_other_ports_in_different_places(tmp_path: Path) -> None:
    one, other = (next(free_ports(0, 0, tmp_path / name)) for name in ("a", "b"))
    assert one != other


def test_a_broker_whose_port_was_taken_while_it_was_dead_moves(ground: Ground) -> None:
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        taken = f"127.0.0.1:{thief.getsockname()[1]}"
        data_dir = ground.local.layout.data_dir
        victim = replace(ground.cluster.brokers[1], grpc=taken, metrics=taken)
        clusterfile.save(data_dir, ground.cluster.with_broker(victim))
        moved = ground.local.with_free_ports(victim)
        assert taken not in (moved.grpc, moved.metrics)
        assert moved.grpc != moved.metrics
        assert ground.local.with_free_ports(moved) == moved
    assert ground.local.require().broker("B") == moved
    pairs = parse_properties(ground.local.layout.properties(2).read_text())
    assert (pairs["grpc.listener"], pairs["metrics.listener"]) == (moved.grpc, moved.metrics)
    assert pairs["replica.lag.time.max.ms"] == "2000"


def all_addresses(cluster: ClusterFile) -> list[str | None]:
    return [at for each in cluster.brokers for at in (each.grpc, each.kafka, each.metrics)]


def test_clusters_that_start_at_the_same_moment_end_up_at_ports_of_their_own(
    tmp_path: Path,
) -> None:
    """All looked before any listened: they chose the same ports, and one a port can have it."""
    count = 4
    first = next(free_ports(31_000, 1_000, tmp_path))
    ports = (first, first + 20, first + 40)
    data_dirs = [tmp_path / str(number) for number in range(count)]
    text = textwrap.dedent(LISTENING)
    locals_ = [LocalCluster(each, (sys.executable, "-c", text)) for each in data_dirs]
    plans = []
    for local in locals_:
        local.layout.data_dir.mkdir()
        plan = plan_cluster(local.layout.data_dir, None, 2, None, *ports)
        clusterfile.save(local.layout.data_dir, plan)
        local.configure(plan, {})
        plans.append(plan)
    assert len({at for plan in plans for at in all_addresses(plan)}) == 6
    all_chosen = threading.Barrier(count)

    def start(local: LocalCluster, plan: ClusterFile) -> list[BrokerEntry]:
        all_chosen.wait(30)
        return local.wait_serving([local.start_broker(each) for each in plan.brokers], 120)

    try:
        with ThreadPoolExecutor(count) as pool:
            started = list(pool.map(start, locals_, plans))
        serving = [local.require() for local in locals_]
        assert [list(cluster.brokers) for cluster in serving] == started
        addresses = [at for cluster in serving for at in all_addresses(cluster)]
        assert len(addresses) == len(set(addresses)) == 6 * count
        for local, cluster in zip(locals_, serving, strict=True):
            for broker in cluster.brokers:
                assert local.is_running(broker)
                pairs = parse_properties(local.layout.properties(broker.id).read_text())
                assert pairs["grpc.listener"] == broker.grpc
                for address in (broker.grpc, broker.kafka, broker.metrics):
                    host, _, port = str(address).rpartition(":")
                    socket.create_connection((host, int(port)), 30).close()
        local, moved = locals_[-1], serving[-1].brokers[0]
        local.send(moved, signal.SIGKILL)
        assert local.wait_ended(moved, 30)
        [again] = local.wait_serving([local.start_broker(local.with_free_ports(moved))], 60)
        assert again == replace(moved, pid=again.pid, started=again.started)
    finally:
        for local in locals_:
            end(local)


def test_a_broker_that_never_finds_its_port_free_is_given_up(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "import sys; print('again', file=sys.stderr); sys.exit(3)", count=1)
    with pytest.raises(ProcessTrouble, match=r"broker A \(1\) ended instead of serving"):
        ground.start()
    assert ground.local.layout.log(1).read_text().split() == ["again"] * 5


def test_data_of_another_zookeeper_are_refused(tmp_path: Path) -> None:
    known = plan_cluster(tmp_path, None, 1, "embedded", 30600)
    with pytest.raises(UsageError, match="belong to a cluster on --zookeeper embedded, not local"):
        plan_cluster(tmp_path, known, None, "local", 30600)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"broker.id": "7"}, "sets that for each broker itself"),
        ({"log.dir": "/x"}, "sets that for each broker itself"),
        ({"metrics.listener": "h:1"}, "sets that for each broker itself"),
        ({"replica.lag.time.max": "1"}, "did you mean replica.lag.time.max.ms"),
        ({"min.insync.replicas": "many"}, "min.insync.replicas=many is not valid"),
    ],
)
def test_settings_that_no_broker_would_take_are_refused_before_anything_starts(
    settings: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        check_settings(settings)


def test_settings_that_have_no_effect_are_told_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    check_settings({"num.io.threads": "8", "log.preallocate": "true", "num.partitions": "3"})
    assert capsys.readouterr().err.splitlines() == [
        "log.preallocate=true has no effect: the files of a log grow as they are written",
        "num.io.threads has no effect: minikafka has no use for it",
    ]


def test_processes_of_the_tests_are_no_concern_of_a_cluster() -> None:
    assert not processes.is_running(processes.Process(os.getpid(), None, "broker-1.properties"))
