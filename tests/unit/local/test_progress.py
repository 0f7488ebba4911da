"""A broker that starts is waited for as long as it gets on, and no longer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from minikafka.local.progress import Progress
from minikafka.processes import Work


@dataclass
class Bench:
    """A process whose work is as we say, and a clock that we set."""

    log: Path
    now_s: float = 100.0
    work: Work = field(default_factory=lambda: Work(0, 0.0))

    def progress(self, patience_s: float = 30.0) -> Progress:
        return Progress(
            1, self.log, patience_s, clock=lambda: self.now_s, work=lambda pid: self.work
        )

    def passes(self, seconds: float, moved_bytes: int = 0, cpu_s: float = 0.0) -> None:
        self.now_s += seconds
        self.work = Work(self.work.moved_bytes + moved_bytes, self.work.cpu_s + cpu_s)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "broker-1.log")


def test_one_in_which_nothing_happens_is_given_up(bench: Bench) -> None:
    progress = bench.progress()
    bench.passes(30)
    assert progress.trouble() == ""
    bench.passes(1)
    assert (
        progress.trouble() == "does not serve 31 s after its start, and has done nothing for 30 s"
    )


def test_what_a_broker_does_while_it_only_waits_is_no_progress(bench: Bench) -> None:
    progress = bench.progress()
    for _ in range(31):
        bench.passes(1, moved_bytes=500, cpu_s=0.01)
        said = progress.trouble()
    assert "has done nothing for 30 s" in said


@pytest.mark.parametrize("moved_bytes", [64 * 1024, 10**9])
def test_one_that_reads_its_logs_is_waited_for_for_hours(bench: Bench, moved_bytes: int) -> None:
    progress = bench.progress()
    for _ in range(1000):
        bench.passes(20, moved_bytes=moved_bytes)
        assert progress.trouble() == ""


def test_one_that_writes_its_log_is_waited_for(bench: Bench) -> None:
    progress = bench.progress()
    for number in range(100):
        bench.passes(20)
        bench.log.write_text("a log is recovered\n" * (number + 1))
        assert progress.trouble() == ""
    bench.passes(31)
    assert progress.trouble() != ""


def test_one_that_only_uses_cpu_is_given_up_after_minutes(bench: Bench) -> None:
    progress = bench.progress()
    for _ in range(30):
        bench.passes(10, cpu_s=5)
        assert progress.trouble() == ""
    bench.passes(10, cpu_s=5)
    assert progress.trouble() == (
        "does not serve 310 s after its start: it uses CPU, but reads and writes nothing"
    )


def test_what_was_done_is_told(bench: Bench) -> None:
    progress = bench.progress()
    bench.passes(20, moved_bytes=1_234_000_000, cpu_s=14)
    assert progress.describe() == (
        "after 20 s it has read and written 1,234 MB and used 14 s of CPU"
    )
