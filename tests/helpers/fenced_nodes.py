"""A session of ZooKeeper in memory, for writes and above all for those whose answer is lost.

`Nodes` loses answers as a test says, before or after the write takes effect, and lets somebody else
act meanwhile. Nobody may read after a lost answer without a sync.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from kazoo.exceptions import (
    BadVersionError,
    NodeExistsError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
)

from minikafka.broker.ports import SessionLostError
from minikafka.zookeeper.errors import OutcomeUnknownError


@dataclass
class Cut:
    """An answer that is lost: of a write that took effect, or not. `meanwhile` comes after it."""

    arrives: bool
    meanwhile: Callable[[Nodes], None] = lambda nodes: None


@dataclass
class Nodes:
    """Nodes by path, as (data, version)."""

    held: dict[str, tuple[bytes, int]]
    cuts: list[Cut | None] = field(default_factory=list)  # of each write; None: it is answered
    refusals: list[Exception] = field(default_factory=list)  # of the first operation
    sent: int = 0
    sizes: list[int] = field(default_factory=list)  # how many operations each multi had
    synced: bool = True
    expires_at_sync: bool = False

    # --- as the session ---

    async def transact(self, build: Callable[[Any], None]) -> list[Any]:
        self.sent += 1
        operations: list[tuple[Any, ...]] = []
        build(
            SimpleNamespace(
                check=lambda path, version: operations.append(("check", path, b"", version)),
                create=lambda path, data=b"": operations.append(("create", path, data, -1)),
                set_data=lambda path, data, version=-1: operations.append(
                    ("set", path, data, version)
                ),
                delete=lambda path, version=-1: operations.append(("delete", path, b"", version)),
            )
        )
        self.sizes.append(len(operations))
        if self.refusals:
            return [self.refusals.pop(0)] + [RuntimeInconsistency()] * (len(operations) - 1)
        cut = self.cuts.pop(0) if self.cuts else None
        results = self._commit(operations) if cut is None or cut.arrives else []
        if cut is None:
            return results
        cut.meanwhile(self)
        self.synced = False
        raise OutcomeUnknownError("lost")

    async def call(self, operation: Callable[[Any], Any]) -> Any:
        answer = operation(None)
        if isinstance(answer, OutcomeUnknownError):
            self.synced = False
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sync(self) -> None:
        if self.expires_at_sync:
            raise SessionLostError("expired")
        self.synced = True

    async def get(self, path: str) -> tuple[bytes, Any] | None:
        assert self.synced, "what is read without a sync may be old"
        found = self.held.get(path)
        return None if found is None else (found[0], SimpleNamespace(version=found[1]))

    def pass_first(self, count: int) -> None:
        """So many writes are answered before the next cut."""
        self.cuts.extend([None] * count)

    # --- as the server ---

    def _commit(self, operations: list[tuple[Any, ...]]) -> list[Any]:
        after = dict(self.held)
        for position, (kind, path, data, version) in enumerate(operations):
            error = _refusal(after.get(path), kind, version)
            if error is not None:
                later = len(operations) - position - 1
                return [RolledBackError()] * position + [error] + [RuntimeInconsistency()] * later
            if kind == "create":
                after[path] = (data, 0)
            elif kind == "set":
                after[path] = (data, after[path][1] + 1)
            elif kind == "delete":
                del after[path]
        self.held = after
        return [True] * len(operations)

    def set(self, path: str, data: bytes) -> None:
        self.held[path] = (data, self.held[path][1] + 1 if path in self.held else 0)


def _refusal(found: tuple[bytes, int] | None, kind: str, version: int) -> Exception | None:
    if kind == "create":
        return None if found is None else NodeExistsError()
    if found is None:
        return NoNodeError()
    return None if version in (-1, found[1]) else BadVersionError()
