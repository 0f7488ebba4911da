"""A double barrier: processes that begin together, and a process that dies in between."""

from __future__ import annotations

import subprocess
from types import TracebackType

from minikafka.children import ends_with_us, module_command
from minikafka.lab.ensemble import wait_finished
from minikafka.lab.narrator import plural
from minikafka.lab.scenario import Proofs, Scenario, step

_NAME = "lab"
_ROOT = f"/perf/{_NAME}"
_RECORDS, _PER_SECOND = 2_500, 500
_TIMEOUT_S = 60
_KILL_WAIT_S = 10


class Barrier(Scenario):
    name = "barrier"
    title = "Begin together, end together: a double barrier"
    slide = "Coordination primitives"
    says = (
        "Processes that are to do something at the same time come to a barrier: each makes an "
        "ephemeral znode, and the one that makes the number full makes /ready, which all others "
        "watch. At the end each takes its znode away, and is done when none is left. minikafka "
        "perf produce --processes begins so, that all of its processes load at once."
    )
    notice = (
        "the znodes are ephemeral because processes die. One that dies inside is not waited for: "
        "its znode goes with its session. One that dies before the begin breaks the barrier for "
        "the others, instead of keeping them for ever, as kazoo's own recipe does."
    )
    commands = (
        "minikafka up --detach && minikafka topics create t --partitions 3",
        "minikafka zk watch /perf &",
        "minikafka perf produce t --processes 3 --num-records 20000",
        "minikafka down",
    )
    topic = "together"

    @step(
        "Create a topic, and start two of three processes of minikafka perf produce.",
        "Two ephemeral znodes, and no /ready: both wait for the third.",
    )
    def begin(self) -> Proofs:
        self.say(self.stage.create_topic(self.topic, [1, 2, 3]))
        self.loads = {who: BarrierLoad(self._command(who)) for who in ("one", "two")}
        for load in self.loads.values():
            self.stage.keep(load)
        inside = self.stage.until(lambda: self._inside(2), "two processes at the barrier")
        waits = self.stage.node(f"{_ROOT}/ready") is None
        written = self._written()
        yield waits and not written, f"{', '.join(inside)}; {plural(written, 'record')} written"

    @step(
        "Start the third.",
        "It makes /ready, and all three begin.",
    )
    def full(self) -> Proofs:
        self.loads["three"] = self.stage.keep(BarrierLoad(self._command("three")))
        self.stage.until(lambda: self.stage.node(f"{_ROOT}/ready"), "/ready")
        inside = self._inside(3) or ()
        self.stage.until(lambda: self._written() >= 3, "records")
        told = f"{', '.join(inside)}; {plural(self._written(), 'record')} so far"
        yield len(inside) == 3, told

    @step(
        "Kill one of them while it loads.",
        "The others end well: nobody waits for the dead one longer than its session lasts.",
        "The barrier is gone from ZooKeeper.",
    )
    def die(self) -> Proofs:
        self.loads.pop("one").kill()
        ended = {who: load.end() for who, load in self.loads.items()}
        told = [f"{who}: status {status}" for who, (status, _) in ended.items()]
        yield all(status == 0 for status, _ in ended.values()), ", ".join(told)
        yield self.stage.node(_ROOT) is None, f"{_ROOT} is not there"

    @step(
        "Let minikafka perf produce do it with three processes of its own.",
        "It tells of each, and of all together.",
        record="",
    )
    def sum_up(self) -> Proofs:
        words = ("--processes", "3", "--num-records", "2000", "--record-size", "100")
        status, lines = BarrierLoad(self._perf(*words)).end()
        self.stage.narrator.block("It said:", lines)
        together = lines[-1:] and lines[-1].startswith("6000 records sent")
        yield status == 0 and len(lines) == 4 and bool(together), plural(len(lines), "line")

    def _command(self, who: str) -> list[str]:
        amount = ("--num-records", str(_RECORDS), "--throughput", str(_PER_SECOND))
        return self._perf(*amount, "--record-size", "100", "--barrier", f"{_NAME}:3:{who}")

    def _perf(self, *options: str) -> list[str]:
        directory = ("--data-dir", str(self.stage.local.layout.data_dir))
        return module_command("minikafka", "perf", "produce", self.topic, *options, *directory)

    def _inside(self, count: int) -> list[str] | None:
        """The names of the znodes of those at the barrier, once there are so many."""
        found = self.stage.znodes(_ROOT) if self.stage.node(_ROOT) else None
        names = [path.rpartition("/")[2] for path, node in (found or {}).items() if node.owner]
        return sorted(names) if len(names) >= count else None

    def _written(self) -> int:
        return len(self.stage.read_all(self.topic))


class BarrierLoad:
    """A process of minikafka perf. `with` it; it does not outlive that."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=ends_with_us(),
        )

    def __enter__(self) -> BarrierLoad:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(_KILL_WAIT_S)

    def end(self) -> tuple[int, list[str]]:
        """Its exit status, and the lines that it printed."""
        output, _ = wait_finished(self._process, "the load", _TIMEOUT_S)
        return self._process.returncode, output.splitlines()
