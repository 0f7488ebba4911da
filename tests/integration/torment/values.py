"""What all clients of the workload need: what their records say, when, and patience. No state."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from minikafka.errors import MinikafkaError

PATIENCE_S = 90.0


def now() -> float:
    return round(time.monotonic(), 6)


def encode(value: str) -> bytes:
    """The value with padding that can be told from its name."""
    return value.encode() + b" " + b"." * (sum(value.encode()) * 7 % 300)


def decode(data: bytes | None) -> str:
    """The value; something that nobody sent, if the bytes are not as they were encoded."""
    text = (data or b"").split(b" ")[0].decode(errors="replace")
    return text if encode(text) == data else f"damaged {data!r}"


async def patiently(call: Callable[[], Awaitable[None]]) -> None:
    """Until it works: a client that is started in the middle of an outage."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await call()
        except MinikafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
