"""Topic ids: 22 characters of URL-safe base64 in minikafka, as Kafka prints them; 16 bytes on the
wire."""

from __future__ import annotations

import base64
import uuid

_TEXT_LENGTH = 22


def uuid_of(topic_id: str) -> uuid.UUID | None:
    """None for a topic without an id."""
    if len(topic_id) != _TEXT_LENGTH:
        return None
    return uuid.UUID(bytes=base64.urlsafe_b64decode(topic_id + "=="))


def text_of(topic_id: uuid.UUID | None) -> str:
    if topic_id is None:
        return ""
    return base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()
