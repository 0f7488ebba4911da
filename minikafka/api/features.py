"""Features of a cluster (KIP-584): what all of its brokers have agreed upon. Frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TRANSACTION_VERSION = "transaction.version"
MIN_TRANSACTION_LEVEL = 1  # a level of 0 would be told as none (KAFKA-17011)
MAX_TRANSACTION_LEVEL = 2  # TV2, KIP-890


@dataclass(frozen=True, slots=True)
class Feature:
    """`min_level` to `max_level` are what this broker can do, at least 1; `finalized_level` is what
    the cluster does."""

    name: str
    min_level: int
    max_level: int
    finalized_level: int


@dataclass(frozen=True, slots=True)
class Features:
    """`epoch`, from 0 on, rises with each change: clients take news with a higher one only."""

    epoch: int
    features: Sequence[Feature]


def features_of(level: int, epoch: int) -> Features:
    """Where this level of transaction.version is finalized, under this epoch."""
    known = (TRANSACTION_VERSION, MIN_TRANSACTION_LEVEL, MAX_TRANSACTION_LEVEL)
    return Features(epoch, [Feature(*known, level)])
