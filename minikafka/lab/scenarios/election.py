"""Leader election: the controller."""

from __future__ import annotations

import time
from typing import Any

from minikafka.lab.scenario import Proofs, Scenario, step


class ControllerElection(Scenario):
    name = "controller-election"
    title = "Who leads? An ephemeral znode says so"
    slide = "Leader election with ZooKeeper"
    says = (
        "Every process tries to create one ephemeral znode. Who succeeds leads. When the leader "
        "dies, its session ends, the znode goes with it, and another one tries. In minikafka the "
        "znode is /controller, and the leader is the controller: the one broker that may write "
        "leaders and in-sync replicas. The others stand in a queue of sequential znodes, "
        "/controller_queue, and each watches the one before its own."
    )
    notice = (
        "nobody decided that the controller was dead. ZooKeeper stopped hearing from its session, "
        "and the znode went. And a new controller is not enough: an old one may still run, slow or "
        "cut off. That is what the controller epoch is for. Every write of a controller is a multi "
        "that checks the version of /controller_epoch, so the writes of a deposed one fail."
    )
    commands = (
        "minikafka up --detach && minikafka zk controller",
        "minikafka zk watch /controller &",
        "minikafka kill A    # if A is the controller",
        "sleep 8; minikafka zk controller",
        "minikafka down",
    )

    @step(
        "Look at who is controller.",
        "/controller is ephemeral, and belongs to the session of the broker that it names.",
        record="",
    )
    def look(self) -> Proofs:
        self.before = self.stage.until_controller()
        self.epoch = self.stage.controller_epoch()
        node = self.stage.zk.get("/controller")
        registration = self.stage.zk.get(f"/brokers/ids/{self.before}")
        self.say(
            f"{self.stage.name(self.before)} (broker {self.before}) is controller, and the "
            f"controller epoch is {self.epoch}."
        )
        queue = self.stage.zk.children("/controller_queue")
        line = [int(each.split("-")[1]) for each in sorted(queue, key=lambda each: each[-10:])]
        self.say(f"The queue: {', '.join(self.stage.name(each) for each in line)}.")
        owner = node.stat.ephemeral_owner
        yield (
            owner != 0 and owner == registration.stat.ephemeral_owner,
            f"session {owner:#x} owns /controller and /brokers/ids/{self.before}",
        )

    @step(
        "Kill the controller with SIGKILL: it has no time to say goodbye.",
        "/controller goes, and another broker makes it anew.",
        "The controller epoch is exactly one higher.",
        "One transaction made /controller and raised the epoch.",
        "All survivors name the same controller and the same epoch.",
        "Of those who waited, exactly one was woken.",
    )
    def kill(self) -> Proofs:
        begun_s = time.monotonic()
        self.stage.kill(self.before)
        name = self.stage.name(self.before)
        self.say(f"{name} is dead. ZooKeeper waits for the session timeout before it says so.")
        after = self.stage.until_controller(lambda found: found != self.before)
        took_s = time.monotonic() - begun_s
        yield True, f"{self.stage.name(after)} is controller {took_s:.1f} s after the kill"
        epoch = self.stage.zk.get("/controller_epoch")
        yield int(epoch.data) == self.epoch + 1, f"it was {self.epoch}, it is {int(epoch.data)}"
        czxid = self.stage.zk.get("/controller").stat.czxid
        yield czxid == epoch.stat.mzxid, f"both bear the zxid {czxid}"
        wanted = (after, self.epoch + 1)
        self.stage.until(
            lambda: set(self.stage.believed_controllers().values()) == {wanted},
            "all survivors to name the new controller",
        )
        yield True, f"{self.stage.names(self.stage.others(self.before))} name the same"
        self.after = after
        takeover = self.stage.until(
            lambda: self._takeover_of(self.epoch + 1), "the count of who was woken"
        )
        woken, waiting = takeover["woken"], takeover["waiting"]
        yield woken == 1, f"{woken} of {waiting} waiting brokers"

    def _takeover_of(self, epoch: int) -> dict[str, Any] | None:
        """What the controller of an epoch wrote on the queue once all brokers had answered it."""
        found = self.stage.document("/controller_queue")
        return found if found.get("controller_epoch") == epoch else None

    @step(
        "Start the dead broker again.",
        "It comes back as any other broker: the controller stays.",
        "Its registration is a new znode, so its broker epoch (the czxid) is higher.",
    )
    def restart(self) -> Proofs:
        self.stage.restart(self.before)
        self.stage.until(
            lambda: self.stage.broker_epoch(self.before), "the registration of the broker"
        )
        controller, epoch = self.stage.controller(), self.stage.controller_epoch()
        yield (
            (controller, epoch) == (self.after, self.epoch + 1),
            f"controller {self.stage.name(self.after)}, epoch {epoch}",
        )
        now = self.stage.zk.get(f"/brokers/ids/{self.before}").stat.czxid
        made = self.stage.zk.get("/controller").stat.czxid
        yield now > made, f"it is {now}; the new controller's znode is of {made}"
