"""Listeners of the Kafka door, as tests serve them."""

from __future__ import annotations

from minikafka.kafka.acceptor import ServedListener
from minikafka.kafka.server import KafkaServer
from minikafka.model import KafkaListener, SecurityProtocol

PLAINTEXT = SecurityProtocol.PLAINTEXT
PLAINTEXT_LISTENER = ServedListener(PLAINTEXT, "127.0.0.1", 0)


async def start_plaintext(
    server: KafkaServer, host: str = "127.0.0.1", port: int = 0, *, serving: bool = True
) -> int:
    """One listener PLAINTEXT; its port."""
    return (await server.start([ServedListener(PLAINTEXT, host, port)], serving=serving))[PLAINTEXT]


def plaintext_at(host: str, port: int) -> tuple[KafkaListener, ...]:
    """What a broker tells others of that."""
    return (KafkaListener(PLAINTEXT, PLAINTEXT, host, port),)
