"""Jobs: a master assigns work, a worker does it, and either may die in the middle; some need a
permit of a semaphore, which goes with its holder."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from minikafka.children import module_command
from minikafka.lab.narrator import words
from minikafka.lab.scenario import Proofs, Scenario, step

if TYPE_CHECKING:
    from minikafka.lab.stage import LabStage

Wanted: TypeAlias = Callable[[dict[str, Any]], bool]

_TASKS = "/jobs/tasks"
_ASSIGNED = "/jobs/assigned"
_PERMITS = "/jobs/semaphore/reassign"
_RECORDS, _RECORD_BYTES = 300, 1_000
_COMMAND_TIMEOUT_S = 60
_RATE = "follower.replication.throttled.rate"
_ENDED = ("done", "failed", "cancelled")


class Jobs(Scenario):
    name = "jobs"
    title = "Master and workers: whoever dies, the work is done"
    slide = "Work Queues: /tasks, /machines/m-i/task-j"
    says = (
        "Clients put tasks under /tasks. The master watches them, and gives each to a worker by a "
        "znode in the worker's folder. The worker does it and writes the status, which the client "
        "watches. If the worker dies, the master gives the task to another one. If the master "
        "dies, another becomes master, and finds in ZooKeeper who does what."
    )
    notice = (
        "master and worker decide from what ZooKeeper holds, and from nothing else. Whoever writes "
        "a status says which version of it has been read. So a worker that was given up on, and is "
        "alive after all, cannot end a task that somebody else has by now. (A replica whose broker "
        "is not there in time is named as a problem.)"
    )
    commands = (
        "minikafka up --detach && minikafka topics create t --replication-factor 3",
        "minikafka perf produce t",
        "minikafka jobs submit scrub t --wait",
        "minikafka jobs list && minikafka zk tree /jobs",
        "minikafka down",
    )
    settings: ClassVar[dict[str, str]] = {"job.scrub.bytes.per.second": "200000"}
    topic = "work"

    @step(
        "Create a topic, write to it, and submit a job: scrub, which reads every record of every "
        "replica and checks its CRC.",
        "The task is under /jobs/tasks, and the controller, who is the master, has given it to a "
        "worker.",
    )
    def submit(self) -> Proofs:
        self.say(self.stage.create_topic(self.topic, [1, 2, 3]))
        self.stage.write(self.topic, [b"r" * _RECORD_BYTES] * _RECORDS)
        self.job = submit(self.stage, "scrub", self.topic)
        self.first = self._until(lambda status: status["state"] == "running")
        yield True, self._told(self.first)

    @step(
        "Kill the worker.",
        "The master gives the job to another worker: the second attempt.",
    )
    def worker_dies(self) -> Proofs:
        dead = self.first["node_id"]
        self.stage.kill(dead)
        status = self._until(lambda now: now["attempt"] > 1 and now["state"] == "running")
        yield status["node_id"] != dead, self._told(status)
        self.stage.restart(dead)

    @step(
        "Kill the controller, while the job goes on, and start it again.",
        "Another broker is controller, and so the master.",
        "The job is done, and its entry in the worker's folder is gone.",
    )
    def master_dies(self) -> Proofs:
        before = self.stage.until_controller()
        self.stage.kill(before)
        after = self.stage.until_controller(lambda now: now != before)
        yield True, f"it was {self.stage.name(before)}, it is {self.stage.name(after)}"
        self.stage.restart(before)
        status = self._until(lambda now: now["state"] in _ENDED)
        left = [path for path in self.stage.znodes(_ASSIGNED) or () if path.endswith(self.job)]
        yield status["state"] == "done" and not left, self._told(status)

    @step(
        "Submit another job: compare, which asks each replica for digests of what it holds.",
        "After two deaths all replicas are equal below the high watermark.",
    )
    def compare(self) -> Proofs:
        self.job = submit(self.stage, "compare", self.topic)
        status = self._until(lambda now: now["state"] in _ENDED)
        yield status["state"] == "done" and status["ok"], self._told(status)

    def _until(self, wanted: Wanted) -> dict[str, Any]:
        return until_status(self.stage, self.job, wanted)

    def _told(self, status: dict[str, Any]) -> str:
        node, summary = status["node_id"], status["summary"]
        who = f" at {self.stage.name(node)}" if node >= 0 else ""
        what = f", {summary}" if summary else ""
        return f"attempt {status['attempt']}{who}: {status['state']}{what}"


class Semaphore(Scenario):
    name = "semaphore"
    title = "Two permits for three jobs"
    slide = "Coordination primitives: semaphore"
    says = (
        "A semaphore lets so many in, and no more. It is made of znodes that bear a number, as "
        "many as there are permits: who creates one of them has a permit, and who finds all of "
        "them taken waits. They are ephemeral, so that a holder that dies does not keep its permit "
        "for ever. In minikafka a job that moves replicas needs a permit, since each move costs "
        "the brokers disk and network; job.max.reassignments says how many there are."
    )
    notice = (
        "the permit went with the session, and not with the process: for as long as ZooKeeper "
        "waited for the dead worker, nobody else could have it. Nor do those who wait stand in a "
        "queue: each asks again in a while, and whoever asks first has it. And what the dead "
        "worker had begun, the controller may carry on: a semaphore spares the brokers, but "
        "nothing that must be right rests on it."
    )
    commands = (
        "minikafka up --detach && minikafka topics create t --replicas 1",
        "minikafka jobs submit reassign t --replicas 2 --wait",
        "minikafka zk tree /jobs",
        "minikafka down",
    )
    # A batch takes the follower many seconds, so that the moves last until they are let go on.
    settings: ClassVar[dict[str, str]] = {
        "job.max.reassignments": "2",
        "replica.fetch.max.bytes": "10000",
        _RATE: "2000",
    }
    topics = ("move-1", "move-2", "move-3")

    @step(
        "Create three topics on one broker, and submit three jobs that move them to another one, "
        "slowly.",
        "Two workers have a permit: an ephemeral znode of their session.",
        "The third job runs, and waits for one.",
    )
    def submit(self) -> Proofs:
        old, self.new = self.stage.broker_ids[:2]
        for topic in self.topics:
            self.stage.create_topic(topic, [old], {"follower.replication.throttled.replicas": "*"})
            self.stage.write(topic, [b"r" * _RECORD_BYTES] * _RECORDS)
        self.jobs = [
            submit(self.stage, "reassign", topic, "--replicas", str(self.new))
            for topic in self.topics
        ]
        sessions = self._sessions()
        self.held = self.stage.until(self._all_permits, "two permits to be taken")
        holders = {sessions[owner] for owner in self.held.values() if owner in sessions}
        yield len(holders) == len(self.held), self._told(sessions)
        waiting = self.stage.until(self._waiting, "a job to wait")
        status = self.stage.document(f"{_TASKS}/{waiting}/status")
        yield (
            status["node_id"] not in holders,
            f"{self.stage.name(status['node_id'])} {status['summary']}",
        )

    @step(
        "Kill a worker that has a permit.",
        "Its permit goes with its session, and one of those who wait has it.",
        "The other worker has kept its own.",
    )
    def holder_dies(self) -> Proofs:
        sessions = self._sessions()
        # Not the broker that the replicas move to: nothing can be moved to it while it is dead.
        slot = next(slot for slot, owner in self.held.items() if sessions[owner] != self.new)
        self.dead = sessions[self.held[slot]]
        self.stage.kill(self.dead)
        self.say(f"{self.stage.name(self.dead)} is dead; it had {slot}.")

        def given_on() -> dict[str, int] | None:
            held = self._all_permits()
            return held if held and held[slot] != self.held[slot] else None

        now = self.stage.until(given_on, f"{slot} to be given to another", 60)
        next_holder = sessions.get(now[slot], self.dead)
        yield next_holder != self.dead, self._told(sessions)
        others = [each for each in now if each != slot]
        kept = all(now[each] == self.held[each] for each in others)
        yield kept, f"{words(others)}: session {now[others[0]]:#x}, as before"

    @step(
        "Start the dead broker again, and let the replicas be copied at full speed.",
        "All three jobs are done, and the topics are where they were to be.",
        "Every permit was given back.",
    )
    def end(self) -> Proofs:
        self.stage.restart(self.dead)
        self.stage.admin().alter_broker_config(None, {_RATE: str(1 << 30)})
        told = []
        for job in self.jobs:
            status = until_status(self.stage, job, lambda now: now["state"] in _ENDED)
            told.append((status["state"], status["attempt"]))
        replicas = [
            self.stage.document(f"/brokers/topics/{topic}")["partitions"]["0"]
            for topic in self.topics
        ]
        done = all(state == "done" for state, _ in told)
        yield (
            done and replicas == [[self.new]] * len(self.topics),
            "; ".join(f"{state} at attempt {attempt}" for state, attempt in told),
        )
        self.stage.until(lambda: not self._permits(), "the permits to be given back")
        yield True, f"{_PERMITS} has no children"
        self.stage.admin().alter_broker_config(None, {_RATE: None})

    def _permits(self) -> dict[str, int]:
        """The session that has each permit, by the name of its znode."""
        found = self.stage.znodes(_PERMITS) if self.stage.node(_PERMITS) else None
        held = {path: node.owner for path, node in (found or {}).items() if node.owner}
        return {path.rpartition("/")[2]: owner for path, owner in held.items()}

    def _all_permits(self) -> dict[str, int] | None:
        """None while one is free."""
        found = self._permits()
        return found if len(found) == int(self.settings["job.max.reassignments"]) else None

    def _waiting(self) -> str | None:
        """A job whose worker has no permit yet."""
        for job in self.jobs:
            status = self.stage.document(f"{_TASKS}/{job}/status")
            if status.get("state") == "running" and status["summary"].startswith("waits"):
                return job
        return None

    def _sessions(self) -> dict[int, int]:
        """The broker of each session."""
        found = {each: self.stage.node(f"/brokers/ids/{each}") for each in self.stage.broker_ids}
        return {node.stat.ephemeral_owner: each for each, node in found.items() if node}

    def _told(self, sessions: dict[int, int]) -> str:
        held = sorted(self._permits().items())
        return ", ".join(
            f"{slot} is {self.stage.name(sessions.get(owner, -1))}'s, session {owner:#x}"
            for slot, owner in held
        )


def submit(stage: LabStage, *arguments: str) -> str:
    """`minikafka jobs submit`; returns the name of the job."""
    directory = str(stage.local.layout.data_dir)
    options = ("--format", "json", "--data-dir", directory)
    done = subprocess.run(
        module_command("minikafka", "jobs", "submit", *arguments, *options),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_COMMAND_TIMEOUT_S,
        check=True,
    )
    return str(json.loads(done.stdout)["job"])


def until_status(stage: LabStage, job: str, wanted: Wanted) -> dict[str, Any]:
    """The status znode of a job, once it is as wanted. Raises NotSeen."""

    def look() -> dict[str, Any] | None:
        status = stage.document(f"{_TASKS}/{job}/status")
        return status if status and wanted(status) else None

    return stage.until(look, "the job to go on", 60)
