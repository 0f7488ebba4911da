"""CPU time, waiting for it, and memory of processes, from /proc. What reads is apart from what
parses, so that the latter can be tested."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STOLEN = 7  # the column of /proc/stat


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of these processes together, in steps of 10 ms."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def own_s() -> float:
    """Of this process and of its children that have ended and were waited for."""
    return sum(os.times()[:4])


# --- the machine ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """Core-seconds since the start. `stolen_s` is what a hypervisor gave to other machines; it is
    not in `busy_s`."""

    busy_s: float
    stolen_s: float


def machine() -> Machine:
    return parse_machine(Path("/proc/stat").read_text(), _TICKS_PER_S)


def parse_machine(stat: str, ticks_per_s: int) -> Machine:
    """Of the first line of /proc/stat: user nice system idle iowait irq softirq steal …"""
    fields = [int(field) for field in stat.split("\n", 1)[0].split()[1:]]
    idle, waiting_for_disk, stolen = fields[3], fields[4], fields[_STOLEN]
    busy = sum(fields[:_STOLEN]) - idle - waiting_for_disk
    return Machine(busy / ticks_per_s, stolen / ticks_per_s)


# --- threads on the cores -------------------------------------------------------------------------


@dataclass(frozen=True)
class Scheduled:
    """How long threads ran, and how long they were runnable and had no core."""

    ran_s: float
    waited_s: float


def schedule(pids: Iterable[int]) -> dict[int, Scheduled]:
    """By thread. /proc/PID/schedstat would be the first thread's alone."""
    found = {}
    for pid in pids:
        for folder in Path(f"/proc/{pid}/task").iterdir():
            try:
                found[int(folder.name)] = parse_schedstat((folder / "schedstat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # this thread has ended
    return found


def parse_schedstat(text: str) -> Scheduled:
    """Nanoseconds on a core, nanoseconds on a run queue, number of turns."""
    ran_ns, waited_ns, _ = text.split()
    return Scheduled(int(ran_ns) / 1e9, int(waited_ns) / 1e9)


def between(before: Mapping[int, Scheduled], after: Mapping[int, Scheduled]) -> Scheduled:
    """Of all threads together; those that are new count whole, those that ended do not count."""
    nothing = Scheduled(0.0, 0.0)
    pairs = [(before.get(thread, nothing), now) for thread, now in after.items()]
    return Scheduled(
        sum(now.ran_s - then.ran_s for then, now in pairs),
        sum(now.waited_s - then.waited_s for then, now in pairs),
    )


# --- memory ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """MB of a process. In `rss_mb` a page that several processes share counts whole, in `pss_mb` it
    is divided among them; `private_mb` is what would be free without this process."""

    rss_mb: float
    pss_mb: float
    private_mb: float
    shared_mb: float


def memory(pid: int) -> Memory:
    return parse_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text())


def parse_rollup(text: str) -> Memory:
    """Of lines like `Pss:    1234 kB`, after one that names the whole range."""
    sizes: dict[str, float] = {}
    for line in text.splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) * 1024 / 1e6
    return Memory(
        sizes["Rss"],
        sizes["Pss"],
        sizes["Private_Clean"] + sizes["Private_Dirty"],
        sizes["Shared_Clean"] + sizes["Shared_Dirty"],
    )


def rss_mb(pid: int) -> float:
    """What lies in memory now."""
    return _status_mb(pid, "VmRSS")


def peak_rss_mb(pid: int) -> float:
    """The most that ever lay in memory."""
    return _status_mb(pid, "VmHWM")


def _status_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"/proc/{pid}/status has no {name}")
