"""How fast replicas that are not in sync are copied: a token bucket of bytes, one a side of a
broker.

Only a replica that is outside the ISR is ever held back, so nothing that is acknowledged waits for
a throttle (Kafka, KIP-73). One answer may take more than there is, whatever its size, so a replica
always gets on; what was taken too much is waited for afterwards, and the rate holds on average.

State: the bytes that may go now, below zero after an answer that took more; at most those of one
second. Pure: the time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.config import UNTHROTTLED

_MS_PER_S = 1_000


@dataclass(slots=True)
class ReplicationThrottle:
    """`bytes_per_s` is UNTHROTTLED without a limit."""

    bytes_per_s: int = UNTHROTTLED
    _available_bytes: float = 0.0
    _filled_ms: int = 0

    def set_rate(self, bytes_per_s: int, now_ms: int) -> None:
        """From now on; what was taken too much at the rate before is still to be waited for."""
        if bytes_per_s == self.bytes_per_s:
            return
        self._fill(now_ms)
        if self.bytes_per_s == UNTHROTTLED:
            self._available_bytes = bytes_per_s
        self.bytes_per_s = bytes_per_s
        self._filled_ms = now_ms

    def on_bytes(self, size_bytes: int, now_ms: int) -> None:
        """So much was copied of replicas that are throttled."""
        if self.bytes_per_s != UNTHROTTLED:
            self._fill(now_ms)
            self._available_bytes -= size_bytes

    def wait_ms(self, now_ms: int) -> int:
        """How long replicas that are throttled have to wait; 0 if they may go on."""
        if self.bytes_per_s == UNTHROTTLED:
            return 0
        self._fill(now_ms)
        if self._available_bytes > 0:
            return 0
        return int(-self._available_bytes * _MS_PER_S / self.bytes_per_s) + 1

    def _fill(self, now_ms: int) -> None:
        gained = self.bytes_per_s * max(0, now_ms - self._filled_ms) / _MS_PER_S
        self._available_bytes = min(float(self.bytes_per_s), self._available_bytes + gained)
        self._filled_ms = now_ms
