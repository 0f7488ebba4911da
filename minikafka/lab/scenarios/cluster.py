"""Cluster management: who is a member, how he is, who is missing."""

from __future__ import annotations

import threading
import time

from minikafka.lab.scenario import Proofs, Scenario, step

RECORD = b"x" * 1_000_000


class Membership(Scenario):
    name = "membership"
    title = "Who is there, how are they, and who is missing?"
    slide = "Cluster Management"
    says = (
        "Each node creates /nodes/node-<i> as an ephemeral znode and keeps it up to date with its "
        "load. The monitoring process watches /nodes. When the watch fires, it reads the children "
        "again, sets the watch again, and sees which nodes have gone away."
    )
    notice = (
        "what is missing cannot be read from what is there. The monitor has to remember who was "
        "there before. In minikafka the controller does, in /nodes-seen, which is not ephemeral: "
        "so it is known who is missing even if the controller went down with it."
    )
    commands = (
        "minikafka up --detach && minikafka nodes",
        "minikafka nodes --watch &",
        "minikafka kill C && sleep 8 && minikafka nodes",
        "minikafka zk tree /nodes",
        "minikafka down",
    )

    @step(
        "Read /nodes as a monitor does, with a watch.",
        "Every broker has a znode there, which belongs to the same session as its registration.",
        record="",
    )
    def look(self) -> Proofs:
        zk, ids = self.stage.zk, self.stage.broker_ids
        self.stage.until(lambda: len(zk.children("/nodes")) == len(ids), "all nodes in /nodes")
        self.fired = threading.Event()
        self.event = ""
        self.before = zk.children("/nodes", self._on_event)
        owners = {
            each: (
                zk.get(f"/nodes/node-{each}").stat.ephemeral_owner,
                zk.get(f"/brokers/ids/{each}").stat.ephemeral_owner,
            )
            for each in ids
        }
        same = all(node == broker for node, broker in owners.values())
        yield same and len(self.before) == len(ids), ", ".join(self.before)

    def _on_event(self, kind: str, path: str) -> None:
        self.event = f"{kind} {path}"
        self.fired.set()

    @step(
        "Create a topic whose leader is one of them, and write 20 MiB to it.",
        "The node says so itself: it leads a partition, and has 20 MiB on its disk.",
        "The monitor was not woken: it watches who is there, not how they are.",
    )
    def work(self) -> Proofs:
        who = self.who = self.stage.others(self.stage.until_controller())[0]
        self.stage.create_topic("load", [who, *self.stage.others(who)])
        self.stage.write("load", [RECORD] * 22)
        path = f"/nodes/node-{who}"

        def busy() -> dict[str, object] | None:
            told = self.stage.document(path)
            written = told.get("disk_used_bytes", 0) >= 20 * 2**20
            return told if told.get("partitions_led") and written else None

        told = self.stage.until(busy, "the node to report its load")
        version = self.stage.zk.get(path).stat.version
        yield (
            version > 0,
            f"{path}: version {version}, leads {told['partitions_led']}, "
            f"{told['disk_used_bytes']} bytes on disk, {told['cpu_percent']} % of a core",
        )
        yield not self.fired.is_set(), self.event or "no event so far"

    @step(
        "Kill that node.",
        "The watch fires; the children that are read then lack one.",
        "The cluster names who is missing, and since when.",
    )
    def kill(self) -> Proofs:
        self.stage.kill(self.who)
        killed_ms = time.time() * 1000
        self.stage.until(self.fired.is_set, "the watch of /nodes")
        now = self.stage.zk.children("/nodes")
        gone = sorted(set(self.before) - set(now))
        yield gone == [f"node-{self.who}"], f"{self.event}; gone: {', '.join(gone)}"
        admin = self.stage.admin()

        def missing() -> int | None:
            gone_at = {each.status.broker_id: each.gone_at_ms for each in admin.list_nodes()}
            return gone_at.get(self.who)

        gone_at_ms = self.stage.until(missing, "the cluster to say who is missing")
        took_s = (gone_at_ms - killed_ms) / 1000
        yield True, f"{self.stage.name(self.who)} is gone, {took_s:.1f} s after it was killed"


class Consensus(Scenario):
    name = "consensus"
    title = "All agree: the smallest sequence number decides"
    slide = "Implementing consensus"
    says = (
        "Each process proposes a value as a sequential znode. To decide, it reads the children, "
        "takes the one with the smallest sequence number, and decides on its value. As no later "
        "znode can get a smaller number, all decide alike."
    )
    notice = (
        "nobody had to wait for the others, or to know how many there are. ZooKeeper has ordered "
        "the proposals, and that order is all that is needed. It is as good as ZooKeeper: if the "
        "first proposal could be deleted, a latecomer would decide otherwise."
    )
    commands = (
        "minikafka up --detach",
        "minikafka zk get /cluster/id",
        "minikafka down",
    )
    PROPOSERS = 6

    @step(
        f"{PROPOSERS} clients propose at the same time, each its own value, and each decides.",
        "All decide alike.",
        "What they decide on was proposed by one of them.",
    )
    def decide(self) -> Proofs:
        self.path = f"{self.stage.own_root()}/c"
        self.stage.zk.create(self.path)
        decisions: dict[int, str] = {}
        start = threading.Barrier(self.PROPOSERS)

        def propose(number: int) -> None:
            zk = clients[number]
            start.wait(20)
            zk.create(f"{self.path}/proposal-", b"value of %d" % number, sequential=True)
            first = min(zk.children(self.path))
            decisions[number] = zk.get(f"{self.path}/{first}").data.decode()

        clients = [self.stage.session() for _ in range(self.PROPOSERS)]
        threads = [
            threading.Thread(target=propose, args=(number,)) for number in range(self.PROPOSERS)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join(20)
        self.decided = decisions.get(0, "")
        told = "; ".join(f"client {each}: {decisions[each]}" for each in sorted(decisions))
        yield len(decisions) == self.PROPOSERS and len(set(decisions.values())) == 1, told
        proposed = {f"value of {number}" for number in range(self.PROPOSERS)}
        yield self.decided in proposed, self.decided

    @step(
        "One more client comes late, and proposes something else.",
        "It decides as all others did.",
    )
    def late(self) -> Proofs:
        zk = self.stage.session()
        own = zk.create(f"{self.path}/proposal-", b"too late", sequential=True)
        first = min(zk.children(self.path))
        found = zk.get(f"{self.path}/{first}").data.decode()
        yield found == self.decided, f"its own is {own}; {first} is first: {found}"

    @step(
        "Look at the id of the minikafka cluster. The brokers that started first, all at once, "
        "have proposed one each, under /cluster/proposals.",
        "All brokers say the same id, and /cluster/id holds it.",
        record="",
    )
    def cluster_id(self) -> Proofs:
        from minikafka.client import Admin

        ids = set()
        for broker_id in self.stage.broker_ids:
            with Admin(self.stage.faults.broker(broker_id).grpc) as admin:
                ids.add(admin.cluster_id())
        held = self.stage.document("/cluster/id").get("id")
        yield ids == {held}, f"/cluster/id: {held}; the brokers: {', '.join(ids)}"
