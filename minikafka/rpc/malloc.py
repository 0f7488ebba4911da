"""How the C library keeps memory, which is where gRPC's messages lie: in use, kept, given back.

While there is load, freed memory is kept: glibc by itself gives each large buffer back to the
kernel, which makes every message of 128 KiB or more fault its pages in anew (gRPC then runs at a
fifth of its speed). Once the load is over, what was kept is of use to others: `GiveBack`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from typing import Any

# Parameters of mallopt(3), with the variables by which a user sets them.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_SETTINGS = (
    (_M_MMAP_THRESHOLD, "MALLOC_MMAP_THRESHOLD_", 32 * 1024 * 1024),  # glibc's maximum
    (_M_TRIM_THRESHOLD, "MALLOC_TRIM_THRESHOLD_", 64 * 1024 * 1024),
    (_M_TOP_PAD, "MALLOC_TOP_PAD_", 1024 * 1024),
    # One for the loop, one for gRPC's threads. By default each thread that finds the others' busy
    # gets its own, and each keeps what it once needed: 10 MB a broker after load.
    (_M_ARENA_MAX, "MALLOC_ARENA_MAX", 2),
)

LOOK_INTERVAL_S = 5.0
QUIET_BYTES = 1024 * 1024
WORTH_BYTES = 32 * 1024 * 1024


def tune_malloc() -> bool:
    """Have glibc keep what is freed, in few places. For the start of a process, before there are
    threads. Settings from the environment stay. Returns whether there was glibc to tune."""
    libc = _glibc()
    if libc is None:
        return False
    mallopt = libc.mallopt
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return all(
        mallopt(parameter, value) == 1
        for parameter, variable, value in _SETTINGS
        if variable not in os.environ
    )


def trim_malloc() -> bool:
    """Give free pages back to the kernel: milliseconds, during which others wait for memory.
    Returns whether there was glibc to do so."""
    libc = _glibc()
    if libc is None:
        return False
    libc.malloc_trim.argtypes, libc.malloc_trim.restype = [ctypes.c_size_t], ctypes.c_int
    libc.malloc_trim(0)
    return True


def _glibc() -> Any | None:
    """None for other C libraries, which take other parameters."""
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no CDLL(None)
        return None
    return libc


class GiveBack:
    """Trims once after each load: when at least WORTH_BYTES of records have been moved since the
    last time, and fewer than QUIET_BYTES since the last look.

    `moved_bytes()` is how many bytes of records went in and out since the start.
    """

    def __init__(
        self, moved_bytes: Callable[[], int], trim: Callable[[], object] = trim_malloc
    ) -> None:
        self._moved_bytes = moved_bytes
        self._trim = trim
        self._at_last_look = self._at_last_trim = 0

    async def run(self) -> None:
        """For ever. The trimming happens in a thread."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            if self.is_due():
                await asyncio.to_thread(self._trim)

    def is_due(self) -> bool:
        """One look; if it says so, the caller trims."""
        moved_bytes = self._moved_bytes()
        is_quiet = moved_bytes - self._at_last_look < QUIET_BYTES
        self._at_last_look = moved_bytes
        if not is_quiet or moved_bytes - self._at_last_trim < WORTH_BYTES:
            return False
        self._at_last_trim = moved_bytes
        return True
