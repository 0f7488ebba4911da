"""Growing waits between attempts, with jitter.

State: how many attempts failed in a row. The n-th wait is `initial_ms * 2**n`, at most `max_ms`,
times a random factor of 0.8 to 1.2, so that many clients do not come back in step.
"""

from __future__ import annotations

import random
from collections.abc import Callable

Random = Callable[[], float]  # uniform in [0, 1)

INITIAL_MS = 20
MAX_MS = 1000


class Backoff:
    __slots__ = ("_failures", "_initial_ms", "_max_ms", "_random")

    def __init__(
        self,
        uniform: Random = random.random,
        initial_ms: float = INITIAL_MS,
        max_ms: float = MAX_MS,
    ) -> None:
        self._random = uniform
        self._initial_ms = initial_ms
        self._max_ms = max_ms
        self._failures = 0

    def next_s(self) -> float:
        """The next wait, in seconds."""
        wait_ms = min(self._initial_ms * 2.0 ** min(self._failures, 30), self._max_ms)
        self._failures += 1
        return wait_ms * (0.8 + 0.4 * self._random()) / 1000

    def reset(self) -> None:
        self._failures = 0
