"""Signals reach the process that is meant, and no other."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from minikafka.cli import processes

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


def test_a_process_is_known_by_its_pid_and_an_argument(start: Start) -> None:
    process = start("/data/broker-1.properties")
    assert processes.is_running(process.pid, "/data/broker-1.properties")
    assert not processes.is_running(process.pid, "/data/broker-2.properties")


def test_a_pid_that_went_to_somebody_else_is_not_signalled(start: Start) -> None:
    stranger = start("/somebody/else")
    assert not processes.send_signal(stranger.pid, "/data/broker-1.properties", signal.SIGKILL)
    assert processes.is_running(stranger.pid, "/somebody/else")


@pytest.mark.parametrize("pid", [None, 0, -1, 2**22 + 1])
def test_a_pid_of_nobody_is_not_running_and_not_signalled(pid: int | None) -> None:
    assert not processes.is_running(pid, "")
    assert not processes.send_signal(pid, "", signal.SIGKILL)
    assert processes.wait_ended(pid, "", 0)


def test_the_process_that_is_meant_is_signalled(start: Start) -> None:
    process = start("/data/x")
    assert processes.send_signal(process.pid, "/data/x", signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM


def test_a_process_that_ended_is_gone_before_its_parent_asked(start: Start) -> None:
    process = start("/data/x")
    assert processes.send_signal(process.pid, "/data/x", signal.SIGKILL)
    assert processes.wait_ended(process.pid, "/data/x", 30)  # a zombie now
    assert not processes.is_running(process.pid, "/data/x")
    assert not processes.send_signal(process.pid, "/data/x", signal.SIGKILL)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64") or not hasattr(os, "pidfd_open"),
    reason="ends one thread by the number of the system call, on Linux",
)
def test_a_process_is_gone_when_its_last_thread_is(start: Start) -> None:
    """Or whoever starts its successor finds its ports taken."""
    process = start("/data/x", HALF_ENDED.replace("MACHINE", platform.machine()))
    assert not processes.is_running(process.pid, "/data/x")
    assert not processes.wait_ended(process.pid, "/data/x", 0.05)
    process.kill()
    assert processes.wait_ended(process.pid, "/data/x", 30)


def test_waiting_for_a_process_that_does_not_end_is_given_up(start: Start) -> None:
    process = start("/data/x")
    assert not processes.wait_ended(process.pid, "/data/x", 0.01)


def test_without_pidfds_it_works_the_same(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.pidfd_open", raising=False)
    process = start("/data/x")
    assert not processes.wait_ended(process.pid, "/data/x", 0.01)
    assert not processes.send_signal(process.pid, "/data/y", signal.SIGKILL)
    assert processes.send_signal(process.pid, "/data/x", signal.SIGKILL)
    assert processes.wait_ended(process.pid, "/data/x", 30)
