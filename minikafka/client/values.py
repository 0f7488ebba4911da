"""What a client's user gets: the metadata of a written record, a record that was read.

Also how its arguments are read, for all clients alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minikafka.config.properties import address_hint, read_address
from minikafka.errors import RetriableError, UsageError

Headers = Sequence[tuple[str, bytes | None]]
UNKNOWN_RECORD_OFFSET = -1  # acks=0: nobody tells


class RecordMetadata(NamedTuple):
    """Where a record was written. `offset` is -1 with acks=0."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class ConsumerRecord(NamedTuple):
    """A record that was read. `headers` are (name, value) in the producer's order."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class GroupMembership(NamedTuple):
    """A consumer as a member of its group, at this moment: by it the coordinator knows whether the
    consumer still has the partitions whose offsets are committed. `commits_itself`: it was told to
    (auto_commit)."""

    group_id: str
    generation_id: int
    member_id: str
    instance_id: str | None
    commits_itself: bool


class WouldBlockError(RetriableError):
    """`send_nowait` cannot take the record now: buffer memory is full or the topic's metadata are
    not known yet. `await send(...)` waits for either."""

    name = "WOULD_BLOCK"


def parse_bootstrap(bootstrap: str | Iterable[str]) -> tuple[str, ...]:
    """The addresses of `"host:port,host:port"` or of a list of such. UsageError for a bad one."""
    texts = bootstrap.split(",") if isinstance(bootstrap, str) else list(bootstrap)
    addresses = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not addresses:
        raise UsageError("no bootstrap address is given; at least one HOST:PORT is needed")
    for address in addresses:
        if read_address(address) is None:
            raise UsageError(
                f"bootstrap address {address!r} is not HOST:PORT, such as 127.0.0.1:19092"
                f"{address_hint(address)}"
            )
    return addresses


def check_positive(**values: float) -> None:
    """UsageError for the first value that is not above zero, by its name."""
    for name, value in values.items():
        if value <= 0:
            raise UsageError(f"{name} is {value}; it must be above 0")
