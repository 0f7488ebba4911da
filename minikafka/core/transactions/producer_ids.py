"""The producer ids that a shard has to spare, so that no transition waits for the controller.

State: the spare ids, mostly one. Invariant: an id is given out once; it comes back only if the
record that it was for is not in the log and will not be. Whoever takes the last one asks for
another.
"""

from __future__ import annotations


class SpareProducerIds:
    """See the module. All ids of a shard share it."""

    def __init__(self, *ids: int) -> None:
        self._ids = list(ids)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def next(self) -> int | None:
        """The one that would be given out."""
        return self._ids[-1] if self._ids else None

    def put(self, producer_id: int) -> None:
        """A fresh one, or one that was not used after all."""
        assert producer_id not in self._ids, producer_id
        self._ids.append(producer_id)

    def take(self) -> int:
        return self._ids.pop()
