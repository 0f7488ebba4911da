"""What is built of ZooKeeper's calls, with sessions of our own: counting, and waiting in a line."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from minikafka.lab.scenario import Proofs, Scenario, step

if TYPE_CHECKING:
    from minikafka.zookeeper.looking.plain import PlainClient

CLIENTS = 4
ADDITIONS = 25
CANDIDATES = 8


class LostUpdate(Scenario):
    name = "lost-update"
    title = "Read, change, write: and what another wrote is gone"
    slide = "ZooKeeper API: setData(path, data, expectedVersion)"
    says = (
        "setData names the version that it expects; -1 is any. Two clients that read, change and "
        "write with -1 overwrite each other, and nobody is told. With the version that was read, "
        "the slower one is refused, reads again and tries again."
    )
    notice = (
        "that is how a controller is fenced. It writes a partition's state over the version that "
        "it has read, together with a check of the version of /controller_epoch. If either has "
        "moved, nothing is written."
    )
    commands = (
        "minikafka up --detach && minikafka topics create t",
        "minikafka zk get /brokers/topics/t/partitions/0/state    # the version, and the fields",
        "minikafka kill C && sleep 10",
        "minikafka zk get /brokers/topics/t/partitions/0/state",
        "minikafka down",
    )

    @step(
        "Two clients read 10 from /lab/counter, and each writes 11 with version -1.",
        "Two were added, and the counter says 11: one update is lost, and nobody was told.",
    )
    def lose(self) -> Proofs:
        self.path = f"{self.stage.own_root()}/counter"
        self.lock, self.refused = threading.Lock(), 0
        zk, other = self.stage.zk, self.stage.session()
        zk.create(self.path, b"10")
        mine, theirs = int(zk.get(self.path).data), int(other.get(self.path).data)
        zk.set(self.path, b"%d" % (mine + 1))
        other.set(self.path, b"%d" % (theirs + 1))
        held = int(zk.get(self.path).data)
        yield held == 11, f"both read 10 and wrote 11; it is {held}, and should be 12"

    @step(
        "The same with the version that was read.",
        "The slower one is refused with BADVERSION; it reads again, and the counter says 13.",
    )
    def keep(self) -> Proofs:
        from minikafka.zookeeper.looking.plain import RefusedError

        zk, other = self.stage.zk, self.stage.session()
        mine, theirs = zk.get(self.path), other.get(self.path)
        zk.set(self.path, b"%d" % (int(mine.data) + 1), mine.stat.version)
        reason = "no error"
        try:
            other.set(self.path, b"%d" % (int(theirs.data) + 1), theirs.stat.version)
        except RefusedError as error:
            reason = error.reason
        self._add_safely(other)
        held = int(zk.get(self.path).data)
        yield (reason, held) == ("BADVERSION", 13), f"{reason}, then it is {held}"

    @step(
        f"{CLIENTS} clients add {ADDITIONS} each at the same time: first with -1, then with the "
        "version.",
        "With the version, not one addition is lost.",
    )
    def race(self) -> Proofs:
        clients = [self.stage.session() for _ in range(CLIENTS)]
        wanted = CLIENTS * ADDITIONS
        blind = self._race(clients, self._add_blindly)
        self.say(f"With -1: {wanted} additions, the counter says {blind}: {wanted - blind} lost.")
        self.refused = 0
        safe = self._race(clients, self._add_safely)
        yield (
            safe == wanted,
            f"{wanted} additions, the counter says {safe}; {self.refused} writes were refused and "
            "tried again",
        )

    def _race(self, clients: list[PlainClient], add: Callable[[PlainClient], None]) -> int:
        self.stage.zk.set(self.path, b"0")

        def work(zk: PlainClient) -> None:
            for _ in range(ADDITIONS):
                add(zk)

        threads = [threading.Thread(target=work, args=(zk,)) for zk in clients]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.stage.zk.sync()
        return int(self.stage.zk.get(self.path).data)

    def _add_blindly(self, zk: PlainClient) -> None:
        zk.set(self.path, b"%d" % (int(zk.get(self.path).data) + 1))

    def _add_safely(self, zk: PlainClient) -> None:
        from minikafka.zookeeper.looking.plain import RefusedError

        while True:
            node = zk.get(self.path)
            try:
                zk.set(self.path, b"%d" % (int(node.data) + 1), node.stat.version)
                return
            except RefusedError:
                with self.lock:
                    self.refused += 1


class Herd(Scenario):
    name = "herd"
    title = "Who is woken when the leader dies?"
    slide = "Watches, Locks, and the herd effect; A solution"
    says = (
        "If all watch one znode, all are notified when it goes: many clients wake at once, all "
        "try, and one succeeds. The solution uses the order of sequential znodes. Each client "
        "watches only the one before its own, so a crash wakes one."
    )
    notice = (
        "the disadvantage is on the slide as well. Only one client hears of a change of leader, so "
        "the others must learn it in some other way. And who wakes must look who is first: the one "
        "before may have died without ever having led."
    )
    commands = (
        "minikafka up --brokers 5 --detach",
        "minikafka zk controller    # who is next",
        "minikafka kill A && sleep 8    # if A is the controller",
        "minikafka zk controller    # it woke 1 of 4",
        "minikafka down",
    )

    @step(
        f"{CANDIDATES} clients want to lead: each tries to create /lab/leader, and watches it if "
        "another was quicker. Then the leaders die, one after another.",
        "The death of the first leader wakes all the others.",
        "Until one is left, the number of notifications grows with the square of the clients.",
        record="",
    )
    def herd(self) -> Proofs:
        path = f"{self.stage.own_root()}/leader"
        wakes = self._deaths(lambda candidate: candidate.stand_in_herd(path))
        yield wakes[0] == CANDIDATES - 1, f"{wakes[0]} were woken, and 1 of them leads"
        self.herd_wakes = sum(wakes)
        expected = CANDIDATES * (CANDIDATES - 1) // 2
        yield self.herd_wakes == expected, f"{' + '.join(map(str, wakes))} = {self.herd_wakes}"

    @step(
        "The same with a queue: each creates a sequential znode under /lab/queue, and watches the "
        "one before its own.",
        "The death of a leader wakes exactly one.",
        "So the number of notifications is the number of deaths.",
        record="",
    )
    def queue(self) -> Proofs:
        path = f"{self.stage.own_root()}/queue"
        self.stage.zk.create(path)
        wakes = self._deaths(lambda candidate: candidate.stand_in_queue(path))
        yield set(wakes) == {1}, f"woken at each death: {', '.join(map(str, wakes))}"
        total = sum(wakes)
        yield total == len(wakes), f"{total} with the queue, {self.herd_wakes} with the herd"

    def _deaths(self, stand: Callable[[_Candidate], None]) -> list[int]:
        """Let candidates stand, and each leader die until one is left: how many each death woke."""
        wakes = []
        with ExitStack() as opened:
            living = [
                opened.enter_context(_Candidate(self.stage.zookeeper_hosts))
                for _ in range(CANDIDATES)
            ]
            for each in living:
                stand(each)
            while len(living) > 1:
                [leader] = [each for each in living if each.leads]
                living.remove(leader)
                leader.close()  # its session ends, and its znode goes
                self._let_all_hear(living)
                woken = [each for each in living if each.woken]
                wakes.append(len(woken))
                for each in woken:
                    each.woken = False
                    stand(each)
        return wakes

    def _let_all_hear(self, candidates: list[_Candidate]) -> None:
        """Notifications come in order: whoever has had one of a later change has had all before."""
        path = f"{self.stage.own_root()}/later"
        heard = [threading.Event() for _ in candidates]
        for each, event in zip(candidates, heard, strict=True):
            each.zk.exists(path, lambda kind, where, event=event: event.set())  # type: ignore[misc]
        self.stage.zk.create(path)
        for event in heard:
            self.stage.until(event.is_set, "a notification of a later change")
        self.stage.zk.delete(path)


class _Candidate:
    """A client that would lead, with a session of its own."""

    def __init__(self, hosts: str) -> None:
        from minikafka.zookeeper.looking.plain import open_plain

        self._open = ExitStack()
        self.zk = self._open.enter_context(open_plain(hosts))
        self.leads = False
        self.woken = False
        self._own = ""

    def __enter__(self) -> _Candidate:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def _wake(self, kind: str, path: str) -> None:
        self.woken = True

    def stand_in_herd(self, path: str) -> None:
        from minikafka.zookeeper.looking.plain import RefusedError

        try:
            self.zk.create(path, ephemeral=True)
            self.leads = True
        except RefusedError:
            self.zk.exists(path, self._wake)

    def stand_in_queue(self, path: str) -> None:
        if not self._own:
            made = self.zk.create(f"{path}/candidate-", ephemeral=True, sequential=True)
            self._own = made.rpartition("/")[2]
        line = self.zk.children(path)
        place = line.index(self._own)
        self.leads = place == 0
        if not self.leads:
            self.zk.exists(f"{path}/{line[place - 1]}", self._wake)
