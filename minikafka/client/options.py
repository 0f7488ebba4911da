"""The settings of a producer and of a consumer after they were read and checked. Units in the
names."""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.records.compression import Codec


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """`acks` is -1, 0 or 1. `transactional_id`: all records are of its transactions."""

    acks: int
    codec: Codec
    idempotence: bool
    linger_ms: float
    max_in_flight: int
    request_timeout_ms: float
    delivery_timeout_ms: float
    max_request_bytes: int
    transactional_id: str | None = None


@dataclass(frozen=True, slots=True)
class FetcherOptions:
    """`reset`: "earliest", "latest" or "error"."""

    max_wait_ms: int
    max_bytes: int
    max_partition_bytes: int
    check_crcs: bool
    reset: str
    request_timeout_ms: float
    max_block_ms: float
    read_committed: bool = False
