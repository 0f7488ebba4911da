"""How a broker's process shares out its file descriptors.

The system allows a process so many (RLIMIT_NOFILE), and every connection and every open file takes
one. Whoever takes the last one stops everybody: a log cannot roll, a follower cannot be reached, a
checkpoint cannot be written. So each has a share, and none reaches into that of another:

    reserve       what a broker cannot do without: standard streams, the loop, ZooKeeper, channels
                  to other brokers, checkpoints, duties
    connections   what others open here, over all doors: at most half of the rest
    files         what the logs keep open: all that is left
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

_RESERVE = 256
_UNLIMITED = 1 << 20  # no process of ours has a use for more


@dataclass(frozen=True, slots=True)
class DescriptorBudget:
    """`total` is the limit of the process, the sum of the others."""

    total: int
    reserve: int
    connections: int
    files: int


def raise_descriptor_limit() -> None:
    """Take as many as the system allows this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_budget(total: int | None = None) -> DescriptorBudget:
    """The shares of `total`, by default of the limit of this process as it is now."""
    if total is None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        total = _UNLIMITED if soft == resource.RLIM_INFINITY else min(soft, _UNLIMITED)
    reserve = min(_RESERVE, total // 3)
    connections = (total - reserve) // 2
    return DescriptorBudget(total, reserve, connections, total - reserve - connections)
