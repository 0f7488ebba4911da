"""What is lost, and when: old leaders, small ISRs, unclean elections, logs that differ."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from minikafka.lab.narrator import plural
from minikafka.lab.scenario import Proofs, Scenario, step
from minikafka.model import TopicPartition

if TYPE_CHECKING:
    from minikafka.client import RecordMetadata

Receipts = dict[bytes, "Future[RecordMetadata]"]


class ZombieLeader(Scenario):
    name = "zombie-leader"
    title = "A leader sleeps, wakes, and believes that it still leads"
    slide = "Guidelines to ConnectionLoss; Leader election"
    says = (
        "A leader that is paused (by its operating system, its virtual machine, its garbage "
        "collector) does not know that time has passed. When it wakes, another leads. For a moment "
        "two processes believe that they lead. What counts is that only one of them can commit."
    )
    notice = (
        "nothing has to tell the zombie in time. A record is committed when everybody in the ISR "
        "has fetched it, and the others fetch from the new leader, under the new epoch. With "
        "acks=1 nobody is asked but the leader: what a zombie acknowledges so is lost."
    )
    commands = (
        "minikafka up --detach && minikafka topics create t --replication-factor 3",
        "minikafka topics describe t --watch &",
        "minikafka kill A --signal STOP && sleep 10    # if A leads",
        "minikafka kill A --signal CONT",
        "minikafka down",
    )
    topic = "zombie"

    @step("Create a topic and write 10 records with acks=all.", "All 10 are acknowledged.")
    def create(self) -> Proofs:
        self.old, follower = self.stage.others(self.stage.until_controller())
        replicas = [self.old, follower, *self.stage.others(self.old, follower)]
        self.say(self.stage.create_topic(self.topic, replicas))
        offset = self.stage.write(self.topic, [b"early %d" % each for each in range(10)])
        yield offset == 9, f"offsets 0 to {offset}"
        # They have a connection to the leader, and no reason to look for another one.
        self.all = self.stage.producer_to(self.old, acks="all", delivery_timeout_ms=6_000)
        self.one = self.stage.producer_to(self.old, acks=1, delivery_timeout_ms=6_000)
        for each in (self.all, self.one):
            each.send(self.topic, b"hello").result(20)

    @step(
        "Pause the leader with SIGSTOP for longer than its session.",
        "Another leads, under epoch 1, and the sleeper is out of the ISR.",
        "The new leader takes 10 more records with acks=all.",
    )
    def pause(self) -> Proofs:
        self.stage.pause(self.old)
        self.say(f"{self.stage.name(self.old)} sleeps.")
        self.stage.until(
            lambda: self.stage.state(self.topic).leader not in (self.old, -1), "another leader"
        )
        state = self.stage.state(self.topic)
        holds = state.leader_epoch == 1 and self.old not in state.isr
        yield holds, self.stage.words(self.topic)
        offset = self.stage.write(self.topic, [b"late %d" % each for each in range(10)])
        yield offset == 21, f"the last is at offset {offset}"

    @step(
        "Two clients still believe in the old leader, and send it a record each, one with acks=all "
        "and one with acks=1. It wakes, and finds them waiting.",
        "The record with acks=all is not acknowledged: the zombie cannot commit it.",
        "The sleeper follows, and is in sync again.",
        "All three logs are the same, and nothing that the zombie took is in them.",
    )
    def wake(self) -> Proofs:
        receipts = {
            "all": self.all.send(self.topic, b"zombie acks=all"),
            "1": self.one.send(self.topic, b"zombie acks=1"),
        }
        time.sleep(0.2)  # until they are on their way: the zombie shall find them when it wakes
        self.stage.resume(self.old)
        outcomes = {acks: _outcome(receipt) for acks, receipt in receipts.items()}
        taken, told = outcomes["1"]
        self.say(
            f"With acks=1: {told}. It is lost."
            if taken
            else f"With acks=1 it was not taken either, this time: {told}."
        )
        taken, told = outcomes["all"]
        yield not taken, told
        self.stage.until(
            lambda: len(self.stage.state(self.topic).isr) == 3, "three in-sync replicas"
        )
        yield True, self.stage.words(self.topic)
        logs = self.stage.until_same_logs(self.topic)
        zombies = [record for record in logs if record.startswith("zombie")]
        yield not zombies and len(logs) == 22, f"22 records in each; the zombie's: {len(zombies)}"


def _outcome(receipt: Future[RecordMetadata]) -> tuple[bool, str]:
    """Whether the record was acknowledged, and what was said."""
    from minikafka.errors import MinikafkaError

    try:
        return True, f"acknowledged at offset {receipt.result(25).offset}"
    except MinikafkaError as error:
        return False, error.message


class MinInsync(Scenario):
    name = "min-insync"
    title = "acks=all, and still lost: why min.insync.replicas"
    slide = "Partition replication and ZooKeeper"
    says = (
        "acks=all waits for everybody in the ISR. But the ISR shrinks as replicas die, down to the "
        "leader alone, and then acks=all waits for nobody else. min.insync.replicas says how many "
        "must be in sync for a record to be taken at all."
    )
    notice = (
        "min.insync.replicas is a promise about the number of copies at the moment of the "
        "acknowledgement. It costs availability: with 2 of 3, one broker may die and writing goes "
        "on; when two are dead, it stops."
    )
    commands = (
        "minikafka up --detach",
        "minikafka topics create safe --replication-factor 3 --config min.insync.replicas=2",
        "minikafka kill B && minikafka kill C",
        "echo hello | minikafka produce safe --timeout 15",
        "minikafka down",
    )
    topics = {"alone": 1, "safe": 2}

    @step(
        "Create two topics with three replicas: alone with min.insync.replicas=1, safe with 2. "
        "Write 10 records with acks=all to each.",
        "Both take them.",
    )
    def create(self) -> Proofs:
        controller = self.stage.until_controller()
        replicas = [controller, *self.stage.others(controller)]
        self.leader = controller
        self.acknowledged: dict[str, int] = {}
        for topic, minimum in self.topics.items():
            words = self.stage.create_topic(topic, replicas, {"min.insync.replicas": str(minimum)})
            self.say(f"{topic}: {words}")
            self._write(topic, "early")
        yield set(self.acknowledged.values()) == {10}, self._told(self.acknowledged)

    @step(
        "Kill both followers, and write 10 more to each.",
        "alone takes them: the ISR is the leader, and all of it has them.",
        "safe refuses them: NOT_ENOUGH_REPLICAS.",
    )
    def shrink(self) -> Proofs:
        for each in self.stage.others(self.leader):
            self.stage.kill(each)
        for topic in self.topics:
            self.stage.until(
                lambda topic=topic: self.stage.state(topic).isr == (self.leader,),  # type: ignore[misc]
                f"{topic} to have one in-sync replica",
            )
            self.say(f"{topic}: {self.stage.words(topic)}")
        self._write("alone", "late")
        yield self.acknowledged["alone"] == 20, "10 more are acknowledged"
        why = self._write("safe", "late")
        yield "min.insync.replicas" in why or "in sync" in why, why

    @step(
        "Kill the leader, for good: its disk is gone with it. Start the others, and have one of "
        "them lead at any price (an unclean election).",
        "alone has lost what it had acknowledged while the leader was alone.",
        "safe has lost nothing that it had acknowledged.",
    )
    def lose(self) -> Proofs:
        self.stage.kill(self.leader)
        for each in self.stage.others(self.leader):
            self.stage.restart(each)
        self.stage.until_controller(lambda found: found != self.leader)
        for topic in self.topics:
            self.stage.until(
                lambda topic=topic: self.stage.state(topic).leader == -1,  # type: ignore[misc]
                f"{topic} to have no leader",
            )
            self.say(f"{topic}: {self.stage.words(topic)}: nobody else may lead.")
        self._elect_unclean()
        kept = {topic: len(self.stage.read_all(topic)) for topic in self.topics}
        lost = {topic: self.acknowledged[topic] - kept[topic] for topic in self.topics}
        self.stage.narrator.block(
            "acknowledged with acks=all, and read back:",
            [
                f"{topic:6} {self.acknowledged[topic]:3} acknowledged  {kept[topic]:3} there  "
                f"{lost[topic]:3} lost"
                for topic in self.topics
            ],
        )
        yield lost["alone"] == 10, f"{plural(lost['alone'], 'record')} of 20"
        yield lost["safe"] == 0, f"{plural(lost['safe'], 'record')} of 10"

    def _elect_unclean(self) -> None:
        admin = self.stage.admin()

        def elected() -> bool:
            admin.elect_leaders([TopicPartition(topic, 0) for topic in self.topics], unclean=True)
            return all(self.stage.state(topic).leader != -1 for topic in self.topics)

        self.stage.until(elected, "a leader at any price")
        for topic in self.topics:
            self.say(f"{topic}: {self.stage.words(topic)}")

    def _write(self, topic: str, prefix: str) -> str:
        """10 records with acks=all, counted; returns why not, if they are not acknowledged."""
        producer = self.stage.producer(acks="all", delivery_timeout_ms=4_000)
        receipts = [producer.send(topic, f"{prefix} {each}".encode()) for each in range(10)]
        outcomes = [_outcome(receipt) for receipt in receipts]
        count = sum(taken for taken, _ in outcomes)
        self.acknowledged[topic] = self.acknowledged.get(topic, 0) + count
        return next((told for taken, told in outcomes if not taken), "")

    @staticmethod
    def _told(counts: dict[str, int]) -> str:
        return ", ".join(f"{topic} {count}" for topic, count in counts.items())


class ConsistentOrAvailable(Scenario):
    name = "consistent-or-available"
    title = "The same accident twice: offline, or lossy"
    slide = "CAP principle; Fallacies of distributed computing"
    says = (
        "Consistency, availability and tolerance of partitions cannot be had together. The network "
        "will break; so when it does, one has to choose. unclean.leader.election.enable is the "
        "choice. false: only a replica that has everything may lead, or nobody. true: anybody may, "
        "rather than nobody."
    )
    notice = (
        "neither is wrong. An account wants the first, a stream of measurements the second. Wrong "
        "is only not to have chosen: the default is consistency."
    )
    commands = (
        "minikafka up --detach",
        "minikafka topics create t --replicas 1,2 --config unclean.leader.election.enable=true",
        "minikafka kill B && sleep 7 && echo lost | minikafka produce t --acks 1",
        "minikafka kill A && minikafka restart B && minikafka topics describe t",
        "minikafka down",
    )
    topics = {"consistent": "false", "available": "true"}

    @step(
        "Create two topics with two replicas: consistent with "
        "unclean.leader.election.enable=false, available with true. Write 10 records to each.",
        "Both have two in-sync replicas and 10 records.",
    )
    def create(self) -> Proofs:
        self.controller = self.stage.until_controller()
        self.leader, self.follower = self.stage.others(self.controller)
        told = []
        for topic, unclean in self.topics.items():
            configs = {"unclean.leader.election.enable": unclean}
            words = self.stage.create_topic(topic, [self.leader, self.follower], configs)
            self.stage.write(topic, [b"early %d" % each for each in range(10)])
            told.append(f"{topic}: {words}")
        counts = {len(self.stage.read_all(topic)) for topic in self.topics}
        yield counts == {10}, "; ".join(told)

    @step(
        "Kill the follower. The leader is alone, and takes 10 more records each, with acks=1.",
        "All are acknowledged.",
    )
    def alone(self) -> Proofs:
        self.stage.kill(self.follower)
        for topic in self.topics:
            self.stage.until(
                lambda topic=topic: self.stage.state(topic).isr == (self.leader,),  # type: ignore[misc]
                f"{topic} to have one in-sync replica",
            )
        offsets = {
            self.stage.write(topic, [b"late %d" % each for each in range(10)], acks=1)
            for topic in self.topics
        }
        yield offsets == {19}, "20 in each"

    @step(
        "Kill the leader, and start the follower, which lacks the last 10.",
        "consistent is offline: no leader, and nobody can write.",
        "available has a leader, and takes records.",
    )
    def choose(self) -> Proofs:
        self.stage.kill(self.leader)
        self.stage.restart(self.follower)
        self.stage.until(
            lambda: self.stage.state("available").leader == self.follower, "the unclean election"
        )
        self.stage.until(lambda: self.stage.state("consistent").leader == -1, "consistent offline")
        yield not self._can_write("consistent"), f"consistent: {self.stage.words('consistent')}"
        yield self._can_write("available"), f"available: {self.stage.words('available')}"

    @step(
        "Start the old leader again. Its log has all 20 records of both topics.",
        "consistent is back with everything.",
        "available has lost what was acknowledged and not replicated: its old leader cut it off.",
    )
    def back(self) -> Proofs:
        self.stage.restart(self.leader)
        for topic in self.topics:
            self.stage.until(
                lambda topic=topic: len(self.stage.state(topic).isr) == 2,  # type: ignore[misc]
                f"{topic} to have both replicas in sync",
            )
            self.say(f"{topic}: {self.stage.words(topic)}")
        lost = {}
        for topic in self.topics:
            there = set(self.stage.read_all(topic))
            written = {
                b"%s %d" % (word, each) for word in (b"early", b"late") for each in range(10)
            }
            lost[topic] = len(written - there)
        yield lost["consistent"] == 0, f"lost: {lost['consistent']} of 20"
        yield lost["available"] == 10, f"lost: {lost['available']} of 20"

    def _can_write(self, topic: str) -> bool:
        producer = self.stage.producer(acks="all", delivery_timeout_ms=3_000)
        return _outcome(producer.send(topic, b"after the accident"))[0]


class FlipFlop(Scenario):
    name = "flip-flop"
    title = "Leaders alternate, and two logs must become one"
    slide = "Partition replication and ZooKeeper: what the epoch is for"
    says = (
        "Two replicas lead in turn, and neither hears the other. Each writes a record in each of "
        "its epochs. When they meet, the follower must cut off what the leader does not have. How "
        "far? Its own high watermark seems to be safe: what is below it was committed, it thinks."
    )
    notice = (
        "early Kafka cut logs back to the high watermark, and lost records or kept wrong ones by "
        "it (KIP-101, KIP-279). Epochs in the log tell where two logs part: the follower says its "
        "latest epoch, the leader where that epoch ends with it, and so on back until they agree. "
        "tests/scenarios/race-05-flip-flop.txt plays the same without processes."
    )
    commands = (
        "minikafka up --detach",
        "minikafka topics create t --replicas 1,2 --config unclean.leader.election.enable=true",
        "minikafka log dump .minikafka/broker-1/t-0 --records",
        "minikafka down",
    )
    topic = "flipflop"

    @step(
        "Create a topic with two replicas, unclean elections allowed, and write x with acks=all.",
        "Both logs have x, of epoch 0.",
    )
    def create(self) -> Proofs:
        self.controller = self.stage.until_controller()
        self.one, self.two = self.stage.others(self.controller)
        configs = {"unclean.leader.election.enable": "true"}
        self.say(self.stage.create_topic(self.topic, [self.one, self.two], configs))
        self.stage.write(self.topic, [b"x"])
        logs = self.stage.until_same_logs(self.topic)
        yield logs == ["x/0"], self._told(self.stage.logs(self.topic))

    @step(
        "One leads and writes, and ends; the other starts, leads and writes, and ends. Twice each, "
        "so that the two are never up together.",
        "The logs have x in common, and nothing else.",
    )
    def alternate(self) -> Proofs:
        self.stage.stop(self.two)
        for living, other, record in (
            (self.one, self.two, b"p1"),
            (self.two, self.one, b"q1"),
            (self.one, self.two, b"p2"),
            (self.two, None, b"q2"),
        ):
            self.stage.until(
                lambda living=living: self.stage.state(self.topic).leader == living,  # type: ignore[misc]
                f"{self.stage.name(living)} to lead",
            )
            self.stage.write(self.topic, [record], acks=1)
            self.say(f"{self.stage.words(self.topic)}, and it writes {record.decode()}.")
            if other is not None:
                self.stage.stop(living)
                self.stage.restart(other)
        logs = self.stage.logs(self.topic)
        mine, theirs = logs[self.one], logs[self.two]
        self.before = mine
        yield mine[0] == theirs[0] and not set(mine[1:]) & set(theirs[1:]), self._told(logs)

    @step(
        "Look at the high watermark that the first one has on its disk.",
        "Cut back to it, its log would lose nothing, and would differ from the leader's for ever.",
        record="",
    )
    def high_watermark(self) -> Proofs:
        from minikafka.log.checkpoints import HIGH_WATERMARKS, read_offsets
        from minikafka.log.files import Disk

        path = self.stage.local.layout.data(self.one) / HIGH_WATERMARKS
        mark = read_offsets(Disk(), path).get(TopicPartition(self.topic, 0), 0)
        theirs = self.stage.logs(self.topic)[self.two]
        would = self.before[:mark] + theirs[mark:]
        yield (
            would != theirs,
            f"its high watermark is {mark}, so it would have {' '.join(would)}, where the leader "
            f"has {' '.join(theirs)}",
        )

    @step(
        "Start the first one, so that they meet.",
        "It has cut its log to where the epochs agree: both logs are the leader's.",
    )
    def meet(self) -> Proofs:
        leader_log = self.stage.logs(self.topic)[self.two]
        self.stage.restart(self.one)
        self.stage.until(
            lambda: len(self.stage.state(self.topic).isr) == 2, "both replicas to be in sync"
        )
        logs = self.stage.until_same_logs(self.topic)
        yield logs == leader_log, self._told(self.stage.logs(self.topic))

    def _told(self, logs: dict[int, list[str]]) -> str:
        return "; ".join(f"{self.stage.name(each)} has {' '.join(logs[each])}" for each in logs)
