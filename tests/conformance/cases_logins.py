"""SASL where nobody asks for a name."""

from __future__ import annotations

from minikafka.kafka.apis import ApiKey
from tests.conformance.exchange import Case

CASES = [
    Case("a login on PLAINTEXT begins", ApiKey.SASL_HANDSHAKE, {"mechanism": "PLAIN"}),
    Case("by no mechanism", ApiKey.SASL_HANDSHAKE, {"mechanism": ""}),
    Case("a password on PLAINTEXT", ApiKey.SASL_AUTHENTICATE, {"auth_bytes": b"\0a\0b"}),
    Case("an empty token", ApiKey.SASL_AUTHENTICATE, {"auth_bytes": b""}),
]
