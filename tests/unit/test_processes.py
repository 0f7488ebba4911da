"""Signals reach the process that is meant, and no other."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minikafka import processes
from minikafka.processes import Process

Start = Callable[..., subprocess.Popen[bytes]]

PAUSING = "import signal; print(1, flush=True); signal.pause()"
# The first thread ends, as in a process that is being killed; another one holds all that is open.
HALF_ENDED = """
import ctypes, threading
EXIT = {"x86_64": 60, "aarch64": 93}["MACHINE"]
first, never = threading.get_native_id(), threading.Event()
def hold():
    while open(f"/proc/self/task/{first}/stat").read().rpartition(")")[2].split()[0] != "Z":
        never.wait(0.01)
    print(1, flush=True)
    never.wait()
threading.Thread(target=hold).start()
ctypes.CDLL(None).syscall(EXIT, 0)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start_one(mark: str, program: str = PAUSING) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, "--config", mark], stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        return process

    yield start_one
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def of(process: subprocess.Popen[bytes], mark: str) -> Process:
    """As an older version recorded it."""
    return Process(process.pid, None, mark)


def test_a_process_is_known_by_its_pid_and_when_it_began(start: Start) -> None:
    process = start("/data/x")
    began = processes.start_of(process.pid)
    assert began is not None
    known = Process(process.pid, began)
    assert processes.is_running(known)
    assert processes.condition(known) == "running"
    another = Process(process.pid, processes.start_of(os.getpid()))
    assert not processes.is_running(another)
    assert not processes.send_signal(another, signal.SIGKILL)
    assert processes.wait_ended(another, 0)
    assert processes.send_signal(known, signal.SIGKILL)
    assert processes.wait_ended(known, 30)
    assert processes.start_of(process.pid) is None  # a zombie


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
def test_a_process_is_known_while_its_command_line_is_still_empty(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is for a moment after each start."""
    process = start("/data/x")
    known = Process.of(process.pid)
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: b"" if path.name == "cmdline" else read(path)
    )
    assert processes.command_line(process.pid) == [""]
    assert not processes.is_running(of(process, "/data/x"))
    assert processes.is_running(known)
    assert not processes.wait_ended(known, 0.01)


def test_a_process_that_has_ended_already_is_never_another_one(start: Start) -> None:
    process = start("/data/x")
    process.kill()
    process.wait()
    assert not processes.is_running(Process.of(process.pid))


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="reads /proc")
def test_what_a_process_has_done_is_counted(start: Start, tmp_path: Path) -> None:
    process = start(
        "/data/x", f"open({str(tmp_path / 'f')!r}, 'wb').write(bytes(10**6)); {PAUSING}"
    )
    work = processes.work_of(process.pid)
    assert work is not None
    assert 10**6 <= work.moved_bytes < 10**8
    assert 0 <= work.cpu_s < 60
    assert processes.work_of(2**22 + 1) is None


def test_a_process_of_an_older_file_is_known_by_its_pid_and_an_argument(start: Start) -> None:
    process = start("/data/broker-1.properties")
    assert processes.is_running(of(process, "/data/broker-1.properties"))
    assert not processes.is_running(of(process, "/data/broker-2.properties"))


def test_a_pid_that_went_to_somebody_else_is_not_signalled(start: Start) -> None:
    stranger = start("/somebody/else")
    assert not processes.send_signal(of(stranger, "/data/broker-1.properties"), signal.SIGKILL)
    assert processes.is_running(of(stranger, "/somebody/else"))


@pytest.mark.parametrize("pid", [None, 0, -1, 2**22 + 1])
def test_a_pid_of_nobody_is_not_running_and_not_signalled(pid: int | None) -> None:
    for nobody in (Process(pid), Process(pid, "1@boot")):
        assert not processes.is_running(nobody)
        assert not processes.send_signal(nobody, signal.SIGKILL)
        assert processes.wait_ended(nobody, 0)
        assert processes.condition(nobody) == "ended"


def test_the_process_that_is_meant_is_signalled(start: Start) -> None:
    process = start("/data/x")
    assert processes.send_signal(Process.of(process.pid), signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM


def test_a_process_that_ended_is_gone_before_its_parent_asked(start: Start) -> None:
    process = start("/data/x")
    assert processes.send_signal(of(process, "/data/x"), signal.SIGKILL)
    assert processes.wait_ended(of(process, "/data/x"), 30)  # a zombie now
    assert not processes.is_running(of(process, "/data/x"))
    assert not processes.send_signal(of(process, "/data/x"), signal.SIGKILL)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64") or not hasattr(os, "pidfd_open"),
    reason="ends one thread by the number of the system call, on Linux",
)
def test_a_process_is_gone_when_its_last_thread_is(start: Start) -> None:
    """Or whoever starts its successor finds its ports taken."""
    process = start("/data/x", HALF_ENDED.replace("MACHINE", platform.machine()))
    assert not processes.is_running(of(process, "/data/x"))
    assert not processes.wait_ended(of(process, "/data/x"), 0.05)
    process.kill()
    assert processes.wait_ended(of(process, "/data/x"), 30)


def test_waiting_for_a_process_that_does_not_end_is_given_up(start: Start) -> None:
    process = start("/data/x")
    assert not processes.wait_ended(of(process, "/data/x"), 0.01)


def test_without_pidfds_it_works_the_same(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.pidfd_open", raising=False)
    process = start("/data/x")
    assert not processes.wait_ended(of(process, "/data/x"), 0.01)
    assert not processes.send_signal(of(process, "/data/y"), signal.SIGKILL)
    assert processes.send_signal(of(process, "/data/x"), signal.SIGKILL)
    assert processes.wait_ended(of(process, "/data/x"), 30)
