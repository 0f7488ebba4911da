"""Jobs: a master assigns work, a worker does it, and either may die in the middle."""

from __future__ import annotations

import json
import subprocess
from typing import Any, ClassVar

from minikafka.children import module_command
from minikafka.lab.scenario import Proofs, Scenario, step

_TASKS = "/jobs/tasks"
_ASSIGNED = "/jobs/assigned"
_RECORDS, _RECORD_BYTES = 350, 1_000
_COMMAND_TIMEOUT_S = 60
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
        "is not there cannot be scrubbed, and is named as a problem.)"
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
        done = subprocess.run(
            self._command("submit", "scrub", self.topic, "--format", "json"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=True,
        )
        self.job = json.loads(done.stdout)["job"]
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
        "Kill the controller, while the job goes on.",
        "Another broker is controller, and so the master.",
        "The job is done, and its entry in the worker's folder is gone.",
    )
    def master_dies(self) -> Proofs:
        before = self.stage.until_controller()
        self.stage.kill(before)
        after = self.stage.until_controller(lambda now: now != before)
        yield True, f"it was {self.stage.name(before)}, it is {self.stage.name(after)}"
        status = self._until(lambda now: now["state"] in _ENDED)
        left = [path for path in self.stage.znodes(_ASSIGNED) or () if path.endswith(self.job)]
        yield status["state"] == "done" and not left, self._told(status)

    def _command(self, *words: str) -> list[str]:
        directory = ("--data-dir", str(self.stage.local.layout.data_dir))
        return module_command("minikafka", "jobs", *words, *directory)

    def _until(self, wanted: Any) -> dict[str, Any]:
        """The status znode of the job, once it is as wanted."""

        def look() -> dict[str, Any] | None:
            status = self.stage.document(f"{_TASKS}/{self.job}/status")
            return status if status and wanted(status) else None

        return self.stage.until(look, "the job to go on", 60)

    def _told(self, status: dict[str, Any]) -> str:
        node, summary = status["node_id"], status["summary"]
        who = f" at {self.stage.name(node)}" if node >= 0 else ""
        what = f", {summary}" if summary else ""
        return f"attempt {status['attempt']}{who}: {status['state']}{what}"
