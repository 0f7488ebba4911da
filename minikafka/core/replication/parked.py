"""The produce requests with acks=all that wait at a leader until what they appended is committed.

State: the requests, some of which are settled already (the runtime gives up on those that time
out). Invariant: they are in the order of the offsets that they wait for. Who is answered with what
is the leader's to say (leader.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class ParkedProduce:
    """A produce request that waits until the high watermark is at `required_offset`. `token` is the
    runtime's; `settled` once it is answered or given up."""

    token: object
    required_offset: int
    settled: bool = False


class ParkedProduces(deque[ParkedProduce]):
    """Those of one leader."""

    def park(self, token: object, required_offset: int) -> ParkedProduce:
        while self and self[0].settled:  # timed out: keep no trace of them
            self.popleft()
        parked = ParkedProduce(token, required_offset)
        self.append(parked)
        if len(self) > 1 and self[-2].required_offset > required_offset:
            # Only the repetition of an earlier batch waits for less than one before it.
            ordered = sorted(self, key=lambda waiting: waiting.required_offset)
            self.clear()
            self.extend(ordered)
        return parked

    def settle_up_to(self, high_watermark: int) -> Iterator[ParkedProduce]:
        """Take out those that have what they wait for; gives those that were not settled before."""
        while self and self[0].required_offset <= high_watermark:
            parked = self.popleft()
            if not parked.settled:
                parked.settled = True
                yield parked

    def settle_all(self) -> list[ParkedProduce]:
        """Take all out; returns those that were not settled before."""
        waiting = [parked for parked in self if not parked.settled]
        self.clear()
        for parked in waiting:
            parked.settled = True
        return waiting
