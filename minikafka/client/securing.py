"""How clients over gRPC prove who they are: by a file of properties, under Java's names, that
MINIKAFKA_COMMAND_CONFIG names.

    security.protocol=SSL
    ssl.truststore.location=/etc/minikafka/ca.crt
    ssl.keystore.location=/etc/minikafka/alice.pem

Without it nothing is encrypted, and nobody proves anything. What else is in the file (a file for
Kafka's own tools will do) has no effect here.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from minikafka.errors import UsageError

if TYPE_CHECKING:
    from minikafka.rpc.credentials import ChannelCredentials

VARIABLE = "MINIKAFKA_COMMAND_CONFIG"
_PROTOCOL = "security.protocol"


def channel_credentials() -> ChannelCredentials | None:
    """Of the next channel of this process; None: without TLS. UsageError if the file, or what it
    names, does not do."""
    path = os.environ.get(VARIABLE)
    return None if not path else _read(path)


@lru_cache(maxsize=8)
def _read(path: str) -> ChannelCredentials | None:
    from minikafka.config import parse_properties
    from minikafka.config.tls import tls_settings

    try:
        properties = parse_properties(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as failure:
        raise UsageError(f"{VARIABLE}={path} cannot be read: {failure}") from None
    protocol = properties.get(_PROTOCOL, "PLAINTEXT").strip().upper()
    if protocol == "PLAINTEXT":
        return None
    if protocol != "SSL":
        raise UsageError(
            f"{path}: {_PROTOCOL}={protocol[:64]} is not spoken over gRPC, which commands and "
            "clients of minikafka use: expected SSL, with a certificate, or PLAINTEXT"
        )
    from minikafka.rpc.credentials import ChannelTls

    settings = tls_settings(properties, server=False)
    return ChannelTls(settings, lambda: time.time_ns() // 1_000_000).value
