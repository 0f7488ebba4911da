"""Work that is coordinated through ZooKeeper: restarts one at a time, replicas that move."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from minikafka.children import ends_with_us, module_command
from minikafka.lab.ensemble import wait_finished
from minikafka.lab.narrator import plural
from minikafka.lab.scenario import Proofs, Scenario, step
from minikafka.model import TopicPartition, broker_name

if TYPE_CHECKING:
    from minikafka.client import Producer, RecordMetadata

_COMMAND_TIMEOUT_S = 90
_BETWEEN_RECORDS_S = 0.02
_SEND_S = 65.0  # a producer blocks for no more than a minute


class RollingRestart(Scenario):
    name = "rolling-restart"
    title = "One at a time: a lock that goes with its holder"
    slide = "Coordination primitives"
    says = (
        "Semaphores, queues, leader election, group membership, barriers, configuration: all are "
        "made of znodes. A lock is one of them: an ephemeral znode, so that a holder that dies "
        "does not hold it for ever. minikafka rolling-restart takes it, and then restarts one "
        "broker after another, each when every replica is in sync again."
    )
    notice = (
        "a lock in ZooKeeper is not like one in a program: its holder may lose it without "
        "noticing, when its session expires. So the command looks whether it still has it before "
        "each broker. What must be right even then does not rest on the lock: it rests on epochs "
        "and versions."
    )
    commands = (
        "minikafka up --detach && minikafka topics create t --replication-factor 3",
        "minikafka rolling-restart & sleep 2; minikafka zk tree /locks",
        "minikafka rolling-restart    # refused: who is at work is named",
        "minikafka down",
    )
    topic = "rolling"

    @step(
        "Create a topic with three replicas, and write a record every 20 ms with acks=all.",
        "Records are acknowledged.",
    )
    def begin(self) -> Proofs:
        self.say(self.stage.create_topic(self.topic, [1, 2, 3], {"min.insync.replicas": "2"}))
        self.pids = {each: self.stage.pid(each) for each in self.stage.broker_ids}
        self.load = ScenarioLoad(
            self.stage.producer(acks="all", delivery_timeout_ms=60_000), self.topic
        )
        self.stage.keep(self.load)
        self.stage.until(lambda: self.load.acknowledged >= 10, "10 records to be acknowledged")
        yield True, f"{self.load.acknowledged} so far"

    @step(
        "Run minikafka rolling-restart, and while it works, run it a second time.",
        "There is an ephemeral znode under /locks, which says who is at work.",
        "The second one is refused.",
        "Every broker is another process now, the controller last.",
        "At no time was more than one replica away.",
    )
    def roll(self) -> Proofs:
        controller = self.stage.until_controller()
        with self._command() as first:
            try:
                lock = self.stage.until(self._lock, "the lock")
                yield lock[1] != 0, f"{lock[0]}, session {lock[1]:#x}"
                with self._command() as second:
                    _, why = wait_finished(second, "the second one", _COMMAND_TIMEOUT_S)
                yield second.returncode == 1, why.strip()
                fewest = 3
                deadline = time.monotonic() + _COMMAND_TIMEOUT_S
                while first.poll() is None and time.monotonic() < deadline:
                    fewest = min(fewest, len(self.stage.state(self.topic).isr))
                    time.sleep(_BETWEEN_RECORDS_S)
                told, why = wait_finished(first, "the rolling restart", _COMMAND_TIMEOUT_S)
            finally:
                first.terminate()
        lines = [line.split(" ", 1)[1] for line in told.splitlines() if line]
        self.stage.narrator.block("It said:", lines)
        now = {each: self.stage.pid(each) for each in self.stage.broker_ids}
        all_new = all(now[each] != self.pids[each] for each in now)
        last = [line.split()[1] for line in lines if line.startswith("broker")][-1:]
        holds = first.returncode == 0 and all_new and last == [broker_name(controller)]
        yield holds, why.strip() or f"processes {', '.join(map(str, now.values()))}"
        yield fewest >= 2, f"the smallest ISR that was seen had {fewest} members"

    @step(
        "Stop writing, and read everything back.",
        "Every record was acknowledged, and is there once.",
        record="",
    )
    def end(self) -> Proofs:
        self.load.stop()
        self.stage.until(lambda: self.load.settled, "every record to have its answer", 60)
        read = self.stage.read_all(self.topic)
        clean = len(read) == len(set(read)) == self.load.sent and not self.load.failed
        yield (
            clean,
            (
                f"{plural(self.load.sent, 'record')}, {self.load.acknowledged} acknowledged, "
                f"{self.load.failed} failed, {len(read)} read back"
            ),
        )

    def _command(self) -> subprocess.Popen[str]:
        directory = str(self.stage.local.layout.data_dir)
        return subprocess.Popen(
            module_command("minikafka", "rolling-restart", "--data-dir", directory),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ends_with_us(),
        )

    def _lock(self) -> tuple[str, int] | None:
        """(path, session) of the lock that is held."""
        found = self.stage.znodes("/locks") if self.stage.node("/locks") else None
        held = [(path, node.owner) for path, node in (found or {}).items() if node.owner]
        return held[0] if held else None


class ScenarioLoad:
    """A record every 20 ms from a thread, each its number. `with` it; it ends with that."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lab-load", daemon=True)
        self._receipts: list[Future[RecordMetadata]] = []

    def __enter__(self) -> ScenarioLoad:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(_SEND_S)

    @property
    def sent(self) -> int:
        return len(self._receipts)

    @property
    def settled(self) -> bool:
        return all(each.done() for each in self._receipts)

    @property
    def acknowledged(self) -> int:
        return sum(each.done() and each.exception() is None for each in self._receipts)

    @property
    def failed(self) -> int:
        return sum(each.done() and each.exception() is not None for each in self._receipts)

    def _run(self) -> None:
        while not self._stopping.wait(_BETWEEN_RECORDS_S):
            number = len(self._receipts)
            self._receipts.append(self._producer.send(self._topic, b"%d" % number))


class Reassignment(Scenario):
    name = "reassign"
    title = "A replica moves, and the plan is in ZooKeeper"
    slide = "Work assignment; Work Queues"
    says = (
        "A master assigns work, and may crash in the middle. What it has assigned must be written "
        "down, so that the next master can go on. In minikafka a partition that moves has its plan "
        "in /brokers/topics/<topic>: the old replicas and the new ones together, which are being "
        "added, and which will be removed. The controller carries it out."
    )
    notice = (
        "the old replica goes last. First the new one must have everything, then the leader moves "
        "and the ISR shrinks, then the plan is struck out, and only then is a log deleted. At each "
        "point another controller could go on from what ZooKeeper holds."
    )
    commands = (
        "minikafka up --detach && minikafka topics create t --replicas 1,2",
        "minikafka topics describe t --watch",
        "minikafka zk get /brokers/topics/t",
        "minikafka down",
    )
    topic = "moving"

    @step("Create a topic on two brokers and write 20 records.", "The third one has nothing of it.")
    def create(self) -> Proofs:
        self.stays = self.stage.until_controller()
        self.old, self.new = self.stage.others(self.stays)
        self.say(self.stage.create_topic(self.topic, [self.old, self.stays]))
        self.stage.write(self.topic, [b"record %d" % each for each in range(20)])
        folder = self.stage.log_folder(self.new, self.topic)
        yield not folder.exists(), f"{self.stage.name(self.new)} has no folder {folder.name}"

    @step(
        "Move the partition: the third broker in place of the leader.",
        "The new replica is in sync and leads; the old one is out.",
        "Nothing of the plan is left in ZooKeeper.",
        "The old broker has deleted its log.",
        "All 20 records are there.",
    )
    def move(self) -> Proofs:
        admin, partition = self.stage.admin(), TopicPartition(self.topic, 0)
        target = [self.new, self.stays]
        plan = self._watched_plan()
        errors = admin.alter_partition_reassignments({partition: target})
        assert errors[partition] is None, errors[partition]
        self.stage.until(
            lambda: set(self.stage.state(self.topic).isr) == set(target), "the target as ISR"
        )
        state = self.stage.state(self.topic)
        if plan:
            self.say(f"Meanwhile /brokers/topics/{self.topic} said: {plan[0]}.")
        yield state.leader == self.new, self.stage.words(self.topic)
        self.stage.until(
            lambda: not admin.list_partition_reassignments(), "the end of the reassignment"
        )
        left = self.stage.document(f"/brokers/topics/{self.topic}")
        empty = not left.get("adding_replicas") and not left.get("removing_replicas")
        yield empty, f"partitions {left['partitions']}"
        folder = self.stage.log_folder(self.old, self.topic)
        self.stage.until(lambda: not folder.exists(), f"the end of {folder.name}")
        yield True, f"{self.stage.name(self.old)} has no folder {folder.name} now"
        read = self.stage.read_all(self.topic)
        yield len(set(read)) == 20, f"{plural(len(read), 'record')} read back"

    def _watched_plan(self) -> list[str]:
        """Filled, by a watch, with what the topic's znode says while the partition moves."""
        path, seen = f"/brokers/topics/{self.topic}", []

        def on_change(kind: str, where: str) -> None:
            # Not here: this is the thread that would have to bring the answer.
            threading.Thread(target=read, daemon=True).start()

        def read() -> None:
            told = self.stage.document(path)
            seen.append(
                f"replicas {told['partitions']['0']}, adding {told.get('adding_replicas')}, "
                f"removing {told.get('removing_replicas')}"
            )

        self.stage.zk.get(path, on_change)
        return seen
