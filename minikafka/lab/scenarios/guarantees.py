"""What ZooKeeper promises its clients."""

from __future__ import annotations

import threading
import time

from minikafka.lab.cable import Cable
from minikafka.lab.scenario import Proofs, Scenario, step

REQUESTS = 300
NOTIFICATIONS = 50
READERS = 4
_BOUND_S = 5.0


class Guarantees(Scenario):
    name = "guarantees"
    title = "Four guarantees, put to the test"
    slide = "ZooKeeper Guarantees"
    says = (
        "1. Clients will never detect old data. 2. Clients will get notified of a change to data "
        "they are watching within a bounded period of time. 3. All requests from a client will be "
        "processed in order. 4. All results received by a client will be consistent with results "
        "received by all other clients."
    )
    notice = (
        "the first says that a client never goes back, not that it always has the newest: of what "
        "others write it may hear late (see stale-read). All four are about what a client sees, "
        "and so they hold whichever server it is connected to."
    )
    commands = (
        "minikafka lab run stale-read",
        "minikafka up --detach && minikafka zk guarantees    # all of them, one by one",
        "minikafka down",
    )

    @step(
        "A client has read a value. Its connection is cut, others write, and it comes back.",
        "It never detects older data: what it reads then is at least as new.",
    )
    def never_old(self) -> Proofs:
        self.path = f"{self.stage.own_root()}/x"
        self.stage.zk.create(self.path, b"1")
        cable = self.stage.keep(Cable(self.stage.zookeeper_hosts.split(",")[0]))
        client = self.stage.session(cable.address)
        before = client.get(self.path)
        cable.cut()
        for number in range(2, 12):
            self.stage.zk.set(self.path, b"%d" % number)
        cable.mend()
        after = client.get(self.path)
        holds = after.stat.mzxid >= before.stat.mzxid
        yield (
            holds,
            f"x={before.data.decode()} of transaction {before.stat.mzxid} before, "
            f"x={after.data.decode()} of transaction {after.stat.mzxid} after",
        )

    @step(
        f"A client watches, another one writes, {NOTIFICATIONS} times.",
        "Every change is notified, and none takes long.",
        record="",
    )
    def notified(self) -> Proofs:
        client = self.stage.session()
        took_ms = []
        for number in range(NOTIFICATIONS):
            heard = threading.Event()
            client.get(self.path, lambda kind, path, heard=heard: heard.set())  # type: ignore[misc]
            begun_s = time.monotonic()
            self.stage.zk.set(self.path, b"notify %d" % number)
            if not heard.wait(_BOUND_S):
                break
            took_ms.append((time.monotonic() - begun_s) * 1000)
        slowest = max(took_ms, default=0.0)
        yield (
            len(took_ms) == NOTIFICATIONS,
            f"{len(took_ms)} notifications, the slowest after {slowest:.1f} ms",
        )

    @step(
        f"A client sends {REQUESTS} writes, and a read after each, without waiting for an answer.",
        "Each read gives what was written just before it: requests are processed in order.",
        record="",
    )
    def in_order(self) -> Proofs:
        client = self.stage.session()
        answers = [
            client.write_and_read_later(self.path, b"%d" % number) for number in range(REQUESTS)
        ]
        read = [int(answer()) for answer in answers]
        yield read == list(range(REQUESTS)), f"{read[0]}, {read[1]}, {read[2]} ... {read[-1]}"

    @step(
        f"{READERS} clients read all the time while one writes.",
        "Wherever two of them saw the same version, they saw the same data.",
        record="",
    )
    def consistent(self) -> Proofs:
        done = threading.Event()
        seen: list[dict[int, bytes]] = [{} for _ in range(READERS)]
        clients = [self.stage.session() for _ in range(READERS)]

        def read(number: int) -> None:
            while not done.is_set():
                node = clients[number].get(self.path)
                seen[number].setdefault(node.stat.version, node.data)

        threads = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
        for each in threads:
            each.start()
        try:
            for number in range(REQUESTS):
                self.stage.zk.set(self.path, b"version %d" % number)
        finally:
            done.set()
            for each in threads:
                each.join()
        versions = set().union(*seen)
        wrong = [each for each in versions if len({got[each] for got in seen if each in got}) > 1]
        shared = sum(1 for each in versions if sum(each in got for got in seen) > 1)
        yield (
            not wrong and shared > 0,
            f"{len(versions)} versions were seen, {shared} of them by several, {len(wrong)} "
            "differed",
        )
