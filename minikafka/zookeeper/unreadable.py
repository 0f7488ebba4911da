"""Nodes that do not hold what belongs there: each is told once, and left as it is.

One bad node stops one thing: whoever reads it goes on without it. Nothing that cannot be read is
ever written over or deleted, since whoever wrote it may still want it, and what it held before may
matter (a leader, the fence of controllers, a topic's retention).

State: the nodes that could not be read when they were last read, with what is wrong. `minikafka
status` shows them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from minikafka.zookeeper.errors import CorruptNodeError

log = logging.getLogger(__name__)

T = TypeVar("T")


class UnreadableNodes:
    """See the module."""

    def __init__(self) -> None:
        self._nodes: dict[str, str] = {}

    @property
    def nodes(self) -> Mapping[str, str]:
        """Path to what is wrong, and what to do."""
        return self._nodes

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def decode(self, path: str, decode: Callable[[], T]) -> T | None:
        """What `decode` returns; None, and the node is noted, if it raises CorruptNodeError."""
        try:
            value = decode()
        except CorruptNodeError as error:
            self.note(error)
            return None
        self.forget(path)
        return value

    def note(self, error: CorruptNodeError) -> None:
        told = f"{error.why}: {_remedy(error.path)}"
        if self._nodes.get(error.path) != told:
            log.error("the ZooKeeper node %s cannot be read: %s", error.path, told)
            self._nodes[error.path] = told

    def forget(self, path: str) -> None:
        """It can be read, or is gone."""
        if self._nodes.pop(path, None) is not None:
            log.info("the ZooKeeper node %s is right again, or gone", path)


def _remedy(path: str) -> str:
    """What this stops, and what a person can do."""
    if path.endswith("/controller_epoch"):
        return (
            "no controller can be elected until it holds a number again, as large as that of any "
            "controller before; the brokers' logs have it"
        )
    if path.endswith("/state"):
        return (
            "this partition gets no other leader and no other ISR until it is put right; without "
            "the node a new State would be made, in which any replica may lead"
        )
    if "/config/users/" in path:
        return "nobody can log in by what cannot be read until it is put right, or written anew"
    if "/kafka-acl" in path:
        return (
            "what it stands on is denied to all but super users until it is put right, or deleted"
        )
    if "/config/" in path:
        return "what was read before holds on until it is put right, or deleted"
    if path.endswith("/latest_producer_id_block"):
        return "no producer ids are given out until it is put right: none may be given twice"
    return "it is left alone until it is put right, or deleted"
