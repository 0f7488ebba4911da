"""Which connections the Kafka door has, and which it lets in.

A connection beyond max.connections.per.ip is closed at once, as in Kafka. Where there are
max.connections, Kafka lets newcomers wait until somebody leaves, so that whoever holds idle
connections keeps everybody out; here the one goes that has been idle for the longest, if for
YIELDS_AFTER_S, and otherwise the newcomer. A client whose idle connection is closed opens another
when it needs one, as it does after connections.max.idle.ms.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

UNLIMITED = 2**31 - 1
YIELDS_AFTER_S = 1.0
_LOOKED_AT = 1_000  # to find one that is idle, of all that there are the oldest
_QUIET_S = 10.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`overrides` are instead of `per_host`, by address."""

    total: int = UNLIMITED
    per_host: int = UNLIMITED
    overrides: Mapping[str, int] = field(default_factory=dict)

    def of_host(self, host: str) -> int:
        return self.overrides.get(host, self.per_host)


class Admitted(Protocol):
    """A connection. `host` as it is in `overrides`; `idle`: nothing is under way on it."""

    @property
    def host(self) -> str: ...
    @property
    def idle(self) -> bool: ...

    last_active_s: float

    def close(self, reason: str = "") -> None: ...


A = TypeVar("A", bound=Admitted)


class Admission(Generic[A]):
    """The open connections in the order in which they came. `now` in seconds."""

    def __init__(self, limits: ConnectionLimits, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._open: dict[A, None] = {}
        self._per_host: Counter[str] = Counter()
        self._refused = 0
        self._told_s = -_QUIET_S

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[A]:
        return iter(list(self._open))

    def admit(self, connection: A) -> bool:
        """Whether a connection that has just been made may stay."""
        host = connection.host
        if self._per_host[host] >= self._limits.of_host(host):
            self._tell(f"{host} has as many connections as it may (max.connections.per.ip)")
            return False
        if len(self._open) >= self._limits.total and not self._make_room():
            self._tell(f"there are {len(self._open)} connections, as many as there may be")
            return False
        self._open[connection] = None
        self._per_host[host] += 1
        return True

    def replace(self, before: A, after: A) -> None:
        """One that was admitted goes on as another object."""
        del self._open[before]
        self._open[after] = None

    def leave(self, connection: A) -> None:
        """It was closed. Nothing for one that was not admitted."""
        if connection not in self._open:
            return
        del self._open[connection]
        self._per_host[connection.host] -= 1
        if not self._per_host[connection.host]:
            del self._per_host[connection.host]

    def _make_room(self) -> bool:
        idle = (each for each in islice(self._open, _LOOKED_AT) if each.idle)
        longest = min(idle, key=lambda each: each.last_active_s, default=None)
        if longest is None or self._now() - longest.last_active_s < YIELDS_AFTER_S:
            return False
        self.leave(longest)
        longest.close()
        self._tell(f"there are {self._limits.total} connections: idle ones yield to new ones")
        return True

    def _tell(self, reason: str) -> None:
        """One line for all that happens in a while: a flood of connections is none of lines."""
        self._refused += 1
        now_s = self._now()
        if now_s - self._told_s >= _QUIET_S:
            log.warning("closed %d connections of Kafka's clients: %s", self._refused, reason)
            self._refused, self._told_s = 0, now_s
