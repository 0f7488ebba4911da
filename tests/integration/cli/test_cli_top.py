"""`minikafka top` as a person uses it: in a pipe, on a terminal, and while a broker dies."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.processes import ProcessCluster

pytestmark = pytest.mark.slow

DEADLINE_S = 60
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    made = ProcessCluster(tmp_path_factory.mktemp("top"))
    try:
        made.up(2, "embedded")
        made.minikafka("topics", "create", "orders", "--partitions", "2")
        yield made
    finally:
        made.down()


class Terminal:
    """`minikafka top` on a terminal of its own."""

    def __init__(self, data_dir: Path) -> None:
        self._fd, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minikafka", "top", "--interval", "0.5"],
            env=os.environ
            | {
                "MINIKAFKA_DATA_DIR": str(data_dir),
                "TERM": "xterm",
                "COLUMNS": "150",
                "LINES": "40",
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._fd)

    def press(self, key: str) -> None:
        os.write(self._fd, key.encode())

    def _read(self, timeout_s: float) -> bool:
        """More of what is drawn; False if there is no more."""
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        if not ready:
            return True
        try:
            data = os.read(self._fd, 65_536)
        except OSError:  # the other end is closed
            return False
        self.seen += _CONTROL.sub(b"", data).decode(errors="replace")
        return bool(data)

    def until(self, pattern: str) -> None:
        """Until something that matches is drawn after what was matched last."""
        deadline_s = time.monotonic() + DEADLINE_S
        while (found := re.search(pattern, self.seen)) is None:
            assert time.monotonic() < deadline_s, f"never {pattern!r}: {self.seen[-3000:]}"
            assert self._read(1.0), f"it ended before {pattern!r}: {self.seen[-3000:]}"
        self.seen = self.seen[found.end() :]

    def end(self) -> int:
        deadline_s = time.monotonic() + DEADLINE_S
        while self._read(0.1) and self.process.poll() is None:
            assert time.monotonic() < deadline_s, "it does not end"
        return self.process.wait(DEADLINE_S)


def test_one_frame_is_printed_as_text(cluster: ProcessCluster) -> None:
    lines = cluster.path / "lines"
    lines.write_bytes(b"a line\n" * 100)
    cluster.minikafka("produce", "orders", str(lines))
    cluster.minikafka("consume", "orders", "--group", "readers")
    shown = cluster.minikafka("top", "--once", "--interval", "0.5").stdout
    assert "healthy: 2 brokers" in shown.split("\n")[0]
    assert re.search(r"^A +1 +(up|controller) ", shown, re.MULTILINE)
    assert len(re.findall(r" controller ", shown)) == 2  # the first line, and one broker
    assert re.search(r"^orders +2 +- ", shown, re.MULTILINE)
    assert re.search(r"^readers +Empty +0 +0$", shown, re.MULTILINE)
    assert "\x1b" not in shown


def test_a_cluster_that_is_not_there_is_told_with_status_1(cluster: ProcessCluster) -> None:
    done = cluster.minikafka("top", "--once", "--bootstrap", "127.0.0.1:1", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no broker answers at 127.0.0.1:1" in done.stderr


def test_a_broker_that_is_killed_is_shown_as_gone_and_comes_back(cluster: ProcessCluster) -> None:
    with Terminal(cluster.path) as terminal:
        terminal.until(r"healthy: 2 brokers")
        terminal.until(r"B +2 +(up|controller) ")
        cluster.minikafka("kill", "B")
        terminal.until(r"B +2 +gone \d+s")
        terminal.until(r"broker B left the cluster")
        terminal.press("s")
        terminal.until(r"topics by bytes out")
        cluster.minikafka("restart", "B")
        terminal.until(r"B +2 +(up|controller) ")
        terminal.until(r"healthy: 2 brokers")
        terminal.press("q")
        assert terminal.end() == 0


def test_it_ends_quietly_on_an_interrupt(cluster: ProcessCluster) -> None:
    with Terminal(cluster.path) as terminal:
        terminal.until(r"healthy: 2 brokers")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
        assert "Traceback" not in terminal.seen
