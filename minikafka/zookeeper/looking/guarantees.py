"""What ZooKeeper promises, checked on a running one: `minikafka zk guarantees`, and the contract
tests, which run the same checks on the embedded server, a real one, and an ensemble. Synchronous.

Each check is a function that does something with clients of its own, below a node of its own, and
returns what it has seen; it raises `BrokenError` where the promise is not kept. With several
servers in the connect string clients are spread over them. All that is written is removed in the
end.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoNodeError,
)
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.states import Callback, ZnodeStat

from minikafka.errors import MinikafkaError, NetworkError, UsageError
from minikafka.zookeeper.client import new_client
from minikafka.zookeeper.paths import split_connect

TIMEOUT_S = 20.0
_SESSION_TIMEOUT_MS = 15_000
_RETRY_S = 0.05


class BrokenError(MinikafkaError):
    """ZooKeeper did not keep a promise; the message says how that was seen."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one guarantee. `evidence`: what was seen, or what was wrong."""

    guarantee: str
    kept: bool
    evidence: str


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """Notes watch events in the order in which they come in, before any later answer is given out:
    kazoo reads both on one thread, but runs callbacks on another."""

    def __init__(self) -> None:
        super().__init__()
        self.events = 0

    def dispatch_callback(self, callback: Callback) -> None:
        if callback.type == "watch":
            self.events += 1
        super().dispatch_callback(callback)


class Bench:
    """Clients of the servers at `hosts`, and a path to work below."""

    def __init__(self, hosts: str, path: str) -> None:
        self.servers = hosts.split(",")
        self.path = path
        self._hosts = hosts
        self._clients: list[KazooClient] = []

    def client(self, server: int | None = None) -> KazooClient:
        """A connected client; of one server, by number (they are counted round), or of any."""
        hosts = self._hosts if server is None else self.servers[server % len(self.servers)]
        client = new_client(hosts, _SESSION_TIMEOUT_MS, _Handler())
        self._clients.append(client)
        if not client.start_async().wait(TIMEOUT_S):
            raise NetworkError(f"ZooKeeper does not answer at {hosts}")
        return client

    def close(self, client: KazooClient) -> None:
        """End its session."""
        self._clients.remove(client)
        client.stop()
        client.close()

    def close_all(self) -> None:
        for client in list(self._clients):
            self.close(client)


def check_all(connect: str, begun: Callable[[str], None] = lambda _: None) -> Iterator[Verdict]:
    """Every guarantee on the servers of `host:port,…[/chroot]`; `begun` hears which comes next."""
    hosts, layout = split_connect(connect)
    top = f"{layout.root}/minikafka-guarantees-{uuid.uuid4().hex[:12]}"
    with _node(hosts, top):
        for number, (guarantee, check) in enumerate(GUARANTEES.items()):
            begun(guarantee)
            yield _verdict(guarantee, check, hosts, f"{top}/{number}")


def _verdict(guarantee: str, check: Check, hosts: str, path: str) -> Verdict:
    bench = Bench(hosts, path)
    try:
        bench.client().create(path, b"0")
        return Verdict(guarantee, True, check(bench))
    except (BrokenError, NetworkError) as broken:
        return Verdict(guarantee, False, str(broken))
    except (KazooException, bench_timeout()) as error:
        return Verdict(guarantee, False, f"ZooKeeper answered {error!r}")
    finally:
        bench.close_all()


def bench_timeout() -> type[Exception]:
    """What kazoo raises when an answer does not come in time."""
    timeout: type[Exception] = SequentialThreadingHandler.timeout_exception
    return timeout


@contextmanager
def _node(hosts: str, path: str) -> Iterator[None]:
    """A node to work below, removed in the end. UsageError if ZooKeeper cannot be reached."""
    bench = Bench(hosts, path)
    try:
        try:
            client = bench.client()
        except NetworkError as error:
            raise UsageError(f"{error}: check the address and that it runs") from None
        client.ensure_path(path)
        yield
        client.delete(path, recursive=True)
    finally:
        bench.close_all()


def _expect(kept: bool, broken: str) -> None:
    if not kept:
        raise BrokenError(broken)


def _get(client: KazooClient, path: str) -> tuple[int, ZnodeStat]:
    """A number, with its stat; asked again while the connection is lost."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            data, stat = client.get_async(path).get(timeout=TIMEOUT_S)
            return int(data), stat
        except (ConnectionLoss, ConnectionClosedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)


def _break_connection(client: KazooClient) -> None:
    """The client's connection ends, and it finds another, perhaps to another server."""
    try:
        client._connection._socket.shutdown(socket.SHUT_RDWR)
    except (OSError, AttributeError):
        return  # it has none at the moment


# --- the checks ----------------------------------------------------------------------------------


def no_old_data(bench: Bench) -> str:
    writer, reader = bench.client(), bench.client()
    session = reader.client_id[0]
    seen: list[int] = []
    breaks = 6
    for value in range(1, 10 * breaks + 1):
        writer.set(bench.path, str(value).encode())
        seen.append(_get(reader, bench.path)[0])
        if value % 10 == 0:
            _break_connection(reader)
    for before, after in pairwise(seen):
        _expect(before <= after, f"a client read {before}, and {after} after it")
    _get(reader, bench.path)  # it is connected again
    _expect(reader.client_id[0] == session, "the session did not outlive its connection")
    return f"{len(seen)} reads over {breaks + 1} connections of one session, none went back"


def watch_before_data(bench: Bench) -> str:
    writer, reader = bench.client(0), bench.client(1)
    rounds = 30
    for value in range(1, rounds + 1):
        reader.sync(bench.path)  # so that what comes next is the event of the next write
        told = reader.handler.events
        reader.get(bench.path, watch=lambda _: None)
        writer.set(bench.path, str(value).encode())
        deadline = time.monotonic() + TIMEOUT_S
        while _get(reader, bench.path)[0] != value:
            _expect(time.monotonic() < deadline, f"{value} was not seen within {TIMEOUT_S:.0f} s")
        _expect(reader.handler.events > told, f"{value} was read before its watch was told")
    return f"{rounds} of {rounds} watches were told before the new data were read"


def requests_in_order(bench: Bench) -> str:
    client = bench.client()
    count = 200
    answers: list[tuple[int, Any, Any]] = []
    for value in range(1, count + 1):
        set_answer = client.set_async(bench.path, str(value).encode())
        answers.append((value, set_answer, client.get_async(bench.path)))
    for value, set_answer, get_answer in answers:
        version = set_answer.get(timeout=TIMEOUT_S).version
        data, stat = get_answer.get(timeout=TIMEOUT_S)
        _expect(version == value, f"write {value} was number {version}")
        _expect(
            (int(data), stat.version) == (value, value),
            f"the read after write {value} gave {int(data)}",
        )
    return f"{2 * count} requests without waiting, writes and reads, were done in turn"


def same_for_all(bench: Bench) -> str:
    readers = [bench.client(number) for number in range(3)]
    writers = [bench.client(number) for number in range(2)]
    seen: list[dict[int, int]] = [{} for _ in readers]
    orders: list[list[int]] = [[] for _ in readers]
    done = threading.Event()

    def follow(number: int) -> None:
        while not done.is_set():
            value, stat = _get(readers[number], bench.path)
            seen[number][stat.mzxid] = value
            orders[number].append(stat.mzxid)

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(len(readers))]
    for thread in threads:
        thread.start()
    try:
        for value in range(1, 101):
            writers[value % 2].set(bench.path, str(value).encode())
    finally:
        done.set()
        for thread in threads:
            thread.join(TIMEOUT_S)
    merged: dict[int, int] = {}
    for of_one in seen:
        for zxid, value in of_one.items():
            _expect(
                merged.setdefault(zxid, value) == value,
                f"the state after zxid {zxid:#x} was {merged[zxid]} to one and {value} to another",
            )
    in_order = all(order == sorted(order) for order in orders)
    _expect(in_order, "a client saw the writes in another order than they were done")
    for reader in readers:
        reader.sync(bench.path)
    last = {_get(reader, bench.path)[0] for reader in readers}
    _expect(last == {100}, f"in the end they read {sorted(last)}")
    return f"{len(readers)} clients saw {len(merged)} states of 100 writes, each the same for all"


def sync_makes_fresh(bench: Bench) -> str:
    """A read without sync may be stale where there are several servers: that is no failure, and it
    is counted."""
    writer = bench.client(0)
    readers = [bench.client(number) for number in range(len(bench.servers))]
    stale = fresh = 0
    for value in range(1, 61):
        writer.set(bench.path, str(value).encode())
        for reader in readers:
            without = reader.get_async(bench.path)
            reader.sync_async(bench.path)
            after = reader.get_async(bench.path)
            stale += int(without.get(timeout=TIMEOUT_S)[0]) < value
            found = int(after.get(timeout=TIMEOUT_S)[0])
            _expect(found == value, f"{found} was read after sync, and {value} was written")
            fresh += 1
    return f"{fresh} of {fresh} reads after sync were fresh; without it {stale} were stale"


def atomic_multi(bench: Bench) -> str:
    client, other = bench.client(0), bench.client(1)
    left, right, none = (f"{bench.path}/{name}" for name in ("left", "right", "none"))
    client.create(left, b"0")
    client.create(right, b"0")
    for value in range(1, 31):
        data = str(value).encode()
        good = client.transaction()
        good.set_data(left, data)
        good.set_data(right, data)
        failed = [one for one in good.commit() if isinstance(one, Exception)]
        _expect(not failed, f"a multi that could be done failed: {failed}")
        bad = client.transaction()
        bad.set_data(left, b"-1")
        bad.create(none)
        bad.check(right, value + 1_000)
        _expect(
            all(isinstance(one, Exception) for one in bad.commit()), "half of a multi succeeded"
        )
    other.sync(bench.path)
    (one, one_stat), (two, two_stat) = _get(other, left), _get(other, right)
    _expect((one, two) == (30, 30), f"a multi that failed changed something: {one}, {two}")
    _expect(one_stat.mzxid == two_stat.mzxid, "the parts of a multi have different zxids")
    _expect(other.exists(none) is None, "a multi that failed made a node")
    return "30 were done as one, 30 that failed in their last part left nothing"


def ephemerals_go(bench: Bench) -> str:
    owner, other = bench.client(0), bench.client(1)
    path = f"{bench.path}/ephemeral"
    owner.create(path, ephemeral=True)
    _break_connection(owner)
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            _expect(owner.exists(path) is not None, "it went with a connection of its session")
            break
        except (ConnectionLoss, ConnectionClosedError):
            _expect(time.monotonic() < deadline, "the client did not find its way back")
            time.sleep(_RETRY_S)
    bench.close(owner)
    other.sync(path)
    _expect(other.exists(path) is None, "it outlived its session")
    return "one outlived its connection, and went with its session"


def no_lost_update(bench: Bench) -> str:
    clients = [bench.client(number) for number in range(4)]
    each, refused = 15, [0] * len(clients)

    def count(number: int) -> None:
        for _ in range(each):
            while True:
                value, stat = _get(clients[number], bench.path)
                try:
                    clients[number].set(bench.path, str(value + 1).encode(), stat.version)
                    break
                except BadVersionError:
                    refused[number] += 1

    threads = [threading.Thread(target=count, args=(number,)) for number in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clients[0].sync(bench.path)
    value, _ = _get(clients[0], bench.path)
    wanted = each * len(clients)
    _expect(value == wanted, f"{wanted} increments by version made {value}")
    return (
        f"{wanted} increments by {len(clients)} clients made {value}; {sum(refused)} were refused"
    )


def sequence_rises(bench: Bench) -> str:
    clients = [bench.client(number) for number in range(3)]
    numbers = [
        int(clients[turn % 3].create(f"{bench.path}/n-", sequence=True)[-10:]) for turn in range(30)
    ]
    _expect(numbers == sorted(set(numbers)), f"one after the other they were {numbers}")
    answers = [
        client.create_async(f"{bench.path}/n-", sequence=True)
        for _ in range(20)
        for client in clients
    ]
    at_once = [int(answer.get(timeout=TIMEOUT_S)[-10:]) for answer in answers]
    _expect(len(set(at_once)) == len(at_once), "a number was given twice")
    _expect(min(at_once) > max(numbers), "a number came again")
    clients[0].delete(f"{bench.path}/n-{max(at_once):010d}")
    after = int(clients[1].create(f"{bench.path}/n-", sequence=True)[-10:])
    _expect(after > max(at_once), f"{after} was given after {max(at_once)}, which was deleted")
    return f"{len(numbers) + len(at_once) + 1} numbers of 3 clients, each once, later ones larger"


def zxid_order(bench: Bench) -> str:
    clients = [bench.client(number) for number in range(3)]
    zxids = [clients[turn % 3].set(bench.path, str(turn).encode()).mzxid for turn in range(30)]
    _expect(zxids == sorted(set(zxids)), f"writes one after the other had the zxids {zxids}")
    for client in clients:
        client.sync(bench.path)
        _, stat = _get(client, bench.path)
        _expect(stat.mzxid == zxids[-1], f"the last write has zxid {zxids[-1]}, not {stat.mzxid}")
        try:
            client.get(f"{bench.path}/nothing")
        except NoNodeError:
            seen = client.last_zxid
            _expect(seen >= zxids[-1], f"a client that has read zxid {zxids[-1]} says {seen}")
    return f"{len(zxids)} writes in turn, by 3 clients, have rising zxids"


Check = Callable[[Bench], str]

# In the words of the lecture where it has some.
GUARANTEES: dict[str, Check] = {
    "clients never detect old data": no_old_data,
    "a watch is told before the new data are seen": watch_before_data,
    "requests of a client are processed in order": requests_in_order,
    "results are the same for all clients": same_for_all,
    "a read after sync is fresh": sync_makes_fresh,
    "a multi is done as a whole or not at all": atomic_multi,
    "ephemeral nodes go with their session": ephemerals_go,
    "a version check prevents a lost update": no_lost_update,
    "sequential numbers rise": sequence_rises,
    "writes are ordered by zxid": zxid_order,
}
