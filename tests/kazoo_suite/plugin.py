"""A pytest plugin that runs kazoo's own test suite against the embedded server.

kazoo's harness asks one function, `get_global_cluster`, for the ZooKeeper servers of the tests.
This plugin replaces it by a cluster of one embedded server, which is a real process: the suite
stops it, starts it again on the same port and data, and wipes it. Several pytest processes side
by side have a server each.

It runs inside the suite's own environment, so it imports nothing of minikafka. `run.py` sets the
two variables that it needs.
"""

from __future__ import annotations

import atexit
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.testing import harness

# The interpreter and the checkout that the server is started from.
SERVER_PYTHON = "MINIKAFKA_SUITE_SERVER_PYTHON"
SERVER_ROOT = "MINIKAFKA_SUITE_SERVER_ROOT"

_START_DEADLINE_S = 20.0
_STOP_DEADLINE_S = 20.0


class EmbeddedServer:
    """What the suite expects of one of its managed ZooKeeper servers."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.client_port = _free_port()
        self._work_dir = Path(tempfile.mkdtemp(prefix="kazoo-suite-"))
        self._process: subprocess.Popen[str] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.client_port}"

    secure_address = address  # there is none; the tests that need it are deselected

    def run(self) -> None:
        """Start the server on its port and data, and wait until it serves."""
        if self.running:
            return
        self._work_dir.mkdir(exist_ok=True)
        command = [os.environ[SERVER_PYTHON], "-m", "minikafka.zookeeper.embedded"]
        command += ["--data-dir", str(self._work_dir / "data")]
        command += ["--host", self.host, "--port", str(self.client_port)]
        command += ["--max-session-timeout-ms", "60000"]
        with open(self._work_dir / "log", "a") as log:
            self._process = subprocess.Popen(
                command,
                cwd=os.environ[SERVER_ROOT],
                env=_server_environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_DEADLINE_S)
        if not ready or "serving on" not in self._process.stdout.readline():
            self._process.kill()
            self._process.wait()
            self._process = None
            raise RuntimeError("the server did not start:\n" + "".join(self.get_logs()))

    def stop(self) -> None:
        """Stop the server and keep its data."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
        if status != 0:
            raise RuntimeError(f"the server ended with {status}:\n" + "".join(self.get_logs()))

    def reset(self) -> None:
        """Stop the server and lose its data."""
        self.stop()
        shutil.rmtree(self._work_dir / "data", ignore_errors=True)

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self._work_dir, ignore_errors=True)

    def get_logs(self, num_lines: int = 100) -> list[str]:
        log = self._work_dir / "log"
        return log.read_text().splitlines(keepends=True)[-num_lines:] if log.exists() else []


class EmbeddedCluster:
    """What the suite expects of its cluster, with one server in it."""

    def __init__(self) -> None:
        self._servers = [EmbeddedServer()]

    def __getitem__(self, index: int) -> EmbeddedServer:
        return self._servers[index]

    def __iter__(self) -> Iterator[EmbeddedServer]:
        return iter(self._servers)

    def start(self) -> None:
        for server in self:
            server.run()

    def stop(self) -> None:
        for server in self:
            server.stop()

    def terminate(self) -> None:
        for server in self:
            server.destroy()

    def reset(self) -> None:
        for server in self:
            server.reset()

    def get_logs(self) -> list[str]:
        return [line for server in self for line in server.get_logs()]


def pytest_configure(config: pytest.Config) -> None:
    cluster = EmbeddedCluster()
    atexit.register(cluster.terminate)
    harness.get_global_cluster = lambda: cluster


@pytest.fixture(autouse=True)
def nobody_on_the_default_port(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One test takes it that a connection to port 2181 fails; another ZooKeeper may be there."""
    if request.node.name != "test_slow_connect":
        return

    def refuse(*_arguments: object, **_named: object) -> socket.socket:
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _server_environment() -> dict[str, str]:
    """Without the suite's path: the server must not see kazoo's sources."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
