"""What the Kafka door listens on, and how names are proved there, by the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable

from minikafka.config import BrokerConfig
from minikafka.config.properties import is_loopback
from minikafka.kafka.acceptor import ServedListener
from minikafka.security import plain
from minikafka.security.jaas import parse_jaas
from minikafka.security.mechanism import MechanismKind
from minikafka.security.secret import Secret

logger = logging.getLogger(__name__)


def served_listeners(config: BrokerConfig) -> list[ServedListener]:
    """In the order of `listeners`."""
    return [
        ServedListener(
            each.name,
            each.host,
            each.port,
            config.protocol_of(each.name),
            mechanisms=_mechanisms(config, each.name),
            max_reauth_ms=config.of_listener(each.name, "connections.max.reauth.ms"),
        )
        for each in config.listeners or ()
    ]


def warn_of_what_is_open(config: BrokerConfig) -> None:
    """What others could read, or come in by, who are not on this machine."""
    for each in config.listeners or ():
        protocol = config.protocol_of(each.name)
        if is_loopback(each.host):
            continue
        if not protocol.asks_by_sasl and not protocol.encrypts:
            logger.warning("%s is open to whoever reaches it: it asks for no names", each)
        elif "PLAIN" in (_mechanisms(config, each.name) or ()) and not protocol.encrypts:
            logger.warning("%s: PLAIN shows passwords to whoever can listen in between", each)
    if not is_loopback(config.grpc_listener.host):
        logger.warning("gRPC at %s is open to whoever reaches it", config.grpc_listener)


def _mechanisms(config: BrokerConfig, listener: str) -> dict[str, MechanismKind] | None:
    """Those that a listener offers; None if it asks for no proof."""
    if not config.protocol_of(listener).asks_by_sasl:
        return None
    return {
        name: _KINDS[name](config, listener)
        for name in config.of_listener(listener, "sasl.enabled.mechanisms")
    }


def _plain(config: BrokerConfig, listener: str) -> MechanismKind:
    jaas: Secret = config.of_listener(listener, "sasl.jaas.config", plain.NAME)
    users = parse_jaas(jaas.reveal()).users
    return MechanismKind(plain.NAME, plain.MAX_TOKEN_BYTES, lambda: plain.PlainServer(users))


_KINDS: dict[str, Callable[[BrokerConfig, str], MechanismKind]] = {plain.NAME: _plain}
