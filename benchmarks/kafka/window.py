"""The stretch of a load that counts."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.kafka import procfs
from benchmarks.kafka.conditions import Watch
from benchmarks.kafka.system import FailedError


class Window:
    """Begins `warm_up_s` after the start and lasts `seconds`. `pids` are the brokers, `beside` what
    belongs to the system and is no broker."""

    def __init__(
        self, warm_up_s: float, seconds: float, pids: Sequence[int], beside: Sequence[int]
    ) -> None:
        self._pids, self._beside = pids, beside
        self._watch: Watch | None = None
        self._begin = time.monotonic() + warm_up_s
        self._end = self._begin + seconds
        self._first: tuple[float, int, float, float] | None = None

    def is_over(self, records: int) -> bool:
        """To be asked all the time, with how many records are done by now."""
        now = time.monotonic()
        if self._first is None and now >= self._begin:
            self._first = (now, records, procfs.cpu_s(self._pids), own_cpu_s())
            self._watch = Watch(self._pids, [os.getpid(), *self._beside])
        return now >= self._end

    def figures(self, records: int, size: int) -> dict[str, Any]:
        if self._first is None or self._watch is None:
            raise FailedError("the load ended before the warm-up was over: make it longer")
        begin, before, cpu_before_s, own_before_s = self._first
        seconds, count = time.monotonic() - begin, records - before
        if count == 0:
            raise FailedError("no record came through in the time that counts")
        gigabytes = count * size / 1e9
        return {
            "records": count,
            "seconds": seconds,
            "records_per_s": count / seconds,
            "mb_per_s": count * size / seconds / 1e6,
            "brokers_cpu_s_per_gb": (procfs.cpu_s(self._pids) - cpu_before_s) / gigabytes,
            "client_cpu_s_per_gb": (own_cpu_s() - own_before_s) / gigabytes,
            "conditions": self._watch.end().document(),
        }


def own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
