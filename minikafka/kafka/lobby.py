"""Those who have no name yet, all together: how many there may be, and what becomes of who fails.

State: the connections without a name (`_waiting`), which are counted by address; how many of those
that failed wait to be closed; when the log has told last of a failure, by address.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from time import monotonic

from minikafka.escaping import escaped
from minikafka.kafka.acceptor import ServedListener
from minikafka.kafka.authenticating import (
    MAX_DELAYED,
    Authenticating,
    ByCertificate,
    LobbyService,
    Unproved,
)
from minikafka.security.sasl import Exchange

log = logging.getLogger(__name__)

MAX_WAITING = 1_000
MAX_WAITING_PER_HOST = 250
_QUIET_S = 1.0
_HOSTS_REMEMBERED = 1_000
_SHOWN = 256


class Lobby:
    """`failure_delay_s`: for how long who failed is kept waiting before the connection is closed.
    `failures` are counted, for metrics."""

    def __init__(self, failure_delay_s: float, now: Callable[[], float] = monotonic) -> None:
        self._failure_delay_s = failure_delay_s
        self._now = now
        self._waiting: dict[Unproved, bool] = {}  # whether it has failed
        self._per_host: Counter[str] = Counter()
        self._delayed = 0
        self._told: dict[str, tuple[float, int]] = {}  # when, and how many failures since
        self.failures = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(
        self, service: LobbyService, listener: ServedListener, host: str, number: int
    ) -> Unproved | None:
        """A connection that is to get a name; None if too many have none."""
        if len(self._waiting) >= MAX_WAITING or self._per_host[host] >= MAX_WAITING_PER_HOST:
            self._tell(host, "too many connections without a name")
            return None
        newcomer: Unproved
        if listener.mechanisms is not None:
            exchange = Exchange(listener.mechanisms, listener.max_reauth_ms)
            newcomer = Authenticating(service, listener, host, number, exchange)
        else:
            newcomer = ByCertificate(service, listener, host, number)
        self._waiting[newcomer] = False
        self._per_host[host] += 1
        return newcomer

    def leave(self, newcomer: Unproved) -> None:
        """It has a name, or has ended. Nothing for one that has left."""
        if newcomer not in self._waiting:
            return
        self._delayed -= self._waiting.pop(newcomer)
        self._per_host[newcomer.host] -= 1
        if not self._per_host[newcomer.host]:
            del self._per_host[newcomer.host]

    def on_failed(self, newcomer: Unproved, reason: str) -> float:
        """After how many seconds it is to be closed."""
        self.failures += 1
        self._tell(newcomer.host, f"{newcomer.listener.name}: {reason}")
        if self._delayed >= MAX_DELAYED or self._waiting.get(newcomer, True):
            return 0.0
        self._waiting[newcomer] = True
        self._delayed += 1
        return self._failure_delay_s

    def _tell(self, host: str, reason: str) -> None:
        """One line a second and address: who guesses does not fill the log."""
        now_s = self._now()
        last_s, untold = self._told.get(host, (-_QUIET_S, 0))
        if now_s - last_s < _QUIET_S:
            self._told[host] = (last_s, untold + 1)
            return
        if len(self._told) >= _HOSTS_REMEMBERED:
            self._told.clear()
        self._told[host] = (now_s, 0)
        more = f" (and {untold} more since)" if untold else ""
        log.warning("no authentication of %s: %s%s", host, escaped(reason)[:_SHOWN], more)
