"""The tests of the tests' own leash: nothing that they started outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minikafka import processes
from minikafka.processes import Process

ROOT = Path(__file__).parents[2]
# A run that has started a child, which has started another; both pids are printed.
PROGRAM = """
import signal, subprocess, sys
from tests.helpers import leash
leash.hold_children()
try:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    print(child.pid, flush=True)
    signal.pause()
except KeyboardInterrupt:
    print("cleans up", flush=True)
    child.kill()
    child.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_process_behind(number: signal.Signals) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert run.stdout is not None
    try:
        child = Process.of(int(run.stdout.readline()))
        assert processes.is_running(child)
        run.send_signal(number)
        assert processes.wait_ended(child, 30)
        assert run.wait(30) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        assert run.stdout.read() == (b"" if number == signal.SIGKILL else b"cleans up\n")
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
