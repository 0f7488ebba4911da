"""Bytes of records and znodes, as documents show them."""

from __future__ import annotations

import base64


def text_or_base64(value: bytes | None) -> str | dict[str, str] | None:
    """Bytes in JSON: as text if they are UTF-8, else {"base64": "..."}."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
