"""What this process uses of the machine, read from Linux when it is asked."""

from __future__ import annotations

import os
import resource
import time

from minikafka.api.metrics import ProcessUsage

_PAGE_BYTES = resource.getpagesize()


def read_process() -> ProcessUsage:
    """CPU time of all threads, resident memory, open files."""
    with open("/proc/self/statm", "rb") as file:
        resident_pages = int(file.read().split()[1])
    return ProcessUsage(
        time.process_time_ns() // 1_000_000,
        resident_pages * _PAGE_BYTES,
        len(os.listdir("/proc/self/fd")),
    )
