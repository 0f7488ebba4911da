"""Child processes: started with a log file, signalled, and ended for certain.

State: the process of this moment, if there is one. Every process is ended by its own handle, never
by name.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.helpers.waiting import until

_END_WAIT_S = 20.0


class Child:
    """One program that may be started again and again; its output is appended to `log`."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.paused = False
        self.ended_by_us = True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status of the last process; None while it runs, or if there was none."""
        return None if self._process is None else self._process.poll()

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        assert not self.is_running, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # a Ctrl-C is ours alone
            )
        self.paused = False
        self.ended_by_us = False
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self.ended_by_us |= number in (signal.SIGKILL, signal.SIGTERM)
            self._process.send_signal(number)

    def pause(self) -> None:
        self.send(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        self.send(signal.SIGCONT)
        self.paused = False

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.until_ended()

    async def terminate(self, deadline_s: float = _END_WAIT_S) -> None:
        """SIGTERM; AssertionError if it does not end in time."""
        self.send(signal.SIGTERM)
        await self.until_ended(deadline_s)

    async def until_ended(self, deadline_s: float = _END_WAIT_S) -> None:
        await until(lambda: not self.is_running, deadline_s)

    def kill_now(self) -> None:
        """For the very end, without a loop."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def tail(self, lines: int = 15) -> str:
        if not self.log.exists():
            return "(it said nothing)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
