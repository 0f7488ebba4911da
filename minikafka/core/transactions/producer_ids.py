"""The producer id that a shard has to spare, so that no transition waits for the controller.

State: the spare id, if there is one. Invariant: an id is given out once; it comes back only if the
record that it was for is not in the log and will not be.
"""

from __future__ import annotations


class SpareProducerId:
    """See the module. All ids of a shard share it."""

    def __init__(self) -> None:
        self.spare: int | None = None

    def put(self, producer_id: int) -> None:
        """A fresh one, or one that was not used after all."""
        if self.spare is None:
            self.spare = producer_id

    def take(self) -> int:
        spare = self.spare
        assert spare is not None, "there is no producer id to spare"
        self.spare = None
        return spare
