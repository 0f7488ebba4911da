"""Java processes of a peer: how a broker is run, watched as it starts, and ended.

Every process is ended by its own pid, also if something fails; where `setpriv` is there, the kernel
ends them if this process is killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kafka.system import HEAP_MB, FailedError, Member

HOST = "127.0.0.1"
# Below those that the system gives to outgoing connections, or a dead broker might lose its port.
FIRST_PORT = 20_000 + os.getpid() % 10_000
# As Kafka's own start script has them, and the heap.
BROKER_FLAGS = (
    f"-Xms{HEAP_MB}m",
    f"-Xmx{HEAP_MB}m",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
)
_STOP_TIMEOUT_S = 20.0
_TAIL_LINES = 15


@dataclass
class Broker:
    member: Member
    properties: Path
    process: subprocess.Popen[bytes] | None = None


def write_properties(path: Path, settings: Mapping[str, str]) -> Path:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path


def spawn(command: list[str], log_path: Path) -> subprocess.Popen[bytes]:
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def runs(process: subprocess.Popen[bytes] | None) -> bool:
    return process is not None and process.poll() is None


def check_alive(
    processes: Iterable[tuple[str, subprocess.Popen[bytes] | None]], logs: Path
) -> None:
    """FailedError, with the end of its log, if one of these ended by itself."""
    for name, process in processes:
        # One that was killed on purpose ended by a signal.
        if process is not None and (process.poll() or 0) > 0:
            lines = (logs / f"{name}.log").read_text(errors="replace").splitlines()
            tail = "\n".join(lines[-_TAIL_LINES:])
            raise FailedError(f"{name} of Apache Kafka ended as it was started:\n{tail}")


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)  # one that is paused hears SIGTERM only then
    for process in processes:
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
