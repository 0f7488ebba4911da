"""The broker's properties that the coordinator obeys. A frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.core.transactions.values import MAX_PRODUCER_EPOCH


@dataclass(frozen=True, slots=True)
class TransactionSettings:
    """`hold_ms`: how long a request waits for the end of the last transaction; `retry_ms`: when
    what the coordinator itself could not write is tried again; `max_epoch` is a parameter for the
    sake of tests."""

    max_timeout_ms: int = 900_000  # transaction.max.timeout.ms
    expiration_ms: int = 604_800_000  # transactional.id.expiration.ms
    hold_ms: int = 500
    retry_ms: int = 100
    max_epoch: int = MAX_PRODUCER_EPOCH
