"""Sessions: how they end, and what goes with them."""

from __future__ import annotations

import time

from minikafka.lab.cable import Cable
from minikafka.lab.narrator import plural
from minikafka.lab.needs import SESSION_TIMEOUT_MS
from minikafka.lab.scenario import Proofs, Scenario, step

TIMEOUT_S = SESSION_TIMEOUT_MS / 1000


class Sessions(Scenario):
    name = "sessions"
    title = "A session ends by a goodbye, or by silence"
    slide = "Sessions"
    says = (
        "A session is a client's connection to the ensemble as a whole. The ensemble expires it "
        "when it has heard nothing for the session timeout. An ephemeral znode belongs to a "
        "session, and is deleted with it. In minikafka each broker registers as an ephemeral "
        "znode, /brokers/ids/<id>."
    )
    notice = (
        "the timeout is a choice between two mistakes. Short: a broker that is only slow counts as "
        "dead. Long: a broker that is dead counts as alive, and everybody waits for it. ZooKeeper "
        "cannot tell the two apart, and nobody else can."
    )
    commands = (
        "minikafka up --detach --set zookeeper.session.timeout.ms=10000",
        "minikafka zk watch /brokers/ids --recursive &",
        "minikafka kill C    # its znode goes 10 s later",
        "minikafka kill B --signal TERM    # its znode goes at once",
        "minikafka down",
    )

    @step(
        "End one broker by SIGTERM: it closes its session.",
        "Its znode is gone when its process is: ZooKeeper had nothing to wait for.",
    )
    def goodbye(self) -> Proofs:
        self.polite = self.stage.others(self.stage.until_controller())[0]
        name = self.stage.name(self.polite)
        begun_s = time.monotonic()
        self.stage.stop(self.polite)
        took_s = time.monotonic() - begun_s
        self.stage.zk.sync()
        gone = self.stage.broker_epoch(self.polite) is None
        yield gone, f"{name} took {took_s:.2f} s to end, and /brokers/ids/{self.polite} is gone"

    @step(
        "Kill another one by SIGKILL: its session knows nothing of it.",
        "Its znode is still there when the process is not.",
        "It goes once ZooKeeper has heard nothing for the session timeout.",
    )
    def silence(self) -> Proofs:
        controller = self.stage.until_controller()
        self.killed = self.stage.others(controller, self.polite)[0]
        path = f"/brokers/ids/{self.killed}"
        self.stage.kill(self.killed)
        begun_s = time.monotonic()
        yield self.stage.node(path) is not None, f"{path} is there, its process is not"
        self.stage.until(lambda: self.stage.node(path) is None, f"the end of {path}")
        took_s = time.monotonic() - begun_s
        yield took_s > TIMEOUT_S / 4, f"it went {took_s:.1f} s later (timeout {TIMEOUT_S:g} s)"

    @step(
        "Start both again.",
        "Each is registered under a new session: a session that is over does not come back.",
    )
    def back(self) -> Proofs:
        for broker_id in (self.polite, self.killed):
            self.stage.restart(broker_id)
        owners = [
            self.stage.zk.get(f"/brokers/ids/{each}").stat.ephemeral_owner
            for each in self.stage.broker_ids
        ]
        yield len(set(owners)) == 3, ", ".join(f"{owner:#x}" for owner in owners)


class SessionExpiry(Scenario):
    name = "session-expiry"
    title = "A broker lives, and its session is over"
    slide = "Sessions; What to do with SessionExpired"
    says = (
        "The ensemble expires a session, not the client. A client that is cut off cannot be told: "
        "it hears of it when it is in touch again. Until then it must go by its own clock, and not "
        "act on what it believes to be."
    )
    notice = (
        "the broker did two different things. Cut off, it knew nothing, so it stopped at its own "
        "deadline. In touch again, it was told that the session was over, so it began anew: a new "
        "session, a new registration, a new broker epoch, by which messages to and from its "
        "earlier life are told apart."
    )
    commands = (
        "minikafka up --detach",
        "minikafka kill C --signal STOP && sleep 10 && minikafka kill C --signal CONT",
        "minikafka zk get /brokers/ids/3    # another czxid, another ephemeral_owner",
        "minikafka down",
    )
    topic = "expiry"

    @step(
        "Lead the connection of one broker to ZooKeeper through a cable that can be cut, and have "
        "that broker lead a partition.",
        "It leads, and all three replicas are in sync.",
        record="",
    )
    def prepare(self) -> Proofs:
        self.who = self.stage.others(self.stage.until_controller())[-1]
        self.cable = self.stage.keep(Cable(self.stage.zookeeper_hosts))
        self.stage.connect_through(self.who, self.cable)
        self.pid = self.stage.pid(self.who)
        self.epoch = self.stage.broker_epoch(self.who)
        found = self.stage.create_topic(self.topic, [self.who, *self.stage.others(self.who)])
        name = self.stage.name(self.who)
        self.say(f"{name} is broker {self.who}, process {self.pid}, broker epoch {self.epoch}.")
        yield found == f"Leader={name} Epoch=0 ISR={{A,B,C}}", found

    @step(
        "Cut the cable for longer than the session timeout. The process runs on, and everybody "
        "but ZooKeeper can reach it.",
        "Its registration goes, another broker leads, and the epoch is one higher.",
        "It takes no records: it has been out of touch for too long to believe that it leads.",
    )
    def cut(self) -> Proofs:
        self.stale = self.stage.producer_to(self.who, acks=1, delivery_timeout_ms=1_000)
        self.stale.send(self.topic, b"before the cut").result(20)
        self.cable.cut()
        self.stage.until(
            lambda: self.stage.state(self.topic).leader not in (self.who, -1), "another leader"
        )
        state, words = self.stage.state(self.topic), self.stage.words(self.topic)
        yield state.leader_epoch == 1 and self.stage.broker_epoch(self.who) is None, words
        self.taken = 0
        why = self.stage.until(self._refusal, "the broker to refuse a record")
        if self.taken:
            records = plural(self.taken, "record")
            self.say(
                f"Its clock is not ZooKeeper's: before it stopped, it took {records} with acks=1. "
                "What is taken so is lost, as acks=1 allows."
            )
        yield True, why

    def _refusal(self) -> str:
        from minikafka.errors import MinikafkaError

        try:
            self.stale.send(self.topic, b"while it is cut off").result(20)
        except MinikafkaError as error:
            return error.message
        self.taken += 1
        return ""

    @step(
        "Mend the cable.",
        "It registers anew: another session, a higher broker epoch.",
        "It is in sync again, as a follower.",
        "It is the same process: nobody had to start it again.",
    )
    def mend(self) -> Proofs:
        self.cable.mend()
        epoch = self.stage.until(
            lambda: self.stage.broker_epoch(self.who), "the broker to register anew"
        )
        yield epoch > (self.epoch or 0), f"its broker epoch was {self.epoch}, it is {epoch}"
        self.stage.until(
            lambda: len(self.stage.state(self.topic).isr) == 3, "three in-sync replicas"
        )
        yield self.stage.state(self.topic).leader != self.who, self.stage.words(self.topic)
        alive = self.stage.local.is_running(self.stage.faults.broker(self.who))
        yield alive and self.stage.pid(self.who) == self.pid, f"process {self.pid}"
