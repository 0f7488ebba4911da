"""Some seconds of lies to real brokers. `make fuzz SECONDS=…` goes on for longer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_lie_breaks_a_broker_or_disturbs_an_honest_client(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--seconds", "8", "--seed", "1"]
    # It ends its brokers by itself, however it ends: so it is asked, not killed.
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = running.communicate(timeout=200)
    finally:
        running.terminate()
        running.wait(30)
    assert running.returncode == 0, said
