"""How much there is for a fetch, before any of it is read.

State: the bytes that were counted for each thing that is asked for; `size_bytes` is their sum.
"""

from __future__ import annotations


class Counted:
    """How many bytes there are for a fetch, by what it asks for, and whether that is enough."""

    def __init__(self, wanted_bytes: int) -> None:
        """`wanted_bytes` below 1: one is enough."""
        self._wanted_bytes = max(wanted_bytes, 1)
        self._sizes: dict[object, int] = {}
        self.limits: dict[object, int] = {}  # of what there is something of, the most to read
        self.size_bytes = 0

    @property
    def enough(self) -> bool:
        return self.size_bytes >= self._wanted_bytes

    def clear(self) -> None:
        self._sizes.clear()
        self.limits.clear()
        self.size_bytes = 0

    def put(self, asked: object, size_bytes: int, limit_bytes: int = 0) -> None:
        """In place of what was counted for it before."""
        self.size_bytes += size_bytes - self._sizes.pop(asked, 0)
        if size_bytes:
            self._sizes[asked] = size_bytes
            self.limits[asked] = limit_bytes
