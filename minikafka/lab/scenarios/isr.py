"""Partition replication and ZooKeeper: leader, epoch, in-sync replicas."""

from __future__ import annotations

from minikafka.lab.scenario import Proofs, Scenario, step

TOPIC = "five"
E_ID = 5


class FiveReplicas(Scenario):
    name = "five-replicas"
    title = "Five replicas, and one of them dies"
    slide = "Partition replication and ZooKeeper"
    says = (
        "ZooKeeper stores who leads a partition and which replicas are in sync (the ISR), under an "
        "epoch. Leader=A Epoch=0 ISR={A,B,C,D,E}: five replicas, all in sync. E dies. Leader=A "
        "Epoch=1 ISR={A,B,C,D}: the leader stays, the epoch moves."
    )
    notice = (
        "the epoch moves although the leader stays. A record counts as committed when everybody in "
        "the ISR has it, so a smaller ISR is a new agreement, and a message of the old one must be "
        "told apart. A larger ISR needs no new epoch: only the version of the znode moves."
    )
    commands = (
        "minikafka up --brokers 5 --detach",
        "minikafka topics create words --replication-factor 5",
        "minikafka topics describe words --watch &",
        "minikafka kill E && minikafka restart E",
        "minikafka zk get /brokers/topics/words/partitions/0/state",
        "minikafka down",
    )
    brokers = 5

    @step(
        "Create a topic with one partition and a replica on each of A, B, C, D, E.",
        "Leader=A Epoch=0 ISR={A,B,C,D,E}",
    )
    def create(self) -> Proofs:
        found = self.stage.create_topic(TOPIC, [1, 2, 3, 4, 5])
        yield found == "Leader=A Epoch=0 ISR={A,B,C,D,E}", found

    @step(
        "Write 100 records with acks=all, and kill E in the middle.",
        "Leader=A Epoch=1 ISR={A,B,C,D}",
        "Every record is acknowledged: the leader waits for E until E is out of the ISR.",
    )
    def kill(self) -> Proofs:
        producer = self.stage.producer(acks="all")
        receipts = [producer.send(TOPIC, b"before %d" % each) for each in range(50)]
        producer.flush(20_000)
        self.stage.kill(E_ID)
        receipts += [producer.send(TOPIC, b"after %d" % each) for each in range(50)]
        yield True, self.stage.until_words(TOPIC, "Leader=A Epoch=1 ISR={A,B,C,D}")
        producer.flush(20_000)
        last = max(receipt.result(20).offset for receipt in receipts)
        yield last == 99, f"{len(receipts)} records, the last at offset {last}"

    @step(
        "Start E again.",
        "Leader=A Epoch=1 ISR={A,B,C,D,E}: E has caught up, and no epoch was needed for that.",
        "The version of the znode moved each time.",
    )
    def restart(self) -> Proofs:
        version = self.stage.state(TOPIC).partition_version
        self.stage.restart(E_ID)
        yield True, self.stage.until_words(TOPIC, "Leader=A Epoch=1 ISR={A,B,C,D,E}")
        now = self.stage.state(TOPIC).partition_version
        yield now > version, f"version {version} with four in sync, version {now} with five"
