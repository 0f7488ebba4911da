"""Whether a broker that starts gets on, so that nobody gives up while it recovers its logs.

How long that takes depends on the data: a fixed time is too short for somebody. So what is limited
is the time in which nothing is seen to happen: no line in its log, no bytes read or written in
files, no CPU used. CPU alone is believed for some minutes only: a loop that never ends uses it.

State: what was done when progress was last seen, and when that was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from minikafka.processes import Work, work_of

# More than a broker does while it only waits: 1 % of a core, and a few bytes to wake its threads.
_BYTES = 64 * 1024
_CPU_S = 1.0
_CPU_ALONE_S = 300.0
_NOTHING = Work(0, 0.0)


class Progress:
    """Of the process `pid`, whose log is `log`. It may stand still for `patience_s`."""

    def __init__(
        self,
        pid: int,
        log: Path,
        patience_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        work: Callable[[int], Work | None] = work_of,
    ) -> None:
        self._pid, self._log, self._patience_s = pid, log, patience_s
        self._clock, self._work_of = clock, work
        self._begun_s = self._seen_s = self._moved_s = clock()
        self._seen, self._moved_bytes = _NOTHING, 0
        self._log_bytes = self._log_size()

    def trouble(self) -> str:
        """Look again. Why it is to be given up; empty as long as it gets on."""
        now_s = self._clock()
        work = self._work_of(self._pid) or self._seen
        log_bytes = self._log_size()
        moved = work.moved_bytes - self._moved_bytes >= _BYTES or log_bytes != self._log_bytes
        if moved:
            self._moved_s, self._moved_bytes, self._log_bytes = now_s, work.moved_bytes, log_bytes
        if moved or work.cpu_s - self._seen.cpu_s >= _CPU_S:
            self._seen_s, self._seen = now_s, work
        after = f"{now_s - self._begun_s:.0f} s after its start"
        if now_s - self._seen_s > self._patience_s:
            return f"does not serve {after}, and has done nothing for {self._patience_s:g} s"
        alone_s = max(_CPU_ALONE_S, self._patience_s)
        if now_s - self._moved_s > alone_s:
            return f"does not serve {after}: it uses CPU, but reads and writes nothing"
        return ""

    def describe(self) -> str:
        """`after 20 s it has read and written 1,234 MB and used 14 s of CPU`"""
        passed_s = self._clock() - self._begun_s
        work = self._work_of(self._pid) or self._seen
        return (
            f"after {passed_s:.0f} s it has read and written {work.moved_bytes / 1e6:,.0f} MB "
            f"and used {work.cpu_s:.0f} s of CPU"
        )

    def _log_size(self) -> int:
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0
