"""Transactions: all of it or nothing, whoever dies, and zombies that are fenced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikafka.lab.scenario import Proofs, Scenario, step

if TYPE_CHECKING:
    from minikafka.client import Producer

STATE_TOPIC = "__transaction_state"
PARTITIONS = 3
SETTINGS = {"transaction.state.log.num.partitions": str(PARTITIONS)}


class Transfers(Scenario):
    name = "transfers"
    title = "Money moves between two topics, and nobody sees half of it"
    slide = "Consistency; partition replication"
    says = (
        "A write to one partition is atomic: it is there, or not. A transfer is two writes, to two "
        "partitions with two leaders. Whoever dies between them must not leave half of it to be "
        "seen: not a leader, not the producer, and not the broker that coordinates the transfer."
    )
    notice = (
        "the decision is one record in a replicated log of its own, as everything else is. When it "
        "is committed, the transaction is: markers then tell every partition, for as long as it "
        "takes, by whoever leads the coordinator's partition by then. Readers of committed records "
        "wait for the markers; those of all records see what was never decided."
    )
    commands = (
        "minikafka up --detach && minikafka topics create a && minikafka topics create b",
        "seq 1 100 | minikafka produce a --transactional-id transfers --transaction-size 10",
        "minikafka consume a --isolation read_committed",
        "minikafka transactions list && minikafka transactions describe transfers",
        "minikafka down",
    )
    settings = SETTINGS
    topics = ("account-a", "account-b")
    transactional_id = "transfers"

    @step(
        "Two topics are two accounts, led by two brokers. Deposit 100 in the first, then move 10 "
        "to the second five times, each time in a transaction of two records.",
        "The sum is 100, for who reads committed records and for who reads all.",
    )
    def move(self) -> Proofs:
        ids = self.stage.broker_ids
        for at, topic in enumerate(self.topics):
            self.say(f"{topic}: {self.stage.create_topic(topic, [*ids[at:], *ids[:at]])}")
        self.producer = self._open_producer()
        self._transfer(self.topics[0], 100)
        for _ in range(5):
            self._move(10)
        yield self._sums() == (100, 100), self._told()

    @step(
        "Take 10 from the first account, and do not say yet what becomes of it.",
        "Who reads committed records still sees 100.",
        "Who reads all sees that 10 are missing.",
    )
    def half(self) -> Proofs:
        self.producer.begin()
        self._put(self.topics[0], -10)
        committed, everything = self._sums()
        yield committed == 100, self._told()
        yield everything == 90, f"{everything} of 100"

    @step(
        "Kill the broker that coordinates the transaction. Put the 10 into the second account, and "
        "commit.",
        "Another broker coordinates, and the transaction is committed.",
        "The sum is 100 again, for everybody.",
    )
    def coordinator_dies(self) -> Proofs:
        old = self._coordinator()
        self.say(f"{self.stage.name(old)} coordinates {self.transactional_id}, and is killed.")
        self.stage.kill(old)
        self._put(self.topics[1], 10)
        self.producer.commit()
        new = self._coordinator()
        yield new not in (old, -1), f"{self.stage.name(new)} does now"
        self.stage.until(lambda: self._sums() == (100, 100), "the sum to be 100 again")
        yield True, self._told()
        self.stage.restart(old)
        self._until_whole()

    @step(
        "Begin another transfer, kill the leader of the first account in the middle of it, and "
        "abort.",
        "Who reads committed records sees 100; who reads all sees records that never counted.",
    )
    def leader_dies(self) -> Proofs:
        self.producer.begin()
        self._put(self.topics[0], -30)
        leader = self.stage.state(self.topics[0]).leader
        self.say(f"{self.stage.name(leader)} leads {self.topics[0]}, and is killed.")
        self.stage.kill(leader)
        self.producer.abort()
        self.stage.until(lambda: self._sums()[0] == 100, "the sum to be 100")
        committed, everything = self._sums()
        yield (committed, everything) == (100, 70), self._told()
        self.stage.restart(leader)
        self._until_whole()

    @step(
        "The producer dies in the middle of a transfer, and another one takes its name.",
        "What was open is aborted: the sum is 100 for who reads committed records.",
        "The successor's transfers count.",
    )
    def producer_dies(self) -> Proofs:
        self.producer.begin()
        self._put(self.topics[0], -50)
        self.producer = self._open_producer()  # the old one says nothing any more
        self.stage.until(lambda: self._sums()[0] == 100, "the sum to be 100")
        yield True, self._told()
        self._move(10)
        balances = [self._sum(topic, committed=True) for topic in self.topics]
        yield balances == [30, 70], f"{balances[0]} and {balances[1]}"

    # --- means -----------------------------------------------------------------------------------

    def _open_producer(self) -> Producer:
        producer = self.stage.producer(transactional_id=self.transactional_id)
        producer.init_transactions()
        return producer

    def _transfer(self, topic: str, amount: int) -> None:
        with self.producer.transaction():
            self._put(topic, amount)

    def _move(self, amount: int) -> None:
        with self.producer.transaction():
            self._put(self.topics[0], -amount)
            self._put(self.topics[1], amount)

    def _put(self, topic: str, amount: int) -> None:
        self.producer.send(topic, b"%d" % amount).result(30)

    def _sum(self, topic: str, *, committed: bool) -> int:
        return sum(int(value) for value in self.stage.read_all(topic, committed=committed))

    def _sums(self) -> tuple[int, int]:
        """For who reads committed records, and for who reads all."""
        committed, everything = (
            sum(self._sum(topic, committed=each) for topic in self.topics) for each in (True, False)
        )
        return committed, everything

    def _told(self) -> str:
        committed, everything = self._sums()
        return f"committed {committed}, all {everything}"

    def _coordinator(self) -> int:
        """Who leads the id's partition."""
        from minikafka.broker.coordinators.topic import partition_for

        number = partition_for(self.transactional_id, PARTITIONS)
        return self.stage.state(STATE_TOPIC, number).leader

    def _until_whole(self) -> None:
        everybody = set(self.stage.broker_ids)
        partitions = [(topic, 0) for topic in self.topics]
        partitions += [(STATE_TOPIC, number) for number in range(PARTITIONS)]
        self.stage.until(
            lambda: all(set(self.stage.state(*each).isr) == everybody for each in partitions),
            "everybody to be in sync",
        )


class ZombieProducer(Scenario):
    name = "zombie-producer"
    title = "A producer sleeps, another takes its name, and it wakes"
    slide = "Guidelines to ConnectionLoss; Leader election"
    says = (
        "A service is restarted because it seems dead. It was only asleep, and goes on in the "
        "middle of what it was doing: now two do the same work. A lock would not help, since who "
        "sleeps does not notice that it has lost it. What helps is a number that only rises."
    )
    notice = (
        "the epoch is that number: whoever takes the transactional id raises it, at the "
        "coordinator and, with the marker, at every partition. The zombie has the old one. It is "
        "not asked to stop: it is not obeyed. ZooKeeper's zxid and a leader epoch do the same."
    )
    commands = (
        "minikafka up --detach && minikafka topics create t",
        "(echo one; sleep 30; echo two) | minikafka produce t --transactional-id job &",
        "echo three | minikafka produce t --transactional-id job    # fences the first",
        "minikafka consume t --isolation read_committed",
        "minikafka down",
    )
    settings = SETTINGS
    topic = "work"
    transactional_id = "job"

    @step(
        "A producer with the transactional id job writes 3 records in a transaction, and falls "
        "asleep before it commits.",
        "Nobody who reads committed records sees them.",
    )
    def sleep(self) -> Proofs:
        self.say(self.stage.create_topic(self.topic, self.stage.broker_ids))
        self.zombie = self.stage.producer(transactional_id=self.transactional_id)
        self.zombie.init_transactions()
        self.zombie.begin()
        for number in range(3):
            self.zombie.send(self.topic, b"zombie %d" % number).result(30)
        seen = self.stage.read_all(self.topic, committed=True)
        yield not seen, f"{len(seen)} committed, {len(self.stage.read_all(self.topic))} in all"

    @step(
        "Somebody starts another one with the same id. It does the same work, and commits.",
        "The epoch of the id has risen.",
        "Its 3 records are there, and none of the sleeper's.",
    )
    def replace(self) -> Proofs:
        before = self._epoch()
        successor = self.stage.producer(transactional_id=self.transactional_id)
        successor.init_transactions()
        with successor.transaction():
            for number in range(3):
                successor.send(self.topic, b"successor %d" % number)
        after = self._epoch()
        yield after > before, f"it was {before}, it is {after}"
        self.stage.until(lambda: len(self._seen()) == 3, "the successor's records")
        yield all(each.startswith(b"successor") for each in self._seen()), self._told()

    @step(
        "The sleeper wakes, and goes on: it sends its last record, and commits.",
        "It is told that it was fenced.",
        "Nothing of it is seen, nor ever will be.",
    )
    def wake(self) -> Proofs:
        told = self._go_on()
        yield told is not None, told or "it committed"
        yield len(self._seen()) == 3, self._told()

    # --- means -----------------------------------------------------------------------------------

    def _go_on(self) -> str | None:
        from minikafka.errors import MinikafkaError

        try:
            self.zombie.send(self.topic, b"zombie 3").result(30)
            self.zombie.commit()
        except MinikafkaError as error:
            return f"{error.name}: {error}"
        return None

    def _epoch(self) -> int:
        [found] = self.stage.admin().describe_transactions([self.transactional_id])
        return found.producer_epoch

    def _seen(self) -> list[bytes]:
        return self.stage.read_all(self.topic, committed=True)

    def _told(self) -> str:
        return ", ".join(each.decode() for each in self._seen())
