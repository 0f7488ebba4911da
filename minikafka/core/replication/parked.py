"""The produce requests with acks=all that wait at a leader until what they appended is committed.

State: the tokens of those that wait, with what they wait for. Invariant: they are in the order of
these offsets. The runtime gives up on those that time out, and nothing is kept of them. Who is
answered with what is the leader's to say (leader.py).

It is one dictionary, since every leader has one and most are idle: it costs next to nothing while
nobody waits.
"""

from __future__ import annotations

from operator import itemgetter


class ParkedProduces:
    """Those of one leader."""

    __slots__ = ("_last", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[object, int] = {}  # token -> required offset
        self._last = 0  # what who parked last waits for

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self) -> list[tuple[object, int]]:
        """(token, required offset) of all that wait, in order."""
        return list(self._waiting.items())

    def park(self, token: object, required_offset: int) -> None:
        in_order = required_offset >= self._last or not self._waiting
        self._waiting[token] = self._last = required_offset
        if not in_order:
            # Only the repetition of an earlier batch waits for less than one before it.
            self._waiting = dict(sorted(self._waiting.items(), key=itemgetter(1)))
            self._last = max(self._waiting.values())

    def give_up(self, token: object) -> None:
        """Nobody waits for this one any more, if anybody did."""
        self._waiting.pop(token, None)

    def settle_up_to(self, high_watermark: int) -> list[object]:
        """Take out those that have what they wait for; returns their tokens."""
        waiting = self._waiting
        settled: list[object] = []
        for token, required_offset in waiting.items():
            if required_offset > high_watermark:
                break
            settled.append(token)
        if len(settled) == len(waiting):
            waiting.clear()
        else:
            for token in settled:
                del waiting[token]
        return settled

    def settle_all(self) -> list[object]:
        """Take all out; returns the tokens of those that wait."""
        tokens = list(self._waiting)
        self._waiting.clear()
        return tokens

    def check(self, high_watermark: int) -> None:
        """Assert the invariant, and that nobody waits for what is committed."""
        offsets = list(self._waiting.values())
        assert offsets == sorted(offsets), offsets
        assert not offsets or offsets[0] > high_watermark, (offsets, high_watermark)
