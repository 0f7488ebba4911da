"""The produce requests with acks=all that wait at a leader until what they appended is committed.

State: the tokens of those that wait, and all of them in order; the runtime gives up on those that
time out, which stay in the order until their turn. Invariant: they are in the order of the offsets
that they wait for. Who is answered with what is the leader's to say (leader.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class ParkedProduces:
    """Those of one leader."""

    __slots__ = ("_order", "_waiting")

    def __init__(self) -> None:
        self._order: deque[tuple[int, object]] = deque()  # (required offset, token)
        self._waiting: set[object] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self) -> list[tuple[object, int]]:
        """(token, required offset) of all that wait, in order."""
        return [(token, required) for required, token in self._order if token in self._waiting]

    def park(self, token: object, required_offset: int) -> None:
        order = self._order
        while order and order[0][1] not in self._waiting:  # timed out: keep no trace of them
            order.popleft()
        self._waiting.add(token)
        order.append((required_offset, token))
        if len(order) > 1 and order[-2][0] > required_offset:
            # Only the repetition of an earlier batch waits for less than one before it.
            self._order = deque(sorted(order, key=lambda waiting: waiting[0]))

    def give_up(self, token: object) -> None:
        """Nobody waits for this one any more, if anybody did."""
        self._waiting.discard(token)

    def settle_up_to(self, high_watermark: int) -> Iterator[object]:
        """Take out those that have what they wait for; gives the tokens of those that wait."""
        order = self._order
        while order and order[0][0] <= high_watermark:
            _, token = order.popleft()
            if token in self._waiting:
                self._waiting.remove(token)
                yield token

    def settle_all(self) -> list[object]:
        """Take all out; returns the tokens of those that wait."""
        tokens = [token for token, _ in self.waiting()]
        self._order.clear()
        self._waiting.clear()
        return tokens

    def check(self, high_watermark: int) -> None:
        """Assert the invariant, and that nobody waits for what is committed."""
        offsets = [required for required, _ in self._order]
        assert offsets == sorted(offsets), offsets
        assert not offsets or offsets[0] > high_watermark, (offsets, high_watermark)
