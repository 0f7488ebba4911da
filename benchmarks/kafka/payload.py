"""What records are filled with."""

from __future__ import annotations

import ctypes
import random

_POOL_BYTES = 4 * 1024 * 1024


def payload_pool() -> ctypes.Array[ctypes.c_char]:
    """Text like that of events in JSON, which lz4 makes about two and a half times smaller."""
    chance = random.Random(1)
    parts: list[bytes] = []
    size = 0
    while size < _POOL_BYTES:
        parts.append(
            b'{"user":%d,"session":"%016x","path":"/item/%d","took_ms":%d,"ok":true}'
            % (
                chance.randrange(10**9),
                chance.getrandbits(64),
                chance.randrange(10**5),
                chance.randrange(900),
            )
        )
        size += len(parts[-1])
    return ctypes.create_string_buffer(b"".join(parts), size)
