"""What the records of the workload say, and when things happen. No state."""

from __future__ import annotations

import time


def now() -> float:
    return round(time.monotonic(), 6)


def encode(value: str) -> bytes:
    """The value with padding that can be told from its name."""
    return value.encode() + b" " + b"." * (sum(value.encode()) * 7 % 300)


def decode(data: bytes | None) -> str:
    """The value; something that nobody sent, if the bytes are not as they were encoded."""
    text = (data or b"").split(b" ")[0].decode(errors="replace")
    return text if encode(text) == data else f"damaged {data!r}"
