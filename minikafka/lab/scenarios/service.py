"""ZooKeeper as a service: majority, order, and being out of touch with it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from minikafka.errors import MinikafkaError
from minikafka.lab.needs import SESSION_TIMEOUT_MS
from minikafka.lab.scenario import Proofs, Scenario, step

if TYPE_CHECKING:
    from minikafka.client import Producer, RecordMetadata

WRITES = 1_000
_TRIES = 5
_HASTE_MS = 1_000


class EnsembleMajority(Scenario):
    name = "ensemble-majority"
    title = "Three servers: one may die, two may not"
    slide = "ZooKeeper Service; Sessions can move to different servers"
    says = (
        "All servers of the ensemble store a copy of the data. One of them is elected leader, the "
        "followers serve clients, and all updates go through the leader. An update is answered "
        "when a majority has it on disk. A session belongs to the ensemble: its client may be "
        "connected to any server, and moves to another one when its own dies."
    )
    notice = (
        "ZooKeeper without a majority is consistent, not available: it would rather say nothing "
        "than something old. So no broker can be taken out of an ISR meanwhile, and records go on "
        "only as long as none has to. Nothing is lost by that; it only waits. An even number of "
        "servers is no better: of four, one may die, as of three."
    )
    commands = (
        "minikafka up --zookeeper local:3 --detach    # needs Java and Apache ZooKeeper",
        "cat .minikafka/cluster.json    # the pids of the three servers",
        "minikafka topics create t --replication-factor 3 && minikafka topics describe t --watch",
        "minikafka down",
    )
    zookeeper = "local:3"
    topic = "ensemble"

    @step(
        "Look at the ensemble, and at which server each broker is connected to.",
        "One server leads, two follow.",
    )
    def look(self) -> Proofs:
        ensemble = self.stage.ensemble
        self.say(self.stage.create_topic(self.topic, [1, 2, 3]))
        for broker_id, session in self._sessions().items():
            server = ensemble.server_of(session)
            self.say(f"Broker {self.stage.name(broker_id)} is connected to server {server}.")
        modes = ensemble.modes()
        told = ", ".join(f"server {number} is {mode}" for number, mode in modes.items())
        yield sorted(map(str, modes.values())) == ["follower", "follower", "leader"], told

    @step(
        "Kill one server, to which a broker is connected.",
        "The broker has moved to another server, in the same session.",
        "Nothing happened to the partition: same leader, same epoch, same ISR.",
        "Records with acks=all are acknowledged.",
    )
    def one(self) -> Proofs:
        ensemble = self.stage.ensemble
        before, words = self._sessions(), self.stage.words(self.topic)
        places = {each: ensemble.server_of(session) for each, session in before.items()}
        moving, server = next((each, place) for each, place in places.items() if place)
        ensemble.kill(server)
        self.dead = [server]
        self.say(f"Server {server} is dead; {self.stage.name(moving)} was connected to it.")
        place = self.stage.until(
            lambda: ensemble.server_of(before[moving]), "the broker to be at another server"
        )
        now = self._sessions()
        yield now == before, f"session {before[moving]:#x} is at server {place} now"
        found = self.stage.words(self.topic)
        yield found == words, found
        self.producer = self.stage.producer(acks="all", delivery_timeout_ms=60_000)
        offset = self._write_ten()
        yield offset == 9, f"the last is at offset {offset}"

    @step(
        "Kill a second server: there is no majority. Write on, for longer than a session lasts.",
        "The one server that is left serves nobody.",
        "Records with acks=1 are refused by then: another broker might lead, for all that this one "
        "can tell.",
        "Records with acks=all are acknowledged still: all in sync have them, and would not follow "
        "this leader if another led.",
    )
    def two(self) -> Proofs:
        ensemble = self.stage.ensemble
        second = ensemble.leader()
        ensemble.kill(second)
        self.dead.append(second)
        [left] = ensemble.living
        self.stage.until(lambda: ensemble.mode(left) is None, f"server {left} to stop serving")
        yield True, f"server {left} runs, and is neither leader nor follower"
        # What is refused is tried again by the producer, for as long as it may.
        hasty = self.stage.producer(acks=1, delivery_timeout_ms=_HASTE_MS, request_timeout_ms=500)
        refused = self.stage.until(lambda: self._refusal(hasty), "a record to be refused", 20)
        yield True, refused
        offset = self._write_ten()
        yield offset >= 19, f"the last is at offset {offset}"

    @step(
        "Kill a broker that follows.",
        "Now a record with acks=all waits, too: the dead broker is in the ISR, and nobody can "
        "write that it is not.",
    )
    def stop(self) -> Proofs:
        self.killed = self.stage.others(self._leader())[0]
        self.stage.kill(self.killed)
        self.say(f"{self.stage.name(self.killed)} is dead, and nobody can say so to ZooKeeper.")
        self.waiting = self.producer.send(self.topic, b"a broker is dead, too")
        yield is_waiting(self.waiting)

    @step(
        "Start one of the servers again.",
        "There is a majority, and a leader.",
        "The dead broker leaves the ISR, and the epoch is one higher.",
        "The record that waited is acknowledged.",
    )
    def heal(self) -> Proofs:
        ensemble = self.stage.ensemble
        ensemble.start(self.dead.pop())
        yield True, f"server {ensemble.leader()} leads"
        self.stage.until(
            lambda: self.killed not in self.stage.state(self.topic).isr, "a smaller ISR", 30
        )
        yield self.stage.state(self.topic).leader_epoch >= 1, self.stage.words(self.topic)
        offset = self.waiting.result(40).offset
        yield True, f"it is at offset {offset}"

    def _write_ten(self) -> int:
        """The offset of the last one. By a producer that has its id: that is given by ZooKeeper."""
        receipts = [self.producer.send(self.topic, b"record %d" % each) for each in range(10)]
        return max(receipt.result(30).offset for receipt in receipts)

    def _refusal(self, producer: Producer) -> str | None:
        """Why a record is not taken; None if it is."""
        try:
            producer.send(self.topic, b"hasty").result(10)
        except MinikafkaError as error:
            return error.message
        return None

    def _sessions(self) -> dict[int, int]:
        """The session of each broker."""
        return {
            each: self.stage.zk.get(f"/brokers/ids/{each}").stat.ephemeral_owner
            for each in self.stage.broker_ids
        }

    def _leader(self) -> int:
        """As the brokers know it."""
        [partition] = self.stage.admin().describe_topic(self.topic).partitions
        return partition.state.leader


def is_waiting(receipt: Future[RecordMetadata]) -> tuple[bool, str]:
    """Whether a record is neither acknowledged nor refused for longer than a session."""
    patience_s = SESSION_TIMEOUT_MS / 1000 + 1
    try:
        offset = receipt.result(patience_s).offset
    except TimeoutError:
        return True, f"no answer after {patience_s:g} s"
    return False, f"it was acknowledged at offset {offset}"


class StaleRead(Scenario):
    name = "stale-read"
    title = "A read of what is over, and sync"
    slide = "Order; Linearizability; sync"
    says = (
        "Updates are totally ordered and linearizable. Reads are answered by the server that the "
        "client is connected to, from its own copy: in order, but perhaps of the past. sync before "
        "a read flushes the channel between that server and the leader, so that the read sees "
        "every update that was done before."
    )
    notice = (
        "the stale value is not wrong: it was true, and the client sees changes in their order, "
        "each after the one before. But a read that must not be old needs a sync. A new controller "
        "in minikafka syncs before it reads the state of the cluster."
    )
    commands = (
        "minikafka up --zookeeper local:3 --detach    # needs Java and Apache ZooKeeper",
        "minikafka zk get /controller_epoch",
        "minikafka zk get /controller_epoch --linearizable",
        "minikafka down",
    )
    zookeeper = "local:3"

    @step(
        "One client is connected to the leader, another one to a follower. Write x=0.",
        "Both read 0.",
    )
    def prepare(self) -> Proofs:
        ensemble = self.stage.ensemble
        self.path = f"{self.stage.own_root()}/x"
        self.follower = ensemble.followers()[-1]
        leader = ensemble.leader()
        self.writer = self.stage.session(ensemble.address(leader), 20_000)
        self.reader = self.stage.session(ensemble.address(self.follower), 20_000)
        self.writer.create(self.path, b"0")
        self.reader.sync(self.path)
        read = [each.get(self.path).data for each in (self.writer, self.reader)]
        self.say(f"Server {leader} leads, server {self.follower} follows.")
        yield read == [b"0", b"0"], " and ".join(each.decode() for each in read)

    @step(
        f"Stop the follower for a moment, while {WRITES} updates are acknowledged by the majority. "
        "Then the second client reads, and reads once more after a sync. The follower goes on.",
        "The read without sync gives an old value, although the newest was acknowledged before it "
        "was asked for.",
        "The read after the sync gives the newest value.",
    )
    def race(self) -> Proofs:
        for number in range(1, _TRIES + 1):
            last = number * WRITES
            self.stage.ensemble.pause(self.follower)
            values = [b"%d" % each for each in range(last - WRITES + 1, last + 1)]
            self.writer.set_all(self.path, values)
            plain = self.reader.read_later(self.path)
            synced = self.reader.read_later(self.path, sync=True)
            self.stage.ensemble.resume()
            stale, fresh = int(plain()), int(synced())
            if stale < last:
                break
            self.say(f"It caught up before it answered, this time: {stale}. Once more.")
        yield stale < last, f"x={last} was acknowledged; the follower said {stale}"
        yield fresh == last, f"after sync it said {fresh}"

    @step(
        "Write on, and meanwhile read without sync at the follower.",
        "Time does not run backwards: no value is older than the one before.",
        record="",
    )
    def onward(self) -> Proofs:
        first = (_TRIES + 1) * WRITES
        values = [b"%d" % each for each in range(first, first + WRITES)]
        writing = threading.Thread(target=self.writer.set_all, args=(self.path, values))
        writing.start()
        read = []
        while writing.is_alive():
            read.append(int(self.reader.get(self.path).data))
        writing.join()
        told = f"{len(read)} reads, {len(set(read))} different values, {read[0]} to {read[-1]}"
        yield read == sorted(read), told


class ConnectionLoss(Scenario):
    name = "connection-loss"
    title = "ZooKeeper is silent: act conservatively, and do not panic"
    slide = "Guidelines to ConnectionLoss"
    says = (
        "A process sees no changes of state while it is disconnected. A master should act very "
        "conservatively: it should not assume that it still has mastership. But it is not the end "
        "of the world: the client library tries to recover the session."
    )
    notice = (
        "disconnected is not expired. It means: I do not know. A controller that does not know "
        "writes nothing, and a leader that does not know changes no ISR. So while ZooKeeper is "
        "away, a dead replica stays in the ISR, and records wait for it."
    )
    commands = (
        "minikafka up --detach && minikafka topics create t --replication-factor 3",
        "cat .minikafka/cluster.json    # the pid of ZooKeeper",
        "kill -STOP <pid>; sleep 5; kill -CONT <pid>",
        "tail .minikafka/broker-1.log",
        "minikafka down",
    )
    topic = "silence"

    @step("Create a topic and write 10 records with acks=all.", "All 10 are acknowledged.")
    def create(self) -> Proofs:
        self.controller = self.stage.until_controller()
        self.epoch = self.stage.controller_epoch()
        self.follower = self.stage.others(self.controller)[0]
        replicas = [*self.stage.others(self.follower), self.follower]
        self.words = self.stage.create_topic(self.topic, replicas)
        self.say(f"{self.words}; controller {self.stage.name(self.controller)}")
        self.client = self.stage.session(timeout_ms=SESSION_TIMEOUT_MS)
        self.session = self.client.session_id
        self.producer = self.stage.producer(acks="all", delivery_timeout_ms=60_000)
        receipts = [self.producer.send(self.topic, b"early %d" % each) for each in range(10)]
        offset = max(receipt.result(20).offset for receipt in receipts)
        yield offset == 9, f"offsets 0 to {offset}"

    @step(
        "Pause ZooKeeper, and kill a follower.",
        "A client of ZooKeeper learns that it is SUSPENDED. It is not told that its session is "
        "LOST: nobody is there to say so.",
        "A record with acks=all waits for the dead follower.",
        "No broker has changed leader, epoch or ISR.",
    )
    def silence(self) -> Proofs:
        self.stage.ensemble.pause(*self.stage.ensemble.numbers)
        self.stage.kill(self.follower)
        self.say(f"ZooKeeper is paused, and {self.stage.name(self.follower)} is dead.")
        self.waiting = self.producer.send(self.topic, b"waits")
        begun_s = time.monotonic()
        self.stage.until(lambda: "SUSPENDED" in self.client.states, "the client to notice")
        took_s = time.monotonic() - begun_s
        holds = "LOST" not in self.client.states
        yield holds, f"{', then '.join(self.client.states)}, after {took_s:.1f} s"
        yield is_waiting(self.waiting)
        told = self.stage.believed_words(self.topic)
        yield (
            set(told.values()) == {self.words},
            "; ".join(f"{self.stage.name(each)} says {words}" for each, words in told.items()),
        )

    @step(
        "Resume ZooKeeper.",
        "The client is connected again, in the same session.",
        "All brokers name one controller. The old one did not take its mastership for granted: out "
        "of touch for longer than its session, it gave it up, and under a higher epoch somebody "
        "was elected; or it was back in time, and goes on under the old one.",
        "Now the dead follower leaves the ISR, and the record that waited is acknowledged.",
    )
    def resume(self) -> Proofs:
        self.stage.ensemble.resume()
        self.stage.until(lambda: self.client.states[-1] == "CONNECTED", "the client to come back")
        same = self.client.session_id == self.session
        yield same, f"{', then '.join(self.client.states)}: session {self.session:#x}"
        self.stage.until(
            lambda: self.follower not in self.stage.state(self.topic).isr, "a smaller ISR"
        )
        yield self.stage.until(self._one_controller, "all brokers to name one controller")
        offset = self.waiting.result(40).offset
        yield True, f"{self.stage.words(self.topic)}, and the record is at offset {offset}"

    def _one_controller(self) -> tuple[bool, str] | None:
        """Whether whom all brokers name is the old one in its epoch, or one of a later epoch; None
        while they do not agree with one another and with ZooKeeper."""
        told = (self.stage.controller(), self.stage.controller_epoch())
        controller, epoch = told
        if controller is None or set(self.stage.believed_controllers().values()) != {told}:
            return None
        holds = told == (self.controller, self.epoch) or epoch > self.epoch
        return holds, (
            f"it was {self.stage.name(self.controller)}, epoch {self.epoch}; "
            f"it is {self.stage.name(controller)}, epoch {epoch}"
        )
