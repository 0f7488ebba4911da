"""A minute of torment on each kind of ZooKeeper. `make torment MINUTES=…` goes on for longer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.zookeeper import require

ROOT = Path(__file__).parents[3]
_MINUTES = 0.75  # besides what starting, healing and reading back take


@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("zookeeper", ["embedded", "local:3"])
def test_nothing_is_lost_repeated_or_reordered_under_torment(
    zookeeper: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require(zookeeper)
    command = [
        *(sys.executable, "-m", "tests.integration.torment.run"),
        *("--minutes", str(_MINUTES), "--zookeeper", zookeeper),
    ]
    # It ends all its processes by itself, however it ends: so it is asked, not killed.
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
        said, _ = running.communicate(timeout=240)
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait(30)
    with capsys.disabled():
        print(f"\n{said.splitlines()[0]}")
    assert running.returncode == 0, said
